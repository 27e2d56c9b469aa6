//! Runs [`tapline_fuzz::publish`] on what the engine thinks of.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tapline_fuzz::publish(input));
