//! A conversation in lines of JSON over a unix socket: what both monitors speak.
//!
//! In: a socket's path, values to send. Out: values received. What can go wrong: nobody listens, a line longer than the bound, text that is not JSON, the end of
//! the conversation, or the end of its time. The other side may be a process that a guest has taken over, so nothing it says is believed to be short or soon.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::Instant;

/// The longest line that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// A conversation that failed.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Nobody listens.
    #[error("cannot connect to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel's.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// The other side hung up.
    #[error("the connection was closed")]
    Closed,
    /// More than the bound without an end of line.
    #[error("a line of more than {LONGEST} bytes came")]
    TooLong,
    /// A line that is not JSON.
    #[error("a line that is not JSON came")]
    NotJson(#[source] serde_json::Error),
    /// Its time ran out.
    #[error("nothing came within {0:?}")]
    TimedOut(Duration),
}

/// One conversation, which must be over by its deadline.
#[derive(Debug)]
pub struct Line {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    limit: Duration,
    deadline: Instant,
}

impl Line {
    /// Connects. The whole conversation may take so long.
    ///
    /// # Errors
    /// Nobody listens, or does not take the connection in time.
    pub async fn connect(path: &Path, limit: Duration) -> Result<Self, LineError> {
        let deadline = Instant::now() + limit;
        let stream = tokio::time::timeout_at(deadline, UnixStream::connect(path))
            .await
            .map_err(|_| LineError::TimedOut(limit))?
            .map_err(|source| LineError::Connect {
                path: path.to_owned(),
                source,
            })?;
        let (reader, writer) = stream.into_split();
        Ok(Self {
            reader: BufReader::new(reader),
            writer,
            limit,
            deadline,
        })
    }

    /// Sends one value.
    ///
    /// # Errors
    /// The connection broke, or nothing is taken in time.
    pub async fn send(&mut self, value: &Value) -> Result<(), LineError> {
        let line = format!("{value}\n");
        tokio::time::timeout_at(self.deadline, self.writer.write_all(line.as_bytes()))
            .await
            .map_err(|_| LineError::TimedOut(self.limit))?
            .map_err(LineError::Broken)
    }

    /// Waits for the next value. Not to be cancelled: what has come of a line would be lost.
    ///
    /// # Errors
    /// The connection broke or ended, the line is too long or not JSON, or none came in time.
    pub async fn receive(&mut self) -> Result<Value, LineError> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.reader).take(LONGEST);
        tokio::time::timeout_at(self.deadline, bounded.read_until(b'\n', &mut line))
            .await
            .map_err(|_| LineError::TimedOut(self.limit))?
            .map_err(LineError::Broken)?;
        if line.last() != Some(&b'\n') {
            return Err(if line.len() as u64 >= LONGEST {
                LineError::TooLong
            } else {
                LineError::Closed
            });
        }
        serde_json::from_slice(&line).map_err(LineError::NotJson)
    }
}
