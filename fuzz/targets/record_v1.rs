//! Any text, as a stored record.
#![no_main]

use actix_session_fuzz::records::check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        check(text);
    }
});
