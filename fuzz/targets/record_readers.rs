//! The scanner of the form that is written, and the general reader, on the same text.
#![no_main]

use actix_session::fuzzing::both_readers;

/// What a text must begin with to be scanned.
const BEGINNING: &str = concat!(
    r#"{"v":1,"f":"0000000000000001.00000000000000000000000000000007.5...0.","state":{"#,
    r#""before":"a text","#
);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let usual = [
        format!("{BEGINNING}{text}}}}}"),
        format!("{BEGINNING}\"name\":{text}}}}}"),
        format!("{BEGINNING}\"name\":\"{text}\"}}}}"),
    ];
    for text in usual.iter().map(String::as_str).chain([text]) {
        let [read, slowly] = both_readers(text);
        assert_eq!(read, slowly, "{text}");
    }
});
