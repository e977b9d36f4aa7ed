//! The command line's side of the agent's interface.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use uuid::Uuid;

use super::AgentStatus;
use crate::status::Report;

/// A running agent.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// The agent could not be asked, or said no.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no agent listens on {socket}")]
    Absent {
        /// The socket.
        socket: PathBuf,
        /// Why it could not be opened.
        source: io::Error,
    },
    /// The connection broke, or what came over it was no answer.
    #[error("the agent on {socket} did not answer: {why}")]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// The agent said no.
    #[error("the agent refuses: {why}")]
    Refused {
        /// Its words.
        why: String,
    },
}

impl Client {
    /// The agent that listens on this socket.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// How every object does.
    ///
    /// # Errors
    /// When no agent listens, or it does not answer.
    pub async fn status(&self) -> Result<AgentStatus, ClientError> {
        self.decode(&self.ask(Method::GET, "/v1/status").await?)
    }

    /// Makes a pass and waits until nothing is at work, at most so many seconds.
    ///
    /// # Errors
    /// When no agent listens, or it does not answer.
    pub async fn pass(&self, wait: u64) -> Result<AgentStatus, ClientError> {
        self.decode(
            &self
                .ask(Method::POST, &format!("/v1/pass?wait={wait}"))
                .await?,
        )
    }

    /// Restarts a guest and waits until it has ended, at most so many seconds.
    ///
    /// # Errors
    /// When no agent listens, or the guest cannot be restarted.
    pub async fn restart(&self, guest: Uuid, wait: u64) -> Result<Report, ClientError> {
        let path = format!("/v1/restart?guest={guest}&wait={wait}");
        self.decode(&self.ask(Method::POST, &path).await?)
    }

    /// Lets the plan of this digest (hexadecimal digits) be carried out.
    ///
    /// # Errors
    /// When no agent listens, or that is no longer its plan.
    pub async fn confirm(&self, digest: &str) -> Result<(), ClientError> {
        self.ask(Method::POST, &format!("/v1/confirm?digest={digest}"))
            .await
            .map(drop)
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Bytes, ClientError> {
        let stream =
            UnixStream::connect(&self.socket)
                .await
                .map_err(|source| ClientError::Absent {
                    socket: self.socket.clone(),
                    source,
                })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.broken(&e))?;
        // Ends with the exchange; what goes wrong with it shows in the answer.
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "vireo")
            .body(Empty::<Bytes>::new())
            .map_err(|e| self.broken(&e))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| self.broken(&e))?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|e| self.broken(&e))?
            .to_bytes();
        drop(sender);
        drop(connection.await);
        if status.is_success() {
            Ok(body)
        } else if status == StatusCode::CONFLICT || status == StatusCode::SERVICE_UNAVAILABLE {
            Err(ClientError::Refused {
                why: String::from_utf8_lossy(&body).trim().to_owned(),
            })
        } else {
            Err(self.broken(&format!("status {status}")))
        }
    }

    fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.broken(&error))
    }

    fn broken(&self, why: &impl std::fmt::Display) -> ClientError {
        ClientError::Broken {
            socket: self.socket.clone(),
            why: why.to_string(),
        }
    }
}
