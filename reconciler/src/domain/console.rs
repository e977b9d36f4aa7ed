//! A person at a guest's serial console.
//!
//! In: the path of the console (a terminal, or a link to one) and the descriptors of the person's own terminal. Out: bytes both ways until the person types the
//! escape `^]`, or the console ends. The person's terminal is put into raw mode for as long, and back afterwards whatever happens.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use crate::host::process::watch;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What ends a conversation: `^]`.
pub const ESCAPE: u8 = 0x1d;

/// A console that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// It cannot be opened.
    #[error("cannot open the console {}", path.display())]
    Open {
        /// The console.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One side broke.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// How a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// The person typed the escape, or their input ended.
    Left,
    /// The guest's side is gone.
    GuestEnded,
}

/// Joins a person with a guest's console until one of them leaves.
///
/// # Errors
/// The console cannot be opened, or either side breaks.
pub async fn attach(
    console: &Path,
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
) -> Result<Farewell, ConsoleError> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let guest =
        rustix::fs::open(console, flags, Mode::empty()).map_err(|error| ConsoleError::Open {
            path: console.to_owned(),
            source: error.into(),
        })?;
    // For good: a terminal that echoed would type the guest's own words to it.
    make_raw(guest.as_fd())?;
    let _raw = Raw::set(input)?;
    converse(guest.as_fd(), input, output).await
}

async fn converse(
    guest: BorrowedFd<'_>,
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
) -> Result<Farewell, ConsoleError> {
    let io = |what| move |source| ConsoleError::Io { what, source };
    let guest = watch(guest, Interest::READABLE | Interest::WRITABLE)
        .map_err(io("wait for the console"))?;
    let mut person = Person::new(input).map_err(io("wait for the terminal"))?;
    let (mut typed, mut said) = ([0; 1024], [0; 4096]);
    loop {
        tokio::select! {
            // Both may be cancelled: a read either happens whole or not at all.
            read = read(&guest, &mut said) => match read.map_err(io("read from the console"))? {
                0 => return Ok(Farewell::GuestEnded),
                count => write_out(output, said.get(..count).unwrap_or_default()).map_err(io("write to the terminal"))?,
            },
            read = person.read(&mut typed) => {
                let typed = match read.map_err(io("read from the terminal"))? {
                    0 => return Ok(Farewell::Left),
                    count => typed.get(..count).unwrap_or_default(),
                };
                let (before, escaped) = until_escape(typed);
                write_in(&guest, before).await.map_err(io("write to the console"))?;
                if escaped {
                    return Ok(Farewell::Left);
                }
            },
        }
    }
}

/// What was typed before the escape, and whether there was one.
fn until_escape(typed: &[u8]) -> (&[u8], bool) {
    match typed.iter().position(|&byte| byte == ESCAPE) {
        Some(at) => (typed.get(..at).unwrap_or_default(), true),
        None => (typed, false),
    }
}

/// The person's input. What cannot be waited for (a file) is read as it is.
enum Person<'a> {
    Waited(AsyncFd<BorrowedFd<'a>>),
    Plain(BorrowedFd<'a>),
}

impl<'a> Person<'a> {
    fn new(input: BorrowedFd<'a>) -> io::Result<Self> {
        match watch(input, Interest::READABLE) {
            Ok(fd) => Ok(Self::Waited(fd)),
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
                Ok(Self::Plain(input))
            }
            Err(error) => Err(error),
        }
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(fd) => Ok(rustix::io::read(*fd, buffer)?),
            Self::Waited(fd) => {
                let mut ready = fd.readable().await?;
                // The descriptor may be in blocking mode, shared with a shell: one read a readiness does not block.
                let count = rustix::io::read(fd.get_ref(), buffer)?;
                ready.clear_ready();
                Ok(count)
            }
        }
    }
}

/// Reads from the guest. A terminal whose other side has gone says EIO: that is the end.
async fn read(guest: &AsyncFd<BorrowedFd<'_>>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut ready = guest.readable().await?;
        let result = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *buffer)?));
        match result {
            Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                return Ok(0);
            }
            Ok(result) => return result,
            Err(_would_block) => {}
        }
    }
}

async fn write_in(guest: &AsyncFd<BorrowedFd<'_>>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = guest.writable().await?;
        if let Ok(result) = ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
            bytes = bytes.get(result?..).unwrap_or_default();
        }
    }
    Ok(())
}

fn write_out(output: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(output, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::sleep(std::time::Duration::from_millis(1)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A terminal in raw mode, until this is dropped.
struct Raw<'a> {
    fd: BorrowedFd<'a>,
    before: Option<Termios>,
}

impl<'a> Raw<'a> {
    fn set(fd: BorrowedFd<'a>) -> Result<Self, ConsoleError> {
        let before = make_raw(fd)?;
        Ok(Self { fd, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = rustix::termios::tcsetattr(self.fd, OptionalActions::Now, before);
        }
    }
}

/// Puts a terminal into raw mode and returns its mode before; what is no terminal is left as it is.
fn make_raw(fd: BorrowedFd<'_>) -> Result<Option<Termios>, ConsoleError> {
    if !rustix::termios::isatty(fd) {
        return Ok(None);
    }
    let error = |error: Errno| ConsoleError::Io {
        what: "set the terminal",
        source: error.into(),
    };
    let before = rustix::termios::tcgetattr(fd).map_err(error)?;
    let mut raw = before.clone();
    raw.make_raw();
    rustix::termios::tcsetattr(fd, OptionalActions::Now, &raw).map_err(error)?;
    Ok(Some(before))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn what_is_typed_before_the_escape_still_reaches_the_guest() {
        assert_eq!(until_escape(b"ls\n\x1dxyz"), (&b"ls\n"[..], true));
        assert_eq!(until_escape(b"ls\n"), (&b"ls\n"[..], false));
    }

    #[tokio::test]
    async fn words_go_both_ways_until_the_escape() {
        use std::io::{Read, Write};
        let (master, name) = pseudo_terminal();
        let mut master = std::fs::File::from(master);
        let (input, mut typing) = std::io::pipe().unwrap();
        let (mut shown, output) = std::io::pipe().unwrap();
        master.write_all(b"login: ").unwrap();
        typing.write_all(b"root\n\x1d").unwrap();
        // Input is read only once the guest has been heard: a test must not depend on which side is first.
        let farewell = attach(&name, input.as_fd(), output.as_fd()).await.unwrap();
        assert_eq!(farewell, Farewell::Left);
        let mut heard = [0; 5];
        master.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"root\n");
        drop(output);
        let mut screen = String::new();
        shown.read_to_string(&mut screen).unwrap();
        assert!("login: ".starts_with(&screen), "{screen:?}");
    }

    fn pseudo_terminal() -> (OwnedFd, PathBuf) {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        // The line discipline must not change what goes through before the console sets it.
        let mut raw = rustix::termios::tcgetattr(&master).unwrap();
        raw.make_raw();
        rustix::termios::tcsetattr(&master, OptionalActions::Now, &raw).unwrap();
        (master, PathBuf::from(name))
    }
}
