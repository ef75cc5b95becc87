//! Raw `Cookie` fields, compared with a reader of a few lines; and the values that lead to a look-up in
//! the store.
//!
//! The first byte chooses the configuration. The other bytes are the fields, one on each line; a byte
//! below 8 stands for a sealed value.
#![no_main]

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use actix_session::{
    SessionExt as _, SessionMiddleware,
    config::CookieContentSecurity,
    fuzzing::{self, Seals, WireFormat},
    storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError},
};
use actix_session_fuzz::cursor::Cursor;
use actix_web::{
    HttpResponse,
    cookie::{Key, time::Duration},
    dev::{Service as _, ServiceRequest, Transform as _, fn_service},
    http::header::{COOKIE, HeaderMap, HeaderValue},
    rt::{System, SystemRunner},
    test::TestRequest,
};

const NAMES: [&str; 3] = ["id", "__Host-id", "a!#$&'*+-.^_`|~"];
/// The same as headers carry them.
const WIRE: [&str; 3] = ["id", "__Host-id", "a!%23$&'*+-.%5E_%60%7C~"];
const KEYS: [&str; 6] = ["live1", "live2", "lost1", "lost2", "live3", "lost3"];
const MODES: [CookieContentSecurity; 2] = [
    CookieContentSecurity::Private,
    CookieContentSecurity::Signed,
];

thread_local! {
    static SYSTEM: SystemRunner = System::new();
    /// For each mode and name: the sealed keys, and one sealed for another cookie.
    static SEALED: Vec<Vec<String>> = sealed();
}

fn key() -> Key {
    Key::from(&[7; 64])
}

fn sealed() -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for mode in MODES {
        for name in NAMES {
            let seals = |name| Seals::new(&key(), &[], mode, name, WireFormat::V1);
            let mut values: Vec<String> = KEYS.map(|key| seals(name).seal(key)).into();
            values.push(seals("other").seal(KEYS[0]));
            values.push(values[0].replace('=', "%3d").replace('+', "%2B"));
            all.push(values);
        }
    }
    all
}

/// The independent reader: the values of a name, decoded.
fn reference(fields: &[Vec<u8>], name: &str) -> (bool, Vec<String>) {
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let trim = |text: &[u8]| {
        let start = text
            .iter()
            .position(|byte| !blank(byte))
            .unwrap_or(text.len());
        let end = text
            .iter()
            .rposition(|byte| !blank(byte))
            .map_or(start, |last| last + 1);
        text[start..end].to_vec()
    };
    let (mut sent, mut values) = (false, Vec::new());
    for pair in fields
        .iter()
        .flat_map(|field| field.split(|byte| *byte == b';'))
    {
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        if trim(&pair[..equals]) != name.as_bytes() {
            continue;
        }
        sent = true;
        let mut value = trim(&pair[equals + 1..]);
        if value.len() > 1 && value.starts_with(b"\"") && value.ends_with(b"\"") {
            value = value[1..value.len() - 1].to_vec();
        }
        values.extend(decoded(&value));
    }
    (sent, values)
}

fn decoded(value: &[u8]) -> Option<String> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < value.len() {
        let digits = value
            .get(at + 1..at + 3)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        let digits = digits.filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if value[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(value[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

#[derive(Default)]
struct Log {
    loaded: Vec<String>,
    ended: Vec<String>,
}

/// Records the keys that it is asked for.
struct Store(Rc<RefCell<Log>>);

impl SessionStore for Store {
    async fn load(&self, key: &SessionKey) -> Result<Option<HashMap<String, String>>, LoadError> {
        self.0.borrow_mut().loaded.push(key.as_ref().to_owned());
        let entry = || HashMap::from([("key".to_owned(), format!("\"{}\"", key.as_ref()))]);
        Ok(key.as_ref().starts_with("live").then(entry))
    }

    async fn save(
        &self,
        _: HashMap<String, String>,
        _: &Duration,
    ) -> Result<SessionKey, SaveError> {
        unreachable!("nothing is written")
    }

    async fn update(
        &self,
        _: SessionKey,
        _: HashMap<String, String>,
        _: &Duration,
    ) -> Result<SessionKey, UpdateError> {
        unreachable!("nothing is written")
    }

    async fn update_ttl(
        &self,
        _: &SessionKey,
        _: &Duration,
    ) -> Result<(), actix_session_fuzz::StoreError> {
        Ok(())
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), actix_session_fuzz::StoreError> {
        self.0.borrow_mut().ended.push(key.as_ref().to_owned());
        Ok(())
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut cursor = Cursor::new(bytes);
    let (mode, name) = (cursor.below(MODES.len()), cursor.below(NAMES.len()));
    let (purge, strict) = (cursor.flag(), cursor.flag());
    let name_index = if strict { 1 } else { name };
    let sealed = SEALED.with(|all| all[mode * NAMES.len() + name_index].clone());
    let fields = fields(cursor.rest_of_bytes(), &sealed);
    let name = NAMES[name_index];

    let mut headers = HeaderMap::new();
    for field in &fields {
        headers.append(
            COOKIE,
            HeaderValue::from_bytes(field).expect("only such are made"),
        );
    }
    for any in WIRE {
        let (sent, values) = reference(&fields, any);
        assert_eq!(fuzzing::cookie_values(&headers, any), values);
        assert_eq!(fuzzing::cookie_is_sent(&headers, any), sent);
    }
    let expected = Expected::of(&fields, WIRE[name_index], &sealed, strict);
    let middleware = |log| {
        let builder = SessionMiddleware::builder(Store(log), key())
            .cookie_name(name.to_owned())
            .cookie_content_security(MODES[mode]);
        if strict {
            builder.strict().build()
        } else {
            builder.build()
        }
    };
    SYSTEM.with(|system| system.block_on(serve(middleware, headers, &expected, purge)));
});

/// Lines that a header can carry, with the sealed values in them.
fn fields(bytes: &[u8], sealed: &[String]) -> Vec<Vec<u8>> {
    let lines = bytes.split(|byte| *byte == b'\n').take(8);
    let lines = lines.map(|line| {
        let mut field = Vec::new();
        for byte in line {
            match (sealed.get(usize::from(*byte)), byte) {
                (Some(value), _) => field.extend_from_slice(value.as_bytes()),
                (None, b'\t' | 0x20..=0x7e | 0x80..) => field.push(*byte),
                (None, _) => {}
            }
        }
        field
    });
    lines.collect()
}

struct Expected {
    loaded: Vec<&'static str>,
    shown: Option<&'static str>,
    ended: Vec<&'static str>,
    sent: bool,
}

impl Expected {
    fn of(fields: &[Vec<u8>], name: &str, sealed: &[String], strict: bool) -> Self {
        let (sent, values) = reference(fields, name);
        let mut verified: Vec<&'static str> = Vec::new();
        for value in values {
            let known = KEYS
                .iter()
                .zip(sealed)
                .find(|(_, sealed)| **sealed == value);
            if let Some((key, _)) = known
                && !verified.contains(key)
            {
                verified.push(key);
            }
        }
        let loaded: Vec<_> = verified.iter().copied().take(4).collect();
        let mut live = loaded.iter().copied().filter(|key| key.starts_with("live"));
        let (first, second) = (live.next(), live.next());
        let mut ended = verified;
        ended.sort_unstable();
        Self {
            loaded,
            shown: first.filter(|_| !(strict && second.is_some())),
            ended,
            sent,
        }
    }
}

async fn serve(
    middleware: impl FnOnce(Rc<RefCell<Log>>) -> SessionMiddleware<Store>,
    headers: HeaderMap,
    expected: &Expected,
    purge: bool,
) {
    let log = Rc::new(RefCell::new(Log::default()));
    let shown = Rc::new(RefCell::new(None));
    let inside = Rc::clone(&shown);
    let handler = fn_service(move |req: ServiceRequest| {
        let session = req.get_session();
        *inside.borrow_mut() = session.get::<String>("key").expect("it is a string");
        if purge {
            session.purge();
        }
        std::future::ready(Ok(req.into_response(HttpResponse::Ok().finish())))
    });
    let service = middleware(Rc::clone(&log)).new_transform(handler).await;
    let service = service.expect("it cannot fail");
    let mut request = TestRequest::default().to_srv_request();
    *request.headers_mut() = headers;
    let response = service.call(request).await.expect("an answer");
    let mut log = log.take();
    assert_eq!(log.loaded, expected.loaded);
    assert_eq!(shown.borrow().as_deref(), expected.shown);
    log.ended.sort_unstable();
    let ended: &[&str] = if purge { &expected.ended } else { &[] };
    assert_eq!(log.ended, ended);
    let cookies = response.headers().get_all("set-cookie").count();
    assert_eq!(cookies, usize::from(purge && expected.sent));
}
