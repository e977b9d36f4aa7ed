//! Why a scenario did not hold.

use std::fmt;

/// What a scenario returns.
pub type Outcome<T = ()> = Result<T, Failure>;

/// One sentence, with what led to it below. Any error becomes one by `?`.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A failure in the scenario's own words.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// The same failure, saying first what was being done.
    pub fn during(self, what: impl fmt::Display) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// `Failure` is not an `Error` itself, so that every error can become one, with its sources told.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self(message)
    }
}

/// Holds when `condition` does; else fails with the message.
pub fn ensure(condition: bool, message: impl FnOnce() -> String) -> Outcome {
    if condition {
        Ok(())
    } else {
        Err(Failure(message()))
    }
}
