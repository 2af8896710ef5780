#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    spa_fuzz::http::run(input);
});
