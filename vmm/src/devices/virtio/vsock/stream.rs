//! One connection: its end on the host, what is under way, and what the guest has still to be told.

use super::packet::{NO_RECEIVE, NO_SEND};
use super::*;

/// What the guest has still to be told of a connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Untold {
    pub request: bool,
    pub response: bool,
    pub credit: bool,
    /// That this end's data ended, or all of it: flags of a shutdown.
    shutdown: Option<u32>,
}

/// A connection.
pub(super) struct Stream {
    file: Arc<File>,
    _watch: Watch,
    /// Its ports, once the program of the host has said which.
    pub ends: Option<Ends>,
    line: Vec<u8>,
    /// Both sides know of it.
    pub established: bool,
    pub untold: Untold,
    /// It is among those that wait for their turn.
    pub waits: bool,
    /// There may be something to read.
    pub readable: bool,
    /// This end's data has ended, or the guest wants none.
    read_over: bool,
    /// The guest's data has ended.
    guest_over: bool,
    /// Nothing more goes either way; what is left for the host goes there, and then the guest is told.
    closing: bool,
    /// The end on the host has gone.
    broken: bool,
    to_host: VecDeque<u8>,
    /// Bytes taken from the guest and passed on, and what of that the guest was told.
    forwarded: u32,
    told: u32,
    /// Bytes given to the guest, its buffer, and what it took out of that.
    given: u32,
    peer_buffer: u32,
    peer_forwarded: u32,
}

impl Stream {
    pub fn new(file: Arc<File>, watch: Watch, ends: Option<Ends>) -> Self {
        Self {
            file,
            _watch: watch,
            ends,
            line: Vec::new(),
            established: false,
            untold: Untold::default(),
            waits: false,
            readable: true,
            read_over: false,
            guest_over: false,
            closing: false,
            broken: false,
            to_host: VecDeque::new(),
            forwarded: 0,
            told: 0,
            given: 0,
            peer_buffer: 0,
            peer_forwarded: 0,
        }
    }

    /// Reads the first line, byte by byte, since what follows it is the guest's; gives the port once it is whole.
    pub fn greeting(&mut self) -> io::Result<Option<u32>> {
        loop {
            let mut byte = [0];
            match (&*self.file).read(&mut byte) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) if byte == *b"\n" => break,
                Ok(_) => self.line.extend(byte),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.line.len() > LINE {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        let line = String::from_utf8_lossy(&self.line).into_owned();
        let mut words = line.split_ascii_whitespace();
        let connect = words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("connect"));
        let port = words.next().and_then(|word| word.parse().ok());
        match port.filter(|_| connect && words.next().is_none()) {
            Some(port) => Ok(Some(port)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Takes note of what the guest says of its buffer.
    pub fn credit(&mut self, header: &Header) {
        self.peer_buffer = header.buffer;
        self.peer_forwarded = header.forwarded;
    }

    /// The guest has taken the connection; says whether it had been asked.
    pub fn answered(&mut self, host_port: u32) -> bool {
        if self.established || self.untold.request {
            return false;
        }
        self.established = true;
        // Ahead of all the guest's data, and not counted as such.
        let hello = format!("OK {host_port}\n");
        matches!((&*self.file).write(hello.as_bytes()), Ok(n) if n == hello.len())
    }

    /// Bytes that the guest may send now.
    pub fn room(&self) -> u32 {
        BUFFER.saturating_sub(self.to_host.len() as u32)
    }

    /// Takes the guest's data; says whether it may send any.
    pub fn send(&mut self, data: &[u8]) -> bool {
        if !self.established || self.guest_over {
            return false;
        }
        self.to_host.extend(data);
        true
    }

    pub fn shut_by_guest(&mut self, flags: u32) {
        self.read_over |= flags & NO_RECEIVE != 0;
        self.guest_over |= flags & NO_SEND != 0;
        self.closing |= self.read_over && self.guest_over;
    }

    /// Passes on to the host what it takes now.
    pub fn flush(&mut self) {
        while !self.to_host.is_empty() {
            let (front, _) = self.to_host.as_slices();
            match (&*self.file).write(front) {
                Ok(n) if n > 0 => {
                    self.to_host.drain(..n);
                    self.forwarded = self.forwarded.wrapping_add(n as u32);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                _ => {
                    self.broken = true;
                    self.to_host.clear();
                }
            }
        }
        if self.guest_over && self.to_host.is_empty() {
            // Its other direction may go on for long.
            let _ = rustix::net::shutdown(&*self.file, Shutdown::Write);
        }
        // Before the guest has to stop, not at every byte.
        if self.forwarded.wrapping_sub(self.told) >= BUFFER / 4 {
            self.untold.credit = true;
        }
    }

    /// What the guest is told of this end's buffer in the packet that is being made.
    pub fn tell_credit(&mut self) -> u32 {
        self.told = self.forwarded;
        self.untold.credit = false;
        self.forwarded
    }

    /// The next packet, if there is one: what, flags, data.
    pub fn next(&mut self, most: usize) -> Option<(Op, u32, Vec<u8>)> {
        let plain = |op| Some((op, 0, Vec::new()));
        if std::mem::take(&mut self.untold.request) {
            return plain(Op::Request);
        }
        if self.broken || (self.closing && self.to_host.is_empty()) {
            return plain(Op::Reset);
        }
        if std::mem::take(&mut self.untold.response) {
            return plain(Op::Response);
        }
        if !self.established {
            return None;
        }
        if let Some(data) = self.read(most) {
            return Some((Op::Data, 0, data));
        }
        if self.broken {
            return plain(Op::Reset);
        }
        if let Some(flags) = self.untold.shutdown.take() {
            return Some((Op::Shutdown, flags, Vec::new()));
        }
        self.untold
            .credit
            .then(|| (Op::CreditUpdate, 0, Vec::new()))
    }

    /// Reads what the host says, as far as the guest has room.
    fn read(&mut self, most: usize) -> Option<Vec<u8>> {
        let under_way = self.given.wrapping_sub(self.peer_forwarded);
        let credit = self.peer_buffer.saturating_sub(under_way) as usize;
        let most = most.min(credit);
        if !self.readable || self.read_over || most == 0 {
            return None;
        }
        let mut data = vec![0; most];
        loop {
            match (&*self.file).read(&mut data) {
                Ok(0) => {
                    self.read_over = true;
                    let flags = if self.has_hung_up() {
                        NO_SEND | NO_RECEIVE
                    } else {
                        NO_SEND
                    };
                    self.untold.shutdown = Some(flags);
                    return None;
                }
                Ok(n) => {
                    data.truncate(n);
                    self.given = self.given.wrapping_add(n as u32);
                    return Some(data);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.readable = false;
                    self.broken |= error.kind() != io::ErrorKind::WouldBlock;
                    return None;
                }
            }
        }
    }

    /// Whether the program of the host is gone altogether, and not only done with speaking.
    fn has_hung_up(&self) -> bool {
        let mut polled = [PollFd::new(&*self.file, PollFlags::empty())];
        let none = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let ready = rustix::event::poll(&mut polled, Some(&none));
        ready.is_ok() && polled[0].revents().contains(PollFlags::HUP)
    }
}
