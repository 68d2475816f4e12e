//! See `src/fuzz.rs` and `fuzz/README.md`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| repave::fuzz::run("report-log", bytes));
