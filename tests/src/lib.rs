//! What needs more than one crate: the lab, end-to-end stories, corpora, simulation, benchmarks.
//!
//! Read [`lab`] first: it is what the scenarios in `tests/scenarios` are written with.

pub mod lab;
pub mod simulation;
