//! A record as a store in this process holds it: little more than its own bytes.

use super::{
    Record, Written,
    metadata::Metadata,
    scan::HEAD,
    state::{State, Text},
};

/// A record whose text says all of it. Those who read it share the text, and the places in it.
pub(crate) struct Packed(Text);

impl Packed {
    /// `None` if the record is of another form.
    pub(crate) fn new(record: &Record) -> Option<Self> {
        let text = record.written.state.as_text()?;
        let is_usual = record.written.text_says_all && text.as_str().starts_with(HEAD);
        is_usual.then(|| Self(text.clone()))
    }

    pub(crate) fn text(&self) -> &str {
        self.0.as_str()
    }

    /// The record; `None` if the text is none, which `new` rules out. `has_entry` is what
    /// [`Record::has_entry`] said of it.
    pub(crate) fn record(&self, has_entry: bool) -> Option<Record> {
        let metadata = self.text().get(HEAD.len()..)?;
        let (metadata, _) =
            metadata.split_at_checked(memchr::memchr(b'"', metadata.as_bytes())?)?;
        let (commit, metadata) = Metadata::decode(metadata)?;
        let state = State::Text(self.0.clone());
        Some(Record::of(Written {
            has_entry,
            ..Written::enveloped(state, commit, metadata)
        }))
    }
}
