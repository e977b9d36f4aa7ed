//! Limits of requests: when one may go.
//!
//! In come requests as they arrive, with the time; out goes how long each has to wait. Pure but for the time that it is told. A limit is a bucket that requests fill
//! and that leaks at the limit's rate: a request waits until what those before it filled in has gone down to the bucket's size. Who waits has its place already, so disks
//! that share limits take turns.
//!
//! ```text
//!            a tenth of a second at the rate   where there is no max
//!   size  =  length · max                      where there is; a second bucket of a tenth of a second then leaks at max
//! ```

use std::time::{Duration, Instant};

use crate::config::{Limit, Limits};

/// The part of a second that a bucket without bursts holds: less makes requests wait that came together by chance.
const SLICE: f64 = 0.1;

/// Which way data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the guest.
    Read,
    /// From the guest, or given back by it.
    Write,
}

/// A bucket.
#[derive(Debug)]
struct Bucket {
    /// A second.
    rate: f64,
    size: f64,
    level: f64,
}

impl Bucket {
    fn new(rate: u64, size: f64) -> Self {
        Self {
            rate: rate as f64,
            size,
            level: 0.0,
        }
    }

    fn leak(&mut self, seconds: f64) {
        self.level = (self.level - self.rate * seconds).max(0.0);
    }

    /// Fills it, and says how long whoever did has to wait.
    fn fill(&mut self, amount: f64) -> f64 {
        let wait = (self.level - self.size).max(0.0) / self.rate;
        self.level += amount;
        wait
    }
}

/// What one limit counts.
#[derive(Debug)]
struct Meter {
    bytes: bool,
    /// One direction, or both.
    only: Option<Direction>,
    buckets: Vec<Bucket>,
}

impl Meter {
    fn new(limit: Limit, bytes: bool, only: Option<Direction>) -> Self {
        let slice = |rate: u64| rate as f64 * SLICE;
        let buckets = match (limit.max, limit.length.unwrap_or(1)) {
            (None, _) => vec![Bucket::new(limit.rate, slice(limit.rate))],
            (Some(max), length) => vec![
                Bucket::new(limit.rate, max as f64 * length as f64),
                Bucket::new(max, slice(max)),
            ],
        };
        Self {
            bytes,
            only,
            buckets,
        }
    }
}

/// Limits in use, of one disk or of a group.
#[derive(Debug, Default)]
pub struct Throttle {
    limits: Limits,
    meters: Vec<Meter>,
    /// When the buckets leaked last.
    at: Option<Instant>,
}

impl Throttle {
    /// Limits that nothing has come to yet.
    pub fn new(limits: Limits) -> Self {
        use Direction::{Read, Write};
        let kinds = [
            (limits.total_bytes, true, None),
            (limits.read_bytes, true, Some(Read)),
            (limits.write_bytes, true, Some(Write)),
            (limits.total_requests, false, None),
            (limits.read_requests, false, Some(Read)),
            (limits.write_requests, false, Some(Write)),
        ];
        let meters = kinds
            .into_iter()
            .filter_map(|(limit, bytes, only)| Some(Meter::new(limit?, bytes, only)));
        Self {
            meters: meters.collect(),
            limits,
            at: None,
        }
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes a request in, and says how long it has to wait. It has its place from now on.
    pub fn admit(&mut self, now: Instant, direction: Direction, bytes: u64) -> Duration {
        self.leak(now);
        let size = self.limits.request_size.unwrap_or(u64::MAX);
        let requests = (bytes as f64 / size as f64).max(1.0);
        let wait = self.fill(direction, |meter| match meter.bytes {
            true => bytes as f64,
            false => requests,
        });
        Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX)
    }

    /// Counts bytes of a request that has been taken in without them: those after it wait for them.
    pub fn charge(&mut self, now: Instant, direction: Direction, bytes: u64) {
        self.leak(now);
        self.fill(direction, |meter| match meter.bytes {
            true => bytes as f64,
            false => 0.0,
        });
    }

    fn leak(&mut self, now: Instant) {
        let since = self.at.replace(now);
        let seconds = since.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        let buckets = self.meters.iter_mut().flat_map(|meter| &mut meter.buckets);
        buckets.for_each(|bucket| bucket.leak(seconds));
    }

    /// The longest wait of all that counts this direction.
    fn fill(&mut self, direction: Direction, amount: impl Fn(&Meter) -> f64) -> f64 {
        let counts = |meter: &&mut Meter| meter.only.is_none_or(|only| only == direction);
        let mut wait = 0.0_f64;
        for meter in self.meters.iter_mut().filter(counts) {
            let amount = amount(meter);
            for bucket in &mut meter.buckets {
                wait = wait.max(bucket.fill(amount));
            }
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::Direction::{Read, Write};
    use super::*;
    use proptest::prelude::*;

    fn limit(rate: u64) -> Option<Limit> {
        Some(Limit {
            rate,
            max: None,
            length: None,
        })
    }

    /// How long requests of one kind, each sent as soon as the one before was let go, take altogether.
    fn time_of(
        throttle: &mut Throttle,
        from: Instant,
        direction: Direction,
        bytes: u64,
        count: u32,
    ) -> Duration {
        let mut now = from;
        for _ in 0..count {
            now += throttle.admit(now, direction, bytes);
        }
        now - from
    }

    fn seconds(duration: Duration) -> f64 {
        duration.as_secs_f64()
    }

    #[test]
    fn without_limits_nothing_waits() {
        let mut throttle = Throttle::default();
        assert_eq!(
            time_of(&mut throttle, Instant::now(), Read, 1 << 30, 1000),
            Duration::ZERO
        );
    }

    #[test]
    fn in_the_long_run_each_limit_holds_for_what_it_counts_and_for_nothing_else() {
        type Set = fn(&mut Limits) -> &mut Option<Limit>;
        let cases: [(Set, bool, [bool; 2]); 6] = [
            (|l| &mut l.total_bytes, true, [true, true]),
            (|l| &mut l.read_bytes, true, [true, false]),
            (|l| &mut l.write_bytes, true, [false, true]),
            (|l| &mut l.total_requests, false, [true, true]),
            (|l| &mut l.read_requests, false, [true, false]),
            (|l| &mut l.write_requests, false, [false, true]),
        ];
        for (set, bytes, counted) in cases {
            for (direction, counted) in [Read, Write].into_iter().zip(counted) {
                let mut limits = Limits::default();
                *set(&mut limits) = limit(if bytes { 100 * 4096 } else { 100 });
                let mut throttle = Throttle::new(limits.clone());
                let took = seconds(time_of(
                    &mut throttle,
                    Instant::now(),
                    direction,
                    4096,
                    1000,
                ));
                let expected = if counted { 9.9 } else { 0.0 };
                assert!(
                    (took - expected).abs() < 0.02,
                    "{limits:?} {direction:?} {took}"
                );
            }
        }
    }

    #[test]
    fn a_long_request_counts_as_several_where_a_size_is_set() {
        let limits = Limits {
            total_requests: limit(10),
            request_size: Some(4096),
            ..Limits::default()
        };
        let mut throttle = Throttle::new(limits);
        let took = seconds(time_of(&mut throttle, Instant::now(), Write, 40960, 11));
        assert!((took - 9.9).abs() < 0.02, "{took}");
    }

    #[test]
    fn after_a_rest_a_burst_goes_at_its_own_rate_for_its_length_and_then_no_faster_than_the_limit()
    {
        let limits = Limits {
            total_requests: Some(Limit {
                rate: 100,
                max: Some(1000),
                length: Some(5),
            }),
            ..Limits::default()
        };
        let mut throttle = Throttle::new(limits);
        let start = Instant::now();
        let burst = time_of(&mut throttle, start, Read, 512, 5000);
        assert!((4.8..5.1).contains(&seconds(burst)), "{burst:?}");
        // The bucket leaked 100 a second meanwhile: as many more go at the burst's rate.
        let more = time_of(&mut throttle, start + burst, Read, 512, 1000);
        assert!((4.9..5.3).contains(&seconds(more)), "{more:?}");
        let later = time_of(&mut throttle, start + burst + more, Read, 512, 1000);
        assert!((9.9..10.1).contains(&seconds(later)), "{later:?}");
    }

    #[test]
    fn those_that_share_limits_take_turns() {
        let limits = Limits {
            total_requests: limit(10),
            ..Limits::default()
        };
        let mut throttle = Throttle::new(limits);
        let start = Instant::now();
        throttle.admit(start, Read, 512);
        let places: Vec<f64> = (0..4)
            .map(|n| seconds(throttle.admit(start, if n % 2 == 0 { Read } else { Write }, 512)))
            .collect();
        for (n, place) in places.iter().enumerate() {
            assert!((place - n as f64 * 0.1).abs() < 0.001, "{places:?}");
        }
    }

    #[test]
    fn what_is_charged_afterwards_makes_the_next_wait() {
        let limits = Limits {
            write_bytes: limit(1000),
            ..Limits::default()
        };
        let mut throttle = Throttle::new(limits);
        let now = Instant::now();
        assert_eq!(throttle.admit(now, Write, 0), Duration::ZERO);
        throttle.charge(now, Write, 2100);
        assert_eq!(throttle.admit(now, Write, 0), Duration::from_secs(2));
    }

    proptest! {
        #[test]
        fn no_history_lets_more_through_than_rate_and_burst(
            rate in 1..10_000_u64,
            burst in prop::option::of((1..10_u64, 1..10_u64)),
            requests in prop::collection::vec((0..3000_u64, 0..10_000_u64), 1..200),
        ) {
            let limit = Limit { rate, max: burst.map(|(times, _)| rate * times), length: burst.map(|(_, length)| length) };
            let mut throttle = Throttle::new(Limits { total_bytes: Some(limit), ..Limits::default() });
            let start = Instant::now();
            let (mut now, mut before, mut longest) = (start, 0, 0);
            for (pause, bytes) in requests {
                now += Duration::from_millis(pause);
                now += throttle.admit(now, Read, bytes);
                let room = limit.max.map_or(rate as f64 * SLICE, |max| (max * limit.length.unwrap_or(1)) as f64);
                let most = (now - start).as_secs_f64() * rate as f64 + room + 1.0;
                // The request itself comes on top: it goes as a whole.
                prop_assert!(before as f64 <= most, "{before} of {most}");
                before += bytes;
                longest = longest.max(bytes);
            }
        }
    }
}
