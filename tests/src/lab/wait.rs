//! Waiting for what takes its time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::failure::{Failure, Outcome};

/// Tries until the check holds; its value and the time it took. After `within` it fails with what the check said last.
pub fn eventually<T>(
    within: Duration,
    what: &str,
    mut check: impl FnMut() -> Outcome<T>,
) -> Outcome<(T, Duration)> {
    let start = Instant::now();
    loop {
        let failure = match check() {
            Ok(value) => return Ok((value, start.elapsed())),
            Err(failure) => failure,
        };
        if start.elapsed() >= within {
            return Err(Failure::new(format!(
                "{what}: not within {:.1} s; last: {failure}",
                within.as_secs_f64()
            )));
        }
        sleep(Duration::from_millis(50));
    }
}
