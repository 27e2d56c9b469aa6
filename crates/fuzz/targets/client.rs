//! Runs [`tapline_fuzz::client`] with the inputs of the engine.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tapline_fuzz::client(input));
