//! Many guests at once, and one guest over and over: what is left of them afterwards, which is nothing.
//!
//! The short form is 20 turns; `VIREO_CYCLES` says another number (`tests/bench/run cycles`: a thousand). Printed is how long a turn takes, and what of the guests was found when
//! they had ended.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::guest::{Guest, Program, kvm};

/// One device of each kind that needs something of the host: terminal, image, sockets.
fn devices(dir: &Path) -> String {
    let path = |name: &str| dir.join(name).display().to_string();
    fs::write(path("disk"), vec![0; 1 << 20]).unwrap();
    format!(
        "disks: [{{id: vda, path: {}, format: raw}}]\nrng: {{}}\nballoon: {{}}\nwatchdog: {{}}\n\
         ports: [{{id: agent, socket: {}}}, {{id: hvc, console: true, pty: true}}]\nvsock: {{cid: 3, socket: {}}}",
        path("disk"),
        path("agent"),
        path("vsock"),
    )
}

/// A guest that speaks, and powers off when its button is pressed.
fn program() -> Program {
    let program = Program::new().enable_power_button();
    program.say("up\n").power_off_on_button()
}

/// What there is on this host of guests whose files are in certain directories.
#[derive(Debug, Default, PartialEq, Eq)]
struct Traces {
    processes: usize,
    sockets: usize,
    locks: usize,
    /// Roots that were made for sandboxes, where this process sees them.
    mounts: usize,
}

impl Traces {
    fn of(dirs: &[&Path]) -> Self {
        let names: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        let named = |text: &str| names.iter().any(|name| text.contains(name));
        let read = |path: &str| fs::read(path).unwrap_or_default();
        let lines = |path: &str, wanted: &dyn Fn(&str) -> bool| {
            let text = String::from_utf8_lossy(&read(path)).into_owned();
            text.lines().filter(|line| wanted(line)).count()
        };
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().into_string().ok());
        let commands = pids.map(|pid| read(&format!("/proc/{pid}/cmdline")));
        let inodes: Vec<_> = dirs
            .iter()
            .filter_map(|dir| Some(format!(":{} ", fs::metadata(dir.join("disk")).ok()?.ino())))
            .collect();
        Self {
            processes: commands
                .filter(|command| named(&String::from_utf8_lossy(command)))
                .count(),
            sockets: lines("/proc/net/unix", &|line| named(line)),
            locks: lines("/proc/locks", &|line| {
                inodes.iter().any(|inode| line.contains(inode))
            }),
            mounts: lines("/proc/self/mountinfo", &|line| {
                line.contains(" /dev ") && line.contains("size=4k,mode=0")
            }),
        }
    }
}

/// The names in a guest's directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The time that this share of them does not exceed.
fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort();
    let at = (times.len().saturating_sub(1)) as f64 * share;
    times[at.ceil() as usize]
}

fn turns() -> usize {
    let stated = std::env::var("VIREO_CYCLES");
    stated.map_or(20, |turns| {
        turns.parse().expect("VIREO_CYCLES is a number of turns")
    })
}

/// A line of the host's own counters: told, not judged, since they are everybody's.
fn host() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let terminals = read("/proc/sys/kernel/pty/nr");
    let files = read("/proc/sys/fs/file-nr");
    let memory = read("/proc/meminfo");
    let available = memory.lines().find(|line| line.starts_with("MemAvailable"));
    format!(
        "terminals {}, open files {}, {}",
        terminals.trim(),
        files.split_whitespace().next().unwrap_or("unknown"),
        available.unwrap_or_default()
    )
}

#[test]
fn a_guest_that_is_started_and_ended_over_and_over_leaves_nothing() {
    let Some(()) = kvm() else { return };
    let place = tempfile::tempdir().unwrap();
    let (turns, before) = (turns(), host());
    let (mut first_words, mut whole) = (Vec::new(), Vec::new());
    let mut guest: Option<Guest> = None;
    let mut found = None;
    for turn in 0..turns {
        let began = Instant::now();
        let guest = match &mut guest {
            Some(guest) => {
                guest.start_again();
                guest
            }
            none => none.insert(Guest::start(&program(), &devices(place.path()))),
        };
        guest.until("the first word", |g| g.log().len() > turn * 3);
        first_words.push(began.elapsed());
        let mut client = guest.client();
        let clean = turn % 4 != 3;
        match turn % 4 {
            0 => drop(client.ask("power-button")),
            1 => drop(client.ask("quit")),
            2 => guest.terminate(),
            _ => guest.kill(),
        }
        assert_eq!(guest.wait().success(), clean, "{}", guest.errors());
        whole.push(began.elapsed());
        let dir = guest.path("").canonicalize().unwrap();
        assert_eq!(
            Traces::of(&[&dir, place.path()]),
            Traces::default(),
            "turn {turn}"
        );
        let names = [names(&dir), names(place.path())];
        let found = found.get_or_insert_with(|| names.clone());
        assert_eq!(*found, names, "turn {turn}");
    }
    eprintln!("turns                 {turns}");
    for (what, times) in [
        ("to the first word", &mut first_words),
        ("to the end", &mut whole),
    ] {
        let (median, most) = (quantile(times, 0.5), quantile(times, 0.99));
        eprintln!("{what:<21} median {median:.1?}, 99th {most:.1?}");
    }
    eprintln!("left of the guest     nothing: no process, socket, lock, mount or further file");
    eprintln!(
        "the host before       {before}\nthe host after        {}",
        host()
    );
}

#[test]
fn twenty_guests_at_once_do_not_see_one_another_and_leave_nothing() {
    let Some(()) = kvm() else { return };
    let places: Vec<_> = (0..20).map(|_| tempfile::tempdir().unwrap()).collect();
    let began = Instant::now();
    let mut guests: Vec<_> = places
        .iter()
        .map(|place| Guest::start(&program(), &devices(place.path())))
        .collect();
    for guest in &mut guests {
        guest.hear("up\n");
    }
    let up = began.elapsed();
    let dirs: Vec<_> = guests
        .iter()
        .map(|guest| guest.path("").canonicalize().unwrap())
        .collect();
    let dirs: Vec<_> = dirs
        .iter()
        .map(|dir| dir.as_path())
        .chain(places.iter().map(|place| place.path()))
        .collect();
    let there = Traces::of(&dirs);
    assert_eq!(there.processes, 20);
    // Control, console port, sockets of the guest.
    assert_eq!(there.sockets, 60);
    assert!(there.locks >= 20, "{there:?}");
    for (number, guest) in guests.iter_mut().enumerate() {
        let mut client = guest.client();
        let others = if number % 2 == 0 {
            "power-button"
        } else {
            "quit"
        };
        client.ask(others);
    }
    for guest in &mut guests {
        let status = guest.wait();
        assert!(status.success(), "{status:?} {}", guest.errors());
        assert_eq!(guest.log(), "up\n");
    }
    assert_eq!(Traces::of(&dirs), Traces::default());
    eprintln!(
        "20 guests: all spoke after {up:.1?}, all had ended after {:.1?}",
        began.elapsed()
    );
}

#[test]
fn a_monitor_that_is_ended_while_it_starts_leaves_a_place_to_start_in() {
    let Some(()) = kvm() else { return };
    let place = tempfile::tempdir().unwrap();
    let mut guest = Guest::start(&program(), &devices(place.path()));
    for turn in 0..24_u64 {
        std::thread::sleep(Duration::from_micros(turn * 1500));
        if turn % 2 == 0 {
            guest.terminate();
        } else {
            guest.kill();
        }
        guest.wait();
        let dir = guest.path("").canonicalize().unwrap();
        assert_eq!(Traces::of(&[&dir, place.path()]), Traces::default());
        guest.start_again();
    }
    let said = guest.log().len();
    guest.until("the first word", |g| g.log().len() > said);
    guest.terminate();
    assert!(guest.wait().success());
}

#[test]
fn a_guest_that_is_reset_over_and_over_does_not_grow() {
    let Some(()) = kvm() else { return };
    let place = tempfile::tempdir().unwrap();
    let mut guest = Guest::start(&program(), &devices(place.path()));
    guest.hear("up\n");
    let mut client = guest.client();
    let mut reset = |times: usize| (0..times).for_each(|_| drop(client.ask("reset")));
    reset(10);
    let Some(before) = guest.belongings() else {
        return eprintln!("skipped: only root looks into a monitor");
    };
    reset(10 * turns());
    let after = guest.belongings().unwrap();
    eprintln!("{} resets: {before:?} became {after:?}", 10 * turns());
    assert_eq!(
        (before.descriptors, before.threads),
        (after.descriptors, after.threads)
    );
    assert!(after.kib <= before.kib + 512, "{before:?} {after:?}");
    guest.terminate();
    assert!(guest.wait().success());
}
