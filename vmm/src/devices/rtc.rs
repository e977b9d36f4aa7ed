//! The battery-backed clock of a PC (MC146818), so that the guest's clock is right before it has a network.
//!
//! In come reads and writes of an index and a data port; out goes the host's time, shifted by what the guest set, and a notice when it has set it. Alarms and
//! periodic interrupts are not there: the guest has better timers. Values are in binary-coded decimal, hours count to 24.

use crate::bus::BusDevice;
use crate::clock::{self, Origin};
use crate::notice::{Notice, Notifier};

const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
const WEEKDAY: u8 = 6;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const STATUS_A: u8 = 10;
const STATUS_B: u8 = 11;
const STATUS_C: u8 = 12;
const STATUS_D: u8 = 13;
/// Where ACPI's FADT says that the century is.
pub const CENTURY: u8 = 0x32;

/// A 32.768 kHz time base; never in the middle of an update.
const A: u8 = 0x26;
/// 24 hours, binary-coded decimal.
const B_24_HOURS: u8 = 2;
/// The guest is setting the clock.
const B_SET: u8 = 0x80;
/// The battery is good.
const D_VALID: u8 = 0x80;

/// The clock.
pub struct Rtc {
    index: u8,
    ram: [u8; 128],
    origin: Origin,
    /// What the guest's clock shows, less the host's, in seconds.
    shift: i64,
    now: Box<dyn Fn() -> i64 + Send>,
    notifier: Notifier,
}

impl Rtc {
    /// A clock at power on.
    pub fn new(origin: Origin, notifier: Notifier) -> Self {
        Self::with_source(origin, notifier, Box::new(clock::now))
    }

    fn with_source(origin: Origin, notifier: Notifier, now: Box<dyn Fn() -> i64 + Send>) -> Self {
        Self {
            index: 0,
            ram: [0; 128],
            origin,
            shift: origin.at_power_on(None),
            now,
            notifier,
        }
    }

    /// How far the guest's clock is ahead of universal time, in seconds.
    pub fn ahead(&self) -> i64 {
        self.shift
    }

    /// Puts the clock back to power on. What is in its memory stays: it has a battery.
    pub fn reset(&mut self) {
        self.index = 0;
        self.ram[usize::from(STATUS_B)] = 0;
        self.shift = self.origin.at_power_on(Some(self.shift));
    }

    fn read_register(&self) -> u8 {
        let time = || Civil::from_unix((self.now)().saturating_add(self.shift));
        let stored = self.ram.get(usize::from(self.index)).copied().unwrap_or(0);
        match self.index {
            STATUS_A => A,
            STATUS_B => stored & B_SET | B_24_HOURS,
            STATUS_C => 0,
            STATUS_D => D_VALID,
            // While the guest sets the clock it reads back what it wrote.
            _ if self.setting() => stored,
            SECONDS => bcd(time().second),
            MINUTES => bcd(time().minute),
            HOURS => bcd(time().hour),
            WEEKDAY => bcd(time().weekday),
            DAY => bcd(time().day),
            MONTH => bcd(time().month),
            YEAR => bcd(time().year.rem_euclid(100)),
            CENTURY => bcd(time().year.div_euclid(100)),
            _ => stored,
        }
    }

    fn setting(&self) -> bool {
        self.ram[usize::from(STATUS_B)] & B_SET != 0
    }

    fn write_register(&mut self, value: u8) {
        let was_setting = self.setting();
        if self.index == STATUS_B && !was_setting && value & B_SET != 0 {
            self.freeze();
        }
        if let Some(register) = self.ram.get_mut(usize::from(self.index)) {
            *register = value;
        }
        if self.index == STATUS_B && was_setting && value & B_SET == 0 {
            self.take_time();
        }
    }

    /// Keeps the time in the registers, for the guest to change some of them.
    fn freeze(&mut self) {
        let index = self.index;
        for register in [SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY] {
            self.index = register;
            self.ram[usize::from(register)] = self.read_register();
        }
        self.index = index;
    }

    /// Takes over the time that the guest has set. Nonsense is ignored.
    fn take_time(&mut self) {
        let field = |register: u8| from_bcd(self.ram[usize::from(register)]);
        let set = Civil {
            second: field(SECONDS),
            minute: field(MINUTES),
            hour: field(HOURS),
            weekday: 1,
            day: field(DAY),
            month: field(MONTH),
            year: field(CENTURY) * 100 + field(YEAR),
        };
        let Some(unix) = set.to_unix() else { return };
        let shift = unix.saturating_sub((self.now)());
        if shift != self.shift {
            self.shift = shift;
            self.notifier.send(Notice::Clock);
        }
    }
}

impl BusDevice for Rtc {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let (1, [byte]) = (offset, data) {
            *byte = self.read_register();
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match (offset, data) {
            // Bit 7 masks the NMI on real machines.
            (0, &[index]) => self.index = index & 0x7f,
            (1, &[value]) => self.write_register(value),
            _ => {}
        }
    }
}

fn bcd(value: i64) -> u8 {
    let value = value.clamp(0, 99) as u8;
    ((value / 10) << 4) | (value % 10)
}

fn from_bcd(value: u8) -> i64 {
    i64::from(value >> 4) * 10 + i64::from(value & 15)
}

/// A date and time of the proleptic Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Civil {
    second: i64,
    minute: i64,
    hour: i64,
    /// 1 is Sunday.
    weekday: i64,
    day: i64,
    month: i64,
    year: i64,
}

const DAY_SECONDS: i64 = 86_400;
/// Days of 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

impl Civil {
    /// Years begin in March here, so that the leap day is a year's last.
    fn from_unix(unix: i64) -> Self {
        let days = unix.div_euclid(DAY_SECONDS);
        let seconds = unix.rem_euclid(DAY_SECONDS);
        let shifted = days.saturating_add(EPOCH_DAYS);
        let era = shifted.div_euclid(ERA_DAYS);
        let day_of_era = shifted.rem_euclid(ERA_DAYS);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        Self {
            second: seconds % 60,
            minute: seconds / 60 % 60,
            hour: seconds / 3600,
            weekday: (days + 4).rem_euclid(7) + 1,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            month,
            year: era * 400 + year_of_era + i64::from(month <= 2),
        }
    }

    fn to_unix(self) -> Option<i64> {
        let sound = (0..60).contains(&self.second)
            && (0..60).contains(&self.minute)
            && (0..24).contains(&self.hour)
            && (1..=31).contains(&self.day)
            && (1..=12).contains(&self.month);
        if !sound {
            return None;
        }
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * ((self.month + 9) % 12) + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * ERA_DAYS + day_of_era - EPOCH_DAYS;
        Some(days * DAY_SECONDS + self.hour * 3600 + self.minute * 60 + self.second)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::notice::{self, Notices};

    /// 2026-11-21 03:49:38, a Saturday.
    const NOW: i64 = 1_795_232_978;

    fn clock() -> Rtc {
        told().0
    }

    fn told() -> (Rtc, Notices) {
        let (notifier, notices) = notice::channel().unwrap();
        let rtc = Rtc::with_source(Origin::Utc, notifier, Box::new(|| NOW));
        (rtc, notices)
    }

    fn get(rtc: &mut Rtc, register: u8) -> u8 {
        rtc.write(0, &[register]);
        let mut data = [0];
        rtc.read(1, &mut data);
        data[0]
    }

    fn put(rtc: &mut Rtc, register: u8, value: u8) {
        rtc.write(0, &[register]);
        rtc.write(1, &[value]);
    }

    #[test]
    fn the_guest_reads_the_hosts_time() {
        let mut rtc = clock();
        let read: Vec<u8> = [CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS, WEEKDAY]
            .map(|r| get(&mut rtc, r))
            .to_vec();
        assert_eq!(read, [0x20, 0x26, 0x11, 0x21, 0x03, 0x49, 0x38, 0x07]);
        assert_eq!(get(&mut rtc, STATUS_A) & 0x80, 0);
        assert_eq!(get(&mut rtc, STATUS_D), D_VALID);
    }

    #[test]
    fn what_the_guest_sets_it_reads_again() {
        let mut rtc = clock();
        put(&mut rtc, STATUS_B, B_SET | B_24_HOURS);
        put(&mut rtc, HOURS, 0x17);
        put(&mut rtc, DAY, 0x01);
        put(&mut rtc, STATUS_B, B_24_HOURS);
        assert_eq!(
            (
                get(&mut rtc, HOURS),
                get(&mut rtc, DAY),
                get(&mut rtc, MINUTES)
            ),
            (0x17, 0x01, 0x49)
        );
        assert_eq!(get(&mut rtc, WEEKDAY), 1);
    }

    #[test]
    fn a_clock_that_was_set_is_told_of_once_and_is_the_hosts_again_after_a_reset() {
        let (mut rtc, notices) = told();
        for _ in 0..2 {
            put(&mut rtc, STATUS_B, B_SET | B_24_HOURS);
            put(&mut rtc, HOURS, 0x04);
            put(&mut rtc, STATUS_B, B_24_HOURS);
        }
        assert_eq!(rtc.ahead(), 3600);
        assert_eq!(notices.drain(), [Notice::Clock]);
        put(&mut rtc, 0x40, 0x77);
        put(&mut rtc, STATUS_B, B_SET);
        rtc.reset();
        assert_eq!((rtc.ahead(), get(&mut rtc, HOURS)), (0, 0x03));
        assert_eq!(get(&mut rtc, 0x40), 0x77, "its memory has a battery");
    }

    #[test]
    fn nonsense_does_not_move_the_clock() {
        let mut rtc = clock();
        put(&mut rtc, STATUS_B, B_SET);
        put(&mut rtc, MONTH, 0xff);
        put(&mut rtc, STATUS_B, 0);
        assert_eq!(get(&mut rtc, MONTH), 0x11);
    }

    proptest! {
        #[test]
        fn the_calendar_goes_there_and_back(unix in -60_000_000_000_i64..200_000_000_000) {
            prop_assert_eq!(Civil::from_unix(unix).to_unix(), Some(unix));
        }

        #[test]
        fn no_access_panics(accesses in prop::collection::vec((0u64..2, prop::collection::vec(any::<u8>(), 1..5)), 0..50)) {
            let mut rtc = clock();
            for (offset, data) in accesses {
                rtc.write(offset, &data);
                rtc.read(offset, &mut data.clone());
            }
        }
    }
}
