//! Runs [`tapline_fuzz::pattern`] with the inputs of the engine.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tapline_fuzz::pattern(input));
