//! What the process says when the kernel ends it for a forbidden system call, and when it panics.
//!
//! In comes the state file's descriptor; out goes, at the end, one line in it and one on the error stream, so that nobody has to guess. The
//! handler of the signal runs in the middle of anything, so it calls nothing but `write` and `_exit`.

use std::cell::Cell;
use std::io;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicI32, Ordering};

use super::{Role, calls};
use serde_json::json;
use vmm_sys_util::signal::register_signal_handler;

/// Exit status of a process that ended this way.
pub const STATUS: i32 = 70;

static STATE: AtomicI32 = AtomicI32::new(-1);

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
    let mut digits = [0; 10];
    let name = calls::name(number.into()).unwrap_or("unknown");
    let number = decimal(number.unsigned_abs(), &mut digits);
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
    // SAFETY: ends the process and does not return.
    unsafe { libc::_exit(STATUS) }
}

/// A line that is put together without memory from the heap. What does not fit is left out.
struct Line {
    bytes: [u8; 240],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            bytes: [0; 240],
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

fn decimal(mut value: u32, digits: &mut [u8; 10]) -> &str {
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
        for value in [0, 7, 10, 257, u32::MAX] {
            assert_eq!(decimal(value, &mut [0; 10]), value.to_string());
        }
    }
}
