//! The state of a session as it was stored: bytes with the places of the entries, or a map.
//!
//! A value is read only if somebody asks for it, and copied as it is if nobody has changed it.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::spans::Spans;

/// Entry names and their values as JSON text.
#[derive(Clone)]
pub(crate) enum State {
    Text(Text),
    /// What a store of five methods returned.
    #[allow(
        clippy::box_collection,
        reason = "texts are usual, and need little room"
    )]
    Map(Box<HashMap<String, String>>),
}

/// One text, and where in it the entries lie. Records share it, and so does a store in this process.
#[derive(Clone)]
pub(crate) struct Text(Arc<Inner>);

struct Inner {
    text: Box<str>,
    spans: Spans,
}

impl Default for State {
    fn default() -> Self {
        Self::Map(Box::default())
    }
}

impl Text {
    pub(super) fn new(text: String, spans: Spans) -> Self {
        let text = text.into();
        Self(Arc::new(Inner { text, spans }))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0.text
    }

    pub(super) fn spans(&self) -> &Spans {
        &self.0.spans
    }

    /// The place of an entry among the others, if there is one.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.spans().find(name, self.as_str())
    }

    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.place(name).map(|place| self.value(place))
    }

    /// The name at a place below the number of entries.
    pub(super) fn name(&self, place: usize) -> &str {
        self.spans().name(place, self.as_str())
    }

    /// Where an entry of the usual form begins, with its quotation mark.
    pub(super) fn entry_start(&self, place: usize) -> Option<usize> {
        self.spans().start(place).map(|[name, _]| name - 1)
    }

    /// What comes before the first entry.
    pub(super) fn head(&self) -> Option<&str> {
        self.as_str().get(..self.entry_start(0)?)
    }

    pub(super) fn value(&self, place: usize) -> Cow<'_, str> {
        self.spans().value(place, self.as_str())
    }
}

impl State {
    /// The JSON text of an entry.
    pub(crate) fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        match self {
            Self::Map(map) => map.get(name).map(|value| Cow::Borrowed(value.as_str())),
            Self::Text(text) => text.get(name),
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        match self {
            Self::Map(map) => map.contains_key(name),
            Self::Text(text) => text.place(name).is_some(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all values are known to be JSON: the decoder of the envelope has checked them.
    pub(crate) fn is_checked(&self) -> bool {
        match self {
            Self::Map(map) => map.is_empty(),
            Self::Text(text) => !text.spans().are_nested(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Map(map) => map.len(),
            Self::Text(text) => text.spans().len(),
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.as_text().map(Text::as_str)
    }

    pub(super) fn as_text(&self) -> Option<&Text> {
        match self {
            Self::Map(_) => None,
            Self::Text(text) => Some(text),
        }
    }

    /// Calls `f` with each entry's name and JSON text.
    pub(crate) fn for_each<'a>(&'a self, mut f: impl FnMut(&'a str, Cow<'a, str>)) {
        match self {
            Self::Map(map) => {
                for (name, value) in &**map {
                    f(name, Cow::Borrowed(value));
                }
            }
            Self::Text(text) => {
                for place in 0..text.spans().len() {
                    f(text.name(place), text.value(place));
                }
            }
        }
    }

    /// Takes the map out, or makes one.
    pub(super) fn into_map(self) -> HashMap<String, String> {
        match self {
            Self::Map(map) => *map,
            Self::Text(_) => self.to_map(),
        }
    }

    pub(super) fn into_text(self) -> Option<String> {
        let Self::Text(Text(inner)) = self else {
            return None;
        };
        Some(match Arc::try_unwrap(inner) {
            Ok(inner) => inner.text.into(),
            Err(shared) => shared.text.to_string(),
        })
    }

    /// In octets: of the text, or of a map as it would be written.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.as_str().len(),
            Self::Map(map) => {
                let sizes = map.iter().map(|(name, value)| name.len() + value.len() + 6);
                sizes.sum()
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
