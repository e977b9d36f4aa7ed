//! What the machine tells its owner: the guest powered off, asks for a reset, crashed, or cannot go on, or set its clock.
//!
//! Devices and vcpus send; the one thread that owns the machine's life receives, woken through an eventfd that it can wait for among others.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, mpsc};

use vmm_sys_util::eventfd::EventFd;

/// Something that happened to the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The guest turned itself off.
    PowerOff,
    /// The guest asks for a reset.
    Reset,
    /// The guest did not feed its watchdog in time.
    Watchdog,
    /// The guest set its battery-backed clock.
    Clock,
    /// The guest broke down; the text says how.
    Crash(String),
    /// The monitor or the host cannot run the guest any further; the text says why.
    Failed(String),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("the guest powered off"),
            Self::Reset => f.write_str("the guest asked for a reset"),
            Self::Watchdog => f.write_str("the guest did not feed its watchdog in time"),
            Self::Clock => f.write_str("the guest set its clock"),
            Self::Crash(how) => write!(f, "the guest crashed: {how}"),
            Self::Failed(why) => write!(f, "the guest cannot go on: {why}"),
        }
    }
}

/// The sending side; each device and vcpu has a clone.
#[derive(Debug, Clone)]
pub struct Notifier {
    sender: mpsc::SyncSender<Notice>,
    wake: Arc<EventFd>,
}

impl Notifier {
    /// Sends a notice. A guest that sends faster than they are read loses the excess: one of a kind is enough.
    pub fn send(&self, notice: Notice) {
        let _ = self.sender.try_send(notice);
        let _ = self.wake.write(1);
    }
}

/// The receiving side.
#[derive(Debug)]
pub struct Notices {
    receiver: mpsc::Receiver<Notice>,
    wake: Arc<EventFd>,
}

/// Makes both sides. Fails when the process has no descriptor left.
pub fn channel() -> io::Result<(Notifier, Notices)> {
    // A guest can make a notice with every instruction, so the queue is bounded.
    let (sender, receiver) = mpsc::sync_channel(64);
    let wake = Arc::new(EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?);
    let notifier = Notifier {
        sender,
        wake: Arc::clone(&wake),
    };
    Ok((notifier, Notices { receiver, wake }))
}

impl Notices {
    /// Everything sent since the last call, oldest first.
    pub fn drain(&self) -> Vec<Notice> {
        let _ = self.wake.read();
        self.receiver.try_iter().collect()
    }
}

impl AsRawFd for Notices {
    /// Readable when there are notices.
    fn as_raw_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_notices_is_bounded_and_never_blocks() {
        let (notifier, notices) = channel().unwrap();
        for _ in 0..1000 {
            notifier.send(Notice::Reset);
        }
        assert_eq!(notices.drain().len(), 64);
        notifier.send(Notice::PowerOff);
        assert_eq!(notices.drain(), [Notice::PowerOff]);
        assert!(notices.drain().is_empty());
    }
}
