//! The kernel's own device is needed, a tap, and a network namespace to have it in: where the host gives them not (`modprobe vhost_net`, and root), these are skipped.

use std::os::fd::{FromRawFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use super::super::tap::attach;
use super::super::{F_CTRL_VQ, F_MQ, HEADER, Net, Spec};
use super::*;
use crate::config::LinkState;
use crate::devices::virtio::VirtioDevice;
use crate::devices::virtio::testing::{MEMORY, Rig, wait_until, worker};

const TAP: &str = "vhosttest0";
/// Of the experimental type, so that it is told from what the host itself sends.
const TYPE: u16 = 0x88b5;
const BUFFER: u64 = 0x20000;
const BOTH: u64 = F_VERSION_1 | F_MRG_RXBUF;

/// The host's side of the tap.
struct Wire(OwnedFd);

impl Wire {
    fn new() -> Self {
        // Frames are to be those of the test alone: a link with IPv6 speaks by itself.
        let quiet = format!("echo 1 >/proc/sys/net/ipv6/conf/{TAP}/disable_ipv6");
        let script = format!("[ ! -d /proc/sys/net/ipv6 ] || {quiet} && ip link set {TAP} up");
        let up = Command::new("sh").args(["-c", &script]).status();
        assert!(up.unwrap().success());
        let protocol = TYPE.to_be();
        // SAFETY: the call makes a descriptor that nobody else has; the address is a live local of the length that is said.
        unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, protocol.into());
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            let wire = Self(OwnedFd::from_raw_fd(fd));
            let mut place: libc::sockaddr_ll = std::mem::zeroed();
            place.sll_family = libc::AF_PACKET as u16;
            place.sll_protocol = protocol;
            place.sll_ifindex = libc::if_nametoindex(c"vhosttest0".as_ptr()) as i32;
            let len = size_of_val(&place) as u32;
            assert_eq!(libc::bind(fd, (&raw const place).cast(), len), 0);
            wire
        }
    }

    fn send(&self, frame: &[u8]) {
        // SAFETY: the pointer and the length are of one live slice.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    /// The next frame, if one comes soon.
    fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 2000];
        let end = std::time::Instant::now() + Duration::from_millis(200);
        while std::time::Instant::now() < end {
            // SAFETY: the pointer and the length are of one live slice.
            let got = unsafe {
                let fd = self.0.as_raw_fd();
                libc::recv(
                    fd,
                    frame.as_mut_ptr().cast(),
                    frame.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            if got >= 0 {
                frame.truncate(got as usize);
                return Some(frame);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

/// Whether a test can run; the thread is in a network namespace of its own then.
fn able() -> bool {
    // SAFETY: the call changes only where this thread looks for networks.
    let alone = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
    for path in [DEVICE, "/dev/net/tun"] {
        if let Err(error) = File::options().read(true).write(true).open(path) {
            eprintln!("skipped: cannot open {path}: {error}");
            return false;
        }
    }
    if !alone {
        eprintln!("skipped: cannot make a network namespace");
    }
    alone
}

fn rig(pairs: u16, features: u64) -> (Rig<Net>, Wire) {
    let spec = Spec {
        tap: TAP.into(),
        mac: [0x52, 0x54, 0, 1, 2, 3],
        link: LinkState::Up,
        mtu: None,
        without: Vec::new(),
        queue_sizes: [256; 2],
        pairs,
        vhost: Some(true),
    };
    let workers = (0..pairs).map(|_| worker()).collect();
    let device = Net::new(&spec, workers).unwrap();
    let wire = Wire::new();
    (Rig::new(device, features), wire)
}

fn frame(word: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xff; 12];
    frame.extend(TYPE.to_be_bytes());
    frame.extend(word);
    frame.resize(60, 0);
    frame
}

/// Has the guest send a frame; its buffer is at this address.
fn send_from(rig: &mut Rig<Net>, at: u64, word: &[u8]) {
    let mut bytes = vec![0; HEADER];
    bytes.extend(frame(word));
    rig.write(at, &bytes);
    rig.queues[1].add(&[(at, bytes.len() as u32, false)]);
    rig.queues[1].kick();
}

/// Waits for a frame of ours in the buffers at [`BUFFER`], 2048 bytes each; returns what its buffers hold after the header.
fn arrives(rig: &mut Rig<Net>, queue: usize) -> Vec<u8> {
    let mut found = Vec::new();
    wait_until("a frame comes", || {
        for (head, len) in rig.queues[queue].used() {
            let bytes = rig.read(BUFFER + u64::from(head) * 2048, len as usize);
            if bytes.get(HEADER + 12..HEADER + 14) == Some(&TYPE.to_be_bytes()) {
                found = bytes[HEADER..].to_vec();
            }
        }
        !found.is_empty()
    });
    found
}

fn give_room(rig: &mut Rig<Net>, queue: usize) {
    for place in 0..12 {
        rig.queues[queue].add(&[(BUFFER + place * 2048, 2048, true)]);
    }
    rig.queues[queue].kick();
}

#[test]
fn the_kernel_moves_frames_both_ways_and_the_guest_hears_of_them() {
    if !able() {
        return;
    }
    let (mut rig, wire) = rig(1, BOTH);
    send_from(&mut rig, 0x10000, b"ping");
    assert_eq!(wire.receive(), Some(frame(b"ping")));
    wait_until("the guest hears of it", || rig.told.queues().contains(&1));
    give_room(&mut rig, 0);
    wire.send(&frame(b"pong"));
    assert_eq!(arrives(&mut rig, 0), frame(b"pong"));
    wait_until("the guest hears of it", || rig.told.queues().contains(&0));
    assert!(!rig.told.broken());
}

#[test]
fn what_lies_outside_the_guests_memory_is_never_reached_and_the_guest_is_to_reset() {
    if !able() {
        return;
    }
    let secret = frame(b"secret of the monitor");
    for at in [MEMORY as u64, u64::MAX - 100, secret.as_ptr().addr() as u64] {
        let (mut rig, wire) = rig(1, BOTH);
        rig.queues[1].add(&[(at, 72, false)]);
        rig.queues[1].kick();
        rig.wait_broken();
        assert_eq!(wire.receive(), None, "{at:#x}");
    }
    let room = vec![0_u8; 4096];
    let (mut rig, wire) = rig(1, BOTH);
    rig.queues[0].add(&[(room.as_ptr().addr() as u64, 2048, true)]);
    rig.queues[0].kick();
    wire.send(&frame(b"overwrites"));
    rig.wait_broken();
    assert!(room.iter().all(|byte| *byte == 0));
}

#[test]
fn chains_that_lead_nowhere_and_indices_that_jump_only_ask_for_a_reset() {
    if !able() {
        return;
    }
    let (mut circle, _wire) = rig(1, BOTH);
    circle.queues[1].describe(0, 0x10000, 72, 1, 0);
    circle.queues[1].offer(0);
    circle.queues[1].kick();
    circle.wait_broken();
    drop(circle);
    let (mut jump, _wire) = rig(1, BOTH);
    jump.queues[1].set_available(5000);
    jump.queues[1].kick();
    jump.wait_broken();
}

#[test]
fn no_frame_passes_a_pulled_cable_and_what_came_meanwhile_is_lost() {
    if !able() {
        return;
    }
    let (mut rig, wire) = rig(1, BOTH);
    give_room(&mut rig, 0);
    let link = rig.device.link();
    link.set(LinkState::Down);
    wire.send(&frame(b"lost"));
    send_from(&mut rig, 0x10000, b"later");
    assert_eq!(wire.receive(), None);
    assert!(rig.queues[0].used().is_empty());
    link.set(LinkState::Up);
    assert_eq!(wire.receive(), Some(frame(b"later")));
    wire.send(&frame(b"new"));
    assert_eq!(arrives(&mut rig, 0), frame(b"new"));
}

/// Deletes the tap, under the device.
fn delete_tap() {
    let deleted = Command::new("ip").args(["link", "del", TAP]).status();
    assert!(deleted.unwrap().success());
}

/// Makes it anew, and puts it where the old one was.
fn make_tap_again(rig: &mut Rig<Net>) -> Wire {
    for line in &rig.device.lines {
        attach(&*line.port, TAP, rig.device.lines.len() > 1).unwrap();
    }
    let link = rig.device.link();
    link.set(LinkState::Down);
    link.set(LinkState::Up);
    Wire::new()
}

#[test]
fn frames_go_on_by_a_new_tap_and_the_guest_has_all_its_buffers_back() {
    if !able() {
        return;
    }
    let (mut rig, wire) = rig(1, BOTH);
    give_room(&mut rig, 0);
    send_from(&mut rig, 0x10000, b"before");
    assert_eq!(wire.receive(), Some(frame(b"before")));
    delete_tap();
    send_from(&mut rig, 0x10400, b"meanwhile");
    std::thread::sleep(Duration::from_millis(100));
    let wire = make_tap_again(&mut rig);
    send_from(&mut rig, 0x10800, b"after");
    assert_eq!(wire.receive(), Some(frame(b"after")));
    let mut given_back = 0;
    wait_until("all buffers come back", || {
        given_back += rig.queues[1].used().len();
        given_back == 3
    });
    wire.send(&frame(b"pong"));
    assert_eq!(arrives(&mut rig, 0), frame(b"pong"));
    assert!(!rig.told.broken());
}

#[test]
fn frames_reach_a_guest_by_a_new_tap_although_it_sent_none() {
    if !able() {
        return;
    }
    let (mut rig, _) = rig(1, BOTH);
    give_room(&mut rig, 0);
    delete_tap();
    std::thread::sleep(Duration::from_millis(100));
    let wire = make_tap_again(&mut rig);
    wire.send(&frame(b"pong"));
    assert_eq!(arrives(&mut rig, 0), frame(b"pong"));
    assert!(!rig.told.broken());
}

#[test]
fn queues_of_a_new_tap_that_the_guest_does_not_use_are_laid_aside_again() {
    if !able() {
        return;
    }
    let (mut rig, _) = rig(2, BOTH | F_MQ | F_CTRL_VQ);
    give_room(&mut rig, 0);
    delete_tap();
    let wire = make_tap_again(&mut rig);
    assert_eq!(rig.device.kernel_moves(), [true, false]);
    let attached = rig.device.lines.iter().map(|line| line.port.leads_on());
    assert_eq!(attached.collect::<Vec<_>>(), [true, false]);
    for _ in 0..8 {
        wire.send(&frame(b"first"));
    }
    assert_eq!(arrives(&mut rig, 0), frame(b"first"));
}

#[test]
fn a_guest_that_begins_while_its_tap_is_gone_has_frames_once_there_is_a_new_one() {
    if !able() {
        return;
    }
    let (mut rig, _) = rig(1, BOTH);
    rig.device.reset();
    delete_tap();
    let Rig { device, .. } = rig;
    let mut rig = Rig::new(device, BOTH);
    send_from(&mut rig, 0x10000, b"waits");
    give_room(&mut rig, 0);
    let wire = make_tap_again(&mut rig);
    wire.send(&frame(b"pong"));
    assert_eq!(arrives(&mut rig, 0), frame(b"pong"));
    assert!(!rig.told.broken());
}

#[test]
fn after_a_reset_the_kernel_touches_nothing_until_the_queues_are_set_up_again() {
    if !able() {
        return;
    }
    let (mut rig, wire) = rig(1, BOTH);
    give_room(&mut rig, 0);
    rig.device.reset();
    wire.send(&frame(b"unseen"));
    send_from(&mut rig, 0x10000, b"unsent");
    assert_eq!(wire.receive(), None);
    assert!(rig.queues[0].used().is_empty());
    let Rig { device, .. } = rig;
    let mut rig = Rig::new(device, BOTH);
    send_from(&mut rig, 0x10000, b"again");
    assert_eq!(wire.receive(), Some(frame(b"again")));
}

#[test]
fn frames_come_by_the_pairs_that_the_guest_uses_and_by_no_others() {
    if !able() {
        return;
    }
    let (mut rig, wire) = rig(2, BOTH | F_MQ | F_CTRL_VQ);
    let used = |rig: &Rig<Net>| rig.device.kernel_moves();
    assert_eq!(used(&rig), [true, false]);
    give_room(&mut rig, 0);
    for _ in 0..8 {
        wire.send(&frame(b"first"));
    }
    assert_eq!(arrives(&mut rig, 0), frame(b"first"));
    rig.write(0x10000, &[4, 0, 2, 0, 0xff]);
    rig.queues[4].add(&[(0x10000, 4, false), (0x10004, 1, true)]);
    rig.queues[4].run(1);
    assert_eq!(
        (rig.read(0x10004, 1), used(&rig)),
        (vec![0], vec![true, true])
    );
}
