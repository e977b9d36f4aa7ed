//! What the process says when the kernel ends it for a forbidden system call, and when it panics.
//!
//! In comes the state file's descriptor; out goes, at the end, one line in it and one on the error stream, so that nobody has to guess. The
//! handler of the signal runs in the middle of anything, so it calls nothing but `write` and `_exit`.

use std::io;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicI32, Ordering};

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
    let line =
        json!({"state": "ended", "pid": std::process::id(), "reason": "error", "message": message});
    say(
        STATE.load(Ordering::Acquire),
        format!("{line}\n").as_bytes(),
    );
    // SAFETY: ends the process and does not return.
    unsafe { libc::_exit(STATUS) }
}

extern "C" fn on_forbidden(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    /// Where the kernel's `siginfo_t` has the number of the system call, in words of 32 bits.
    const SYSCALL: usize = 6;
    // SAFETY: the kernel hands a whole `siginfo_t`, which has 32 words; for SIGSYS this one is `si_syscall`.
    let number = unsafe { info.cast::<i32>().add(SYSCALL).read() };
    let mut digits = [0; 10];
    let number = decimal(number.unsigned_abs(), &mut digits);
    let err = libc::STDERR_FILENO;
    for part in [
        b"vireo-vmm: system call ".as_slice(),
        number,
        b" is not on the sandbox's list\n",
    ] {
        say(err, part);
    }
    let mut line = Line {
        bytes: [0; 160],
        len: 0,
    };
    line.push(b"{\"state\":\"ended\",\"reason\":\"error\",\"message\":\"system call ");
    line.push(number);
    line.push(b" is not on the sandbox's list\"}\n");
    say(
        STATE.load(Ordering::Acquire),
        line.bytes.get(..line.len).unwrap_or_default(),
    );
    // SAFETY: ends the process and does not return.
    unsafe { libc::_exit(STATUS) }
}

/// A line that is put together without memory from the heap.
struct Line {
    bytes: [u8; 160],
    len: usize,
}

impl Line {
    fn push(&mut self, text: &[u8]) {
        for (place, &byte) in self.bytes.iter_mut().skip(self.len).zip(text) {
            *place = byte;
        }
        self.len = (self.len + text.len()).min(self.bytes.len());
    }
}

fn decimal(mut value: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut first = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        first = at;
        if value == 0 {
            break;
        }
    }
    digits.get(first..).unwrap_or_default()
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
            assert_eq!(decimal(value, &mut [0; 10]), value.to_string().as_bytes());
        }
    }
}
