//! Where the serial port's words go: a pseudo-terminal, a log of bounded size, a unix socket.
//!
//! In come bytes from a vcpu, which must never wait, and keystrokes from whoever is attached; out go the bytes to all places. The log loses
//! nothing but its oldest half when it is full; a terminal or a peer that does not read loses what it has no room for. One thread, the
//! machine's owner, calls [`Console::pump`] when [`Console::fresh`] says that there is something.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use thiserror::Error;
use vmm_sys_util::eventfd::EventFd;

use crate::bus::lock;
use crate::config::{Bytes, Serial};

/// Bytes that a vcpu gathers before it writes them to the log itself.
const CHUNK: usize = 4096;
/// Bytes kept for terminals between two pumps.
const TAIL: usize = 64 << 10;

/// Why there is no console.
#[derive(Debug, Error)]
pub enum ConsoleError {
    /// The log could not be opened.
    #[error("could not open the console's log {path}")]
    Log {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is no pseudo-terminal to be had.
    #[error("could not make a pseudo-terminal for the console")]
    Pty(#[source] io::Error),
    /// The terminal's name could not be left where it is looked for.
    #[error("could not make the link {path} to the console")]
    Link {
        /// The link.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The socket could not be made.
    #[error("could not listen for the console on {path}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process has no descriptor left.
    #[error("could not make an event descriptor for the console")]
    Event(#[source] io::Error),
}

/// A log that keeps its newest half when it is full.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    size: u64,
    limit: u64,
}

impl Log {
    pub(crate) fn open(path: &Path, limit: Bytes) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            file,
            size,
            limit: limit.0,
        })
    }

    /// Writes at most half the limit at once.
    pub(crate) fn append(&mut self, data: &[u8]) -> io::Result<()> {
        let newest = data.len().saturating_sub(self.limit as usize / 2);
        let data = data.get(newest..).unwrap_or_default();
        let len = data.len() as u64;
        if self.size.saturating_add(len) > self.limit {
            self.halve(len)?;
        }
        self.file.write_all(data)?;
        self.size += len;
        Ok(())
    }

    /// Drops the older part, so that `more` fit. What stays begins with a whole line.
    fn halve(&mut self, more: u64) -> io::Result<()> {
        let keep = (self.limit / 2)
            .min(self.limit.saturating_sub(more))
            .min(self.size);
        let mut newest = vec![0; usize::try_from(keep).unwrap_or(0)];
        let mut filled = 0;
        while let Some(rest @ [_, ..]) = newest.get_mut(filled..) {
            // The file may be shorter than we think, if somebody else has cut it.
            match self.file.read_at(rest, self.size - keep + filled as u64)? {
                0 => break,
                n => filled += n,
            }
        }
        newest.truncate(filled);
        let line = newest
            .iter()
            .position(|&b| b == b'\n')
            .map_or(0, |at| at + 1);
        let newest = newest.get(line..).unwrap_or_default();
        self.file.set_len(0)?;
        self.file.write_all(newest)?;
        self.size = newest.len() as u64;
        Ok(())
    }
}

/// What the vcpus write to.
#[derive(Debug)]
struct Output {
    fresh: Vec<u8>,
    tail: VecDeque<u8>,
    log: Option<Log>,
    log_failed: bool,
}

impl Output {
    /// Writes what is fresh to the log and keeps it for the terminals.
    fn settle(&mut self) {
        if let Some(log) = &mut self.log {
            let failed = log.append(&self.fresh).inspect_err(|error| {
                if !self.log_failed {
                    tracing::warn!(%error, "could not write the console's log");
                }
            });
            self.log_failed = failed.is_err();
        }
        self.tail.extend(&self.fresh);
        self.fresh.clear();
        let excess = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..excess);
    }
}

/// The end of the console that the serial port holds.
#[derive(Debug, Clone)]
pub struct Sink {
    output: Arc<Mutex<Output>>,
    wake: Arc<EventFd>,
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut output = lock(&self.output);
        if output.fresh.is_empty() {
            self.wake.write(1)?;
        }
        output.fresh.extend(data);
        if output.fresh.len() >= CHUNK {
            output.settle();
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A pseudo-terminal. The far end is held open too, so that it stays as it is while nobody is attached.
#[derive(Debug)]
pub(crate) struct Pty {
    near: File,
    _far: OwnedFd,
    name: PathBuf,
}

impl Pty {
    /// Makes one, raw.
    pub(crate) fn open() -> io::Result<Self> {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&near)?;
        unlockpt(&near)?;
        let name = ptsname(&near, Vec::new())?;
        let name = PathBuf::from(name.to_string_lossy().into_owned());
        let far = rustix::fs::open(
            &name,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut termios = tcgetattr(&far)?;
        termios.make_raw();
        tcsetattr(&far, OptionalActions::Now, &termios)?;
        rustix::io::ioctl_fionbio(&near, true)?;
        Ok(Self {
            near: near.into(),
            _far: far,
            name,
        })
    }

    /// The monitor's end, once more.
    pub(crate) fn near(&self) -> io::Result<File> {
        self.near.try_clone()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }
}

/// Where keystrokes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The pseudo-terminal.
    Pty,
    /// The peer on the socket.
    Peer,
}

/// The console, as the machine's owner holds it.
#[derive(Debug)]
pub struct Console {
    output: Arc<Mutex<Output>>,
    wake: Arc<EventFd>,
    wanted: Arc<EventFd>,
    pty: Option<Pty>,
    listener: Option<UnixListener>,
    peer: Option<UnixStream>,
}

impl Console {
    /// Opens everything that `serial` names. `link` is where the terminal's name goes.
    pub fn open(serial: &Serial, link: &Path) -> Result<Self, ConsoleError> {
        let log = serial.log.as_deref().map(|path| {
            Log::open(path, serial.log_limit).map_err(|source| ConsoleError::Log {
                path: path.to_owned(),
                source,
            })
        });
        let log = log.transpose()?;
        let pty = if serial.pty {
            Some(Pty::open().map_err(ConsoleError::Pty)?)
        } else {
            None
        };
        let linked = leave_link(link, pty.as_ref().map(|p| p.name.as_path()));
        linked.map_err(|source| ConsoleError::Link {
            path: link.to_owned(),
            source,
        })?;
        let listener = serial.socket.as_deref().map(|path| {
            listen(path).map_err(|source| ConsoleError::Socket {
                path: path.to_owned(),
                source,
            })
        });
        let event =
            || EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).map_err(ConsoleError::Event);
        let output = Output {
            fresh: Vec::new(),
            tail: VecDeque::new(),
            log,
            log_failed: false,
        };
        Ok(Self {
            output: Arc::new(Mutex::new(output)),
            wake: Arc::new(event()?),
            wanted: Arc::new(event()?),
            pty,
            listener: listener.transpose()?,
            peer: None,
        })
    }

    /// The end for the serial port.
    pub fn sink(&self) -> Sink {
        Sink {
            output: Arc::clone(&self.output),
            wake: Arc::clone(&self.wake),
        }
    }

    /// Written by the serial port when the guest has read all keystrokes, and readable then.
    pub fn wanted(&self) -> Arc<EventFd> {
        Arc::clone(&self.wanted)
    }

    /// The pseudo-terminal's name.
    pub fn pty(&self) -> Option<&Path> {
        self.pty.as_ref().map(|pty| pty.name.as_path())
    }

    /// Readable when there is something to pump.
    pub fn fresh(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    /// The descriptor that keystrokes from `port` come from.
    pub fn descriptor(&self, port: Port) -> Option<RawFd> {
        match port {
            Port::Pty => self.pty.as_ref().map(|pty| pty.near.as_raw_fd()),
            Port::Peer => self.peer.as_ref().map(AsRawFd::as_raw_fd),
        }
    }

    /// Readable when a peer wants the socket.
    pub fn listener(&self) -> Option<RawFd> {
        self.listener.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Takes a peer. A second one is turned away while the first is there. Says whether there is a new one.
    pub fn accept(&mut self) -> bool {
        let Some(Ok((peer, _))) = self.listener.as_ref().map(UnixListener::accept) else {
            return false;
        };
        if self.peer.is_some() || peer.set_nonblocking(true).is_err() {
            return false;
        }
        self.peer = Some(peer);
        true
    }

    /// Lets the peer on the socket go.
    pub fn hang_up(&mut self) {
        self.peer = None;
    }

    /// Takes note that [`Console::fresh`] is readable; it is not any more until the next pump.
    pub fn noticed(&self) {
        let _ = self.wake.read();
    }

    /// Brings what the guest said to the log and to whoever is attached.
    pub fn pump(&mut self) {
        let tail = {
            let mut output = lock(&self.output);
            output.settle();
            std::mem::take(&mut output.tail)
        };
        let (first, second) = tail.as_slices();
        for part in [first, second] {
            if let Some(pty) = &mut self.pty {
                // What a full terminal has no room for is lost to it; the log has it.
                let _ = pty.near.write(part);
            }
            if let Some(peer) = &mut self.peer
                && let Err(error) = peer.write(part)
                && error.kind() != io::ErrorKind::WouldBlock
            {
                self.peer = None;
            }
        }
    }

    /// Keystrokes that have come from `port`, at most `data.len()`; none when there are none yet or the peer is gone.
    pub fn read(&mut self, port: Port, data: &mut [u8]) -> usize {
        let result = match port {
            Port::Pty => self.pty.as_mut().map(|pty| pty.near.read(data)),
            Port::Peer => self.peer.as_mut().map(|peer| peer.read(data)),
        };
        match result {
            Some(Ok(n)) if n > 0 => n,
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => 0,
            _ => {
                if port == Port::Peer {
                    self.peer = None;
                }
                0
            }
        }
    }
}

impl Drop for Console {
    /// The log gets the guest's last words.
    fn drop(&mut self) {
        self.pump();
    }
}

/// Makes `link` point at `target`, or be gone.
pub(crate) fn leave_link(link: &Path, target: Option<&Path>) -> io::Result<()> {
    // Only a link is ours to replace.
    if fs::symlink_metadata(link).is_ok_and(|m| m.file_type().is_symlink()) {
        fs::remove_file(link)?;
    }
    target.map_or(Ok(()), |target| symlink(target, link))
}

/// Listens on a unix socket at `path`, with mode 0600, in the place of one that nobody listens on any more.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_deserted(path) => {
            fs::remove_file(path)?;
        }
        Err(error) => return Err(error),
        Ok(listener) => return secure(listener, path),
    }
    secure(UnixListener::bind(path)?, path)
}

fn secure(listener: UnixListener, path: &Path) -> io::Result<UnixListener> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A socket that refuses connections was left by a process that is gone. (So does a file that is no socket at all.)
fn is_deserted(path: &Path) -> bool {
    let refused = |e: io::Error| e.kind() == io::ErrorKind::ConnectionRefused;
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
        && UnixStream::connect(path).err().is_some_and(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(dir: &Path, serial: Serial) -> Console {
        Console::open(&serial, &dir.join("console")).unwrap()
    }

    #[test]
    fn the_log_never_exceeds_its_limit_and_keeps_the_newest_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let limit = Bytes(8192);
        let serial = Serial {
            log: Some(path.clone()),
            log_limit: limit,
            ..Default::default()
        };
        let mut console = console(dir.path(), serial);
        let mut sink = console.sink();
        for n in 0..10_000 {
            sink.write_all(format!("line {n}\n").as_bytes()).unwrap();
            assert!(fs::metadata(&path).unwrap().len() <= limit.0);
        }
        console.pump();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.len() as u64 <= limit.0 && text.len() > 2000);
        assert!(text.starts_with("line ") && text.ends_with("line 9999\n"));
        let numbers: Vec<u32> = text
            .lines()
            .map(|l| l["line ".len()..].parse().unwrap())
            .collect();
        assert!(
            numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "lines are missing in the middle"
        );
    }

    #[test]
    fn a_log_is_continued_not_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for text in ["one\n", "two\n"] {
            let serial = Serial {
                log: Some(path.clone()),
                ..Default::default()
            };
            let mut console = console(dir.path(), serial);
            console.sink().write_all(text.as_bytes()).unwrap();
            console.pump();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_terminal_that_nobody_reads_holds_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut console = console(
            dir.path(),
            Serial {
                pty: true,
                ..Default::default()
            },
        );
        let mut sink = console.sink();
        for _ in 0..1000 {
            sink.write_all(&[b'x'; 1000]).unwrap();
            console.pump();
        }
    }

    #[test]
    fn the_terminal_carries_both_directions_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let mut console = console(
            dir.path(),
            Serial {
                pty: true,
                ..Default::default()
            },
        );
        let link = fs::read_link(dir.path().join("console")).unwrap();
        assert_eq!(console.pty(), Some(link.as_path()));
        let mut user = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&link)
            .unwrap();
        console.sink().write_all(b"login:\n").unwrap();
        console.pump();
        let mut seen = [0; 7];
        user.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"login:\n");
        user.write_all(b"root\r").unwrap();
        let mut typed = [0; 16];
        assert_eq!(console.read(Port::Pty, &mut typed), 5);
        assert_eq!(&typed[..5], b"root\r");
    }

    #[test]
    fn the_socket_takes_one_peer_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("serial");
        let mut console = console(
            dir.path(),
            Serial {
                socket: Some(path.clone()),
                ..Default::default()
            },
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let mut first = UnixStream::connect(&path).unwrap();
        assert!(console.accept());
        let mut second = UnixStream::connect(&path).unwrap();
        assert!(!console.accept());
        assert_eq!(second.read(&mut [0]).unwrap(), 0);
        console.sink().write_all(b"hi").unwrap();
        console.pump();
        let mut seen = [0; 2];
        first.read_exact(&mut seen).unwrap();
        drop(first);
        assert_eq!(console.read(Port::Peer, &mut seen), 0);
        assert!(console.descriptor(Port::Peer).is_none());
    }

    #[test]
    fn a_socket_left_by_a_dead_process_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let listener = listen(&path).unwrap();
        assert!(listen(&path).is_err());
        drop(listener);
        assert!(listen(&path).is_ok());
        let file = dir.path().join("file");
        fs::write(&file, "mine").unwrap();
        assert!(listen(&file).is_err());
        assert!(file.exists());
    }
}
