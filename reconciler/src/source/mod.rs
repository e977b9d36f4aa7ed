//! Where definitions come from.
//!
//! A source gives every document it holds, good or broken, or an error: what cannot be read must never look like what is not there. Sources only read.

pub mod directory;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use vireo_schema::Document;

/// A set of documents that can be loaded again and again.
pub trait Source: Send + Sync + 'static {
    /// Reads everything. Documents that have not changed since the last call may be the same allocation.
    ///
    /// # Errors
    /// When the set itself cannot be told: a directory that is missing or unreadable. A broken document is no error here.
    fn load(&self) -> impl Future<Output = Result<Vec<Arc<Document>>, SourceError>> + Send;
}

/// A source could not tell what it holds.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A directory or file cannot be read.
    #[error("cannot read {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A directory is nested too deeply, or holds too much.
    #[error("{path} {what}")]
    Bounds {
        /// Which.
        path: PathBuf,
        /// What is too much of it.
        what: String,
    },
}
