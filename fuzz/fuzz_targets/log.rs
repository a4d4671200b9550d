#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| conuredb_fuzz::log::decode(input));
