//! The other end of a port, on the host: a terminal, a socket with one peer at a time, a log, or nothing.
//!
//! Everything is opened with the machine, before privileges are given up; afterwards peers come and go, and a call that this end made is not made again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::net::{RecvFlags, SocketFlags};
use thiserror::Error;

use crate::config::Port as Spec;
use crate::console::{Log, Pty, leave_link, listen};

/// Why a port has no other end.
#[derive(Debug, Error)]
pub enum EndError {
    /// The log, or what somebody else has to be there for.
    #[error("could not {what} {place} for port {id}")]
    Open {
        /// What was tried.
        what: &'static str,
        /// A path, or a host and port.
        place: String,
        /// The port.
        id: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process has no descriptor left.
    #[error("could not wait for the console's ports")]
    Event {
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The other end of a port.
pub struct End {
    listener: Option<Arc<OwnedFd>>,
    peer: Option<Arc<File>>,
    /// Keeps a terminal as it is, and its name.
    pty: Option<Pty>,
    log: Option<Log>,
    /// There is nobody who could come or go.
    alone: bool,
}

impl End {
    /// Opens the end. The link to a terminal is left in `links`, by the port's name.
    pub(super) fn open(spec: &Spec, links: &Path) -> Result<Self, EndError> {
        let failed = |what: &'static str, place: String| {
            let id = spec.id.clone();
            move |source| EndError::Open {
                what,
                place,
                id,
                source,
            }
        };
        let shown = |path: &Path| path.display().to_string();
        let mut end = Self {
            listener: None,
            peer: None,
            pty: None,
            log: None,
            alone: spec.socket.is_none() && spec.tcp.is_none(),
        };
        if let Some(path) = &spec.log {
            let log = Log::open(path, spec.log_limit);
            end.log = Some(log.map_err(failed("open the log", shown(path)))?);
        }
        if spec.pty {
            let pty = Pty::open().map_err(failed("make a pseudo-terminal", String::new()))?;
            let near = pty.near().map_err(failed("open", shown(pty.name())))?;
            end.peer = Some(Arc::new(near));
            end.pty = Some(pty);
        }
        let link: PathBuf = links.join(&spec.id);
        let terminal = end.pty.as_ref().map(Pty::name);
        leave_link(&link, terminal).map_err(failed("make the link", shown(&link)))?;
        match (&spec.socket, &spec.tcp, spec.connect) {
            (Some(path), _, true) => {
                let stream = UnixStream::connect(path);
                let stream = stream.map_err(failed("connect to", shown(path)))?;
                end.take(stream.into());
            }
            (Some(path), _, false) => {
                let listener = listen(path).map_err(failed("listen on", shown(path)))?;
                end.listener = Some(Arc::new(listener.into()));
            }
            (None, Some(place), true) => {
                let stream = TcpStream::connect(place.as_str());
                let stream = stream.map_err(failed("connect to", place.clone()))?;
                end.take(stream.into());
            }
            (None, Some(place), false) => {
                let listener = TcpListener::bind(place.as_str());
                let listener = listener.map_err(failed("listen on", place.clone()))?;
                end.listener = Some(Arc::new(listener.into()));
            }
            (None, None, _) => {}
        }
        for descriptor in [end.listener.as_ref().map(AsFd::as_fd), end.peer_fd()] {
            let set = descriptor.map(|descriptor| rustix::io::ioctl_fionbio(descriptor, true));
            set.transpose()
                .map_err(io::Error::from)
                .map_err(failed("prepare", String::new()))?;
        }
        Ok(end)
    }

    fn peer_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.peer.as_ref().map(|peer| peer.as_fd())
    }

    fn take(&mut self, stream: OwnedFd) {
        self.peer = Some(Arc::new(File::from(stream)));
    }

    /// Whoever listens, to be waited for.
    pub(super) fn listener(&self) -> Option<Arc<dyn AsRawFd + Send + Sync>> {
        let listener = self.listener.clone()?;
        Some(listener)
    }

    /// Whoever is there, to be waited for.
    pub(super) fn peer(&self) -> Option<Arc<dyn AsRawFd + Send + Sync>> {
        let peer = self.peer.clone()?;
        Some(peer)
    }

    /// The terminal's name.
    pub(super) fn pty(&self) -> Option<&Path> {
        self.pty.as_ref().map(Pty::name)
    }

    /// Whether somebody is there, as far as the guest is told. A terminal and a log always are.
    pub(super) fn is_there(&self) -> bool {
        self.alone || self.peer.is_some()
    }

    /// Takes a caller: whether there is a new peer, or `None` when nobody calls. A caller is turned away while another is there.
    pub(super) fn accept(&mut self) -> Option<bool> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let caller = rustix::net::accept_with(self.listener.as_ref()?, flags).ok()?;
        if self.peer.is_some() {
            return Some(false);
        }
        self.take(caller);
        Some(true)
    }

    /// Whether the peer has hung up and left nothing to read.
    pub(super) fn peer_has_gone(&self) -> bool {
        if self.alone {
            return false;
        }
        let Some(peer) = &self.peer else { return false };
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let mut byte = [0];
        matches!(
            rustix::net::recv(peer, byte.as_mut_slice(), flags),
            Ok((_, 0))
        )
    }

    /// Lets the peer go.
    pub(super) fn hang_up(&mut self) {
        self.peer = None;
    }

    /// Writes into the log what the guest said.
    pub(super) fn note(&mut self, data: &[u8]) {
        if let Some(log) = &mut self.log
            && let Err(error) = log.append(data)
        {
            tracing::debug!(%error, "could not write the log of a port");
        }
    }

    /// Gives the peer what it takes now; what nobody is there for is taken by nobody.
    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match &self.peer {
            Some(peer) => (&**peer).write(data),
            None => Ok(data.len()),
        }
    }

    /// What the peer says now; the end is zero bytes.
    pub(super) fn read(&mut self, data: &mut [u8]) -> io::Result<usize> {
        match &self.peer {
            Some(_) if data.is_empty() => Ok(0),
            Some(peer) => (&**peer).read(data),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}
