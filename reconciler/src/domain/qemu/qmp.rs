//! QEMU's control protocol, as far as the driver needs it.
//!
//! In: the socket of a monitor. Out: one conversation with its greeting and capabilities done, in which each command gets its answer. What can go wrong: what
//! can go wrong with a [`Line`], and QEMU's refusals in its own words. Source: QEMU's "QMP protocol specification".

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::DriverError;
use crate::domain::line::{Line, LineError};

/// How long one conversation may take. QEMU serves one at a time, so that this is also how long another may have to wait.
const TIME_LIMIT: Duration = Duration::from_secs(3);

/// One conversation.
#[derive(Debug)]
pub struct Qmp {
    line: Line,
    what: &'static str,
}

impl Qmp {
    /// Connects and agrees on the capabilities: none.
    ///
    /// # Errors
    /// The monitor does not answer, or refuses.
    pub async fn connect(socket: &Path, what: &'static str) -> Result<Self, DriverError> {
        let no_answer = |source| DriverError::NoAnswer { what, source };
        let mut line = Line::connect(socket, TIME_LIMIT).await.map_err(no_answer)?;
        let greeting = line.receive().await.map_err(no_answer)?;
        if greeting.get("QMP").is_none() {
            return Err(DriverError::Refused {
                what,
                message: "what answers is not QEMU's monitor".to_owned(),
            });
        }
        let mut qmp = Self { line, what };
        qmp.execute("qmp_capabilities", None).await?;
        Ok(qmp)
    }

    /// Executes a command and waits for its answer; events that come before it are passed over.
    ///
    /// # Errors
    /// The monitor does not answer, or refuses.
    pub async fn execute(
        &mut self,
        command: &str,
        arguments: Option<Value>,
    ) -> Result<Value, DriverError> {
        let what = self.what;
        let no_answer = |source| DriverError::NoAnswer { what, source };
        let mut request = json!({"execute": command});
        if let (Some(request), Some(arguments)) = (request.as_object_mut(), arguments) {
            request.insert("arguments".to_owned(), arguments);
        }
        self.line.send(&request).await.map_err(no_answer)?;
        loop {
            let mut answer = self.line.receive().await.map_err(no_answer)?;
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(error) = answer.get("error") {
                let words = error.get("desc").and_then(Value::as_str);
                return Err(DriverError::Refused {
                    what,
                    message: words.map_or_else(|| error.to_string(), str::to_owned),
                });
            }
        }
    }

    /// Tells QEMU to end. It may be gone before its answer is.
    ///
    /// # Errors
    /// The monitor does not answer, or refuses.
    pub async fn quit(&mut self) -> Result<(), DriverError> {
        match self.execute("quit", None).await {
            Err(DriverError::NoAnswer {
                source: LineError::Closed | LineError::Broken(_),
                ..
            }) => Ok(()),
            other => other.map(drop),
        }
    }
}
