use super::*;
use crate::devices::virtio::testing::{Rig, wait_until, worker};
use proptest::prelude::*;
use std::os::fd::RawFd;
use std::os::unix::net::UnixDatagram;

/// One end of a pair of sockets that keep frames apart, as a tap does.
struct Wire {
    socket: UnixDatagram,
    offload: Mutex<Option<Offload>>,
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Port for Wire {
    fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(frame)
    }
    fn send(&self, frame: &[u8]) -> io::Result<usize> {
        self.socket.send(frame)
    }
    fn set_offload(&self, offload: Offload) -> io::Result<()> {
        *lock(&self.offload) = Some(offload);
        Ok(())
    }
}

const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
const BUFFER: u64 = 0x20000;

fn rig(features: u64) -> (Rig<Net>, UnixDatagram, Arc<Wire>) {
    rig_of(&spec(), features)
}

fn spec() -> Spec {
    Spec {
        tap: "test0".into(),
        mac: MAC,
        link: LinkState::Up,
        mtu: None,
        without: Vec::new(),
        queue_sizes: [256, 512],
        pairs: 1,
        vhost: Some(false),
    }
}

fn rig_of(spec: &Spec, features: u64) -> (Rig<Net>, UnixDatagram, Arc<Wire>) {
    let (here, there) = UnixDatagram::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    there
        .set_read_timeout(Some(std::time::Duration::from_secs(5)))
        .unwrap();
    let wire = Arc::new(Wire {
        socket: here,
        offload: Mutex::new(None),
    });
    let device = Net::with_ports(spec, vec![(wire.clone(), worker())]).unwrap();
    (Rig::new(device, features), there, wire)
}

fn frame(len: usize) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    frame.extend((0..len).map(|at| at as u8));
    frame
}

#[test]
fn the_configuration_tells_address_and_link() {
    let (rig, ..) = rig(0);
    let mut config = [0; 10];
    rig.device.read_config(0, &mut config);
    assert_eq!(config, [0x52, 0x54, 0, 1, 2, 3, 1, 0, 1, 0]);
}

fn changes(rig: &Rig<Net>) -> u32 {
    rig.told
        .config_changes
        .load(std::sync::atomic::Ordering::SeqCst)
}

fn status(rig: &Rig<Net>) -> u8 {
    let mut status = [0];
    rig.device.read_config(6, &mut status);
    status[0]
}

#[test]
fn the_largest_packet_is_told_where_it_is_configured_and_only_there() {
    let mtu = |mtu| {
        let (rig, ..) = rig_of(&Spec { mtu, ..spec() }, 0);
        let mut config = [0; 2];
        rig.device.read_config(10, &mut config);
        (
            rig.device.features() & F_MTU != 0,
            u16::from_le_bytes(config),
        )
    };
    assert_eq!(mtu(Some(1400)), (true, 1400));
    assert_eq!(mtu(None), (false, 0));
}

#[test]
fn the_guest_is_told_once_when_the_cable_is_pulled_or_put_in() {
    let (rig, ..) = rig(F_STATUS);
    let link = rig.device.link();
    assert_eq!((status(&rig), changes(&rig)), (1, 0));
    for (state, changes_it, expected) in [
        (LinkState::Up, false, (1, 0)),
        (LinkState::Down, true, (0, 1)),
        (LinkState::Down, false, (0, 1)),
        (LinkState::Up, true, (1, 2)),
    ] {
        assert_eq!(link.set(state), changes_it);
        assert_eq!((status(&rig), changes(&rig)), expected);
    }
}

#[test]
fn no_frame_passes_a_pulled_cable_nor_comes_late_when_it_is_put_in() {
    let down = Spec {
        link: LinkState::Down,
        ..spec()
    };
    let (mut rig, there, _) = rig_of(&down, 0);
    assert_eq!(status(&rig), 0);
    rig.queues[0].add(&[(BUFFER, 2000, true)]);
    rig.queues[0].kick();
    there.send(&frame(50)).unwrap();
    rig.write(BUFFER + 4096, &frame(60));
    // The guest's frames are taken, as by a wire that leads nowhere. What a worker learns of at one time it does in any order: only once it has slept again and
    // done the third frame, the one from outside was surely looked at.
    for frame in 0..3 {
        rig.queues[1].add(&[(BUFFER + 4096, 72, false)]);
        assert_eq!(rig.queues[1].run(1), [(frame, 0)]);
    }
    there.set_nonblocking(true).unwrap();
    assert!(there.recv(&mut [0; 10]).is_err());
    assert!(rig.queues[0].used().is_empty());
    rig.device.link().set(LinkState::Up);
    there.send(&frame(70)).unwrap();
    assert_eq!(rig.queues[0].run(1), [(0, 82)], "only the later frame");
}

#[test]
fn a_reset_of_the_device_leaves_the_cable_as_it_is() {
    let (mut rig, ..) = rig(F_STATUS);
    rig.device.link().set(LinkState::Down);
    rig.device.reset();
    assert_eq!(status(&rig), 0);
    let told = changes(&rig);
    rig.device.link().set(LinkState::Up);
    assert_eq!(changes(&rig), told, "nobody drives the device");
}

#[test]
fn a_frame_of_the_guest_goes_out_whole() {
    let (mut rig, there, _) = rig(0);
    rig.write(BUFFER, &frame(100));
    rig.queues[1].add(&[
        (BUFFER, 12, false),
        (BUFFER + 12, 60, false),
        (BUFFER + 72, 40, false),
    ]);
    assert_eq!(rig.queues[1].run(1), [(0, 0)]);
    let mut got = [0; 200];
    let len = there.recv(&mut got).unwrap();
    assert_eq!(got[..len], frame(100));
}

#[test]
fn frames_that_cannot_be_are_dropped_and_given_back() {
    let (mut rig, there, _) = rig(0);
    rig.queues[1].add(&[(BUFFER, 11, false)]);
    rig.queues[1].add(&[(BUFFER, MOST_FRAME as u32 + 1, false)]);
    rig.queues[1].add(&[(BUFFER, 100, true)]);
    assert_eq!(rig.queues[1].run(3).len(), 3);
    there.set_nonblocking(true).unwrap();
    assert!(there.recv(&mut [0; 10]).is_err());
    assert!(!rig.told.broken());
}

#[test]
fn a_frame_for_the_guest_waits_until_there_is_room() {
    let (mut rig, there, _) = rig(0);
    there.send(&frame(50)).unwrap();
    there.send(&frame(60)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(rig.queues[0].used().is_empty());
    rig.queues[0].add(&[(BUFFER, 2000, true)]);
    assert_eq!(rig.queues[0].run(1), [(0, 62)]);
    let mut expected = frame(50);
    expected[NUM_BUFFERS] = 1;
    assert_eq!(rig.read(BUFFER, 62), expected);
    rig.queues[0].add(&[(BUFFER, 2000, true)]);
    assert_eq!(rig.queues[0].run(1), [(1, 72)]);
    wait_until("both are announced", || !rig.told.queues().is_empty());
}

#[test]
fn a_long_frame_is_spread_over_buffers_that_may_be_merged() {
    let (mut rig, there, _) = rig(F_MRG_RXBUF);
    there.send(&frame(250)).unwrap();
    for at in 0..2 {
        rig.queues[0].add(&[(BUFFER + at * 100, 100, true)]);
        rig.queues[0].kick();
    }
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(rig.queues[0].used().is_empty(), "two buffers are too few");
    rig.queues[0].add(&[(BUFFER + 200, 100, true)]);
    assert_eq!(rig.queues[0].run(3), [(0, 100), (1, 100), (2, 62)]);
    let got = rig.read(BUFFER, 262);
    assert_eq!(got[NUM_BUFFERS], 3);
    assert_eq!(got[HEADER..], frame(250)[HEADER..]);
}

#[test]
fn many_frames_pass_both_ways_in_order() {
    let (mut rig, there, _) = rig(0);
    for round in 0..40u8 {
        let mut out = frame(20);
        out[HEADER] = round;
        rig.write(BUFFER, &out);
        rig.queues[0].add(&[(0x30000, 2000, true)]);
        rig.queues[1].add(&[(BUFFER, 32, false)]);
        assert_eq!(rig.queues[1].run(1).len(), 1);
        let mut got = [0; 64];
        let len = there.recv(&mut got).unwrap();
        assert_eq!((len, got[HEADER]), (32, round));
        there.send(&got[..len]).unwrap();
        assert_eq!(rig.queues[0].run(1).len(), 1);
        assert_eq!(rig.read(0x30000 + HEADER as u64, 1), [round]);
    }
}

#[test]
fn the_tap_is_told_only_what_the_guest_takes() {
    let told = |features| {
        let (_rig, _there, wire) = rig(features);
        let offload = *lock(&wire.offload);
        offload.unwrap()
    };
    assert_eq!(told(0), Offload::default());
    assert_eq!(
        told(F_GUEST_TSO4 | F_GUEST_ECN),
        Offload::default(),
        "no segments without checksums"
    );
    assert_eq!(
        told(FEATURES),
        Offload {
            checksum: true,
            tso4: true,
            tso6: true,
            ecn: true
        }
    );
}

#[test]
fn what_is_switched_off_is_not_offered_nor_is_what_needs_it() {
    use crate::config::Offload as O;
    let offered = |without: &[O]| {
        let spec = Spec {
            without: without.to_vec(),
            ..spec()
        };
        rig_of(&spec, 0).0.device.features()
    };
    assert_eq!(offered(&[]), FEATURES);
    let host = F_HOST_TSO4 | F_HOST_TSO6 | F_HOST_ECN;
    let guest = F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_ECN;
    for (without, missing) in [
        (&[O::MrgRxbuf][..], F_MRG_RXBUF),
        (&[O::HostTso4], F_HOST_TSO4),
        (&[O::HostTso4, O::HostTso6], host),
        (&[O::HostEcn], F_HOST_ECN),
        (&[O::HostCsum], F_CSUM | host),
        (&[O::GuestTso6], F_GUEST_TSO6),
        (&[O::GuestTso6, O::GuestTso4], guest),
        (&[O::GuestEcn], F_GUEST_ECN),
        (&[O::GuestCsum], F_GUEST_CSUM | guest),
    ] {
        assert_eq!(offered(without), FEATURES & !missing, "{without:?}");
    }
}

#[test]
fn each_queue_is_as_long_as_it_is_configured() {
    let (rig, ..) = rig(0);
    assert_eq!(rig.device.queue_sizes(), [256, 512]);
}

/// A device of several pairs, and the other ends of its wires. The queue of commands is the last.
fn pairs(count: u16, features: u64) -> (Rig<Net>, Vec<UnixDatagram>) {
    let mut far = Vec::new();
    let mut ports: Vec<(Arc<dyn Port>, _)> = Vec::new();
    for _ in 0..count {
        let (here, there) = UnixDatagram::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        there.set_nonblocking(true).unwrap();
        let offload = Mutex::new(None);
        let socket = here;
        ports.push((Arc::new(Wire { socket, offload }), worker()));
        far.push(there);
    }
    let spec = Spec {
        pairs: count,
        ..spec()
    };
    (
        Rig::new(Net::with_ports(&spec, ports).unwrap(), features),
        far,
    )
}

/// Sends a command and returns the answer.
fn command(rig: &mut Rig<Net>, queue: usize, bytes: &[u8]) -> u8 {
    let (at, answer) = (0x40000, 0x41000);
    rig.write(at, bytes);
    rig.write(answer, &[0xee]);
    rig.queues[queue].add(&[(at, bytes.len() as u32, false), (answer, 1, true)]);
    assert_eq!(rig.queues[queue].run(1)[0].1, 1);
    rig.read(answer, 1)[0]
}

fn use_pairs(count: u16) -> Vec<u8> {
    [&[4, 0][..], &count.to_le_bytes()].concat()
}

#[test]
fn several_pairs_are_offered_where_they_are_configured_and_only_there() {
    let told = |count| {
        let (rig, _far) = pairs(count, 0);
        let mut config = [0; 2];
        rig.device.read_config(8, &mut config);
        let features = rig.device.features() & (F_MQ | F_CTRL_VQ);
        (
            features,
            u16::from_le_bytes(config),
            rig.device.queue_sizes().len(),
        )
    };
    assert_eq!(told(1), (0, 1, 2));
    assert_eq!(told(3), (F_MQ | F_CTRL_VQ, 3, 7));
}

#[test]
fn frames_of_pairs_that_the_guest_does_not_use_come_by_the_first() {
    let (mut rig, far) = pairs(3, F_MQ | F_CTRL_VQ);
    for (n, far) in far.iter().enumerate() {
        rig.queues[0].add(&[(BUFFER, 2000, true)]);
        far.send(&frame(40 + n)).unwrap();
        assert_eq!(rig.queues[0].run(1)[0].1, (HEADER + 40 + n) as u32);
    }
}

#[test]
fn each_pair_that_the_guest_uses_has_its_own_frames_both_ways() {
    let (mut rig, far) = pairs(3, F_MQ | F_CTRL_VQ);
    assert_eq!(command(&mut rig, 6, &use_pairs(2)), 0);
    // The third is not used: its frames come by the first.
    for (from, queue) in [(0, 0), (1, 2), (2, 0)] {
        rig.queues[queue].add(&[(BUFFER, 2000, true)]);
        far[from].send(&frame(40)).unwrap();
        assert_eq!(rig.queues[queue].run(1)[0].1, 52, "from {from}");
    }
    for (queue, to) in [(1, 0), (3, 1)] {
        rig.write(BUFFER, &frame(60));
        rig.queues[queue].add(&[(BUFFER, 72, false)]);
        rig.queues[queue].run(1);
        let mut got = [0; 100];
        assert_eq!(far[to].recv(&mut got).unwrap(), 72);
    }
    assert_eq!(command(&mut rig, 6, &use_pairs(1)), 0);
    rig.queues[0].add(&[(BUFFER, 2000, true)]);
    far[1].send(&frame(70)).unwrap();
    assert_eq!(rig.queues[0].run(1)[0].1, 82, "back to the first");
}

#[test]
fn commands_that_make_no_sense_are_answered_with_an_error_and_change_nothing() {
    let (mut rig, far) = pairs(2, F_MQ | F_CTRL_VQ);
    for wrong in [
        use_pairs(0),
        use_pairs(3),
        use_pairs(0x8000),
        vec![4, 0, 1],
        vec![4, 1, 1, 0],
        vec![0, 0, 1, 0],
        vec![9],
    ] {
        assert_eq!(command(&mut rig, 4, &wrong), 1, "{wrong:?}");
    }
    rig.queues[0].add(&[(BUFFER, 2000, true)]);
    far[1].send(&frame(40)).unwrap();
    assert_eq!(rig.queues[0].run(1).len(), 1);
    rig.queues[4].add(&[(BUFFER, 4, false)]);
    rig.queues[4].kick();
    rig.wait_broken();
}

#[test]
fn without_several_pairs_agreed_on_commands_come_after_the_first_and_there_is_one() {
    let (mut rig, _far) = pairs(3, F_CTRL_VQ);
    assert_eq!(command(&mut rig, 2, &use_pairs(2)), 1);
    assert_eq!(command(&mut rig, 2, &use_pairs(1)), 0);
}

#[test]
fn pairs_that_the_guest_has_not_set_up_cannot_be_used() {
    let (mut rig, _far) = pairs(3, F_MQ | F_CTRL_VQ);
    rig.device.reset();
    let told = rig.told.clone();
    // The second pair lacks its queue from the guest.
    let queues = [0, 1, 2, 4, 5, 6].map(|index| rig.queues[index].active(index as u16));
    rig.device
        .activate(Activation {
            memory: rig.memory.clone(),
            queues: queues.into(),
            interrupt: told,
            features: F_MQ | F_CTRL_VQ,
        })
        .unwrap();
    assert_eq!(command(&mut rig, 6, &use_pairs(2)), 1);
}

#[test]
fn a_device_without_a_queue_does_not_begin() {
    let (mut rig, ..) = rig(0);
    rig.device.reset();
    let told = rig.told.clone();
    let queues = vec![rig.queues[0].active(0)];
    let result = rig.device.activate(Activation {
        memory: rig.memory.clone(),
        queues,
        interrupt: told,
        features: 0,
    });
    assert!(matches!(result, Err(ActivateError::MissingQueue(1))));
}

#[test]
fn a_name_that_no_interface_can_have_is_refused() {
    for name in ["", "sixteen-bytes-xx", "a\0b"] {
        let error = Tap::open(name, false).unwrap_err();
        assert!(
            error.what == "attach to" || error.what.starts_with("open"),
            "{error}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn random_chains_and_frames_never_panic(
        chains in prop::collection::vec((any::<bool>(), prop::collection::vec((0u64..0x40000, 0u32..3000), 1..4)), 1..8),
        frames in prop::collection::vec(0usize..3000, 0..6),
        merge in any::<bool>(),
    ) {
        let (mut rig, there, _) = rig(if merge { F_MRG_RXBUF } else { 0 });
        for len in frames {
            there.send(&vec![7; len]).unwrap();
        }
        for (receive, buffers) in chains {
            let buffers: Vec<_> = buffers.into_iter().map(|(at, len)| (0x10000 + at, len, receive)).collect();
            rig.queues[usize::from(!receive)].add(&buffers);
            rig.queues[usize::from(!receive)].kick();
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
        rig.device.reset();
        prop_assert!(!rig.told.broken());
    }
}
