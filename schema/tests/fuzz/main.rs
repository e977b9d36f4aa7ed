//! Files that say anything: what was once found by searching (`schema/fuzz/run`), and random changes to real definitions.
//!
//! The changes are made from a seed, which a failure prints. Each test lasts two seconds, or `VIREO_FUZZ_SECONDS`; `VIREO_FUZZ_SEED` begins with a certain change.

mod holds;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;

/// Longest that one file of a few KiB may take. It takes milliseconds; a shared machine may be busy with something else.
const LONGEST: Duration = Duration::from_secs(5);

/// Values at the edges of what fields take.
const EDGES: &[&str] = &[
    "",
    " ",
    "0",
    "-1",
    "1",
    "255",
    "256",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "0x",
    "0xffffffffffffffff",
    "1e9",
    "1.5",
    "NaN",
    "yes",
    "no",
    "on",
    "off",
    "default",
    "~",
    "null",
    "*a",
    "&a x",
    "[]",
    "{}",
    "|",
    "- a",
    "a: b",
    "0-4294967295",
    "^0",
    "1,1",
    "0-",
    "::",
    "::1",
    "0.0.0.0",
    "255.255.255.255",
    "fe80::1%eth0",
    "10.0.0.0/33",
    "ff:ff:ff:ff:ff:ff",
    "52:54:00:00:00:00",
    "/",
    "//",
    "../..",
    "/a/../b",
    "a/b",
    "\u{202e}",
    "é",
    "\u{0}",
    "&lt;",
    "&#x10ffff;",
    "$A[@0]",
    "$A[4294967296]",
    "EiB",
    "16 EiB",
    "$NAME",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file of that ending below a folder, in order of path.
fn texts(folder: &Path, endings: &[&str], out: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            texts(&path, endings, out);
        } else if path
            .extension()
            .is_none_or(|own| endings.iter().any(|ending| own == *ending))
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            out.push(text);
        }
    }
}

/// What was found and kept for a target, and definitions to change: the project's own, and the corpus where it is.
fn beginnings(target: &str, endings: &[&str]) -> (Vec<String>, Vec<String>) {
    let kept =
        std::fs::read(root().join("schema/tests/fuzz/found").join(target)).unwrap_or_default();
    let kept = String::from_utf8_lossy(&kept);
    // ASCII's group separator ends each.
    let found: Vec<String> = kept.split_terminator('\u{1d}').map(str::to_owned).collect();
    let mut all = found.clone();
    let corpus = std::env::var_os("VIREO_CORPUS")
        .map_or_else(|| root().join("../shared/corpus"), PathBuf::from);
    for folder in [
        root().join("desired-state"),
        root().join("examples"),
        corpus.join("seeds"),
        corpus.join("dev"),
    ] {
        texts(&folder, endings, &mut all);
    }
    (found, all)
}

fn survives(holds: fn(&str), text: &str, whence: &str) {
    let (began, busy) = (Instant::now(), busy_so_far());
    let outcome = catch_unwind(AssertUnwindSafe(|| holds(text)));
    // What a busy machine left it waiting is not the text's doing.
    let busy = busy_so_far().zip(busy);
    let took = busy.map_or_else(|| began.elapsed(), |(now, before)| now - before);
    let shown: String = text.chars().take(4000).collect();
    assert!(outcome.is_ok(), "{whence}, the text:\n{shown}");
    assert!(took < LONGEST, "{whence} took {took:?}, the text:\n{shown}");
}

/// How long this thread has had a processor, where the kernel tells. Source: Linux, Documentation/scheduler/sched-stats.rst, the first number.
fn busy_so_far() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let first = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(first))
}

fn replayed(target: &str, holds: fn(&str)) {
    let (found, _) = beginnings(target, &[]);
    assert!(!found.is_empty(), "nothing was kept for {target}");
    for (number, text) in found.iter().enumerate() {
        survives(holds, text, &format!("found input {number} of {target}"));
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn changed(target: &str, endings: &[&str], holds: fn(&str)) {
    let (_, all) = beginnings(target, endings);
    let end = Instant::now() + Duration::from_secs(number("VIREO_FUZZ_SECONDS").unwrap_or(2));
    let first = number("VIREO_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut seed = first;
    while Instant::now() < end || seed == first {
        let mut random = Rng::with_seed(seed);
        let text = change(&all, &mut random);
        survives(holds, &text, &format!("seed {seed} of {target}"));
        seed = seed.wrapping_add(1);
    }
    eprintln!(
        "{target}: {} changes up to seed {}",
        seed.wrapping_sub(first),
        seed.wrapping_sub(1)
    );
}

fn one<'t>(all: &'t [String], random: &mut Rng) -> &'t str {
    all.get(random.usize(0..all.len()))
        .map_or("", String::as_str)
}

/// A definition with a few changes: lines and values of others, values at the edges, single signs.
fn change(all: &[String], random: &mut Rng) -> String {
    let mut lines: Vec<String> = one(all, random)
        .lines()
        .take(400)
        .map(str::to_owned)
        .collect();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=lines.len());
        match random.u8(0..6) {
            0 => {
                let other: Vec<&str> = one(all, random).lines().take(400).collect();
                let from = random.usize(0..=other.len());
                let much = random.usize(0..8);
                lines.splice(
                    at..at,
                    other
                        .iter()
                        .skip(from)
                        .take(much)
                        .map(|line| (*line).to_owned()),
                );
            }
            1 => {
                let end = (at + random.usize(1..4)).min(lines.len());
                lines.drain(at..end);
            }
            2 => {
                let end = (at + random.usize(1..6)).min(lines.len());
                let piece: Vec<String> = lines.get(at..end).unwrap_or_default().to_vec();
                let times = random.usize(1..4);
                let many = std::iter::repeat_n(piece, times).flatten();
                lines.splice(at..at, many);
            }
            3 | 4 => {
                if let Some(line) = lines.get_mut(at) {
                    let edge = EDGES.get(random.usize(0..EDGES.len())).unwrap_or(&"");
                    put_value(line, edge, random);
                }
            }
            _ => {
                if let Some(line) = lines.get_mut(at) {
                    let mut signs: Vec<char> = line.chars().collect();
                    let place = random.usize(0..=signs.len());
                    let sign = char::from(random.u8(9..127));
                    if random.bool() && place < signs.len() {
                        signs.remove(place);
                    } else {
                        signs.insert(place, sign);
                    }
                    *line = signs.into_iter().collect();
                }
            }
        }
    }
    lines.join("\n")
}

/// Puts a value in place of one between quotes, between tags, or after a colon.
fn put_value(line: &mut String, value: &str, random: &mut Rng) {
    let places: Vec<(usize, usize)> = [('\'', '\''), ('"', '"'), ('>', '<')]
        .iter()
        .flat_map(|(open, close)| {
            let mut places = Vec::new();
            let mut from = 0;
            while let Some(start) = line.get(from..).and_then(|rest| rest.find(*open)) {
                let start = from + start + 1;
                let Some(end) = line.get(start..).and_then(|rest| rest.find(*close)) else {
                    break;
                };
                places.push((start, start + end));
                from = start + end + 1;
            }
            places
        })
        .chain(line.find(": ").map(|colon| (colon + 2, line.len())))
        .collect();
    if places.is_empty() {
        return;
    }
    if let Some((start, end)) = places.get(random.usize(0..places.len())) {
        line.replace_range(*start..*end, value);
    }
}

#[test]
fn what_was_found_in_xml_stays_mended() {
    replayed("xml", holds::xml);
}

#[test]
fn what_was_found_in_yaml_stays_mended() {
    replayed("yaml", holds::yaml);
}

#[test]
fn what_was_found_between_files_stays_mended() {
    replayed("files", holds::files);
}

#[test]
fn no_change_to_a_file_of_xml_breaks_reading() {
    changed("xml", &["xml"], holds::xml);
}

#[test]
fn no_change_to_a_file_of_yaml_breaks_reading() {
    changed("yaml", &["yaml", "yml"], holds::yaml);
}

#[test]
fn no_change_to_a_file_breaks_the_checks_between_files() {
    changed("files", &["xml", "yaml", "yml"], |text| {
        // Two files: the halves of a text.
        let middle = text.lines().count() / 2;
        let mut halves = [String::new(), String::new()];
        for (number, line) in text.lines().enumerate() {
            let half = &mut halves[usize::from(number >= middle)];
            half.push_str(line);
            half.push('\n');
        }
        holds::files(&halves.join(&holds::BETWEEN_FILES.to_string()));
        holds::files(&[text, text].join(&holds::BETWEEN_FILES.to_string()));
    });
}

/// Files of a megabyte in which everything is wrong, or everything of one kind: reading, checking and telling all of it takes moments, not minutes.
#[test]
fn large_files_take_as_long_as_they_are_large() {
    let guest = |piece: &str| {
        let many = piece.repeat((1 << 18) / piece.len());
        format!(
            "<domain type='kvm'><name>a</name><memory>1</memory><os><type>hvm</type></os><devices>{many}</devices></domain>"
        )
    };
    for piece in [
        "<disk/>\n",
        "<unknown/>",
        "<disk type='file'><target dev='vda'/></disk>\n",
        "<interface type='bridge'><source bridge='br0'/><mac address='52:54:00:00:00:01'/></interface>\n",
        "<controller type='scsi' index='0'/>",
        "<controller type='pci' model='pcie-root-port'/>",
        "<channel type='pty'><target type='virtio' name='a'/></channel>",
        "<input type='tablet' bus='usb'><address type='pci' domain='0' bus='0' slot='3' function='0'/></input>",
        "<rng model='virtio'/>",
    ] {
        survives(holds::files, &guest(piece), piece);
    }
    for piece in [
        "- {unknwon: x}\n",
        "- {file: /a, dev: vda}\n",
        "- x\n",
        "- [x]\n",
    ] {
        let many = piece.repeat((1 << 16) / piece.len());
        survives(
            holds::files,
            &format!("domain: a\nmemory: 1 GiB\ndisks:\n{many}"),
            piece,
        );
    }
    let network = "- {network: n, ip: {address: 10.7.0.1, prefix: 24}, bridge: br0, uuid: 7ad3af6b-8d6a-4f6a-9b0c-1f8a4bb31a21}\n";
    let filter = "- {nwfilter: a, filterref: a}\n";
    for piece in [network, filter] {
        survives(holds::files, &piece.repeat((1 << 16) / piece.len()), piece);
    }
}
