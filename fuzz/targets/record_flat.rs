//! Records as actix-session 0.6 to 0.11 wrote them, with and without metadata, intact and damaged.
#![no_main]

use std::net::Ipv6Addr;

use actix_session::{ClientAddress, fuzzing, storage::Record};
use actix_session_fuzz::{
    cursor::Cursor,
    records::{Map, RESERVED, check, metadata},
};

fn address(cursor: &mut Cursor<'_>) -> ClientAddress {
    let number = cursor.number().cast_unsigned();
    let ip = Ipv6Addr::from_bits(u128::from(number) << cursor.below(64));
    if cursor.flag() {
        ClientAddress::full(ip.into())
    } else {
        ClientAddress::network(ip.into())
    }
}

fn told(cursor: &mut Cursor<'_>) -> fuzzing::Told {
    fuzzing::Told {
        commit: cursor.number().cast_unsigned(),
        id: u128::from(cursor.number().cast_unsigned()),
        created: cursor.number(),
        absolute_end: cursor.maybe(),
        ttl: cursor.maybe(),
        epoch: cursor.number().cast_unsigned(),
        idle_end: cursor.maybe(),
        auth: cursor.flag().then(|| {
            let device = cursor.flag().then(|| cursor.text());
            fuzzing::ToldAuth {
                at: cursor.number(),
                who: cursor.text(),
                device,
                login: cursor.maybe(),
                span: cursor.maybe(),
                two: cursor.maybe(),
                three: cursor.maybe(),
                demand: cursor.flag().then(|| (cursor.number(), cursor.text())),
                method: cursor.text(),
                address: cursor.flag().then(|| address(cursor)),
                upstream: cursor
                    .flag()
                    .then(|| (cursor.number(), 7, cursor.flag().then_some(8))),
                listed: cursor.maybe(),
            }
        }),
        rest: cursor.flag().then(|| cursor.number().to_string()),
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut cursor = Cursor::new(bytes);
    let mut map = Map::new();
    let told = cursor.flag().then(|| told(&mut cursor));
    let reserved = told
        .as_ref()
        .map(|told| format!("\"{}\"", fuzzing::metadata_text(told)));
    let damage = cursor
        .flag()
        .then(|| (cursor.byte(), cursor.byte(), cursor.byte()));
    while !cursor.is_done() {
        let name = cursor.text();
        let value = match cursor.below(4) {
            0 => cursor.text(),
            1 => cursor.number().to_string(),
            2 => serde_json::Value::String(cursor.text()).to_string(),
            _ => format!("{{\"v\":1,\"state\":[{}]}}", cursor.number()),
        };
        map.insert(name, value);
    }
    map.remove(RESERVED);
    let entries = map.clone();
    map.extend(reserved.map(|json| (RESERVED.to_owned(), json)));
    let mut text = serde_json::to_string(&map).expect("a map of strings is JSON");
    let read = Record::decode(text.clone()).expect("old servers wrote such");
    let read_entries: Map = read.to_map().into_iter().collect();
    assert_eq!(read_entries, entries);
    assert_eq!(metadata(&read), told);
    check(&text);
    if let Some((high, low, byte)) = damage {
        let mut bytes = std::mem::take(&mut text).into_bytes();
        let place = (usize::from(high) << 8 | usize::from(low)) % bytes.len();
        bytes[place] = byte;
        if let Ok(text) = String::from_utf8(bytes) {
            check(&text);
        }
    }
});
