//! See `holds::yaml`.

#![no_main]

#[path = "../../tests/fuzz/holds.rs"]
#[allow(dead_code)]
mod holds;

libfuzzer_sys::fuzz_target!(|text: &str| holds::yaml(text));
