//! The state of a session as it was stored: bytes with the spans of the entries, or a map.
//!
//! A value is read only if somebody asks for it, and copied as it is if nobody has changed it.

use std::{borrow::Cow, collections::HashMap};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::lookup::Lookup;

/// Entry names and their values as JSON text.
#[derive(Clone)]
pub(crate) enum State {
    /// One text, and where in it the entries lie.
    Spans {
        text: String,
        spans: Vec<Span>,
        lookup: Lookup,
    },
    /// What a store of five methods returned.
    Map(HashMap<String, String>),
}

/// Where one entry lies in the text. 32 bits are enough: no store holds a text of 4 GiB.
#[derive(Clone)]
pub(crate) struct Span {
    name: NameAt,
    value: (u32, u32),
    /// Whether the value is a JSON string that holds the JSON text (the format up to 0.11).
    nested: bool,
}

#[derive(Clone)]
enum NameAt {
    Text(u32, u32),
    /// The name was escaped in the text.
    Own(Box<str>),
}

impl Default for State {
    fn default() -> Self {
        Self::Map(HashMap::new())
    }
}

fn slice(text: &str, (from, to): (u32, u32)) -> &str {
    // This module makes spans only for the text that it keeps with them.
    text.get(from as usize..to as usize).unwrap_or_default()
}

impl Span {
    fn name<'a>(&'a self, text: &'a str) -> &'a str {
        match &self.name {
            NameAt::Text(from, to) => slice(text, (*from, *to)),
            NameAt::Own(name) => name,
        }
    }

    fn value<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let raw = slice(text, self.value);
        if self.nested {
            unnest(raw)
        } else {
            Cow::Borrowed(raw)
        }
    }
}

/// The content of a JSON string.
fn unnest(raw: &str) -> Cow<'_, str> {
    let inner = raw.strip_prefix('"').and_then(|r| r.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
        // The decoder has checked that this is a JSON string.
        _ => Cow::Owned(serde_json::from_str(raw).unwrap_or_default()),
    }
}

impl State {
    /// The JSON text of an entry.
    pub(crate) fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        match self {
            Self::Map(map) => map.get(name).map(|value| Cow::Borrowed(value.as_str())),
            Self::Spans { text, .. } => self.span(name).map(|span| span.value(text)),
        }
    }

    /// Where an entry lies in the text, if there is one.
    fn span(&self, name: &str) -> Option<&Span> {
        let Self::Spans {
            text,
            spans,
            lookup,
        } = self
        else {
            return None;
        };
        let place = lookup.find(name, spans.len(), |place| spans[place].name(text))?;
        spans.get(place)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        match self {
            Self::Map(map) => map.contains_key(name),
            Self::Spans { .. } => self.span(name).is_some(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Map(map) => map.is_empty(),
            Self::Spans { spans, .. } => spans.is_empty(),
        }
    }

    /// Whether all values are known to be JSON: the decoder of the envelope has checked them.
    pub(crate) fn is_checked(&self) -> bool {
        match self {
            Self::Map(map) => map.is_empty(),
            Self::Spans { spans, .. } => !spans.iter().any(|span| span.nested),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Map(map) => map.len(),
            Self::Spans { spans, .. } => spans.len(),
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Map(_) => None,
            Self::Spans { text, .. } => Some(text),
        }
    }

    /// Calls `f` with each entry's name and JSON text.
    pub(crate) fn for_each<'a>(&'a self, mut f: impl FnMut(&'a str, Cow<'a, str>)) {
        match self {
            Self::Map(map) => {
                for (name, value) in map {
                    f(name, Cow::Borrowed(value));
                }
            }
            Self::Spans { text, spans, .. } => {
                for span in spans {
                    f(span.name(text), span.value(text));
                }
            }
        }
    }

    pub(crate) fn to_map(&self) -> HashMap<String, String> {
        let mut map = HashMap::with_capacity(self.len());
        self.for_each(|name, value| {
            map.insert(name.to_owned(), value.into_owned());
        });
        map
    }
}

/// Collects spans while a text is read or written.
#[derive(Default)]
pub(crate) struct Spans(Vec<Span>);

impl Spans {
    /// Adds an entry whose name is known to be new; the ranges are in bytes of the text.
    pub(crate) fn push(&mut self, name: NamePlace<'_>, value: (usize, usize), nested: bool) {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let name = match name {
            NamePlace::At(from, to) => NameAt::Text(small(from), small(to)),
            NamePlace::Own(name) => NameAt::Own(name.into()),
        };
        let value = (small(value.0), small(value.1));
        self.0.push(Span {
            name,
            value,
            nested,
        });
    }

    pub(crate) fn into_state(self, text: String) -> State {
        State::Spans {
            text,
            spans: self.0,
            lookup: Lookup::default(),
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) enum NamePlace<'a> {
    At(usize, usize),
    Own(&'a str),
}

/// The entries of one JSON object, in order, borrowed from the text.
pub(crate) struct Object<'a>(pub(crate) Vec<(Name<'a>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::with_capacity(8);
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// An entry's name, borrowed if the text holds it unescaped.
pub(crate) struct Name<'a>(pub(crate) Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}
