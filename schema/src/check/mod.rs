//! What is wrong between fields of one definition, and between definitions.
//!
//! In: decoded definitions. Out: diagnostics. Shape and single values were judged before; here are rules that need more than one field.

mod across;
mod one;
mod references;

pub use across::check;
pub(crate) use one::one;
pub use references::{Reference, Target, references};
