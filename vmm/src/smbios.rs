//! The SMBIOS tables: what the machine says of its makers, its identity and its parts, for `dmidecode` and whoever reads `/sys/class/dmi/id`.
//!
//! In come the guest's UUID, the strings that its definition states, its processors and memory; out go an entry point and the structures as one
//! piece of memory at [`layout::SMBIOS`], where guests search for the entry point. Pure but for the last step, which writes them. Written for the System
//! Management BIOS Reference Specification 3.0 (DSP0134).

use std::collections::BTreeMap;

use thiserror::Error;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use crate::config::{Bytes, Guest, Smbios};
use crate::layout;

/// Bytes of the entry point, with what aligns the structures behind it.
const ENTRY: usize = 0x20;
/// Handles of structures that others refer to.
const CHASSIS: u16 = 0x0300;
const ARRAY: u16 = 0x1000;
/// "Not provided", of handles.
const NO_HANDLE: u16 = 0xfffe;

/// Names of the strings that a definition may state.
pub const NAMES: [&str; 21] = [
    "bios.vendor",
    "bios.version",
    "bios.date",
    "bios.release",
    "system.manufacturer",
    "system.product",
    "system.version",
    "system.serial",
    "system.sku",
    "system.family",
    "baseBoard.manufacturer",
    "baseBoard.product",
    "baseBoard.version",
    "baseBoard.serial",
    "baseBoard.asset",
    "baseBoard.location",
    "chassis.manufacturer",
    "chassis.version",
    "chassis.serial",
    "chassis.asset",
    "chassis.sku",
];

/// What the tables say where the definition says nothing.
const DEFAULTS: [(&str, &str); 6] = [
    ("bios.vendor", "vireo"),
    ("bios.version", env!("CARGO_PKG_VERSION")),
    ("bios.date", "01/01/2026"),
    ("system.manufacturer", "vireo"),
    ("system.product", "vireo-vmm"),
    ("chassis.manufacturer", "vireo"),
];

/// Why the tables could not be written.
#[derive(Debug, Error)]
pub enum SmbiosError {
    /// They outgrew their place.
    #[error("the smbios tables have {0} bytes, more than there is room for")]
    TooLong(usize),
    /// The guest's memory ends before them.
    #[error("could not write the smbios tables into the guest's memory: it is too small")]
    Write,
}

/// The two numbers of a BIOS's release: `1.2`.
pub fn release(text: &str) -> Option<(u8, u8)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The entry point and all structures, as they lie in memory.
pub fn image(guest: &Guest) -> Vec<u8> {
    let none = Smbios::default();
    let stated = guest.smbios.as_ref().unwrap_or(&none);
    let mut strings: BTreeMap<&str, &str> = DEFAULTS.into_iter().collect();
    let said = stated.strings.iter();
    strings.extend(said.map(|(name, value)| (name.as_str(), value.as_str())));
    let mut tables = Tables {
        strings,
        bytes: Vec::new(),
    };
    tables.identity(guest);
    tables.processors(guest);
    tables.memory(guest.memory.size);
    if !stated.oem_strings.is_empty() {
        let count = stated.oem_strings.len() as u8;
        let texts = stated.oem_strings.iter().map(String::as_str);
        tables.put(11, 0x0b00, &[count], texts.map(Some));
    }
    // No boot error, and the end.
    tables.put(32, 0x2000, &[0; 7], []);
    tables.put(127, 0x7f00, &[], []);
    let mut image = entry_point(tables.bytes.len() as u32).to_vec();
    image.extend(tables.bytes);
    image
}

/// Writes the tables into memory.
///
/// # Errors
/// There is no room for them.
pub fn write(memory: &GuestMemoryMmap, image: &[u8]) -> Result<(), SmbiosError> {
    if image.len() as u64 > layout::SMBIOS_SIZE {
        return Err(SmbiosError::TooLong(image.len()));
    }
    memory
        .write_slice(image, GuestAddress(layout::SMBIOS))
        .map_err(|_| SmbiosError::Write)
}

/// The 64-bit entry point.
fn entry_point(len: u32) -> [u8; ENTRY] {
    const LEN: u8 = 24;
    let mut entry = [0; ENTRY];
    let mut put = |at: usize, bytes: &[u8]| entry[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"_SM3_");
    // Length; version 3.0, first revision of its documentation; revision of this entry point.
    put(6, &[LEN, 3, 0, 0, 1]);
    put(12, &len.to_le_bytes());
    put(16, &(layout::SMBIOS + ENTRY as u64).to_le_bytes());
    let sum = entry.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    entry[5] = sum.wrapping_neg();
    entry
}

/// Structures, one after the other.
struct Tables<'a> {
    strings: BTreeMap<&'a str, &'a str>,
    bytes: Vec<u8>,
}

impl<'a> Tables<'a> {
    fn string(&self, name: &str) -> Option<&'a str> {
        self.strings.get(name).copied()
    }

    /// A structure: its fields, in which each zero byte of a string's number is where `numbered` put it, and its strings.
    fn put<'s>(
        &mut self,
        kind: u8,
        handle: u16,
        fields: &[u8],
        strings: impl IntoIterator<Item = Option<&'s str>>,
    ) {
        self.bytes.extend([kind, 4 + fields.len() as u8]);
        self.bytes.extend(handle.to_le_bytes());
        self.bytes.extend(fields);
        let before = self.bytes.len();
        for text in strings.into_iter().flatten() {
            self.bytes.extend(text.bytes());
            self.bytes.push(0);
        }
        if self.bytes.len() == before {
            self.bytes.push(0);
        }
        self.bytes.push(0);
    }

    /// Who made the machine, and which one it is.
    fn identity(&mut self, guest: &Guest) {
        let bios = ["vendor", "version", "date"].map(|name| self.string(&format!("bios.{name}")));
        let [vendor, version, date] = numbered(&bios);
        let (major, minor) = self
            .string("bios.release")
            .and_then(release)
            .unwrap_or((0, 0));
        let mut fields = vec![vendor, version];
        // Its segment, its date, 64 KiB; no characteristics but that this is a virtual machine.
        fields.extend(0xf000_u16.to_le_bytes());
        fields.extend([date, 0]);
        fields.extend((1_u64 << 3).to_le_bytes());
        fields.extend([0, 1 << 4, major, minor, 0xff, 0xff]);
        self.put(0, 0, &fields, bios);

        let names = [
            "manufacturer",
            "product",
            "version",
            "serial",
            "sku",
            "family",
        ];
        let system = names.map(|name| self.string(&format!("system.{name}")));
        let [maker, product, version, serial, sku, family] = numbered(&system);
        let mut fields = vec![maker, product, version, serial];
        fields.extend(uuid(&guest.uuid));
        const POWER_SWITCH: u8 = 6;
        fields.extend([POWER_SWITCH, sku, family]);
        self.put(1, 0x0100, &fields, system);

        let names = [
            "manufacturer",
            "product",
            "version",
            "serial",
            "asset",
            "location",
        ];
        let board = names.map(|name| self.string(&format!("baseBoard.{name}")));
        if board.iter().any(Option::is_some) {
            let [maker, product, version, serial, asset, location] = numbered(&board);
            const HOSTING: u8 = 1;
            const MOTHERBOARD: u8 = 0x0a;
            let [low, high] = CHASSIS.to_le_bytes();
            let fields = [
                maker,
                product,
                version,
                serial,
                asset,
                HOSTING,
                location,
                low,
                high,
                MOTHERBOARD,
                0,
            ];
            self.put(2, 0x0200, &fields, board);
        }

        let names = ["manufacturer", "version", "serial", "asset", "sku"];
        let chassis = names.map(|name| self.string(&format!("chassis.{name}")));
        let [maker, version, serial, asset, sku] = numbered(&chassis);
        const OTHER: u8 = 1;
        const SAFE: u8 = 3;
        const UNKNOWN: u8 = 2;
        let mut fields = vec![maker, OTHER, version, serial, asset];
        // Boot, power supply and heat; security; no maker's data, height, cords or contained parts.
        fields.extend([SAFE, SAFE, SAFE, UNKNOWN, 0, 0, 0, 0, 0, 0, 0, 0, sku]);
        self.put(3, CHASSIS, &fields, chassis);
    }

    /// One structure a socket.
    fn processors(&mut self, guest: &Guest) {
        let count = guest.vcpus.count;
        let (sockets, cores, threads) = guest.vcpus.topology.map_or((1, count, count), |t| {
            let cores = t.dies * t.cores;
            (t.sockets, cores, cores * t.threads)
        });
        for socket in 0..sockets.min(u32::from(u8::MAX)) {
            let name = format!("CPU {socket}");
            let strings = [Some(name.as_str()), Some("vireo")];
            let [name_at, maker] = numbered(&strings);
            const CENTRAL: u8 = 3;
            const OTHER: u8 = 1;
            const POPULATED_AND_ON: u8 = 0x41;
            const SIXTY_FOUR_BITS: u16 = 1 << 2;
            let mut fields = vec![name_at, CENTRAL, OTHER, maker];
            // Identifier, version, voltage and speeds: not told.
            fields.extend([0; 8 + 1 + 1 + 6]);
            fields.extend([POPULATED_AND_ON, OTHER]);
            // No caches, no numbers.
            fields.extend([0xff; 6]);
            fields.extend([0; 3]);
            let byte = |n: u32| u8::try_from(n).unwrap_or(u8::MAX);
            fields.extend([byte(cores), byte(cores), byte(threads)]);
            fields.extend(SIXTY_FOUR_BITS.to_le_bytes());
            fields.extend(u16::from(OTHER).to_le_bytes());
            for n in [cores, cores, threads] {
                fields.extend(u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes());
            }
            self.put(4, 0x0400 + socket as u16, &fields, strings);
        }
    }

    /// One device in one array, and where its bytes are.
    fn memory(&mut self, size: Bytes) {
        const OTHER: u8 = 1;
        const SYSTEM: u8 = 3;
        const NO_CORRECTION: u8 = 3;
        let mut array = vec![OTHER, SYSTEM, NO_CORRECTION];
        // The size is in the field that has room for any.
        array.extend(0x8000_0000_u32.to_le_bytes());
        array.extend(NO_HANDLE.to_le_bytes());
        array.extend(1_u16.to_le_bytes());
        array.extend(size.0.to_le_bytes());
        self.put(16, ARRAY, &array, []);

        let mut device = Vec::new();
        const UNKNOWN: u16 = 0xffff;
        const LARGER: u16 = 0x7fff;
        const DIMM: u8 = 9;
        const RAM: u8 = 7;
        const DETAIL_OTHER: u16 = 1 << 1;
        for word in [ARRAY, NO_HANDLE, UNKNOWN, UNKNOWN, LARGER] {
            device.extend(word.to_le_bytes());
        }
        device.extend([DIMM, 0, 1, 0, RAM]);
        device.extend(DETAIL_OTHER.to_le_bytes());
        device.extend(0_u16.to_le_bytes());
        let maker = self.string("system.manufacturer");
        let strings = [Some("DIMM 0"), maker];
        let [_, maker_at] = numbered(&strings);
        device.extend([maker_at, 0, 0, 0, 0]);
        let mebibytes = u32::try_from(size.0.div_ceil(layout::MIB)).unwrap_or(u32::MAX);
        device.extend(mebibytes.to_le_bytes());
        device.extend(0_u16.to_le_bytes());
        self.put(17, 0x1100, &device, strings);

        for (range, number) in layout::ram(size.0).into_iter().zip(0_u16..) {
            let mut mapped = Vec::new();
            mapped.extend([0xff; 8]);
            mapped.extend(ARRAY.to_le_bytes());
            mapped.push(1);
            mapped.extend(range.start.to_le_bytes());
            mapped.extend((range.end - 1).to_le_bytes());
            self.put(19, 0x1300 + number, &mapped, []);
        }
    }
}

/// The numbers of a structure's strings: those that are there are counted from 1.
fn numbered<const N: usize>(strings: &[Option<&str>; N]) -> [u8; N] {
    let mut count = 0;
    strings.map(|string| {
        if string.is_none() {
            return 0;
        }
        count += 1;
        count
    })
}

/// A UUID as the tables have it: the first three groups with their low byte first.
fn uuid(text: &str) -> [u8; 16] {
    let digits: Vec<u8> = text
        .bytes()
        .filter_map(|digit| char::from(digit).to_digit(16).map(|digit| digit as u8))
        .collect();
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
    }
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A structure as a reader finds it.
    struct Found {
        kind: u8,
        handle: u16,
        fields: Vec<u8>,
        strings: Vec<String>,
    }

    impl Found {
        /// The string that the field at an offset of the specification names.
        fn string(&self, at: usize) -> Option<&str> {
            let number = usize::from(self.fields[at - 4]);
            Some(self.strings[number.checked_sub(1)?].as_str())
        }
    }

    fn guest(more: &str) -> Guest {
        let text = format!(
            "{{name: web, uuid: 7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1, memory: {{size: 5368709120}}, vcpus: {{count: 4, \
             topology: {{sockets: 2, cores: 2, threads: 1}}}}, boot: {{kernel: /k}}, control: /c, state: /s{more}}}"
        );
        Guest::parse(&text).unwrap()
    }

    /// Reads as a guest does: by the entry point, the lengths, and the pairs of zeroes.
    fn read(image: &[u8]) -> Vec<Found> {
        assert_eq!(&image[..5], b"_SM3_");
        let sum = image[..24].iter().fold(0_u8, |sum, b| sum.wrapping_add(*b));
        assert_eq!(sum, 0);
        let address = u64::from_le_bytes(image[16..24].try_into().unwrap());
        let mut rest = &image[(address - layout::SMBIOS) as usize..];
        let len = u32::from_le_bytes(image[12..16].try_into().unwrap());
        assert_eq!(rest.len(), len as usize);
        let mut found = Vec::new();
        while !rest.is_empty() {
            let (front, tail) = rest.split_at(rest[1].into());
            let end = tail.windows(2).position(|pair| pair == [0, 0]).unwrap();
            let strings = tail[..end].split(|byte| *byte == 0);
            found.push(Found {
                kind: front[0],
                handle: u16::from_le_bytes([front[2], front[3]]),
                fields: front[4..].to_vec(),
                strings: strings
                    .filter(|text| !text.is_empty())
                    .map(|text| String::from_utf8(text.to_vec()).unwrap())
                    .collect(),
            });
            rest = &tail[end + 2..];
        }
        found
    }

    fn one(found: &[Found], kind: u8) -> &Found {
        found.iter().find(|one| one.kind == kind).unwrap()
    }

    #[test]
    fn every_structure_has_the_length_that_its_version_has_and_a_handle_of_its_own() {
        let found = read(&image(&guest(
            ", smbios: {strings: {baseBoard.serial: B}, oem-strings: [x]}",
        )));
        let lengths: Vec<_> = found
            .iter()
            .map(|one| (one.kind, one.fields.len() + 4))
            .collect();
        let wanted = [
            (0, 24),
            (1, 27),
            (2, 15),
            (3, 22),
            (4, 48),
            (4, 48),
            (16, 23),
            (17, 34),
            (19, 31),
            (19, 31),
            (11, 5),
            (32, 11),
            (127, 4),
        ];
        assert_eq!(lengths, wanted);
        let handles: std::collections::HashSet<_> = found.iter().map(|one| one.handle).collect();
        assert_eq!(handles.len(), found.len());
    }

    #[test]
    fn the_guest_finds_its_uuid() {
        let found = read(&image(&guest("")));
        let uuid = &one(&found, 1).fields[4..20];
        let wanted = [
            0x9c, 0x0f, 0x3f, 0x7b, 0x0e, 0x5f, 0x5a, 0x4d, 0x9a, 0x54, 0x0c, 0x8a, 0xd6, 0xc7,
            0xd0, 0xa1,
        ];
        assert_eq!(uuid, wanted);
    }

    #[test]
    fn what_is_stated_is_said_and_the_rest_is_ours_or_nothing() {
        let more = ", smbios: {strings: {bios.release: '4.2', system.serial: S1, system.family: F, chassis.asset: A}, oem-strings: [one, two]}";
        let found = read(&image(&guest(more)));
        assert_eq!(one(&found, 0).string(4), Some("vireo"));
        assert_eq!(one(&found, 0).fields[0x14 - 4..0x16 - 4], [4, 2]);
        let system = one(&found, 1);
        let said = [4, 5, 6, 7, 0x19, 0x1a].map(|at| system.string(at));
        let wanted = [
            Some("vireo"),
            Some("vireo-vmm"),
            None,
            Some("S1"),
            None,
            Some("F"),
        ];
        assert_eq!(said, wanted);
        assert_eq!(one(&found, 3).string(8), Some("A"));
        assert_eq!(one(&found, 11).strings, ["one", "two"]);
        assert!(found.iter().all(|one| one.kind != 2));
    }

    #[test]
    fn memory_is_where_and_as_much_as_it_is() {
        let found = read(&image(&guest("")));
        let device = &one(&found, 17).fields;
        assert_eq!(device[0x1c - 4..0x20 - 4], 5120_u32.to_le_bytes());
        let ranges: Vec<_> = found
            .iter()
            .filter(|one| one.kind == 19)
            .map(|one| one.fields[0x0f - 4..].to_vec())
            .collect();
        let range = |start: u64, last: u64| [start.to_le_bytes(), last.to_le_bytes()].concat();
        let wanted = [range(0, 0xbfff_ffff), range(1 << 32, (6 << 30) - 1)];
        assert_eq!(ranges, wanted);
    }

    #[test]
    fn the_largest_guest_has_tables_that_fit() {
        let mut guest = guest("");
        guest.vcpus.count = layout::MAX_VCPUS;
        guest.vcpus.topology = Some(crate::config::Topology {
            sockets: layout::MAX_VCPUS,
            dies: 1,
            cores: 1,
            threads: 1,
        });
        guest.memory.size = crate::config::Memory::MOST;
        guest.smbios = Some(Smbios {
            strings: NAMES
                .map(|name| (name.to_owned(), "x".repeat(Smbios::LONGEST)))
                .into(),
            oem_strings: vec!["x".repeat(Smbios::LONGEST); Smbios::MOST_OEM_STRINGS],
        });
        assert!(image(&guest).len() as u64 <= layout::SMBIOS_SIZE);
    }
}
