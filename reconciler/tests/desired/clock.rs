//! The `<clock>` of a guest: which driver makes it, and what is refused where.

use vireo_reconciler::resolve::Driver;

use super::drivers::{Refused, driver_of_web};

/// The guest with a clock; in which driver, or what is refused where.
fn with_clock(clock: &str, policy: &str) -> Result<(Driver, String), Vec<Refused>> {
    let text = format!(
        "<domain type='kvm'>\n<name>web</name>\n<memory unit='MiB'>64</memory>\n{policy}\n<os><type>hvm</type><kernel>/boot/vmlinuz</kernel></os>\n{clock}\n</domain>"
    );
    driver_of_web(&text)
}

#[test]
fn clocks_and_timers_that_builtin_makes_so_run_under_builtin() {
    for clock in [
        "<clock offset='localtime' adjustment='reset'/>",
        "<clock offset='variable' basis='localtime' adjustment='-3600'/>",
        "<clock offset='utc' adjustment='5'/>",
        "<clock offset='timezone' timezone='America/Argentina/Buenos_Aires'/>",
        "<clock offset='absolute' start='0'/>",
        // What virt-manager writes.
        "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/><timer name='pit' tickpolicy='delay'/><timer name='hpet' present='no'/></clock>",
        "<clock><timer name='kvmclock' present='no'/><timer name='tsc' frequency='2400000000' mode='auto'/><timer name='hypervclock' present='no'/></clock>",
    ] {
        let found = with_clock(clock, "");
        assert!(
            matches!(found, Ok((Driver::Builtin, _))),
            "{clock} {found:?}"
        );
    }
}

#[test]
fn timers_that_builtin_does_not_make_so_take_qemu_with_the_reason_or_are_refused_where_they_stand()
{
    for (timer, why) in [
        (
            "<timer name='hpet' present='yes'/>",
            "it asks for the timer hpet, which builtin does not have",
        ),
        (
            "<timer name='pit' present='no'/>",
            "it asks for no timer pit, which builtin always has",
        ),
        (
            "<timer name='tsc' present='no'/>",
            "it asks for no timer tsc, which builtin always has",
        ),
    ] {
        let clock = format!("<clock offset='utc'>{timer}</clock>");
        assert_eq!(with_clock(&clock, ""), Ok((Driver::Qemu, why.to_owned())));
    }
    let pinned =
        "<metadata><vireo:policy xmlns:vireo='urn:vireo:policy:1' driver='builtin'/></metadata>";
    let clock = "<clock offset='utc'>\n<timer name='rtc'/>\n  <timer name='pit' tickpolicy='catchup'/></clock>";
    let refused = with_clock(clock, pinned).unwrap_err();
    assert_eq!((refused[0].1, refused[0].2), (8, 33), "{refused:?}");
    assert!(
        refused[0].0.contains("lost ticks of the timer pit"),
        "{refused:?}"
    );
}

#[test]
fn a_clock_that_says_what_its_offset_does_not_have_is_refused_where_it_stands() {
    for (clock, column, what) in [
        (
            "<clock offset='utc' timezone='Europe/Berlin'/>",
            31,
            "has no timezone",
        ),
        ("<clock offset='localtime' start='5'/>", 34, "has no start"),
        (
            "<clock offset='timezone' timezone='../../etc/passwd'/>",
            36,
            "wants the name of a zone",
        ),
        ("<clock offset='timezone'/>", 1, "the zone is not stated"),
        ("<clock offset='absolute'/>", 1, "the time is not stated"),
        (
            "<clock offset='absolute' start='253402300800'/>",
            33,
            "shows no year of four digits",
        ),
        (
            "<clock offset='variable' adjustment='-9223372036854775808'/>",
            38,
            "shows no year of four digits",
        ),
    ] {
        let refused = with_clock(clock, "").unwrap_err();
        let (message, line, at) = &refused[0];
        assert!(
            message.contains(what) && (*line, *at) == (6, column),
            "{clock}: {refused:?}"
        );
    }
    let qemu =
        "<metadata><vireo:policy xmlns:vireo='urn:vireo:policy:1' driver='qemu'/></metadata>";
    assert!(with_clock("<clock offset='variable'/>", qemu).is_err());
}
