use std::time::Duration;

use proptest::prelude::*;

use super::packet::{NO_RECEIVE, NO_SEND};
use super::*;
use crate::devices::virtio::testing::{Rig, wait_until, worker};

const CID: u32 = 7;
const OUT: u64 = 0x10_0000;
const IN: u64 = 0x20_0000;

/// A guest's driver, packet by packet, and the device's sockets.
struct Guest {
    rig: Rig<Vsock>,
    dir: tempfile::TempDir,
    /// A buffer for the device is out.
    waiting: bool,
}

impl Guest {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spec = Spec {
            cid: CID,
            socket: dir.path().join("v"),
            calls: dir.path().join("v"),
        };
        let rig = Rig::new(Vsock::new(&spec, worker()).unwrap(), 0);
        Self {
            rig,
            dir,
            waiting: false,
        }
    }

    fn say(&mut self, ends: Ends, op: Op, flags: u32, data: &[u8], forwarded: u32) {
        let header = Header {
            source: CID.into(),
            destination: HOST,
            source_port: ends.1,
            destination_port: ends.0,
            len: data.len() as u32,
            kind: packet::STREAM,
            op,
            flags,
            buffer: 4096,
            forwarded,
        };
        self.say_raw(&header, data);
    }

    fn say_raw(&mut self, header: &Header, data: &[u8]) {
        self.rig.write(OUT, &header.bytes());
        self.rig.write(OUT + HEADER as u64, data);
        let len = (HEADER + data.len()) as u32;
        self.rig.queues[1].add(&[(OUT, len, false)]);
        self.rig.queues[1].run(1);
    }

    /// The next packet, if one comes soon.
    fn hear_soon(&mut self, patience: Duration) -> Option<(Header, Vec<u8>)> {
        let queue = &mut self.rig.queues[0];
        if !std::mem::replace(&mut self.waiting, true) {
            queue.add(&[(IN, 8192, true)]);
            queue.kick();
        }
        let end = std::time::Instant::now() + patience;
        loop {
            if let Some((_, len)) = queue.used().first() {
                self.waiting = false;
                let bytes = self.rig.read(IN, *len as usize);
                let (front, data) = bytes.split_at(HEADER);
                return Some((
                    Header::from(<[u8; HEADER]>::try_from(front).unwrap()),
                    data.to_vec(),
                ));
            }
            if std::time::Instant::now() > end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn hear(&mut self) -> (Header, Vec<u8>) {
        self.hear_soon(Duration::from_secs(10)).expect("a packet")
    }

    fn hears_nothing(&mut self) {
        let heard = self.hear_soon(Duration::from_millis(30));
        assert_eq!(heard.map(|(header, _)| header.op), None);
    }

    fn connect(&self, line: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.dir.path().join("v")).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        stream
    }

    /// A connection that a program of the host made to port 5000.
    fn host_calls(&mut self) -> (UnixStream, Ends) {
        let mut stream = self.connect("CONNECT 5000\n");
        let (header, _) = self.hear();
        assert_eq!((header.op, header.destination_port), (Op::Request, 5000));
        let ends = (header.source_port, 5000);
        self.say(ends, Op::Response, 0, &[], 0);
        let hello = format!("OK {}\n", ends.0);
        let mut heard = vec![0; hello.len()];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, hello.as_bytes());
        (stream, ends)
    }
}

#[test]
fn the_guest_reads_its_address() {
    let guest = Guest::new();
    let mut cid = [0; 8];
    guest.rig.device.read_config(0, &mut cid);
    assert_eq!(u64::from_le_bytes(cid), u64::from(CID));
}

#[test]
fn a_program_of_the_host_reaches_a_port_of_the_guest() {
    let mut guest = Guest::new();
    let (mut stream, ends) = guest.host_calls();
    stream.write_all(b"question").unwrap();
    let (header, data) = guest.hear();
    assert_eq!((header.op, &data[..]), (Op::Data, &b"question"[..]));
    guest.say(ends, Op::Data, 0, b"answer", 8);
    let mut heard = [0; 6];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"answer");
}

#[test]
fn what_follows_the_first_line_is_the_guests() {
    let mut guest = Guest::new();
    let _stream = guest.connect("connect 5000\nearly");
    let (header, _) = guest.hear();
    guest.say((header.source_port, 5000), Op::Response, 0, &[], 0);
    assert_eq!(guest.hear().1, b"early");
}

#[test]
fn a_port_where_nobody_listens_ends_the_connection() {
    let mut guest = Guest::new();
    let mut stream = guest.connect("CONNECT 5000\n");
    let (header, _) = guest.hear();
    guest.say((header.source_port, 5000), Op::Reset, 0, &[], 0);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn whoever_says_something_else_first_is_turned_away() {
    let mut guest = Guest::new();
    for line in [
        "GET / HTTP/1.1\r\n",
        "CONNECT\n",
        "CONNECT 99999999999\n",
        "CONNECT 1 2\n",
        "\n",
        &"x".repeat(100),
    ] {
        let mut stream = guest.connect(line);
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "{line}");
    }
    guest.hears_nothing();
}

#[test]
fn a_program_of_the_guest_reaches_who_listens_on_the_host() {
    let mut guest = Guest::new();
    let listener = UnixListener::bind(guest.dir.path().join("v_80")).unwrap();
    let ends = (80, 1234);
    guest.say(ends, Op::Request, 0, &[], 0);
    let (header, _) = guest.hear();
    assert_eq!(header.op, Op::Response);
    assert_eq!((header.source_port, header.destination_port), ends);
    assert_eq!(header.buffer, BUFFER);
    let (mut stream, _) = listener.accept().unwrap();
    guest.say(ends, Op::Data, 0, b"hello", 0);
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).unwrap();
    stream.write_all(b"hi").unwrap();
    assert_eq!(guest.hear().1, b"hi");
}

#[test]
fn a_program_of_the_guest_learns_that_nobody_listens() {
    let mut guest = Guest::new();
    guest.say((81, 1234), Op::Request, 0, &[], 0);
    let (header, _) = guest.hear();
    assert_eq!((header.op, header.source_port), (Op::Reset, 81));
}

#[test]
fn the_device_never_sends_beyond_the_guests_credit() {
    let mut guest = Guest::new();
    let (mut stream, ends) = guest.host_calls();
    stream.write_all(&[9; 10_000]).unwrap();
    let mut heard = 0;
    while let Some((header, data)) = guest.hear_soon(Duration::from_millis(50)) {
        assert_eq!(header.op, Op::Data);
        heard += data.len();
    }
    assert_eq!(heard, 4096);
    guest.say(ends, Op::CreditUpdate, 0, &[], 4096);
    while heard < 8192 {
        heard += guest.hear().1.len();
    }
    assert_eq!(heard, 8192);
    guest.hears_nothing();
}

#[test]
fn a_guest_beyond_its_credit_loses_its_connection() {
    let mut guest = Guest::new();
    let (_stream, ends) = guest.host_calls();
    // The host does not read: its socket takes some, and then this end's buffer is all that there is.
    let mut sent = 0;
    loop {
        guest.say(ends, Op::Data, 0, &[1; 32 << 10], 0);
        sent += 32 << 10;
        let Some((header, _)) = guest.hear_soon(Duration::from_millis(20)) else {
            assert!(sent < 8 << 20);
            continue;
        };
        if header.op == Op::Reset {
            break;
        }
        assert_eq!(header.op, Op::CreditUpdate);
    }
    guest.say(ends, Op::Data, 0, b"x", 0);
    assert_eq!(guest.hear().0.op, Op::Reset, "it is not known any more");
}

#[test]
fn the_guest_is_told_of_room_before_it_has_to_stop() {
    let mut guest = Guest::new();
    let (mut stream, ends) = guest.host_calls();
    let mut told = 0;
    let mut read = vec![0; 16 << 10];
    for round in 1..=16_u32 {
        guest.say(ends, Op::Data, 0, &[1; 16 << 10], 0);
        stream.read_exact(&mut read).unwrap();
        let (header, _) = guest.hear();
        assert_eq!(header.op, Op::CreditUpdate);
        assert!(header.forwarded > told);
        told = header.forwarded;
        assert_eq!(told, round * (16 << 10));
    }
}

#[test]
fn each_direction_ends_by_itself() {
    let mut guest = Guest::new();
    let (mut stream, ends) = guest.host_calls();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let (header, _) = guest.hear();
    assert_eq!((header.op, header.flags), (Op::Shutdown, NO_SEND));
    guest.say(ends, Op::Data, 0, b"still", 0);
    guest.say(ends, Op::Shutdown, NO_SEND, &[], 0);
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"still");
    assert_eq!(guest.hear().0.op, Op::Reset);
}

#[test]
fn a_program_that_is_gone_is_told_as_the_end_of_both_directions() {
    let mut guest = Guest::new();
    let (stream, _) = guest.host_calls();
    drop(stream);
    let (header, _) = guest.hear();
    assert_eq!(
        (header.op, header.flags),
        (Op::Shutdown, NO_SEND | NO_RECEIVE)
    );
}

#[test]
fn packets_of_no_connection_and_of_other_kinds_are_refused() {
    let mut guest = Guest::new();
    for op in [
        Op::Response,
        Op::Data,
        Op::Shutdown,
        Op::CreditUpdate,
        Op::Unknown,
    ] {
        guest.say((80, 1), op, 0, &[], 0);
        assert_eq!(guest.hear().0.op, Op::Reset, "{op:?}");
    }
    guest.say((80, 1), Op::Reset, 0, &[], 0);
    guest.hears_nothing();
    let other = Header {
        source: 99,
        destination: HOST,
        source_port: 1,
        destination_port: 80,
        len: 0,
        kind: packet::STREAM,
        op: Op::Data,
        flags: 0,
        buffer: 0,
        forwarded: 0,
    };
    guest.say_raw(&other, &[]);
    guest.hears_nothing();
    let datagram = Header {
        source: CID.into(),
        kind: 3,
        op: Op::Request,
        ..other
    };
    guest.say_raw(&datagram, &[]);
    assert_eq!(guest.hear().0.op, Op::Reset);
}

#[test]
fn connections_are_bounded() {
    let guest = Guest::new();
    let streams: Vec<_> = (0..MOST).map(|_| guest.connect("")).collect();
    wait_until("all are taken", || {
        lock(&guest.rig.device.engine).streams.len() == MOST
    });
    let mut one_more = guest.connect("");
    assert_eq!(one_more.read(&mut [0]).unwrap(), 0);
    drop(streams);
}

#[test]
fn a_reset_ends_all_connections() {
    let mut guest = Guest::new();
    let (mut stream, _) = guest.host_calls();
    guest.rig.device.reset();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn no_packet_panics(packets in prop::collection::vec((0_u16..10, 0_u32..3, any::<[u32; 3]>(), prop::collection::vec(any::<u8>(), 0..64)), 0..30)) {
        let mut guest = Guest::new();
        let (_stream, ends) = guest.host_calls();
        for (op, port, [flags, buffer, forwarded], data) in packets {
            let header = Header {
                source: CID.into(),
                destination: HOST,
                source_port: ends.1 + port,
                destination_port: ends.0,
                len: data.len() as u32,
                kind: 1 + u16::from(op == 9),
                op: Op::Data,
                flags,
                buffer,
                forwarded,
            };
            let mut bytes = header.bytes();
            bytes[30] = op as u8;
            guest.say_raw(&Header::from(bytes), &data);
        }
    }
}
