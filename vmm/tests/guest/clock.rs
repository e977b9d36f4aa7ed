//! The battery-backed clock as a guest sees it and sets it, and which other clocks it is told of.

use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use super::{Monitor, Ran, kvm, run};

/// What the guest read off its clock, in seconds since 1970. Guests of these tests live in one month.
fn shown(ran: &Ran) -> i64 {
    let line = ran
        .console
        .lines()
        .find_map(|line| line.strip_prefix("clock "));
    let line = line.unwrap_or_else(|| panic!("{} {}", ran.console, ran.errors));
    let mut numbers = line
        .split(['-', ' ', ':'])
        .map(|part| part.parse::<i64>().unwrap());
    let mut next = || numbers.next().unwrap();
    let (year, month, day) = (next(), next(), next());
    // Days from civil: the year begins in March.
    let years = year - i64::from(month <= 2);
    let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = years * 365 + years / 4 - years / 100 + years / 400 + in_year - 719_468;
    days * 86_400 + next() * 3600 + next() * 60 + next()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs().try_into().unwrap()
}

/// The clock is so many seconds ahead of the host's; a guest takes a few to say so on a busy host.
#[track_caller]
fn assert_ahead(ran: &Ran, ahead: i64) {
    let off = now() + ahead - shown(ran);
    assert!((0..30).contains(&off), "{off} s off: {}", ran.console);
}

#[test]
fn the_clock_begins_where_its_offset_says() {
    if !kvm() {
        return;
    }
    assert_ahead(&run("test=clock", ""), 0);
    for (zone, ahead) in [("Etc/GMT-5", 5 * 3600), ("Etc/GMT+11", -11 * 3600)] {
        let more = format!("clock: {{offset: timezone, timezone: {zone}}}");
        assert_ahead(&run("test=clock", &more), ahead);
    }
    let more = "clock: {offset: variable, adjustment: -86400}";
    assert_ahead(&run("test=clock", more), -86_400);
    let ran = run("test=clock", "clock: {offset: absolute, start: 1000000000}");
    assert!(
        (0..30).contains(&(shown(&ran) - 1_000_000_000)),
        "{}",
        ran.console
    );
}

#[test]
fn what_a_guest_makes_of_a_variable_clock_is_told_and_found_at_the_next_start() {
    if !kvm() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let keep = dir.path().join("clock");
    let more = format!("clock: {{offset: variable, keep: {}}}", keep.display());
    // Noon of 5 May 2031.
    const SET: i64 = 1_935_748_800;
    let before = now();
    let ran = run("test=set-clock,clock", &more);
    ran.assert_ok(&["set-clock", "clock"]);
    let next = run("test=clock", &more);
    let ahead = shown(&next) - now();
    assert!(
        (SET - now() - 30..=SET - before).contains(&ahead),
        "{ahead} {}",
        next.console
    );
    // Another adjustment in the configuration is another clock.
    let other = more.replace("variable", "variable, adjustment: 60");
    assert_ahead(&run("test=clock", &other), 60);
}

#[test]
fn what_a_guest_makes_of_another_clock_is_gone_at_its_reset() {
    if !kvm() {
        return;
    }
    let mut monitor = Monitor::start("test=clock,set-clock end=reboot", "", &[]);
    let end = std::time::Instant::now() + super::PATIENCE;
    while monitor.read("log").matches("ok set-clock").count() < 2 {
        assert!(
            std::time::Instant::now() < end,
            "{}",
            monitor.read("errors")
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let _ = monitor.child.kill();
    let said = monitor.wait().console;
    let years: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("clock "))
        .collect();
    assert!(
        years.len() >= 2 && years.iter().all(|year| !year.starts_with("2031")),
        "{said}"
    );
}

#[test]
fn kvms_own_clock_is_there_unless_it_is_not_to_be() {
    if !kvm() {
        return;
    }
    let hidden = run("test=clock", "clock: {kvmclock: false, pit: discard}");
    assert!(
        hidden.console.contains("kvm clock false"),
        "{} {}",
        hidden.console,
        hidden.errors
    );
    let there = run("test=clock", "");
    if there.console.contains("kvm clock false") {
        eprintln!("skipped in part: this host's KVM has no clock of its own");
    }
}

#[test]
fn a_time_stamp_counter_that_the_host_cannot_make_ends_the_start_with_both_frequencies() {
    if !kvm() {
        return;
    }
    let ran = run("test=clock", "clock: {tsc-khz: 1}");
    let wanted = "cannot give the guest a time stamp counter of 1 kHz: its own has";
    if ran.console.contains("ok clock") {
        return eprintln!("skipped: this host's processor scales even to 1 kHz");
    }
    assert!(ran.last_words.contains(wanted), "{}", ran.last_words);
}
