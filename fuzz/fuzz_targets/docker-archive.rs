//! What it checks is in `src/fuzz.rs`; how to run it, in `CONTRIBUTING.md`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| repave::fuzz::run("docker-archive", bytes));
