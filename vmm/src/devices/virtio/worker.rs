//! The thread that serves devices.
//!
//! A [`Worker`] is one thread that sleeps in epoll. A device gives it descriptors to watch (the kicks of its queues, a tap, a timer) with a
//! [`Handler`]; the thread calls the handler with a token when one becomes ready. A device that may wait long (a disk, a tap)
//! has a worker of its own, so that none makes another wait; small ones (entropy, balloon) share one. A thread costs some
//! 30 µs and a few pages of stack; it is started with the machine and not when a guest first uses the device, so that it can be
//! put under its own system call filter before the guest runs.
//!
//! Descriptors are watched edge-triggered: a handler takes all there is, and need not read a kick's counter. Errors of a handler are its
//! own; the thread itself ends only when the [`Worker`] is dropped.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::timerfd::TimerFd;

use crate::bus::lock;

/// Stack of a worker. Only touched pages cost memory; qcow2 chains recurse a little.
const STACK: usize = 512 * 1024;
/// Events taken from the kernel at once.
const BATCH: usize = 16;
/// The number that stands for "end", which no watch has.
const END: u64 = 0;

/// Something that a worker calls.
pub trait Handler: Send {
    /// The descriptor that was given with `token` is ready. Spurious calls happen.
    fn ready(&mut self, token: u32);
}

/// A handler as the device and its worker share it.
pub type SharedHandler = Arc<Mutex<dyn Handler>>;

struct Watched {
    handler: SharedHandler,
    token: u32,
}

struct Shared {
    epoll: Epoll,
    /// By number. Numbers are never used twice, so an event that was under way when its watch ended finds nothing.
    watched: Mutex<(u64, HashMap<u64, Watched>)>,
}

/// A thread that serves devices until it is dropped.
pub struct Worker {
    shared: Arc<Shared>,
    end: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread named `name` (15 bytes are kept). It runs `prepare` first, which is where a system call filter goes; if that
    /// fails, the start fails.
    pub fn spawn(
        name: &str,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            epoll: Epoll::new()?,
            watched: Mutex::new((END, HashMap::new())),
        });
        let end = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        shared.epoll.ctl(
            ControlOperation::Add,
            end.as_raw_fd(),
            EpollEvent::new(EventSet::IN, END),
        )?;
        let (report, prepared) = std::sync::mpsc::channel();
        let mine = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let result = prepare();
                let go_on = result.is_ok();
                // Fails only when nobody waits for the answer any more; then the loop ends by its own event.
                let _ = report.send(result);
                if go_on {
                    mine.run();
                }
            })?;
        prepared
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("worker ended while it was starting")))?;
        Ok(Arc::new(Self {
            shared,
            end,
            thread: Some(thread),
        }))
    }

    /// Calls `handler` with `token` whenever `source` becomes ready for `events`, as long as the returned watch lives.
    pub fn watch(
        &self,
        source: Arc<dyn AsRawFd + Send + Sync>,
        events: EventSet,
        handler: SharedHandler,
        token: u32,
    ) -> io::Result<Watch> {
        let fd = source.as_raw_fd();
        let number = {
            let mut watched = lock(&self.shared.watched);
            watched.0 += 1;
            let number = watched.0;
            watched.1.insert(number, Watched { handler, token });
            number
        };
        let watch = Watch {
            shared: Arc::downgrade(&self.shared),
            number,
            fd,
            _source: source,
        };
        self.shared.epoll.ctl(
            ControlOperation::Add,
            fd,
            EpollEvent::new(events | EventSet::EDGE_TRIGGERED, number),
        )?;
        Ok(watch)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Err(error) = self.end.write(1) {
            tracing::warn!(%error, "could not end a device worker");
            return;
        }
        // A handler may own the last reference to its own worker; a thread cannot wait for itself.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("a device worker had panicked");
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut events = [EpollEvent::default(); BATCH];
        loop {
            let ready = match self.epoll.wait(-1, &mut events) {
                Ok(ready) => ready,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "device worker cannot wait for events");
                    return;
                }
            };
            for event in events.iter().take(ready) {
                if event.data() == END {
                    return;
                }
                let found = lock(&self.watched)
                    .1
                    .get(&event.data())
                    .map(|w| (Arc::clone(&w.handler), w.token));
                if let Some((handler, token)) = found {
                    lock(&handler).ready(token);
                }
            }
        }
    }
}

/// Keeps a descriptor open and watched until it is dropped.
pub struct Watch {
    shared: Weak<Shared>,
    number: u64,
    fd: RawFd,
    _source: Arc<dyn AsRawFd + Send + Sync>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        // With the handler may go watches that it has itself: not under this lock.
        let handler = lock(&shared.watched).1.remove(&self.number);
        drop(handler);
        // The descriptor is still open here, so this fails only if it was never added.
        let _ = shared
            .epoll
            .ctl(ControlOperation::Delete, self.fd, EpollEvent::default());
    }
}

/// A timer that a worker can watch.
pub struct Timer(Mutex<Clockwork>);

struct Clockwork {
    timer: TimerFd,
    /// It was armed since it was last disarmed.
    armed: bool,
}

impl Timer {
    /// A timer that is not running.
    pub fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self(Mutex::new(Clockwork {
            timer: TimerFd::new()?,
            armed: false,
        }))))
    }

    /// Makes the timer ready once, after `delay`; forgets what it was set to before.
    pub fn arm(&self, delay: Duration) -> io::Result<()> {
        let mut clockwork = lock(&self.0);
        clockwork.armed = true;
        clockwork.timer.reset(delay, None).map_err(io::Error::from)
    }

    /// Forgets what the timer was set to. It costs nothing where there is nothing to forget.
    pub fn disarm(&self) -> io::Result<()> {
        let mut clockwork = lock(&self.0);
        match std::mem::take(&mut clockwork.armed) {
            true => clockwork.timer.clear().map_err(io::Error::from),
            false => Ok(()),
        }
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        lock(&self.0).timer.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    struct Tell(Sender<u32>);

    impl Handler for Tell {
        fn ready(&mut self, token: u32) {
            self.0.send(token).unwrap();
        }
    }

    fn event() -> Arc<EventFd> {
        Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap())
    }

    #[test]
    fn a_handler_is_called_once_for_each_event_until_its_watch_ends() {
        let worker = Worker::spawn("test", || Ok(())).unwrap();
        let (tell, told) = channel();
        let kick = event();
        let watch = worker
            .watch(
                kick.clone(),
                EventSet::IN,
                Arc::new(Mutex::new(Tell(tell))),
                7,
            )
            .unwrap();
        for _ in 0..2 {
            kick.write(1).unwrap();
            assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok(7));
        }
        drop(watch);
        kick.write(1).unwrap();
        assert!(told.recv_timeout(Duration::from_millis(20)).is_err());
    }

    #[test]
    fn a_failed_preparation_fails_the_start() {
        let result = Worker::spawn("test", || Err(io::Error::from_raw_os_error(libc::EPERM)));
        assert_eq!(
            result.err().and_then(|e| e.raw_os_error()),
            Some(libc::EPERM)
        );
    }

    #[test]
    fn a_timer_is_ready_each_time_it_was_armed() {
        let worker = Worker::spawn("test", || Ok(())).unwrap();
        let (tell, told) = channel();
        let timer = Timer::new().unwrap();
        let _watch = worker
            .watch(
                timer.clone(),
                EventSet::IN,
                Arc::new(Mutex::new(Tell(tell))),
                3,
            )
            .unwrap();
        for _ in 0..2 {
            timer.arm(Duration::from_millis(1)).unwrap();
            assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok(3));
        }
    }

    #[test]
    fn an_event_from_before_the_watch_is_seen() {
        let worker = Worker::spawn("test", || Ok(())).unwrap();
        let (tell, told) = channel();
        let kick = event();
        kick.write(1).unwrap();
        let _watch = worker
            .watch(kick, EventSet::IN, Arc::new(Mutex::new(Tell(tell))), 1)
            .unwrap();
        assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok(1));
    }
}
