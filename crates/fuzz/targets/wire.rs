//! Runs [`tapline_fuzz::wire`] on what the engine thinks of.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tapline_fuzz::wire(input));
