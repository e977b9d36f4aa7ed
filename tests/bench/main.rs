//! Measurements, each beside its peer in one run: `tests/bench/run`. Planning, validating and a tiny guest's first word are measured on the machine itself, all else in the lab.
//!
//! The lab is emulated on machines without hardware virtualisation: its times compare with one another and with nothing else. Each figure is the median of
//! several turns, the programs taking turns so that what else the machine does falls on all of them.

mod boot;
mod filter;
mod first_word;
mod io;
mod monitor;
mod plan;
mod validate;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use vireo_tests::lab::{Failure, Outcome};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.first().map(String::as_str) {
        Some("boot") => boot::bench(),
        Some("io") => io::bench(),
        Some("plan") => plan::bench(&words[1..]),
        Some("validate") => validate::bench(&words[1..]),
        Some("filter") => filter::bench(&words[1..]),
        Some("first-word") => first_word::bench(&words[1..]),
        _ => Err(Failure::new(
            "vireo-bench boot | io | plan [COUNT…] | validate [COUNT…] | filter [COUNT…] | first-word MONITOR KERNEL DIRECTORY",
        )),
    };
    if let Err(failure) = outcome {
        eprintln!("bench: {failure}");
        std::process::exit(1);
    }
}

/// One line of the table.
fn row(what: &str, who: &str, figure: &str, remark: &str) {
    println!("{what:<44} {who:<14} {figure:>12}  {remark}");
}

/// The middle one; of an even number, the lower of the two.
fn median<T: PartialOrd + Copy>(values: &mut [T]) -> Outcome<T> {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let middle = values.len().saturating_sub(1) / 2;
    values
        .get(middle)
        .copied()
        .ok_or_else(|| Failure::new("nothing was measured"))
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

/// Memory of a process but for the mapping that is its guest's, in KiB, by this word of the kernel's: `Rss:` counts shared pages whole, `Pss:` by their share.
fn beyond_guest(pid: u32, guest_mib: u64, word: &str) -> Outcome<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let (mut sum, mut size) = (0, 0);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (name, kib) = (words.next(), words.next().and_then(|kib| kib.parse().ok()));
        match (name, kib) {
            (Some("Size:"), Some(kib)) => size = kib,
            // The guest's memory is the one mapping of about its size; no monitor has another as large.
            (Some(name), Some(kib)) if name == word && size < guest_mib * 1024 * 9 / 10 => {
                sum += kib
            }
            _ => {}
        }
    }
    if sum == 0 {
        return Err(Failure::new("smaps shows nothing"));
    }
    Ok(sum)
}

/// The directory with the guests' `vmlinuz` and `initrd`: in the lab's own memory, so that the machine's disk has no part in what is measured.
fn guest_images() -> Outcome<PathBuf> {
    let images = match std::env::var_os("VIREO_LAB_DIR") {
        Some(lab) => PathBuf::from(lab),
        None => binary("")?.join("../lab"),
    };
    let work = PathBuf::from("/run/vireo-bench");
    fs::create_dir_all(&work)?;
    for file in ["vmlinuz", "initrd"] {
        fs::copy(images.join("guest").join(file), work.join(file))?;
    }
    Ok(work)
}

/// A binary of ours, beside this one.
fn binary(name: &str) -> Outcome<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}
