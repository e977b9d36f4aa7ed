//! Real file systems, made by the programs that make them, and damaged ones.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use vm_memory::Bytes as _;

use super::*;
use crate::boot::tests::{bzimage, guest};

struct Memory(Vec<u8>);

impl DiskBytes for Memory {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(at).unwrap();
        let bytes = self.0.get(from..from + into.len());
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

const CONFIGURATION: &str = "set default=new\n\
    menuentry old --id old { linux /boot/vmlinuz-1 root=/dev/vda1 }\n\
    menuentry new --id new { search --set=root --fs-uuid 0a0a0a0a-0b0b-4c0c-8d0d-0e0e0e0e0e0e\n\
    linux /vmlinuz root=/dev/vda2 ro\ninitrd /boot/microcode /boot/initrd }\n";

/// A root file system with a configuration, two kernels and what they begin with. The kernel is longer than a block, and found through symbolic links.
fn root(dir: &Path) {
    fs::create_dir_all(dir.join("boot/grub")).unwrap();
    let put = |name: &str, data: &[u8]| fs::write(dir.join(name), data).unwrap();
    put("boot/grub/grub.cfg", CONFIGURATION.as_bytes());
    put("boot/vmlinuz-1", b"old");
    put("boot/vmlinuz-2", &bzimage(300_000));
    put("boot/microcode", b"micro");
    put("boot/initrd", &[7; 70_000]);
    std::os::unix::fs::symlink("boot/vmlinuz", dir.join("vmlinuz")).unwrap();
    std::os::unix::fs::symlink("/boot/vmlinuz-2", dir.join("boot/vmlinuz")).unwrap();
}

/// An ext4 image of 8 MiB made from a directory, with these options; nothing where the program is missing.
fn ext4(dir: &Path, options: &[&str]) -> Option<Vec<u8>> {
    let image = dir.with_extension("ext4");
    fs::write(&image, vec![0; 8 << 20]).unwrap();
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    mke2fs.args([
        "-q",
        "-F",
        "-U",
        "0a0a0a0a-0b0b-4c0c-8d0d-0e0e0e0e0e0e",
        "-L",
        "ROOT",
        "-d",
    ]);
    let made = mke2fs.arg(dir).args(options).arg(&image).output();
    match made {
        Ok(made) if made.status.success() => Some(fs::read(image).unwrap()),
        other => {
            eprintln!("skipped: no mke2fs here, or it failed: {other:?}");
            None
        }
    }
}

/// A disk with a GPT in sectors of this size and these partitions, each of a type.
fn gpt(sector: usize, partitions: &[(&[u8; 16], &[u8])]) -> Vec<u8> {
    const BEGIN: usize = 1 << 20;
    let mut disk = vec![0; BEGIN];
    disk[446 + 4] = 0xee;
    disk[446 + 8] = 1;
    disk[446 + 12] = 0xff;
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    for (n, (kind, data)) in partitions.iter().enumerate() {
        let first = (disk.len() / sector) as u64;
        disk.extend_from_slice(data);
        let last = (disk.len() / sector) as u64 - 1;
        let entry = 2 * sector + n * 128;
        disk[entry..entry + 16].copy_from_slice(*kind);
        disk[entry + 32..entry + 40].copy_from_slice(&first.to_le_bytes());
        disk[entry + 40..entry + 48].copy_from_slice(&last.to_le_bytes());
    }
    disk[sector..sector + 8].copy_from_slice(b"EFI PART");
    disk[sector + 72..sector + 80].copy_from_slice(&2_u64.to_le_bytes());
    disk[sector + 80..sector + 84].copy_from_slice(&128_u32.to_le_bytes());
    disk[sector + 84..sector + 88].copy_from_slice(&128_u32.to_le_bytes());
    disk.extend(vec![0; 1 << 20]);
    disk
}

const LINUX: &[u8; 16] = b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";

fn spec(disk: Vec<u8>) -> Spec {
    Spec {
        name: "vda".into(),
        bytes: Arc::new(Memory(disk)),
        more: String::new(),
        console: true,
    }
}

fn booted(spec: &Spec) -> Result<String, String> {
    let memory = guest(64 << 20);
    match boot(spec, &memory, 0) {
        Ok(booted) => {
            let mut line = [0; layout::CMDLINE_SIZE];
            memory
                .read_slice(&mut line, GuestAddress(layout::CMDLINE))
                .unwrap();
            let line = line.split(|&byte| byte == 0).next().unwrap();
            assert_eq!(
                memory
                    .read_obj::<u8>(GuestAddress(layout::HIGH_MEMORY + 299_999))
                    .unwrap(),
                0x90
            );
            // The first initrd, filled up to a multiple of four, then the second.
            let size = 8 + 70_000_u64;
            let mut initrd = [0; 9];
            let base = ((64 << 20) - size) & !0xfff;
            memory.read_slice(&mut initrd, GuestAddress(base)).unwrap();
            assert_eq!(&initrd, b"micro\0\0\0\x07");
            assert_eq!(
                memory
                    .read_obj::<u8>(GuestAddress(base + size - 1))
                    .unwrap(),
                7
            );
            Ok(format!(
                "{} | {}",
                booted.told,
                String::from_utf8_lossy(line)
            ))
        }
        Err(error) => Err(error.to_string()),
    }
}

const NEW: &str = "entry \"new\" of /boot/grub/grub.cfg: /vmlinuz root=/dev/vda2 ro (disk vda) | root=/dev/vda2 ro console=ttyS0";

#[test]
fn a_kernel_is_booted_out_of_every_kind_of_ext_and_of_table() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("root");
    root(&dir);
    for options in [
        &["-t", "ext4"][..],
        &["-t", "ext4", "-b", "1024"],
        &["-t", "ext3"],
        &["-t", "ext2"],
    ] {
        let Some(image) = ext4(&dir, options) else {
            return;
        };
        let found = booted(&spec(image.clone()));
        assert_eq!(found.as_deref(), Ok(NEW), "whole disk {options:?}");
        for sector in [512, 4096] {
            let disk = gpt(sector, &[(LINUX, &[0; 4096]), (LINUX, &image)]);
            assert_eq!(booted(&spec(disk)).as_deref(), Ok(NEW), "GPT of {sector}");
        }
        let found = booted(&spec(msdos(&image)));
        assert_eq!(found.as_deref(), Ok(NEW), "logical partition");
    }
}

/// The image as the second logical partition of an MBR.
fn msdos(image: &[u8]) -> Vec<u8> {
    let sectors = (image.len() / 512) as u32;
    let mut disk = vec![0; 8 * 512];
    let mut entry = |at: usize, n: usize, kind: u8, first: u32, count: u32| {
        let place = at * 512 + 446 + n * 16;
        disk[place + 4] = kind;
        disk[place + 8..place + 12].copy_from_slice(&first.to_le_bytes());
        disk[place + 12..place + 16].copy_from_slice(&count.to_le_bytes());
        disk[at * 512 + 510..at * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
    };
    entry(0, 2, 0x05, 2, sectors + 6);
    entry(2, 0, 0x82, 1, 1);
    entry(2, 1, 0x05, 2, sectors + 4);
    entry(4, 0, 0x83, 4, sectors);
    disk.extend_from_slice(image);
    disk
}

#[test]
fn what_is_stated_is_added_and_a_console_that_is_named_stays_the_only_one() {
    let choice = |arguments: &str| Choice {
        kernel: File {
            volume: 0,
            path: String::new(),
        },
        initrds: Vec::new(),
        arguments: arguments.into(),
        entry: String::new(),
        configuration: String::new(),
    };
    for (own, more, console, whole) in [
        ("ro  quiet", "", true, "ro quiet console=ttyS0"),
        ("ro quiet", "", false, "ro quiet"),
        ("ro console=tty0", "", true, "ro console=tty0"),
        ("ro", "console=hvc0 debug", true, "ro console=hvc0 debug"),
        ("", "", true, "console=ttyS0"),
        (
            "a=\"b  c\" netconsole=x",
            " debug ",
            true,
            "a=\"b  c\" netconsole=x debug console=ttyS0",
        ),
    ] {
        assert_eq!(arguments(&choice(own), more, console), whole);
    }
}

#[test]
fn what_is_looked_for_and_what_was_found_is_told() {
    let mut xfs = vec![0; 8192];
    xfs[..4].copy_from_slice(b"XFSB");
    let mut luks = vec![0; 8192];
    luks[..6].copy_from_slice(b"LUKS\xba\xbe");
    let disk = gpt(512, &[(LINUX, &xfs), (LINUX, &luks), (LINUX, &[0; 8192])]);
    assert_eq!(
        booted(&spec(disk)).unwrap_err(),
        "disk vda boots nothing by its own configuration: no boot configuration was found: looked for grub.cfg (in boot/grub, grub, boot/grub2, grub2 and EFI/*) and for \
         loader/entries; partition 1 has XFS, which is not read; partition 2 has LUKS, which is not read; partition 3 has no known file system; name a kernel, or let the guest boot \
         by firmware"
    );
}

#[test]
fn an_image_that_is_taken_for_a_raw_one_is_told() {
    let mut image = vec![0; 8192];
    image[..4].copy_from_slice(b"QFI\xfb");
    let found = booted(&spec(image)).unwrap_err();
    assert!(
        found.contains("the disk has a qcow2 image while its definition says raw, which is not"),
        "{found}"
    );
}

#[test]
fn a_file_that_the_entry_names_and_that_is_not_there_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("root");
    root(&dir);
    fs::remove_file(dir.join("boot/initrd")).unwrap();
    let Some(image) = ext4(&dir, &["-t", "ext4"]) else {
        return;
    };
    let found = booted(&spec(image)).unwrap_err();
    assert!(
        found.contains(
            "entry \"new\" of /boot/grub/grub.cfg names vda:/boot/initrd, which is not there"
        ),
        "{found}"
    );
}

#[test]
fn links_that_lead_to_one_another_end() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("root");
    root(&dir);
    fs::remove_file(dir.join("boot/vmlinuz")).unwrap();
    std::os::unix::fs::symlink("/vmlinuz", dir.join("boot/vmlinuz")).unwrap();
    let Some(image) = ext4(&dir, &["-t", "ext4"]) else {
        return;
    };
    let found = booted(&spec(image)).unwrap_err();
    assert!(
        found.contains("names vda:/vmlinuz, which cannot be read"),
        "{found}"
    );
}

#[test]
fn a_link_that_claims_a_great_length_costs_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("root");
    root(&dir);
    let Some(mut image) = ext4(&dir, &["-t", "ext4", "-O", "^metadata_csum"]) else {
        return;
    };
    // A short link's target is in its inode, at byte 0x28; the mode is at the inode's beginning, the length's upper half at byte 0x6c.
    let is_link = |at: &[u8]| at.starts_with(b"\xff\xa1") && at.ends_with(b"boot/vmlinuz");
    let mut inodes = image.windows(0x28 + "boot/vmlinuz".len());
    let inode = inodes.position(is_link).unwrap();
    image[inode + 0x6c..inode + 0x70].copy_from_slice(&16_u32.to_le_bytes());
    let found = booted(&spec(image)).unwrap_err();
    assert!(
        found.contains("which has 68719476748 bytes, more than the 4096 that are read"),
        "{found}"
    );
}

#[test]
fn a_kernel_larger_than_the_guests_memory_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("root");
    root(&dir);
    let huge = fs::File::options()
        .write(true)
        .open(dir.join("boot/vmlinuz-2"))
        .unwrap();
    huge.set_len(3 << 30).unwrap();
    let Some(image) = ext4(&dir, &["-t", "ext4"]) else {
        return;
    };
    let found = booted(&spec(image)).unwrap_err();
    assert!(
        found.contains("which has 3221225472 bytes, more than the 67108864 that are read"),
        "{found}"
    );
}

// --- FAT -----------------------------------------------------------------------------------------------------------------

/// A directory as a disk with one FAT partition, made by QEMU; nothing where the program is missing.
fn vfat(dir: &Path, width: &str) -> Option<Vec<u8>> {
    let image = dir.with_extension("fat");
    let made = Command::new("qemu-img")
        .args(["convert", "-f", "vvfat", "-O", "raw"])
        .arg(format!("fat:{width}:{}", dir.display()))
        .arg(&image)
        .output();
    match made {
        Ok(made) if made.status.success() => {
            // Only the beginning holds anything.
            let mut bytes = vec![0; 32 << 20];
            let file = fs::File::open(image).unwrap();
            std::os::unix::fs::FileExt::read_at(&file, &mut bytes, 0).unwrap();
            let len = usize::try_from(file.metadata().unwrap().len()).unwrap();
            bytes.resize(len, 0);
            Some(bytes)
        }
        other => {
            eprintln!("skipped: no qemu-img here, or it failed: {other:?}");
            None
        }
    }
}

/// The same as [`root`] for a file system without links.
fn boot_partition(dir: &Path) {
    root(dir);
    for link in ["vmlinuz", "boot/vmlinuz"] {
        fs::remove_file(dir.join(link)).unwrap();
    }
    let text = CONFIGURATION
        .replace("linux /vmlinuz ", "linux /boot/VMLINUZ-2 ")
        .replace(
            "search --set=root --fs-uuid 0a0a0a0a-0b0b-4c0c-8d0d-0e0e0e0e0e0e\n",
            "",
        );
    fs::write(dir.join("boot/grub/grub.cfg"), text).unwrap();
}

#[test]
fn a_kernel_is_booted_out_of_fat() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("root");
    boot_partition(&dir);
    for width in ["12", "16"] {
        let Some(disk) = vfat(&dir, width) else {
            return;
        };
        let found = booted(&spec(disk)).unwrap();
        assert!(
            found.starts_with("entry \"new\" of /boot/grub/grub.cfg: /boot/VMLINUZ-2 root"),
            "{found}"
        );
    }
}

/// A FAT32 file system of one-sector clusters, with these files in its root: each in clusters that are not neighbours.
fn fat32(files: &[(&[u8; 11], &[u8])]) -> Vec<u8> {
    const CLUSTERS: usize = 2000;
    const TABLE: usize = 32 * 512;
    const DATA: usize = TABLE + 16 * 512;
    let mut disk = vec![0; DATA + CLUSTERS * 512];
    disk[..3].copy_from_slice(&[0xeb, 0x58, 0x90]);
    let sectors = (disk.len() / 512) as u32;
    for (at, value) in [
        (11, 512_u32),
        (13, 1),
        (14, 32),
        (16, 1),
        (32, sectors),
        (36, 16),
        (44, 2),
        (67, 0x1234_abcd),
    ] {
        let len = if matches!(at, 13 | 16) {
            1
        } else if at < 20 {
            2
        } else {
            4
        };
        disk[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    }
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let link = |disk: &mut Vec<u8>, cluster: usize, next: u32| {
        disk[TABLE + cluster * 4..TABLE + cluster * 4 + 4].copy_from_slice(&next.to_le_bytes());
    };
    link(&mut disk, 2, 0x0fff_ffff);
    let mut free = 4;
    for (n, (name, data)) in files.iter().enumerate() {
        let entry = DATA + n * 32;
        disk[entry..entry + 11].copy_from_slice(*name);
        disk[entry + 12] = 0x18;
        disk[entry + 26..entry + 28].copy_from_slice(&(free as u16).to_le_bytes());
        disk[entry + 28..entry + 32].copy_from_slice(&(data.len() as u32).to_le_bytes());
        let pieces = data.chunks(512).count();
        for (i, piece) in data.chunks(512).enumerate() {
            let at = DATA + (free - 2) * 512;
            disk[at..at + piece.len()].copy_from_slice(piece);
            // Now and then a gap.
            let next = if i % 5 == 4 { free + 2 } else { free + 1 };
            let last = i + 1 == pieces;
            link(
                &mut disk,
                free,
                if last { 0x0fff_fff8 } else { next as u32 },
            );
            free = next;
        }
        free += 1;
    }
    disk
}

fn window(disk: Vec<u8>) -> Window {
    Window::whole(Arc::new(Memory(disk)), MOST_READ)
}

#[test]
fn fat32_is_read_through_its_chains() {
    let data: Vec<u8> = (0..50_000_u32).map(|n| (n / 3) as u8).collect();
    let disk = fat32(&[
        (b"EMPTY      ", b""),
        (b"KERNEL  IMG", &data),
        (b"AFTER   TXT", b"after"),
    ]);
    let Found::Readable(files) = probe(&window(disk.clone())).unwrap() else {
        panic!("no FAT was found");
    };
    assert_eq!((files.kind(), files.uuid()), ("FAT", "1234-ABCD"));
    assert_eq!(
        files.list("/").unwrap(),
        ["empty", "kernel.img", "after.txt"]
    );
    assert_eq!(files.read("/Kernel.IMG", 1 << 20).unwrap(), data);
    assert_eq!(files.read("/./after.txt", 5).unwrap(), b"after");
    assert_eq!(files.read("/empty", 0).unwrap(), b"");
    assert!(matches!(
        files.read("/after.txt", 4),
        Err(FileError::TooLarge { .. })
    ));
    assert!(matches!(
        files.open("/after.txt/x"),
        Err(FileError::Missing)
    ));

    // A root directory whose chain leads back to itself.
    let mut circle = disk;
    circle[32 * 512 + 8..32 * 512 + 12].copy_from_slice(&2_u32.to_le_bytes());
    let Found::Readable(files) = probe(&window(circle)).unwrap() else {
        panic!("no FAT was found");
    };
    let error = files.list("/").unwrap_err().to_string();
    assert_eq!(error, "cannot be read: a directory has no end");
}

// --- a stranger's disk ---------------------------------------------------------------------------------------------------

/// Longest that one damaged disk may be read for.
const LONGEST: Duration = Duration::from_secs(5);

/// Boots a disk again and again, each time with other bytes changed: no panic, no long wait, whatever comes out.
fn damage(name: &str, disk: &[u8], places: &[std::ops::Range<usize>]) {
    let seconds = std::env::var("VIREO_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(1));
    let memory = guest(64 << 20);
    let mut seed = fastrand::u64(..);
    while Instant::now() < end {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut damaged = disk.to_vec();
        for _ in 0..random.usize(1..12) {
            let range = random.choice(places).unwrap().clone();
            let at = random.usize(range);
            damaged[at] = match random.u8(0..3) {
                0 => random.u8(..),
                1 => 0xff,
                _ => damaged[at] ^ 1 << random.u8(0..8),
            };
        }
        if random.u8(0..8) == 0 {
            damaged.truncate(random.usize(0..disk.len()));
        }
        let began = Instant::now();
        let _ = boot(&spec(damaged), &memory, 0);
        assert!(
            began.elapsed() < LONGEST,
            "{name} seed {seed} took {:?}",
            began.elapsed()
        );
        seed = seed.wrapping_add(1);
    }
}

/// Where an image is not all zeroes.
fn written(disk: &[u8]) -> Vec<std::ops::Range<usize>> {
    let pieces = disk.chunks(512).enumerate();
    pieces
        .filter(|(_, piece)| {
            piece.iter().any(|&byte| byte != 0) && !piece.iter().all(|&byte| byte == 0x90)
        })
        .map(|(n, piece)| n * 512..n * 512 + piece.len())
        .collect()
}

#[test]
fn a_damaged_disk_is_read_without_panic_or_long_wait() {
    let dir = tempfile::tempdir().unwrap();
    let ext = dir.path().join("root");
    root(&ext);
    // Without checksums damage goes further.
    for options in [
        &["-t", "ext4", "-O", "^metadata_csum"][..],
        &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^64bit"],
        &["-t", "ext2", "-b", "1024"],
        &["-t", "ext4"],
    ] {
        let Some(image) = ext4(&ext, options) else {
            break;
        };
        damage(&format!("{options:?}"), &image, &written(&image));
    }
    let fat = dir.path().join("boot");
    boot_partition(&fat);
    if let Some(disk) = vfat(&fat, "16").map(|disk| disk[..1 << 20].to_vec()) {
        let mut disk = disk;
        // The partition is only as long as what was kept of it.
        let sectors = (disk.len() / 512 - 63) as u32;
        disk[458..462].copy_from_slice(&sectors.to_le_bytes());
        disk[63 * 512 + 32..63 * 512 + 36].copy_from_slice(&sectors.to_le_bytes());
        damage("FAT16", &disk, &written(&disk));
    }
    let disk = fat32(&[(b"KERNEL  IMG", &[1; 9000])]);
    damage("FAT32", &disk, &written(&disk));
    let disk = gpt(512, &[(LINUX, &disk), (LINUX, &[0; 4096])]);
    damage("GPT", &disk, &[0..512, 512..2048]);
    damage(
        "MBR",
        &msdos(&disk),
        &[446..512, 1024 + 446..1536, 2048 + 446..2560],
    );
}
