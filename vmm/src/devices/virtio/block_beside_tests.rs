//! Requests that go on side by side.

use super::*;

/// Offers several requests of one sector at once and returns their (status, bytes of answer), in order.
fn at_once(rig: &mut Rig<Block>, requests: &[(u32, u64)]) -> Vec<(u8, u32)> {
    let mut heads = Vec::new();
    for (n, &(kind, sector)) in (0..).zip(requests) {
        rig.write(HEADER + n * 16, &header(kind, sector));
        rig.write(STATUS + n, &[0xee]);
        let data = (DATA + n * SECTOR, SECTOR as u32, kind == T_IN);
        let mut chain = vec![(HEADER + n * 16, 16, false), data, (STATUS + n, 1, true)];
        if kind == T_FLUSH {
            chain.remove(1);
        }
        heads.push(rig.queues[0].add(&chain));
    }
    let used = rig.queues[0].run(requests.len());
    let answer = |(n, head): (u64, &u16)| {
        let (_, written) = used
            .iter()
            .find(|(used, _)| *used == u32::from(*head))
            .unwrap();
        (rig.read(STATUS + n, 1)[0], *written)
    };
    (0..).zip(&heads).map(answer).collect()
}

/// A raw disk, a qcow2 disk and an overlay, each with its sectors' numbers in them, in each way.
fn each(dir: &TempDir) -> Vec<Spec> {
    let raw = raw(dir);
    let [whole, overlay] = ["whole", "overlay"].map(|name| dir.path().join(name));
    make_qcow2(&whole, None);
    make_qcow2(&overlay, Some(("disk.raw", "raw")));
    {
        let mut rig = rig(&spec(whole.clone(), DiskFormat::Qcow2));
        for sector in 0..SECTORS {
            rig.write(DATA, &[sector as u8; 512]);
            assert_eq!(request(&mut rig, T_OUT, sector, 512, false), (0, 1));
        }
    }
    let images = [
        raw,
        spec(whole, DiskFormat::Qcow2),
        spec(overlay, DiskFormat::Qcow2),
    ];
    let in_each_way = |image: Spec| {
        ways().map(move |io| Spec {
            io,
            ..image.clone()
        })
    };
    images.into_iter().flat_map(in_each_way).collect()
}

#[test]
fn each_request_of_many_gets_its_own_data() {
    let dir = TempDir::new().unwrap();
    for spec in each(&dir) {
        let mut rig = rig(&spec);
        let sectors = [9, 127, 0, 64, 9];
        let answers = at_once(&mut rig, &sectors.map(|sector| (T_IN, sector)));
        assert_eq!(answers, [(0, 513); 5], "{:?} {:?}", spec.path, spec.io);
        for (n, sector) in (0..).zip(sectors) {
            assert_eq!(rig.read(DATA + n * SECTOR, 512), [sector as u8; 512]);
        }
    }
}

#[test]
fn what_was_written_is_read_by_the_next_request_and_after_a_new_start() {
    let dir = TempDir::new().unwrap();
    for spec in each(&dir) {
        let message = format!("{:?} {:?}", spec.path, spec.io);
        for _ in 0..2 {
            let mut rig = rig(&spec);
            for (n, byte) in (0..).zip([0xa1, 0xa2, 0xa3]) {
                rig.write(DATA + n * SECTOR, &[byte; 512]);
            }
            let writes = [(T_OUT, 3), (T_OUT, 100), (T_OUT, 4), (T_FLUSH, 0)];
            assert_eq!(at_once(&mut rig, &writes), [(0, 1); 4], "{message}");
            drop(rig);
            let mut rig = self::rig(&spec);
            let answers = at_once(&mut rig, &[(T_IN, 4), (T_IN, 5), (T_IN, 3), (T_IN, 100)]);
            assert_eq!(answers, [(0, 513); 4], "{message}");
            let found = rig.read(DATA, 2048);
            let found: Vec<_> = found.chunks(512).map(|sector| sector[0]).collect();
            assert_eq!(found, [0xa3, 5, 0xa1, 0xa2], "{message}");
        }
    }
}

#[test]
fn one_that_is_wrong_among_others_is_its_own_error() {
    let dir = TempDir::new().unwrap();
    for spec in each(&dir) {
        let mut rig = rig(&spec);
        let wrong = at_once(
            &mut rig,
            &[(T_IN, 1), (T_IN, SECTORS), (77, 0), (T_OUT, u64::MAX)],
        );
        assert_eq!(wrong, [(0, 513), (1, 1), (2, 1), (1, 1)], "{:?}", spec.io);
    }
}

#[test]
fn a_file_that_somebody_cut_off_is_read_alike_in_each_way() {
    let dir = TempDir::new().unwrap();
    let mut found = Vec::new();
    for io in ways() {
        let spec = Spec { io, ..raw(&dir) };
        let mut rig = rig(&spec);
        let file = std::fs::File::options().write(true).open(&spec.path);
        file.unwrap().set_len(10 * SECTOR).unwrap();
        rig.write(DATA, &[0xee; 1024]);
        let answers = at_once(&mut rig, &[(T_IN, 9), (T_IN, 10)]);
        found.push((answers, rig.read(DATA, 1024)));
    }
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{found:?}");
}

#[test]
fn memory_that_direct_access_cannot_take_is_read_all_the_same() {
    for io in ways() {
        let dir = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let spec = Spec {
            io,
            cache: Cache::None,
            ..raw(&dir)
        };
        if !has_direct_access(&spec.path) {
            println!("skipped: this file system has no direct access");
            return;
        }
        let mut rig = rig(&spec);
        rig.write(HEADER, &header(T_IN, 7));
        rig.queues[0].add(&[
            (HEADER, 16, false),
            (DATA + 1, 511, true),
            (DATA + 4097, 1, true),
            (STATUS, 1, true),
        ]);
        assert_eq!(rig.queues[0].run(1)[0].1, 513);
        assert_eq!(
            rig.read(DATA, 513),
            [vec![0], vec![7; 511], vec![0]].concat()
        );
        assert_eq!(rig.read(DATA + 4096, 3), [0, 7, 0]);
    }
}

#[test]
fn a_guest_that_waits_for_each_answer_is_known_until_it_offers_several_at_once() {
    let dir = TempDir::new().unwrap();
    let mut rig = rig(&raw(&dir));
    let engine = Arc::clone(&rig.device.engine);
    let lonely = || lock(&engine).lonely;
    for turn in 1..=40 {
        assert_eq!(request(&mut rig, T_IN, 5, 512, true), (0, 513));
        wait_until("the turn ends", || lonely() == turn);
    }
    let answers = at_once(&mut rig, &[(T_IN, 1), (T_OUT, 2), (T_IN, 3)]);
    assert_eq!(answers, [(0, 513), (0, 1), (0, 513)]);
    wait_until("the turn ends", || lonely() == 0);
}

/// What one batch of a history does to a sector.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Write(u8),
    Zero { unmap: bool },
    Discard,
    Read,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => any::<u8>().prop_map(Deed::Write),
        1 => any::<bool>().prop_map(|unmap| Deed::Zero { unmap }),
        1 => Just(Deed::Discard),
        4 => Just(Deed::Read),
    ]
}

/// Offers a batch: a deed for each of its places, which are clusters apart so that none touches another's.
fn offer_batch(rig: &mut Rig<Block>, batch: &[(u64, Deed)]) {
    for (n, &(place, deed)) in (0..).zip(batch) {
        let sector = place * 128;
        let (kind, data, len) = match deed {
            Deed::Write(byte) => (T_OUT, vec![byte; 512], 512),
            Deed::Zero { unmap } => (T_WRITE_ZEROES, range(sector, 128, unmap.into()), 16),
            Deed::Discard => (T_DISCARD, range(sector, 128, 0), 16),
            Deed::Read => (T_IN, vec![0xee; 512], 512),
        };
        rig.write(HEADER + n * 16, &header(kind, sector));
        rig.write(DATA + n * SECTOR, &data);
        rig.write(STATUS + n, &[0xee]);
        let data = (DATA + n * SECTOR, len, kind == T_IN);
        rig.queues[0].add(&[(HEADER + n * 16, 16, false), data, (STATUS + n, 1, true)]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_goes_on_side_by_side_the_disk_holds_what_was_written(
        history in prop::collection::vec(prop::collection::btree_map(0_u64..12, deed(), 1..5), 1..16)
    ) {
        for io in ways() {
            let dir = TempDir::new().unwrap();
            let path = dir.path().join("disk.qcow2");
            let file = File::create_open(StorageCreateOptions::new().filename(&path)).unwrap();
            Qcow2::<File>::create_builder(file).size(12 << 16).create().unwrap();
            let mut rig = rig(&Spec { io, ..spec(path, DiskFormat::Qcow2) });
            // What is not known after a discard is `None`.
            let mut model = [Some(0_u8); 12];
            for batch in &history {
                let batch: Vec<_> = batch.iter().map(|(place, deed)| (*place, *deed)).collect();
                offer_batch(&mut rig, &batch);
                rig.queues[0].run(batch.len());
                for (n, (place, deed)) in (0..).zip(batch) {
                    prop_assert_eq!(rig.read(STATUS + n, 1)[0], 0);
                    let known = &mut model[place as usize];
                    match deed {
                        Deed::Write(byte) => *known = Some(byte),
                        Deed::Zero { .. } => *known = Some(0),
                        Deed::Discard => *known = None,
                        Deed::Read => {
                            let found = rig.read(DATA + n * SECTOR, 512);
                            prop_assert!(found.iter().all(|byte| *byte == found[0]));
                            if let Some(byte) = known {
                                prop_assert_eq!(found[0], *byte, "{:?} {:?}", place, io);
                            }
                        }
                    }
                }
            }
        }
    }
}
