//! What is booted out of configurations as distributions write them, on file systems that are lists of files.

use std::collections::BTreeMap;

use super::*;
use crate::boot::disk::filesystem::{Contents, FileError};

/// A file system in a list.
#[derive(Default)]
struct Tree {
    uuid: String,
    label: String,
    fat: bool,
    files: BTreeMap<String, Vec<u8>>,
}

struct Open<'a>(&'a [u8]);

impl Contents for Open<'_> {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, FileError> {
        let n = into.len().min(self.0.len());
        into[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

impl FileSystem for Tree {
    fn kind(&self) -> &'static str {
        if self.fat { "FAT" } else { "ext4" }
    }

    fn uuid(&self) -> &str {
        &self.uuid
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn open(&self, path: &str) -> Result<Box<dyn Contents + '_>, FileError> {
        let file = self.files.get(path).ok_or(FileError::Missing)?;
        Ok(Box::new(Open(file)))
    }

    fn list(&self, path: &str) -> Result<Vec<String>, FileError> {
        let directory = format!("{}/", path.trim_end_matches('/'));
        let names = self
            .files
            .keys()
            .filter_map(|name| name.strip_prefix(&directory));
        let mut names: Vec<String> = names
            .map(|rest| rest.split('/').next().unwrap_or(rest).to_owned())
            .collect();
        names.dedup();
        if names.is_empty() {
            return Err(FileError::Missing);
        }
        Ok(names)
    }
}

fn volume(number: u32, purpose: Purpose, tree: Tree) -> Volume {
    let partition = Partition {
        table: Table::Gpt,
        number,
        start: 0,
        len: 0,
        purpose,
    };
    let files = Box::new(tree);
    Volume { partition, files }
}

/// One partition, of this number and UUID, with these files.
fn one(number: u32, uuid: &str, files: &[(&str, &str)]) -> Volume {
    volume(number, Purpose::Other, tree(uuid, files))
}

fn tree(uuid: &str, files: &[(&str, &str)]) -> Tree {
    Tree {
        uuid: uuid.into(),
        files: files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
            .collect(),
        ..Tree::default()
    }
}

fn esp(number: u32, uuid: &str, files: &[(&str, &str)]) -> Volume {
    let tree = Tree {
        fat: true,
        ..tree(uuid, files)
    };
    volume(number, Purpose::Esp, tree)
}

/// What is booted, as a person would tell it: the entry, then `PARTITION:PATH` of each file, then the arguments.
fn told(volumes: &[Volume]) -> String {
    match choose(volumes) {
        Ok(Some(choice)) => {
            let file =
                |file: &File| format!("{}:{}", volumes[file.volume].partition.number, file.path);
            let mut lines = vec![
                format!("{} ({})", choice.entry, choice.configuration),
                file(&choice.kernel),
            ];
            lines.extend(choice.initrds.iter().map(file));
            lines.push(choice.arguments);
            lines.join("\n")
        }
        Ok(None) => "nothing".into(),
        Err(why) => format!("refused: {why}"),
    }
}

fn environment(lines: &str) -> String {
    format!("# GRUB Environment Block\n{lines}######")
}

const DEBIAN: &str = include_str!("fixtures/debian-12.cfg");
const DEBIAN_ROOT: &str = "11111111-1111-4111-8111-111111111111";

#[test]
fn debian_boots_its_first_entry() {
    let disk = [one(1, DEBIAN_ROOT, &[("/boot/grub/grub.cfg", DEBIAN)])];
    assert_eq!(
        told(&disk),
        "Debian GNU/Linux (/boot/grub/grub.cfg)\n\
         1:/boot/vmlinuz-6.1.0-31-amd64\n\
         1:/boot/initrd.img-6.1.0-31-amd64\n\
         root=UUID=11111111-1111-4111-8111-111111111111 ro quiet"
    );
}

#[test]
fn debian_boots_what_grub_reboot_or_an_upgrade_made_the_default() {
    let next =
        environment("next_entry=gnulinux-advanced-11111111>gnulinux-6.1.0-30-amd64-advanced\n");
    let disk = [one(
        1,
        DEBIAN_ROOT,
        &[
            ("/boot/grub/grub.cfg", DEBIAN),
            ("/boot/grub/grubenv", &next),
        ],
    )];
    assert!(
        told(&disk).contains("\n1:/boot/vmlinuz-6.1.0-30-amd64\n"),
        "{}",
        told(&disk)
    );
    for (default, kernel) in [
        ("1>2", "vmlinuz-6.1.0-30-amd64 "),
        ("1>1", "single"),
        ("Debian GNU/Linux", "6.1.0-31-amd64 "),
        (
            "Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux 6.1.0-30-amd64",
            "6.1.0-30-amd64 ",
        ),
        ("1", "6.1.0-31-amd64 "),
        ("an entry that is gone", "6.1.0-31-amd64 "),
    ] {
        let text = DEBIAN.replace("set default=\"0\"", &format!("set default=\"{default}\""));
        let found = told(&[one(1, DEBIAN_ROOT, &[("/boot/grub/grub.cfg", &text)])]);
        assert!(
            found.replace('\n', " ").contains(kernel),
            "{default}: {found}"
        );
    }
}

#[test]
fn a_custom_configuration_beside_debians_is_read_too() {
    let custom = "set default='mine'\nmenuentry \"My own\" --id=mine {\n linux /vmlinuz init=/bin/sh 'a b'\n}\n";
    let files = [
        ("/boot/grub/grub.cfg", DEBIAN),
        ("/boot/grub/custom.cfg", custom),
    ];
    assert_eq!(
        told(&[one(1, DEBIAN_ROOT, &files)]),
        "My own (/boot/grub/grub.cfg)\n1:/vmlinuz\ninit=/bin/sh a b"
    );
}

#[test]
fn the_configuration_on_the_efi_partition_leads_to_the_real_one() {
    let stub = "search.fs_uuid 22222222-2222-4222-8222-222222222222 root hd1,gpt16\n\
                set prefix=($root)'/grub'\nconfigfile $prefix/grub.cfg\n";
    let ubuntu = include_str!("fixtures/ubuntu.cfg");
    // Another system's configuration comes before, and is not what the firmware would come to.
    let disk = [
        one(1, "other", &[("/boot/grub/grub.cfg", DEBIAN)]),
        esp(15, "ABCD-EF01", &[("/EFI/ubuntu/grub.cfg", stub)]),
        one(
            16,
            "22222222-2222-4222-8222-222222222222",
            &[("/grub/grub.cfg", ubuntu)],
        ),
    ];
    assert_eq!(
        told(&disk),
        "Ubuntu (/grub/grub.cfg)\n\
         16:/vmlinuz-6.8.0-60-generic\n\
         16:/initrd.img-6.8.0-60-generic\n\
         root=LABEL=cloudimg-rootfs ro console=tty1 console=ttyS0"
    );
}

#[test]
fn ubuntu_remembers_the_entry_that_was_chosen() {
    let saved =
        environment("saved_entry=gnulinux-advanced-22222222>gnulinux-6.8.0-59-generic-advanced\n");
    let files = [
        ("/grub/grub.cfg", include_str!("fixtures/ubuntu.cfg")),
        ("/grub/grubenv", &saved),
    ];
    assert_eq!(
        told(&[one(16, "22222222-2222-4222-8222-222222222222", &files)]),
        "Advanced options for Ubuntu>Ubuntu, with Linux 6.8.0-59-generic (/grub/grub.cfg)\n\
         16:/vmlinuz-6.8.0-59-generic\n\
         root=PARTUUID=22222222-01 ro panic=-1"
    );
}

/// Fedora's loader entries: two kernels and the rescue one.
const FEDORA: [(&str, &str); 4] = [
    ("/grub2/grub.cfg", include_str!("fixtures/fedora.cfg")),
    (
        "/loader/entries/0123456789abcdef-0-rescue.conf",
        "title Fedora Linux (0-rescue)\nversion 0-rescue\nlinux /vmlinuz-0-rescue\ninitrd /initramfs-0-rescue.img\noptions root=UUID=77 ro\n",
    ),
    (
        "/loader/entries/0123456789abcdef-6.9.5-200.fc40.x86_64.conf",
        "title Fedora Linux (6.9.5)\nversion 6.9.5-200.fc40.x86_64\nlinux /vmlinuz-6.9.5-200.fc40.x86_64\n\
         initrd /initramfs-6.9.5-200.fc40.x86_64.img $tuned_initrd\noptions root=UUID=77 ro $tuned_params\ngrub_class fedora\n",
    ),
    (
        "/loader/entries/0123456789abcdef-6.10.3-200.fc40.x86_64.conf",
        "title Fedora Linux (6.10.3)\nversion 6.10.3-200.fc40.x86_64\nlinux /vmlinuz-6.10.3-200.fc40.x86_64\n\
         initrd /initramfs-6.10.3-200.fc40.x86_64.img $tuned_initrd\noptions $kernelopts ${tuned_params}\n",
    ),
];
const FEDORA_BOOT: &str = "33333333-3333-4333-8333-333333333333";

#[test]
fn fedora_boots_the_newest_loader_entry_with_grubs_variables() {
    let stub = "search --no-floppy --root-dev-only --fs-uuid --set=dev 33333333-3333-4333-8333-333333333333\n\
                set prefix=($dev)/grub2\nexport $prefix\nconfigfile $prefix/grub.cfg\n";
    let options = environment("kernelopts=root=UUID=77 ro rhgb\nboot_success=1\n");
    let mut files = FEDORA.to_vec();
    files.push(("/grub2/grubenv", &options));
    let disk = [
        esp(
            1,
            "0000-0001",
            &[
                ("/EFI/fedora/grub.cfg", stub),
                ("/EFI/BOOT/BOOTX64.EFI", ""),
            ],
        ),
        one(2, FEDORA_BOOT, &files),
    ];
    assert_eq!(
        told(&disk),
        "Fedora Linux (6.10.3) (/grub2/grub.cfg)\n\
         2:/vmlinuz-6.10.3-200.fc40.x86_64\n\
         2:/initramfs-6.10.3-200.fc40.x86_64.img\n\
         root=UUID=77 ro rhgb "
    );
}

#[test]
fn fedora_boots_the_saved_entry() {
    let saved = environment("saved_entry=0123456789abcdef-6.9.5-200.fc40.x86_64\n");
    let mut files = FEDORA.to_vec();
    files.push(("/grub2/grubenv", &saved));
    let found = told(&[one(2, FEDORA_BOOT, &files)]);
    assert!(
        found.contains("2:/vmlinuz-6.9.5-200.fc40.x86_64\n"),
        "{found}"
    );
}

#[test]
fn loader_entries_alone_are_enough() {
    let found = told(&[one(2, FEDORA_BOOT, &FEDORA[1..])]);
    assert!(
        found.contains("2:/vmlinuz-6.10.3-200.fc40.x86_64\n"),
        "{found}"
    );
}

#[test]
fn systemd_boots_default_is_followed_on_its_two_partitions() {
    let entry = |kernel: &str| {
        format!(
            "title {kernel}\nsort-key debian\nversion {kernel}\nlinux /m/{kernel}/linux\noptions quiet\n"
        )
    };
    let (old, new) = (entry("6.12.1"), entry("6.12.30"));
    let disk = |loader: &str| {
        let xbootldr = tree("", &[("/loader/entries/m-6.12.1.conf", &old)]);
        told(&[
            one(1, "root", &[("/boot/grub/grub.cfg", DEBIAN)]),
            esp(
                2,
                "0000-0002",
                &[
                    ("/loader/loader.conf", loader),
                    ("/loader/entries/m-6.12.30+3.conf", &new),
                ],
            ),
            volume(3, Purpose::Xbootldr, xbootldr),
        ])
    };
    assert_eq!(
        disk("timeout 3\n"),
        "6.12.30 (m-6.12.30.conf)\n2:/m/6.12.30/linux\nquiet"
    );
    assert_eq!(
        disk("default m-6.12.1.*\n"),
        "6.12.1 (m-6.12.1.conf)\n3:/m/6.12.1/linux\nquiet"
    );
}

#[test]
fn alpine_loads_microcode_before_its_initramfs() {
    let alpine = include_str!("fixtures/alpine.cfg");
    let disk = [one(
        1,
        "44444444-4444-4444-8444-444444444444",
        &[("/boot/grub/grub.cfg", alpine)],
    )];
    assert_eq!(
        told(&disk),
        "Alpine Linux, with Linux virt (/boot/grub/grub.cfg)\n\
         1:/boot/vmlinuz-virt\n\
         1:/boot/amd-ucode.img\n\
         1:/boot/intel-ucode.img\n\
         1:/boot/initramfs-virt\n\
         root=UUID=55555555-5555-4555-8555-555555555555 ro modules=sd-mod,ext4 rootfstype=ext4"
    );
}

#[test]
fn opensuse_finds_its_file_system_by_label() {
    let files = [(
        "/boot/grub2/grub.cfg",
        include_str!("fixtures/opensuse.cfg"),
    )];
    let suse = Tree {
        label: "SUSEROOT".into(),
        ..tree("", &files)
    };
    let disk = [one(1, "", &[]), volume(2, Purpose::Other, suse)];
    assert_eq!(
        told(&disk),
        "openSUSE Leap (/boot/grub2/grub.cfg)\n\
         2:/boot/vmlinuz-6.4.0-150600.23-default\n\
         2:/boot/initrd-6.4.0-150600.23-default\n\
         root=LABEL=SUSEROOT splash=silent mitigations=auto quiet"
    );
}

#[test]
fn a_disk_without_a_configuration_boots_nothing() {
    assert_eq!(told(&[]), "nothing");
    assert_eq!(told(&[one(1, "", &[("/etc/fstab", "")])]), "nothing");
}

#[test]
fn a_default_that_cannot_be_booted_is_refused_and_nothing_else_is_booted_in_its_place() {
    let grub = |text: &str| {
        told(&[
            one(1, "a", &[("/grub/grub.cfg", text)]),
            one(2, "b", &[("/boot/grub/grub.cfg", DEBIAN)]),
        ])
    };
    assert_eq!(
        grub("menuentry Windows { chainloader +1 }"),
        "refused: /grub/grub.cfg: its default entry \"Windows\" starts no Linux kernel"
    );
    assert_eq!(
        grub("menuentry Gone { linux (lvm/vg-root)/vmlinuz }"),
        "refused: /grub/grub.cfg: its default entry \"Gone\" names (lvm/vg-root)/vmlinuz, which is on no file system of this disk that can be read"
    );
    // One without any entry is passed over.
    assert!(
        grub("set timeout=5\n").starts_with("Debian"),
        "{}",
        grub("")
    );
}

#[test]
fn an_empty_menu_is_told_where_there_is_nothing_else() {
    assert_eq!(
        told(&[one(1, "a", &[("/grub/grub.cfg", "set timeout=5")])]),
        "refused: /grub/grub.cfg has no menu entry"
    );
}

#[test]
fn configurations_without_an_end_are_given_up() {
    let itself = "configfile /grub/grub.cfg";
    let functions = "function a { a; a; }\na\n";
    let submenus = "function a { submenu x { a; } }\na\n";
    let deep = "if true; then ".repeat(50_000);
    let doubling = format!(
        "set a=xxxxxxxxxxxxxxxx\n{}menuentry x {{ linux /v $a }}\n",
        "set a=$a$a$a$a\n".repeat(10_000)
    );
    let steps = format!(
        "for x in {}; do {} done",
        "y ".repeat(1000),
        "true;".repeat(1000)
    );
    for text in [itself, functions, submenus, &deep, &steps] {
        let found = told(&[one(1, "a", &[("/grub/grub.cfg", text)])]);
        assert!(found.starts_with("refused: /grub/grub.cfg: "), "{found}");
    }
    let found = told(&[one(1, "a", &[("/grub/grub.cfg", &doubling)])]);
    assert!(found.len() < 20_000, "{}", found.len());
}

#[test]
fn malformed_scripts_are_read_as_far_as_they_make_sense() {
    for text in [
        "}\nfi\n;;;menuentry a { linux /v b }",
        "menuentry a {\nlinux /v b",
        "if [ x = x ; then menuentry a { linux /v b; }",
        "echo 'never closed\\' ; menuentry a { linux /v b }\nmenuentry 'a' { linux /v b }",
        "while true; do menuentry no { linux /no; }; done\nmenuentry a { linux /v b }",
        "! false && true\nmenuentry \"a\" {\n linux \\\n /v b\n}",
        "menuentry $\"a\" { linux /v ${b}b$ }",
    ] {
        let found = told(&[one(1, "a", &[("/grub/grub.cfg", text)])]);
        assert!(
            found.starts_with("a (/grub/grub.cfg)\n1:/v\nb"),
            "{text}: {found}"
        );
    }
}
