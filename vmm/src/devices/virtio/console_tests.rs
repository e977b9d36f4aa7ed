use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;
use crate::config::Bytes;
use crate::devices::virtio::testing::{Rig, wait_until, worker};

/// Where messages and data are in the guest's memory, by queue.
fn buffer(queue: u16) -> u64 {
    0x10_0000 + u64::from(queue) * 0x1_0000
}

fn spec(id: &str) -> Spec {
    Spec {
        id: id.into(),
        number: None,
        name: None,
        console: false,
        pty: false,
        socket: None,
        tcp: None,
        connect: false,
        log: None,
        log_limit: Bytes(4096),
    }
}

fn socket(dir: &tempfile::TempDir, id: &str) -> Spec {
    Spec {
        name: Some(format!("org.example.{id}")),
        socket: Some(dir.path().join(format!("{id}.socket"))),
        ..spec(id)
    }
}

/// A guest whose driver has said that the device and all its ports are ready, and opened them.
struct Guest {
    rig: Rig<Console>,
    dir: tempfile::TempDir,
}

impl Guest {
    fn new(make: impl FnOnce(&tempfile::TempDir) -> Vec<Spec>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let specs = make(&dir);
        let console = Console::new(&specs, dir.path(), worker()).unwrap();
        let rig = Rig::new(console, F_MULTIPORT);
        Self { rig, dir }
    }

    fn say(&mut self, queue: u16, data: &[u8]) {
        self.rig.write(buffer(queue), data);
        let driver = &mut self.rig.queues[usize::from(queue)];
        driver.add(&[(buffer(queue), data.len() as u32, false)]);
        driver.kick();
    }

    fn spoken(&mut self, queue: u16, data: &[u8]) {
        self.say(queue, data);
        self.answered(queue);
    }

    fn answered(&mut self, queue: u16) -> u32 {
        let driver = &mut self.rig.queues[usize::from(queue)];
        let mut used = Vec::new();
        wait_until("the device answers", || {
            used.extend(driver.used());
            !used.is_empty()
        });
        used[0].1
    }

    fn control(&mut self, number: u32, event: u16, value: u16) {
        let mut message = number.to_le_bytes().to_vec();
        message.extend(event.to_le_bytes());
        message.extend(value.to_le_bytes());
        self.spoken(CONTROL[1], &message);
    }

    /// What the device says next on a queue.
    fn hear(&mut self, queue: u16) -> Vec<u8> {
        let driver = &mut self.rig.queues[usize::from(queue)];
        driver.add(&[(buffer(queue), 4096, true)]);
        driver.kick();
        let len = self.answered(queue);
        self.rig.read(buffer(queue), len as usize)
    }

    /// The next control message: number, event, value, and what follows.
    fn told(&mut self) -> (u32, u16, u16, Vec<u8>) {
        let message = self.hear(CONTROL[0]);
        let word = |at: usize| u16::from_le_bytes([message[at], message[at + 1]]);
        (word(0).into(), word(4), word(6), message[8..].to_vec())
    }

    /// Nothing comes on a queue for a while.
    fn hears_nothing(&mut self, queue: u16) {
        std::thread::sleep(Duration::from_millis(20));
        assert!(self.rig.queues[usize::from(queue)].used().is_empty());
    }

    fn connect(&self, id: &str) -> UnixStream {
        let peer = UnixStream::connect(self.dir.path().join(format!("{id}.socket"))).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        peer
    }

    fn state(&self, id: &str) -> PortState {
        let states = self.rig.device.control().state();
        states.into_iter().find(|state| state.id == id).unwrap()
    }

    /// The driver of one channel is ready and open.
    fn open(&mut self, number: u32) {
        self.control(number, PORT_READY, 1);
        self.control(number, PORT_OPEN, 1);
    }
}

#[test]
fn ports_are_told_in_the_order_that_drivers_expect() {
    let mut guest = Guest::new(|dir| {
        let console = Spec {
            console: true,
            ..spec("console0")
        };
        vec![socket(dir, "agent"), console]
    });
    guest.control(0, DEVICE_READY, 1);
    assert_eq!(guest.told(), (1, PORT_ADD, 1, vec![]));
    assert_eq!(guest.told(), (0, PORT_ADD, 1, vec![]));
    guest.control(0, PORT_READY, 1);
    assert_eq!(guest.told(), (0, CONSOLE_PORT, 1, vec![]));
    assert_eq!(guest.told(), (0, PORT_OPEN, 1, vec![]));
    guest.control(1, PORT_READY, 1);
    let name = b"org.example.agent".to_vec();
    assert_eq!(guest.told(), (1, PORT_NAME, 1, name));
    guest.hears_nothing(CONTROL[0]);
}

#[test]
fn both_sides_learn_when_the_other_opens_and_closes() {
    let mut guest = Guest::new(|dir| vec![socket(dir, "agent")]);
    guest.open(1);
    guest.told();
    assert!(guest.state("agent").guest && !guest.state("agent").host);
    let peer = guest.connect("agent");
    assert_eq!(guest.told(), (1, PORT_OPEN, 1, vec![]));
    assert!(guest.state("agent").host);
    drop(peer);
    assert_eq!(guest.told(), (1, PORT_OPEN, 0, vec![]));
    assert!(!guest.state("agent").host);
    guest.control(1, PORT_OPEN, 0);
    assert!(!guest.state("agent").guest);
}

#[test]
fn bytes_pass_both_ways_unchanged() {
    let mut guest = Guest::new(|dir| vec![socket(dir, "agent")]);
    guest.open(1);
    guest.told();
    let mut peer = guest.connect("agent");
    guest.told();
    let text: Vec<u8> = (0..50_000).map(|n| n as u8).collect();
    guest.spoken(5, &text);
    let mut heard = vec![0; text.len()];
    peer.read_exact(&mut heard).unwrap();
    assert!(heard == text);
    peer.write_all(b"hello").unwrap();
    assert_eq!(guest.hear(4), b"hello");
}

#[test]
fn what_comes_while_the_guest_is_not_there_waits_for_it() {
    let mut guest = Guest::new(|dir| vec![socket(dir, "agent")]);
    let mut peer = guest.connect("agent");
    peer.write_all(b"early").unwrap();
    let driver = &mut guest.rig.queues[4];
    driver.add(&[(buffer(4), 4096, true)]);
    driver.kick();
    guest.hears_nothing(4);
    guest.open(1);
    assert_eq!(guest.answered(4), 5);
    assert_eq!(guest.rig.read(buffer(4), 5), b"early");
}

#[test]
fn a_peer_that_does_not_read_holds_up_its_own_port_and_no_other() {
    let mut guest = Guest::new(|dir| vec![socket(dir, "slow"), socket(dir, "quick")]);
    guest.open(1);
    guest.open(2);
    let (mut slow, mut quick) = (guest.connect("slow"), guest.connect("quick"));
    wait_until("both are there", || {
        guest.state("slow").host && guest.state("quick").host
    });
    let piece = vec![7; 0xf000];
    let mut said = 0;
    loop {
        guest.say(5, &piece);
        said += piece.len();
        std::thread::sleep(Duration::from_millis(5));
        if guest.rig.queues[5].used().is_empty() {
            break;
        }
        assert!(said < 16 << 20, "all of it was taken");
    }
    guest.spoken(7, b"still here");
    let mut heard = [0; 10];
    quick.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"still here");
    let mut all = vec![0; said];
    slow.read_exact(&mut all).unwrap();
    assert!(all.iter().all(|byte| *byte == 7));
    guest.answered(5);
}

#[test]
fn without_a_peer_what_the_guest_says_is_dropped() {
    let mut guest = Guest::new(|dir| vec![socket(dir, "agent")]);
    guest.open(1);
    for _ in 0..100 {
        guest.spoken(5, &[1; 5000]);
    }
}

#[test]
fn a_second_caller_is_turned_away_until_the_first_has_gone() {
    let mut guest = Guest::new(|dir| vec![socket(dir, "agent")]);
    let first = guest.connect("agent");
    wait_until("it is there", || guest.state("agent").host);
    let mut second = guest.connect("agent");
    assert_eq!(second.read(&mut [0]).unwrap(), 0);
    drop(first);
    wait_until("it has gone", || !guest.state("agent").host);
    let mut third = guest.connect("agent");
    wait_until("the next is there", || guest.state("agent").host);
    guest.open(1);
    guest.spoken(5, b"x");
    third.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_terminal_and_its_log_never_make_the_guest_wait() {
    let mut guest = Guest::new(|dir| {
        vec![Spec {
            console: true,
            pty: true,
            log: Some(dir.path().join("log")),
            ..spec("console0")
        }]
    });
    guest.open(0);
    let link = std::fs::read_link(guest.dir.path().join("console0")).unwrap();
    assert_eq!(guest.state("console0").pty.as_deref(), Some(link.as_path()));
    for _ in 0..100 {
        guest.spoken(1, &[b'x'; 5000]);
    }
    guest.spoken(1, b"last\n");
    let log = std::fs::read(guest.dir.path().join("log")).unwrap();
    assert!(log.len() <= 4096 && log.ends_with(b"last\n"));
    let mut user = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(link)
        .unwrap();
    user.write_all(b"typed\r").unwrap();
    assert_eq!(guest.hear(0), b"typed\r");
}

#[test]
fn a_driver_that_knows_one_port_has_its_console_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let console = Spec {
        console: true,
        ..socket(&dir, "console0")
    };
    let console = Console::new(&[console], dir.path(), worker()).unwrap();
    let mut guest = Guest {
        rig: Rig::new(console, 0),
        dir,
    };
    let mut peer = guest.connect("console0");
    peer.write_all(b"hi").unwrap();
    assert_eq!(guest.hear(0), b"hi");
}

#[test]
fn a_port_calls_once_and_says_when_nobody_answers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer");
    let calling = Spec {
        connect: true,
        socket: Some(path.clone()),
        ..spec("agent")
    };
    let refused = Console::new(std::slice::from_ref(&calling), dir.path(), worker());
    let message = refused.err().unwrap().to_string();
    assert!(message.starts_with("could not connect to"), "{message}");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let console = Console::new(&[calling], dir.path(), worker()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    let mut guest = Guest {
        rig: Rig::new(console, F_MULTIPORT),
        dir,
    };
    guest.open(1);
    assert_eq!(guest.told(), (1, PORT_OPEN, 1, vec![]));
    peer.write_all(b"x").unwrap();
    assert_eq!(guest.hear(4), b"x");
}

#[test]
fn a_flood_of_questions_is_answered_as_far_as_there_is_room() {
    let mut guest = Guest::new(|dir| vec![socket(dir, "agent")]);
    for _ in 0..1000 {
        guest.control(1, PORT_READY, 1);
        guest.control(77, PORT_READY, 1);
        guest.control(0, DEVICE_READY, 1);
    }
    assert_eq!(guest.told().1, PORT_ADD);
    assert_eq!(guest.told().1, PORT_NAME);
    guest.hears_nothing(CONTROL[0]);
}

#[test]
fn a_reset_forgets_what_the_guest_said_and_keeps_the_peer() {
    let mut guest = Guest::new(|dir| vec![socket(dir, "agent")]);
    guest.open(1);
    let _peer = guest.connect("agent");
    wait_until("it is there", || guest.state("agent").host);
    guest.rig.device.reset();
    assert_eq!(
        (guest.state("agent").host, guest.state("agent").guest),
        (true, false)
    );
}
