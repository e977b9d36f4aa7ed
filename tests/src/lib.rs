//! What needs more than one crate: the lab, end-to-end stories, corpora, simulation, benchmarks.
