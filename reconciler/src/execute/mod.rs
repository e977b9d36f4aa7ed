//! Doing what a plan says.

pub mod effect;
pub mod executor;
