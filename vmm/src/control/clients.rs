//! Those who are connected to the control socket.
//!
//! In come bytes, out go whole lines; answers and events are queued and written when the client reads. A client that sends too long a
//! line, or does not read what it asked for, is dropped, and so is one that has long been silent when another wants its place: nobody is ever waited for, and no
//! client can make the monitor grow or keep others out.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::wire::{Answer, Code};

/// Longest request, in bytes.
pub const LINE_LIMIT: usize = 64 << 10;
/// Most that is kept for a client that does not read.
pub const BACKLOG_LIMIT: usize = 256 << 10;

/// How long a client may say nothing before it has to make room for another. One that listens for events has said all it needs to.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// One client.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// Wants events.
    pub listens: bool,
    broken: bool,
    /// When it last sent a whole line; before the first, when it came.
    heard: Instant,
}

impl Client {
    /// Takes over a connection.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            listens: false,
            broken: false,
            heard: Instant::now(),
        })
    }

    /// The connection.
    pub fn descriptor(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Whether there is something that the client has not read.
    pub fn backlog(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the client is to be forgotten.
    pub fn is_gone(&self) -> bool {
        self.broken
    }

    /// How long it has said nothing, if that is long enough to make room for another.
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        let silent = now.saturating_duration_since(self.heard);
        (!self.listens && silent >= SILENCE_LIMIT).then_some(silent)
    }

    /// Ends the connection, with this as the last line.
    pub fn dismiss(&mut self, message: &impl Serialize) {
        self.send(message);
        self.broken = true;
    }

    /// Reads once; gives the lines that are whole now.
    pub fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.broken = true,
            Ok(n) => self.incoming.extend(buffer.iter().take(n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.broken = true,
        }
        let mut lines = Vec::new();
        while let Some(end) = self.incoming.iter().position(|&b| b == b'\n') {
            let rest = self.incoming.split_off(end + 1);
            let mut line = std::mem::replace(&mut self.incoming, rest);
            line.pop();
            if !line.iter().all(u8::is_ascii_whitespace) {
                lines.push(line);
            }
        }
        if !lines.is_empty() {
            self.heard = Instant::now();
        }
        if self.incoming.len() > LINE_LIMIT {
            let message = format!("a request has at most {LINE_LIMIT} bytes");
            self.dismiss(&Answer::unasked(Code::TooLong, message));
        }
        lines
    }

    /// Sends one object as a line, as far as the client reads; the rest is kept for [`Client::flush`].
    pub fn send(&mut self, message: &impl Serialize) {
        // Writing to memory fails only for types that are not on our wire.
        if serde_json::to_writer(&mut self.outgoing, message).is_err() {
            self.broken = true;
            return;
        }
        self.outgoing.push(b'\n');
        self.flush();
        self.broken |= self.outgoing.len() > BACKLOG_LIMIT;
    }

    /// Writes what has been kept, as far as the client reads.
    pub fn flush(&mut self) {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(n) if n > 0 => drop(self.outgoing.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    self.broken = true;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Client, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        (Client::new(near).unwrap(), far)
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        let (mut client, mut far) = pair();
        far.write_all(b"one\ntw").unwrap();
        assert_eq!(client.receive(), [b"one".to_vec()]);
        far.write_all(b"o\n\n \nthree\n").unwrap();
        assert_eq!(client.receive(), [b"two".to_vec(), b"three".to_vec()]);
        drop(far);
        assert!(client.receive().is_empty() && client.is_gone());
    }

    #[test]
    fn who_has_been_silent_for_long_makes_room_unless_it_listens() {
        let (mut client, mut far) = pair();
        let soon = Instant::now() + SILENCE_LIMIT / 2;
        let late = Instant::now() + SILENCE_LIMIT * 2;
        assert_eq!(client.silent_for(soon), None);
        assert!(client.silent_for(late) >= Some(SILENCE_LIMIT));
        far.write_all(b"half a line").unwrap();
        let before = client.heard;
        client.receive();
        assert_eq!(client.heard, before);
        far.write_all(b"\n").unwrap();
        client.receive();
        assert!(client.heard > before);
        client.listens = true;
        assert_eq!(client.silent_for(late), None);
    }

    #[test]
    fn a_line_without_end_is_cut_off() {
        let (mut client, mut far) = pair();
        let mut sent = 0;
        while !client.is_gone() {
            far.write_all(&[b'x'; 4096]).unwrap();
            sent += 4096;
            assert!(client.receive().is_empty());
            assert!(sent <= LINE_LIMIT + 4096);
        }
    }

    #[test]
    fn a_client_that_does_not_read_is_dropped_and_never_waited_for() {
        let (mut client, _far) = pair();
        let mut sent = 0;
        while !client.is_gone() {
            client.send(&"x".repeat(1000));
            sent += 1000;
            assert!(sent < 10 * BACKLOG_LIMIT);
        }
    }
}
