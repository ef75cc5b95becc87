//! Everything that anybody logs, at TRACE level, and everything that must not be in it.
//!
//! A process has one log, and other tests run beside the attacks. Every line of the library is kept.
//! Lines of other crates are kept too, except those from the threads of tests that are not attacks.

use std::{
    cell::Cell,
    collections::HashMap,
    fmt::{self, Write as _},
    sync::{
        Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use actix_web::cookie::Key;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::Interest,
};

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());
static SECRETS: Mutex<Vec<Secret>> = Mutex::new(Vec::new());

/// One event, span or line of the `log` crate, as raw as its author handed it over.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) target: String,
    pub(crate) text: String,
}

struct Secret {
    what: &'static str,
    text: String,
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// This thread runs a test that is not an attack.
    static ELSEWHERE: Cell<bool> = Cell::new(is_named_like_a_test());
}

/// The harness names the thread of a test after its path. Threads of servers and runtimes have no
/// `::` in their names.
fn is_named_like_a_test() -> bool {
    let name = thread::current().name().map(str::to_owned);
    name.is_some_and(|name| name.contains("::"))
}

fn is_kept(target: &str) -> bool {
    target.starts_with(OWN) || !ELSEWHERE.try_with(Cell::get).unwrap_or_default()
}

/// What the library's targets begin with.
const OWN: &str = "actix_session";

/// Listens from now on, and to other crates on this thread too.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ELSEWHERE.set(false);
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(Capture).unwrap();
        log::set_logger(&Capture).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

struct Capture;

fn keep(target: &str, text: String) {
    lock(&LINES).push(Line {
        target: target.to_owned(),
        text,
    });
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }

    /// As it is: a subscriber may print it without escaping.
    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {}={value}", field.name());
    }
}

impl Subscriber for Capture {
    /// The answer depends on the thread, so it must not be cached.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_kept(metadata.target())
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut text = format!("span {}", attributes.metadata().name());
        attributes.record(&mut Fields(&mut text));
        keep(attributes.metadata().target(), text);
        span::Id::from_u64(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        let mut text = "span".to_owned();
        values.record(&mut Fields(&mut text));
        keep("", text);
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = event.metadata().level().to_string();
        event.record(&mut Fields(&mut text));
        keep(event.metadata().target(), text);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl log::Log for Capture {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        is_kept(metadata.target())
    }

    fn log(&self, record: &log::Record<'_>) {
        if is_kept(record.target()) {
            let text = format!("{} {}", record.level(), record.args());
            keep(record.target(), text);
        }
    }

    fn flush(&self) {}
}

/// What this library has logged so far.
pub(crate) fn own_lines() -> Vec<Line> {
    let lines = lock(&LINES);
    let own = lines.iter().filter(|line| line.target.starts_with(OWN));
    own.cloned().collect()
}

/// Whether one of the library's events says all of this.
pub(crate) fn told(words: &[&str]) -> bool {
    own_lines()
        .iter()
        .any(|line| words.iter().all(|word| line.text.contains(word)))
}

/// How much a target has logged so far.
pub(crate) fn heard(target: &str) -> usize {
    let lines = lock(&LINES);
    lines.iter().filter(|line| line.target == target).count()
}

/// Registers a text that nobody may log, nor a good part of it.
pub(crate) fn plant(what: &'static str, text: &str) {
    assert!(text.len() >= WINDOW, "{what} is too short to be searched");
    let mut secrets = lock(&SECRETS);
    let mut add = |text: &str| {
        let text = text.to_owned();
        secrets.push(Secret { what, text });
    };
    add(text);
    // A half would be as bad.
    if text.len() >= 32 && text.is_ascii() {
        add(&text[..text.len() / 2]);
        add(&text[text.len() / 2..]);
    }
}

/// Registers a secret key in the forms that it is likely to be printed in.
pub(crate) fn plant_key(key: &Key) {
    for bytes in [key.master(), key.signing(), key.encryption()] {
        let hex = |upper: bool| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = match upper {
                    true => write!(text, "{byte:02X}"),
                    false => write!(text, "{byte:02x}"),
                };
                text
            })
        };
        plant("a secret key in hexadecimal", &hex(false));
        plant("a secret key in hexadecimal", &hex(true));
        for engine in [&STANDARD, &URL_SAFE] {
            let text = engine.encode(bytes);
            plant("a secret key in base64", text.trim_end_matches('='));
        }
        let debug = format!("{:?}", &bytes[..32]);
        plant("a secret key as numbers", debug.trim_matches(['[', ']']));
        let lossy = String::from_utf8_lossy(bytes);
        plant("a secret key as text", &lossy);
    }
}

/// How many secrets are registered, and how many lines captured.
pub(crate) fn sizes() -> (usize, usize) {
    (lock(&SECRETS).len(), lock(&LINES).len())
}

/// All secrets are looked for at once, by their first bytes.
const WINDOW: usize = 12;

/// What of the secrets is in what was logged.
pub(crate) fn leaks() -> Vec<String> {
    let lines = lock(&LINES).clone();
    lines
        .iter()
        .flat_map(|line| {
            leaks_in(&line.text)
                .into_iter()
                .map(|what| format!("{what}: {line:?}"))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// What of the secrets is in a text.
pub(crate) fn leaks_in(text: &str) -> Vec<&'static str> {
    /// How many secrets it knows, and their numbers by their first bytes.
    type Index = (usize, Option<HashMap<[u8; WINDOW], Vec<usize>>>);
    static INDEX: Mutex<Index> = Mutex::new((0, None));

    let secrets = lock(&SECRETS);
    let mut index = lock(&INDEX);
    let (known, map) = &mut *index;
    let map = map.get_or_insert_default();
    for (number, secret) in secrets.iter().enumerate().skip(*known) {
        let start = secret.text.as_bytes().first_chunk().copied().unwrap();
        map.entry(start).or_default().push(number);
    }
    *known = secrets.len();
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    for place in 0..bytes.len() {
        let Some(start) = bytes[place..].first_chunk::<WINDOW>() else {
            break;
        };
        for number in map.get(start).into_iter().flatten() {
            if bytes[place..].starts_with(secrets[*number].text.as_bytes()) {
                found.push(secrets[*number].what);
            }
        }
    }
    found
}
