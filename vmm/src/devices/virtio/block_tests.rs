use super::*;
use crate::devices::virtio::testing::{Rig, SIZE, wait_until, worker};
use imago::file::File;
use imago::qcow2::Qcow2;
use imago::{FormatCreateBuilder, Storage, StorageCreateOptions};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SECTORS: u64 = 128;
const HEADER: u64 = 0x10000;
const DATA: u64 = 0x20000;
const STATUS: u64 = 0x1f000;

fn spec(path: PathBuf, format: DiskFormat) -> Spec {
    Spec {
        path,
        format,
        readonly: false,
        shareable: false,
        discard: Discard::Unmap,
        serial: Some("disk-1".into()),
        cache: Cache::Writeback,
        io: None,
        detect_zeroes: DetectZeroes::Off,
        queues: vec![256],
        limits: Limits::default(),
        error_policy: ErrorPolicy::default(),
        rerror_policy: ReadErrorPolicy::default(),
    }
}

/// A raw image whose every sector is filled with its own number.
fn raw(dir: &TempDir) -> Spec {
    let path = dir.path().join("disk.raw");
    let bytes: Vec<u8> = (0..SECTORS)
        .flat_map(|sector| [sector as u8; 512])
        .collect();
    std::fs::write(&path, bytes).unwrap();
    spec(path, DiskFormat::Raw)
}

fn make_qcow2(path: &Path, backing: Option<(&str, &str)>) {
    let file = File::create_open(StorageCreateOptions::new().filename(path)).unwrap();
    let mut builder = Qcow2::<File>::create_builder(file).size(SECTORS * 512);
    if let Some((name, format)) = backing {
        builder = builder.backing(name.into(), format.into());
    }
    builder.create().unwrap();
}

/// How images are accessed, as far as this kernel has it.
fn ways() -> impl Iterator<Item = Option<DiskIo>> {
    let file = tempfile::tempfile().unwrap();
    let has_uring = Uring::<()>::new([&file], 1).is_ok();
    if !has_uring {
        println!("skipped io-uring: this kernel does not give it");
    }
    let beside = has_uring.then_some(Some(DiskIo::IoUring));
    [None, Some(DiskIo::Threads)].into_iter().chain(beside)
}

fn rig(spec: &Spec) -> Rig<Block> {
    let device = Block::new(spec, worker()).unwrap();
    let features = device.features();
    Rig::new(device, features)
}

fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    bytes[8..].copy_from_slice(&sector.to_le_bytes());
    bytes
}

/// Sends one request with `len` bytes of data and returns (status, bytes of answer).
fn request(rig: &mut Rig<Block>, kind: u32, sector: u64, len: u32, into_guest: bool) -> (u8, u32) {
    rig.write(HEADER, &header(kind, sector));
    rig.write(STATUS, &[0xee]);
    let mut chain = vec![(HEADER, 16, false)];
    if len > 0 {
        chain.push((DATA, len, into_guest));
    }
    chain.push((STATUS, 1, true));
    rig.queues[0].add(&chain);
    let used = rig.queues[0].run(1);
    (rig.read(STATUS, 1)[0], used[0].1)
}

#[test]
fn the_configuration_tells_the_size() {
    let dir = TempDir::new().unwrap();
    let device = Block::new(&raw(&dir), worker()).unwrap();
    let mut data = [0; 8];
    device.read_config(0, &mut data);
    assert_eq!(u64::from_le_bytes(data), SECTORS);
    device.read_config(56, &mut data);
    assert_eq!(data, [1, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn what_is_on_the_disk_is_read() {
    let dir = TempDir::new().unwrap();
    let mut rig = rig(&raw(&dir));
    assert_eq!(request(&mut rig, T_IN, 5, 1024, true), (0, 1025));
    assert_eq!(rig.read(DATA, 1024), [[5; 512], [6; 512]].concat());
    assert!(!rig.told.broken());
}

/// Whether the file system takes O_DIRECT; a tmpfs below an overlay does not.
fn has_direct_access(path: &Path) -> bool {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::File::options();
    options.read(true).custom_flags(libc::O_DIRECT);
    options.open(path).is_ok()
}

#[test]
fn what_is_written_is_in_the_file() {
    let caches = [Cache::Writeback, Cache::Writethrough, Cache::None];
    for (cache, io) in caches
        .into_iter()
        .flat_map(|cache| ways().map(move |io| (cache, io)))
    {
        // Not the usual temporary directory, which may be a tmpfs that cannot do direct access.
        let dir = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let spec = Spec {
            cache,
            io,
            ..raw(&dir)
        };
        if cache == Cache::None && !has_direct_access(&spec.path) {
            println!("skipped cache none: this file system has no direct access");
            continue;
        }
        let mut rig = rig(&spec);
        rig.write(DATA, &[0xab; 1024]);
        assert_eq!(
            request(&mut rig, T_OUT, 7, 1024, false),
            (0, 1),
            "{cache:?} {io:?}"
        );
        assert_eq!(request(&mut rig, T_FLUSH, 0, 0, false), (0, 1));
        let file = std::fs::read(&spec.path).unwrap();
        assert_eq!(file[7 * 512..9 * 512], [0xab; 1024]);
        assert_eq!((file[7 * 512 - 1], file[9 * 512]), (6, 9));
    }
}

#[test]
fn a_request_longer_than_a_piece_is_done_whole() {
    let dir = TempDir::new().unwrap();
    let spec = raw(&dir);
    std::fs::File::options()
        .write(true)
        .open(&spec.path)
        .unwrap()
        .set_len(8 << 20)
        .unwrap();
    let mut rig = rig(&spec);
    let len = 2 * PIECE as u32 + 1536;
    rig.write(DATA, &vec![0x5a; len as usize]);
    assert_eq!(request(&mut rig, T_OUT, 3, len, false), (0, 1));
    rig.write(DATA, &vec![0; len as usize]);
    assert_eq!(request(&mut rig, T_IN, 3, len, true), (0, len + 1));
    assert!(
        rig.read(DATA, len as usize)
            .iter()
            .all(|&byte| byte == 0x5a)
    );
}

#[test]
fn what_lies_beyond_the_disk_is_an_error_and_touches_nothing() {
    let dir = TempDir::new().unwrap();
    let spec = raw(&dir);
    let mut rig = rig(&spec);
    for (sector, len) in [
        (SECTORS, 512),
        (SECTORS - 1, 1024),
        (u64::MAX, 512),
        (1 << 55, 512),
        (u64::MAX / 512, 1024),
        (0, 100),
    ] {
        assert_eq!(
            request(&mut rig, T_IN, sector, len, true),
            (1, 1),
            "read {sector}+{len}"
        );
        assert_eq!(
            request(&mut rig, T_OUT, sector, len, false),
            (1, 1),
            "write {sector}+{len}"
        );
    }
    assert_eq!(std::fs::metadata(&spec.path).unwrap().len(), SECTORS * 512);
    assert_eq!(
        request(&mut rig, T_IN, SECTORS - 1, 512, true),
        (0, 513),
        "the device goes on"
    );
}

#[test]
fn a_readonly_disk_is_never_written() {
    let dir = TempDir::new().unwrap();
    let spec = Spec {
        readonly: true,
        ..raw(&dir)
    };
    let before = std::fs::read(&spec.path).unwrap();
    let mut rig = rig(&spec);
    assert_ne!(rig.device.features() & F_RO, 0);
    for kind in [T_OUT, T_DISCARD, T_WRITE_ZEROES] {
        assert_eq!(request(&mut rig, kind, 0, 512, false).0, 1);
    }
    assert_eq!(request(&mut rig, T_IN, 0, 512, true).0, 0);
    assert_eq!(std::fs::read(&spec.path).unwrap(), before);
}

#[test]
fn the_serial_number_is_told_and_cut_to_the_room() {
    let dir = TempDir::new().unwrap();
    let mut rig = rig(&raw(&dir));
    assert_eq!(request(&mut rig, T_GET_ID, 0, 20, true), (0, 21));
    assert_eq!(rig.read(DATA, 20), b"disk-1\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(request(&mut rig, T_GET_ID, 0, 4, true), (0, 5));
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [
        &sector.to_le_bytes()[..],
        &sectors.to_le_bytes(),
        &flags.to_le_bytes(),
    ]
    .concat()
}

#[test]
fn zeroes_are_written_and_space_is_given_back() {
    let dir = TempDir::new().unwrap();
    let qcow2 = dir.path().join("disk.qcow2");
    make_qcow2(&qcow2, None);
    for spec in [raw(&dir), spec(qcow2, DiskFormat::Qcow2)] {
        let mut rig = rig(&spec);
        rig.write(DATA, &[0x77; 4096]);
        assert_eq!(request(&mut rig, T_OUT, 0, 4096, false).0, 0);
        for flags in [0, UNMAP] {
            let at = 1 + 2 * u64::from(flags);
            rig.write(DATA, &range(at, 1, flags));
            assert_eq!(request(&mut rig, T_WRITE_ZEROES, 0, 16, false).0, 0);
            assert_eq!(request(&mut rig, T_IN, at - 1, 1536, true).0, 0);
            assert_eq!(
                rig.read(DATA, 1536),
                [[0x77; 512], [0; 512], [0x77; 512]].concat(),
                "{:?} {flags}",
                spec.format
            );
        }
        rig.write(DATA, &[range(0, 8, 0), range(64, 8, 0)].concat());
        assert_eq!(request(&mut rig, T_DISCARD, 0, 32, false).0, 0);
    }
}

#[test]
fn a_disk_that_ignores_discards_offers_none_and_refuses_them() {
    let dir = TempDir::new().unwrap();
    let spec = Spec {
        discard: Discard::Ignore,
        ..raw(&dir)
    };
    let mut rig = rig(&spec);
    assert_eq!(rig.device.features() & F_DISCARD, 0);
    let mut may_unmap = [9];
    rig.device.read_config(56, &mut may_unmap);
    assert_eq!(may_unmap, [0]);
    let before = std::fs::read(&spec.path).unwrap();
    rig.write(DATA, &range(0, SECTORS as u32, 0));
    assert_eq!(request(&mut rig, T_DISCARD, 0, 16, false).0, 2);
    assert_eq!(std::fs::read(&spec.path).unwrap(), before);
    rig.write(DATA, &range(0, SECTORS as u32, UNMAP));
    assert_eq!(request(&mut rig, T_WRITE_ZEROES, 0, 16, false).0, 0);
    let bytes = std::fs::read(&spec.path).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn an_image_is_written_by_one_disk_at_a_time_unless_all_share_it() {
    let dir = TempDir::new().unwrap();
    let alone = raw(&dir);
    let shared = Spec {
        shareable: true,
        ..alone.clone()
    };
    let first = Block::new(&alone, worker()).unwrap();
    for other in [&alone, &shared] {
        let refused = Block::new(other, worker()).err().unwrap();
        assert_eq!(refused.source.kind(), std::io::ErrorKind::ResourceBusy);
    }
    drop(first);
    let _first = Block::new(&shared, worker()).unwrap();
    let _second = Block::new(&shared, worker()).unwrap();
    assert!(Block::new(&alone, worker()).is_err());
}

#[test]
fn overlays_share_a_backing_file_that_nobody_writes() {
    let dir = TempDir::new().unwrap();
    let base = raw(&dir);
    let overlay = |name: &str| {
        let path = dir.path().join(name);
        make_qcow2(&path, Some(("disk.raw", "raw")));
        spec(path, DiskFormat::Qcow2)
    };
    let _one = Block::new(&overlay("one.qcow2"), worker()).unwrap();
    let _two = Block::new(&overlay("two.qcow2"), worker()).unwrap();
    let refused = Block::new(&base, worker()).err().unwrap();
    assert_eq!(refused.source.kind(), std::io::ErrorKind::ResourceBusy);
}

/// Makes an overlay forget its backing file's format, by turning that header extension into one that nobody knows.
fn forget_backing_format(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes
        .windows(4)
        .position(|four| four == 0xe279_2aca_u32.to_be_bytes())
        .unwrap();
    bytes[at..at + 4].copy_from_slice(&0x1234_5678_u32.to_be_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_backing_file_whose_format_no_overlay_states_is_not_opened() {
    let dir = TempDir::new().unwrap();
    raw(&dir);
    let middle = dir.path().join("middle.qcow2");
    make_qcow2(&middle, Some(("disk.raw", "raw")));
    forget_backing_format(&middle);
    let top = dir.path().join("top.qcow2");
    make_qcow2(&top, Some(("middle.qcow2", "qcow2")));
    for image in [middle, top] {
        let refused = Block::new(&spec(image, DiskFormat::Qcow2), worker())
            .err()
            .unwrap();
        let said = crate::control::chain(&refused);
        assert!(
            said.contains("does not state the format of its backing file \"disk.raw\""),
            "{said}"
        );
    }
}

#[test]
fn a_raw_layer_that_looks_like_an_overlay_stays_raw() {
    let dir = TempDir::new().unwrap();
    let inner = dir.path().join("inner");
    make_qcow2(&inner, Some(("/etc/passwd", "raw")));
    forget_backing_format(&inner);
    let top = dir.path().join("top.qcow2");
    make_qcow2(&top, Some(("inner", "raw")));
    let mut rig = rig(&spec(top, DiskFormat::Qcow2));
    assert_eq!(request(&mut rig, T_IN, 0, 512, true).0, 0);
    assert_eq!(rig.read(DATA, 4), b"QFI\xfb");
}

#[test]
fn ranges_that_make_no_sense_are_refused() {
    let dir = TempDir::new().unwrap();
    let mut rig = rig(&raw(&dir));
    for (kind, bytes, status) in [
        (T_DISCARD, range(0, 1, UNMAP), 2),
        (T_WRITE_ZEROES, range(0, 1, 2), 2),
        (T_WRITE_ZEROES, range(SECTORS, 1, 0), 1),
        (T_WRITE_ZEROES, range(u64::MAX, 1, 0), 1),
        (T_DISCARD, range(0, u32::MAX, 0), 1),
        (T_DISCARD, vec![0; 17], 1),
        (T_DISCARD, range(0, 1, 0).repeat(17), 1),
    ] {
        rig.write(DATA, &bytes);
        assert_eq!(
            request(&mut rig, kind, 0, bytes.len() as u32, false).0,
            status,
            "{kind} {bytes:?}"
        );
    }
    assert_eq!(request(&mut rig, T_DISCARD, 0, 0, false).0, 1);
    assert_eq!(request(&mut rig, 99, 0, 0, false).0, 2);
}

#[test]
fn a_request_without_header_is_an_error_and_without_status_breaks_the_ring() {
    let dir = TempDir::new().unwrap();
    let mut rig = rig(&raw(&dir));
    rig.queues[0].add(&[(HEADER, 15, false), (STATUS, 1, true)]);
    assert_eq!(rig.queues[0].run(1), [(0, 1)]);
    assert_eq!(rig.read(STATUS, 1), [1]);
    rig.write(HEADER, &header(T_FLUSH, 0));
    rig.queues[0].add(&[(HEADER, 16, false)]);
    rig.queues[0].kick();
    rig.wait_broken();
}

#[test]
fn header_and_status_may_be_cut_anywhere() {
    let dir = TempDir::new().unwrap();
    let mut rig = rig(&raw(&dir));
    rig.write(HEADER, &header(T_IN, 9));
    rig.queues[0].add(&[
        (HEADER, 3, false),
        (HEADER + 3, 13, false),
        (DATA, 300, true),
        (DATA + 300, 213, true),
    ]);
    assert_eq!(rig.queues[0].run(1), [(0, 513)]);
    assert_eq!(rig.read(DATA, 513), [&[9; 512][..], &[0]].concat());
}

#[test]
fn a_chain_of_images_is_read_through_and_written_on_top() {
    let dir = TempDir::new().unwrap();
    raw(&dir);
    make_qcow2(&dir.path().join("middle.qcow2"), Some(("disk.raw", "raw")));
    make_qcow2(
        &dir.path().join("top.qcow2"),
        Some(("middle.qcow2", "qcow2")),
    );
    let spec = spec(dir.path().join("top.qcow2"), DiskFormat::Qcow2);
    let before = std::fs::read(dir.path().join("middle.qcow2")).unwrap();
    {
        let mut rig = rig(&spec);
        assert_eq!(request(&mut rig, T_IN, 40, 512, true).0, 0);
        assert_eq!(rig.read(DATA, 512), [40; 512]);
        rig.write(DATA, &[0xcd; 512]);
        assert_eq!(request(&mut rig, T_OUT, 41, 512, false).0, 0);
    }
    let mut again = rig(&spec);
    assert_eq!(request(&mut again, T_IN, 40, 1536, true).0, 0);
    assert_eq!(
        again.read(DATA, 1536),
        [[40; 512], [0xcd; 512], [42; 512]].concat()
    );
    assert_eq!(
        std::fs::read(dir.path().join("middle.qcow2")).unwrap(),
        before
    );
}

#[test]
fn images_that_cannot_be_opened_say_which_and_why() {
    let dir = TempDir::new().unwrap();
    let missing = Block::new(&spec(dir.path().join("no"), DiskFormat::Raw), worker())
        .err()
        .unwrap();
    assert!(
        missing.to_string().contains("could not open disk image"),
        "{missing}"
    );
    let not_qcow2 = Spec {
        format: DiskFormat::Qcow2,
        ..raw(&dir)
    };
    assert!(Block::new(&not_qcow2, worker()).is_err());
    let circle = dir.path().join("circle.qcow2");
    make_qcow2(&circle, Some(("circle.qcow2", "qcow2")));
    assert!(Block::new(&spec(circle, DiskFormat::Qcow2), worker()).is_err());
}

#[test]
fn zeroes_that_are_detected_take_no_space() {
    use std::os::unix::fs::MetadataExt as _;
    for (detect_zeroes, discard, sparse) in [
        (DetectZeroes::Off, Discard::Unmap, false),
        (DetectZeroes::Unmap, Discard::Unmap, true),
    ] {
        let dir = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let spec = Spec {
            detect_zeroes,
            discard,
            ..raw(&dir)
        };
        let mut rig = rig(&spec);
        let before = std::fs::metadata(&spec.path).unwrap().blocks();
        rig.write(DATA, &vec![0; SECTORS as usize * 512]);
        assert_eq!(
            request(&mut rig, T_OUT, 0, SECTORS as u32 * 512, false),
            (0, 1)
        );
        assert_eq!(request(&mut rig, T_FLUSH, 0, 0, false), (0, 1));
        let bytes = std::fs::read(&spec.path).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
        let after = std::fs::metadata(&spec.path).unwrap().blocks();
        if sparse && after >= before {
            println!("skipped: this file system gives no space back");
        } else {
            assert_eq!(after < before, sparse, "{detect_zeroes:?} {discard:?}");
        }
    }
}

#[test]
fn a_byte_that_is_not_zero_is_written_wherever_it_is() {
    let dir = TempDir::new().unwrap();
    let mut rig = rig(&Spec {
        detect_zeroes: DetectZeroes::On,
        ..raw(&dir)
    });
    for at in [0, 511, 4095, 4096, 8191] {
        rig.write(DATA, &[0; 8192]);
        rig.write(DATA + at, &[1]);
        assert_eq!(request(&mut rig, T_OUT, 0, 8192, false), (0, 1));
        rig.write(DATA, &[7; 8192]);
        assert_eq!(request(&mut rig, T_IN, 0, 8192, true).0, 0);
        let read = rig.read(DATA, 8192);
        let places: Vec<_> = (0..8192)
            .filter(|place| read[*place as usize] != 0)
            .collect();
        assert_eq!(places, [at]);
    }
}

#[test]
fn each_of_several_queues_is_served_and_the_guest_may_leave_out_all_but_the_first() {
    let dir = TempDir::new().unwrap();
    let spec = Spec {
        queues: vec![16; 3],
        ..raw(&dir)
    };
    let mut rig = rig(&spec);
    assert_ne!(rig.device.features() & F_MQ, 0);
    let mut count = [0; 2];
    rig.device.read_config(34, &mut count);
    assert_eq!(count, [3, 0]);
    for queue in 0..3_u16 {
        rig.write(HEADER, &header(T_IN, 7 + u64::from(queue)));
        rig.queues[usize::from(queue)].add(&[
            (HEADER, 16, false),
            (DATA, 512, true),
            (STATUS, 1, true),
        ]);
        assert_eq!(rig.queues[usize::from(queue)].run(1), [(0, 513)]);
        assert_eq!(rig.read(DATA, 512), [7 + queue as u8; 512]);
        wait_until("its own interrupt comes", || rig.told.queues() == [queue]);
    }
    let told = rig.told.clone();
    for (left, works) in [(vec![0, 2], true), (vec![1, 2], false)] {
        rig.device.reset();
        let queues = left
            .iter()
            .map(|index| rig.queues[*index].active(*index as u16));
        let activation = Activation {
            memory: rig.memory.clone(),
            queues: queues.collect(),
            interrupt: told.clone(),
            features: F_MQ,
        };
        assert_eq!(rig.device.activate(activation).is_ok(), works, "{left:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn random_requests_are_answered_or_refused(
        requests in prop::collection::vec((0u32..16, any::<u64>(), any::<bool>(), prop::collection::vec((0u64..0x30000, 0u32..5000, any::<bool>()), 1..6)), 1..5)
    ) {
        let dir = TempDir::new().unwrap();
        let spec = Spec { io: ways().last().unwrap(), ..raw(&dir) };
        let mut rig = rig(&spec);
        for (kind, sector, near, buffers) in requests {
            rig.write(HEADER, &header(kind, if near { sector % (SECTORS + 4) } else { sector }));
            let mut buffers: Vec<_> = buffers.into_iter().map(|(at, len, write)| (HEADER + at, len, write)).collect();
            buffers.insert(0, (HEADER, 16, false));
            buffers.sort_by_key(|buffer| buffer.2);
            prop_assert!(buffers.len() < SIZE as usize);
            rig.queues[0].add(&buffers);
            rig.queues[0].kick();
        }
        rig.device.reset();
        prop_assert_eq!(std::fs::metadata(&spec.path).unwrap().len(), SECTORS * 512);
    }
}

#[path = "block_changes_tests.rs"]
mod changes;

#[path = "block_beside_tests.rs"]
mod beside;

#[path = "block_failure_tests.rs"]
mod failures;
