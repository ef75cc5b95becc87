//! How a record is written, and which older formats are read.
//!
//! Written: `{"v":1,"f":"<metadata>","state":{"name":value,...}}` or, for fleets with old servers,
//! the flat map of actix-session 0.6 to 0.11. There each value is a JSON string that holds JSON,
//! and the metadata is one reserved entry, with a MAC: `<metadata>:<mac>`. Read: both of these, and
//! the same envelope without metadata.

use std::{borrow::Cow, cell::Cell, collections::HashMap};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    claim::Claim,
    metadata::{Metadata, RESERVED},
    numbers::push_hex,
    scan::{self, scan},
    spans::{Collected, NamePlace, Spans},
    splice::needs_no_escape,
    state::{Name, Object, State, Text},
};

/// What stores write.
///
/// # Examples
/// While servers with actix-session 0.9 to 0.11 run beside this one, or may come back:
/// ```
/// use actix_session::{SessionMiddleware, config::WireFormat, storage::MemorySessionStore};
/// use actix_web::cookie::Key;
/// # let secret_key = Key::generate();
///
/// let middleware = SessionMiddleware::builder(MemorySessionStore::new(), secret_key)
///     .wire_format(WireFormat::V0_11)
///     .build();
/// # let _ = middleware;
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WireFormat {
    /// The present format. Servers of version 0.11 and older cannot read it.
    #[default]
    V1,

    /// The format of actix-session 0.6 to 0.11, for the state and for the MAC of signed cookies.
    ///
    /// An old server replaces whole records. While one runs, a request in flight *there* can
    /// overwrite what this library wrote, or save an ended session under a new key.
    V0_11,
}

/// Why this version cannot read a text as a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, derive_more::Display)]
pub(crate) enum Undecodable {
    #[display("the record is not a JSON object of a known shape")]
    Shape,
    #[display("the record was written by a newer version of the format")]
    Newer,
}

impl std::error::Error for Undecodable {}

/// A decoded text.
pub(crate) struct Decoded {
    pub(crate) state: State,
    pub(crate) facts: Found,
    pub(crate) format: WireFormat,
}

/// What a text says of the session itself.
pub(crate) enum Found {
    /// Only this library writes such a text.
    Known(u64, Metadata),
    /// An application on an old server can have written it.
    Claimed(Claim),
    None,
}

pub(crate) fn decode(text: String) -> Result<Decoded, Undecodable> {
    let Some(scanned) = scan(&text) else {
        return decode_slowly(text);
    };
    // What the scanner reads, the general reader reads in the same way.
    let facts = known(Some(Metadata::decode(&text[scanned.metadata])))?;
    let spans = scanned.starts.into_spans(text.len());
    Ok(Decoded {
        state: State::Text(Text::new(text, spans)),
        facts,
        format: WireFormat::V1,
    })
}

/// The general reader, for whatever this library does not write.
pub(super) fn decode_slowly(text: String) -> Result<Decoded, Undecodable> {
    let usual = text.starts_with("{\"v\":1,");
    match usual.then(|| serde_json::from_str::<Envelope<'_>>(&text)) {
        Some(Ok(envelope)) => {
            let read = |metadata: Name<'_>| Metadata::decode(&metadata.0);
            let facts = known(envelope.metadata.map(read))?;
            let spans = spans(&text, &envelope.state, false);
            Ok(Decoded {
                state: State::Text(Text::new(text, spans)),
                facts,
                format: WireFormat::V1,
            })
        }
        _ => decode_any(&text),
    }
}

/// Slower, for a text whose shape is not known yet.
fn decode_any(text: &str) -> Result<Decoded, Undecodable> {
    let object: Object<'_> = serde_json::from_str(text).map_err(|_| Undecodable::Shape)?;
    let raw = |name: &str| {
        let found = object.0.iter().rev().find(|(known, _)| known.0 == name);
        found.map(|(_, value)| value.get())
    };
    let is_string = |value: &RawValue| value.get().starts_with('"');
    if object.0.iter().all(|(_, value)| is_string(value)) {
        // The parser accepts half a surrogate pair in a value that it skips, but no string can hold
        // it.
        let unreadable = |value: &RawValue| {
            value.get().contains("\\u")
                && serde_json::from_str::<Cow<'_, str>>(value.get()).is_err()
        };
        if object.0.iter().any(|(_, value)| unreadable(value)) {
            return Err(Undecodable::Shape);
        }
        return Ok(decode_flat(&object, text));
    }
    let version = raw("v")
        .and_then(|v| v.parse::<u64>().ok())
        .ok_or(Undecodable::Shape)?;
    if version != 1 {
        return Err(Undecodable::Newer);
    }
    let inner = raw("state").ok_or(Undecodable::Shape)?;
    let inner: Object<'_> = serde_json::from_str(inner).map_err(|_| Undecodable::Shape)?;
    let read = |f: &str| Metadata::decode(&serde_json::from_str::<Cow<'_, str>>(f).ok()?);
    let facts = known(raw("f").map(read))?;
    let spans = spans(text, &inner, false);
    Ok(Decoded {
        state: State::Text(Text::new(text.to_owned(), spans)),
        facts,
        format: WireFormat::V1,
    })
}

/// Unreadable metadata is an error: it says who is logged in, and when the session ends at the
/// latest.
fn known(metadata: Option<Option<(u64, Metadata)>>) -> Result<Found, Undecodable> {
    match metadata {
        None => Ok(Found::None),
        Some(None) => Err(Undecodable::Shape),
        Some(Some((commit, metadata))) => Ok(Found::Known(commit, metadata)),
    }
}

fn decode_flat(object: &Object<'_>, text: &str) -> Decoded {
    let reserved = object.0.iter().rev().find(|(name, _)| name.0 == RESERVED);
    let claim = reserved.and_then(|(_, value)| {
        let nested: String = serde_json::from_str(value.get()).ok()?;
        Claim::read(&nested)
    });
    Decoded {
        state: State::Text(Text::new(text.to_owned(), spans(text, object, true))),
        facts: claim.map_or(Found::None, Found::Claimed),
        format: WireFormat::V0_11,
    }
}

/// Where the entries lie. Of several with one name, the last counts. The reserved entry never does.
fn spans(text: &str, object: &Object<'_>, nested: bool) -> Spans {
    let start = text.as_ptr() as usize;
    let range = |part: &str| {
        let from = (part.as_ptr() as usize).wrapping_sub(start);
        (from, from + part.len())
    };
    // Looking each name up in a map keeps a hostile record from costing the square of its size.
    let entries = object.0.iter().enumerate();
    let last: Option<HashMap<&str, usize>> = (object.0.len() > 16).then(|| {
        entries
            .clone()
            .map(|(i, (name, _))| (&*name.0, i))
            .collect()
    });
    let is_last = |index: usize, name: &str| match &last {
        Some(last) => last.get(name) == Some(&index),
        None => !object.0[index + 1..]
            .iter()
            .any(|(later, _)| later.0 == name),
    };
    let mut spans = Collected::new(nested);
    for (index, (name, value)) in entries {
        if name.0 == RESERVED || !is_last(index, &name.0) {
            continue;
        }
        let place = match &name.0 {
            Cow::Borrowed(name) => {
                let (from, to) = range(name);
                NamePlace::At(from, to)
            }
            Cow::Owned(name) => NamePlace::Own(name),
        };
        spans.push(place, range(value.get()));
    }
    spans.into_spans(text.len())
}

/// `{"v":1,...,"state":{...}}` in one pass.
struct Envelope<'a> {
    metadata: Option<Name<'a>>,
    state: Object<'a>,
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a record")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut metadata, mut state, mut version) = (None, None, None);
                while let Some(name) = map.next_key::<Name<'de>>()? {
                    match &*name.0 {
                        "v" => version = Some(map.next_value::<u64>()?),
                        "f" => metadata = Some(map.next_value()?),
                        "state" => state = Some(map.next_value()?),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                // A later `v` may differ from the one that the text starts with.
                match (version, state) {
                    (Some(1), Some(state)) => Ok(Envelope { metadata, state }),
                    _ => Err(serde::de::Error::custom("not version 1")),
                }
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// The beginning of a record with metadata, up to its commit id: what compare-and-set compares.
pub(crate) fn version_prefix(commit: u64) -> String {
    let mut prefix = String::with_capacity(scan::HEAD.len() + 17);
    prefix.push_str(scan::HEAD);
    push_hex(&mut prefix, commit, 16);
    prefix.push('.');
    prefix
}

thread_local! {
    /// Room for the beginning of an envelope, which is only copied from it.
    static HEAD: Cell<String> = const { Cell::new(String::new()) };
}

/// Calls `write` with the beginning of an envelope, up to its first entry. `before` is that of a text by
/// this library which says the same but for the commit.
pub(crate) fn with_head<T>(
    commit: u64,
    metadata: &Metadata,
    before: Option<&str>,
    write: impl FnOnce(&str) -> T,
) -> T {
    // While a thread ends, there is no room that could be used again.
    let mut head = HEAD.try_with(Cell::take).unwrap_or_default();
    head.clear();
    match before.and_then(behind_commit) {
        Some(behind) => {
            head.push_str(scan::HEAD);
            push_hex(&mut head, commit, COMMIT);
            head.push_str(behind);
        }
        None => push_head(&mut head, commit, metadata),
    }
    let written = write(&head);
    let _ = HEAD.try_with(|room| room.set(head));
    written
}

/// The number of digits of a commit in an envelope.
const COMMIT: usize = 16;

/// What follows the commit. `None` if the text begins otherwise than this library writes it: nothing but
/// the metadata comes before the first entry.
fn behind_commit(head: &str) -> Option<&str> {
    let (commit, behind) = head.strip_prefix(scan::HEAD)?.split_at_checked(COMMIT)?;
    let metadata = behind.strip_suffix(scan::STATE)?;
    let is_usual = metadata.starts_with('.') && !metadata.contains('"');
    (is_usual && !commit.contains('.')).then_some(behind)
}

fn push_head(text: &mut String, commit: u64, metadata: &Metadata) {
    text.push_str(scan::HEAD);
    metadata.encode(commit, text);
    text.push_str(scan::STATE);
}

/// Builds a record's text and notes where its entries lie.
pub(crate) struct Writer {
    text: String,
    spans: Collected,
    nested: bool,
    first: bool,
}

impl Writer {
    /// Begins an envelope.
    pub(crate) fn envelope(commit: u64, metadata: &Metadata, capacity: usize) -> Self {
        let mut text = String::with_capacity(capacity + 160);
        push_head(&mut text, commit, metadata);
        Self::after(text, false, true)
    }

    /// Begins a flat map, with the text of the reserved entry if it has one.
    pub(crate) fn flat(reserved: Option<&str>, capacity: usize) -> Self {
        let mut text = String::with_capacity(capacity + 160);
        text.push('{');
        if let Some(reserved) = reserved {
            text.push('"');
            text.push_str(RESERVED);
            text.push_str("\":\"\\\"");
            text.push_str(reserved);
            text.push_str("\\\"\"");
        }
        Self::after(text, true, reserved.is_none())
    }

    fn after(text: String, nested: bool, first: bool) -> Self {
        Self {
            text,
            spans: Collected::new(nested),
            nested,
            first,
        }
    }

    /// Adds an entry; `json` must be JSON text, except in the nested format, which holds any text.
    pub(crate) fn entry(&mut self, name: &str, json: &str) {
        if !std::mem::take(&mut self.first) {
            self.text.push(',');
        }
        let from = self.text.len() + 1;
        let plain = push_string(&mut self.text, name);
        let to = self.text.len() - 1;
        self.text.push(':');
        let value = self.text.len();
        if self.nested {
            push_string(&mut self.text, json);
        } else {
            self.text.push_str(json);
        }
        let place = if plain {
            NamePlace::At(from, to)
        } else {
            NamePlace::Own(name)
        };
        self.spans.push(place, (value, self.text.len()));
    }

    pub(crate) fn finish(self) -> State {
        self.finish_with(None)
    }

    /// Ends the text, perhaps with blanks after it.
    pub(crate) fn finish_with(mut self, blanks: Option<&String>) -> State {
        self.text.push_str(if self.nested { "}" } else { "}}" });
        self.text.extend(blanks.map(String::as_str));
        let spans = self.spans.into_spans(self.text.len());
        State::Text(Text::new(self.text, spans))
    }
}

/// Appends a JSON string, and returns whether the text needed no escaping.
fn push_string(out: &mut String, text: &str) -> bool {
    let plain = needs_no_escape(text);
    if plain {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        // A string always serializes.
        out.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
    plain
}

/// Whether the envelope can hold a value as it is.
pub(crate) fn is_json(text: &str) -> bool {
    // Blanks around it would be lost, and the value would differ from the one that others have
    // loaded.
    serde_json::from_str::<&RawValue>(text).is_ok_and(|raw| raw.get().len() == text.len())
}
