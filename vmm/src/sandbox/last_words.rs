//! What the process says when the kernel ends it for a forbidden system call, and when it panics.
//!
//! In come the descriptors of the state file and of the clients who listen for events; out goes, at the end, one line in the file, one on the error stream, and
//! to each listener an event, so that nobody has to guess. The
//! handler of the signal runs in the middle of anything, so it calls nothing but `write` and `_exit`.

use std::cell::Cell;
use std::io;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use super::{Role, calls};
use serde_json::json;
use vmm_sys_util::signal::register_signal_handler;

/// Exit status of a process that ended this way.
pub const STATUS: i32 = 70;

static STATE: AtomicI32 = AtomicI32::new(-1);
/// Clients who listen for events, at most as many as there can be.
static LISTENERS: [AtomicI32; 16] = [const { AtomicI32::new(NOBODY) }; 16];
const NOBODY: i32 = -1;
/// Number of the last event.
static SEQ: AtomicU64 = AtomicU64::new(0);

/// From now on the client with this connection hears of a forbidden system call too.
pub fn tell(connection: i32) {
    for place in &LISTENERS {
        let taken = place.compare_exchange(NOBODY, connection, Ordering::AcqRel, Ordering::Acquire);
        if taken.is_ok() {
            return;
        }
    }
}

/// The connection is about to be closed.
pub fn forget(connection: i32) {
    for place in &LISTENERS {
        let _ = place.compare_exchange(connection, NOBODY, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// The last event has this number.
pub fn event(seq: u64) {
    SEQ.store(seq, Ordering::Release);
}

/// Sets both up. `state` is the descriptor of the state file, which must stay open.
pub fn listen(state: i32) -> io::Result<()> {
    STATE.store(state, Ordering::Release);
    std::panic::set_hook(Box::new(on_panic));
    register_signal_handler(libc::SIGSYS, on_forbidden).map_err(io::Error::from)
}

/// A thread that panics would leave a guest without a processor or a disk: the whole process ends instead.
fn on_panic(info: &PanicHookInfo<'_>) {
    let message = format!("the monitor has a bug: {info}");
    say(libc::STDERR_FILENO, format!("{message}\n").as_bytes());
    let line = json!({"state": "ended", "reason": "error", "message": message});
    say(
        STATE.load(Ordering::Acquire),
        format!("{line}\n").as_bytes(),
    );
    // SAFETY: ends the process and does not return.
    unsafe { libc::_exit(STATUS) }
}

thread_local! {
    /// What this thread is, for the message.
    static ROLE: Cell<&'static str> = const { Cell::new("main") };
}

/// Says what the calling thread is.
pub(super) fn this_is(role: Role) {
    ROLE.set(role.word());
}

extern "C" fn on_forbidden(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    /// Where the kernel's `siginfo_t` has the number of the system call, in words of 32 bits.
    const SYSCALL: usize = 6;
    // SAFETY: the kernel hands a whole `siginfo_t`, which has 32 words; for SIGSYS this one is `si_syscall`.
    let number = unsafe { info.cast::<i32>().add(SYSCALL).read() };
    let mut digits = [0; DIGITS];
    let name = calls::name(number.into()).unwrap_or("unknown");
    let number = decimal(number.unsigned_abs().into(), &mut digits);
    // A thread-local without a destructor and with a constant first value is a plain load: allowed in a signal handler.
    let role = ROLE.get();
    let mut message = Line::default();
    for part in [
        "system call ",
        name,
        " (",
        number,
        ") is not on the sandbox's list for the ",
        role,
        " thread",
    ] {
        message.push(part);
    }
    let mut line = Line::default();
    line.push("vireo-vmm: ");
    line.push(message.text());
    line.push("\n");
    say(libc::STDERR_FILENO, line.text().as_bytes());
    let mut line = Line::default();
    line.push("{\"state\":\"ended\",\"reason\":\"error\",\"message\":\"");
    line.push(message.text());
    line.push("\"}\n");
    say(STATE.load(Ordering::Acquire), line.text().as_bytes());
    tell_listeners(message.text());
    // SAFETY: ends the process and does not return.
    unsafe { libc::_exit(STATUS) }
}

/// The event, as [`wire`](crate::control::wire) has it. A client that does not read loses it with the connection.
fn tell_listeners(message: &str) {
    let mut line = Line::default();
    line.push("{\"event\":\"violation\",\"seq\":");
    let seq = SEQ.load(Ordering::Acquire).saturating_add(1);
    line.push(decimal(seq, &mut [0; DIGITS]));
    line.push(",\"time\":");
    line.push(decimal(milliseconds(), &mut [0; DIGITS]));
    line.push(",\"message\":\"");
    line.push(message);
    line.push("\"}\n");
    for place in &LISTENERS {
        say(place.load(Ordering::Acquire), line.text().as_bytes());
    }
}

/// Since 1970. Asking for the time is allowed in a signal handler.
fn milliseconds() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a structure of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
}

/// A line that is put together without memory from the heap. What does not fit is left out.
struct Line {
    bytes: [u8; 320],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            bytes: [0; 320],
            len: 0,
        }
    }
}

impl Line {
    fn push(&mut self, text: &str) {
        for (place, &byte) in self.bytes.iter_mut().skip(self.len).zip(text.as_bytes()) {
            *place = byte;
        }
        self.len = (self.len + text.len()).min(self.bytes.len());
    }

    fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }
}

/// Digits of the longest number.
const DIGITS: usize = 20;

fn decimal(mut value: u64, digits: &mut [u8; DIGITS]) -> &str {
    let mut first = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        first = at;
        if value == 0 {
            break;
        }
    }
    str::from_utf8(digits.get(first..).unwrap_or_default()).unwrap_or_default()
}

fn say(descriptor: i32, text: &[u8]) {
    if descriptor >= 0 {
        // SAFETY: the pointer and the length are those of a slice. What cannot be written is lost: there is nobody left to tell.
        unsafe { libc::write(descriptor, text.as_ptr().cast(), text.len()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for value in [0, 7, 10, 257, u64::MAX] {
            assert_eq!(decimal(value, &mut [0; DIGITS]), value.to_string());
        }
    }
}
