//! Runs [`tapline_fuzz::resume`] on what the engine thinks of.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tapline_fuzz::resume(input));
