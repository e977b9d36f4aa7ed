//! What is wrong between fields of one definition, and between definitions.
//!
//! In: decoded definitions. Out: diagnostics. Shape and single values were judged before; here are rules that need more than one field, one function each.

mod across;
mod one;

pub use across::check;
pub(crate) use one::one;
