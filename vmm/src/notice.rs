//! What the machine tells its owner: the guest powered off, asks for a reset, crashed, or cannot go on, or set its clock, or waits for a disk.
//!
//! Devices and vcpus send; the one thread that owns the machine's life receives, woken through an eventfd that it can wait for among others.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// The host failed a request of a disk for which the guest is to be paused; the text says which and how. Disks do not send it: the owner finds it when it is woken.
    Disk(String),
    /// The guest broke down; the text says how.
    Crash(String),
    /// The monitor or the host cannot run the guest any further; the text says why.
    Failed(String),
}

impl Notice {
    /// Whether the guest is not to go on from here, whatever its owner makes of it.
    fn ends_the_guest(&self) -> bool {
        match self {
            Self::PowerOff | Self::Reset | Self::Crash(_) | Self::Failed(_) => true,
            Self::Watchdog | Self::Clock | Self::Disk(_) => false,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("the guest powered off"),
            Self::Reset => f.write_str("the guest asked for a reset"),
            Self::Watchdog => f.write_str("the guest did not feed its watchdog in time"),
            Self::Clock => f.write_str("the guest set its clock"),
            Self::Disk(how) => f.write_str(how),
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
    /// A notice that ends the guest was sent since it last began to run.
    ended: Arc<AtomicBool>,
}

impl Notifier {
    /// Sends a notice. A guest that sends faster than they are read loses the excess: one of a kind is enough.
    pub fn send(&self, notice: Notice) {
        let ends = notice.ends_the_guest();
        // Before the notice: whoever receives it may let the guest run anew at once.
        if ends {
            self.ended.store(true, Ordering::Release);
        }
        if self.sender.try_send(notice).is_err() && ends {
            self.ended.store(false, Ordering::Release);
        }
        self.wake();
    }

    /// Has the owner look at what is not sent but can be seen, such as a disk that waits. It is never lost.
    pub fn wake(&self) {
        let _ = self.wake.write(1);
    }

    /// Whether the guest has come to an end that its owner has yet to act on. Its vcpus rest until then: real hardware does not run on behind a
    /// reset either, and Linux, which does not expect to, tries one way after another, down to a triple fault.
    pub fn guest_has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The guest is about to run.
    pub fn guest_begins(&self) {
        self.ended.store(false, Ordering::Release);
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
        ended: Arc::default(),
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

    #[test]
    fn a_guest_has_ended_from_its_last_word_until_it_runs_again() {
        let (notifier, notices) = channel().unwrap();
        for (notice, ends) in [
            (Notice::PowerOff, true),
            (Notice::Reset, true),
            (Notice::Crash("x".into()), true),
            (Notice::Failed("x".into()), true),
            (Notice::Watchdog, false),
            (Notice::Clock, false),
            (Notice::Disk("x".into()), false),
        ] {
            notifier.send(notice.clone());
            assert_eq!(notifier.guest_has_ended(), ends, "{notice}");
            notices.drain();
            assert_eq!(notifier.guest_has_ended(), ends, "{notice}");
            notifier.guest_begins();
            assert!(!notifier.guest_has_ended());
        }
    }

    #[test]
    fn an_end_that_nobody_will_hear_of_does_not_stop_the_guest() {
        let (notifier, notices) = channel().unwrap();
        for _ in 0..64 {
            notifier.send(Notice::Clock);
        }
        notifier.send(Notice::PowerOff);
        assert!(!notifier.guest_has_ended());
        assert_eq!(notices.drain().len(), 64);
    }
}
