//! A record as a store in this process holds it: little more than its own bytes.

use super::{
    Record, Written,
    known::{Facts, Known},
    scan::HEAD,
    state::{State, Text},
};

/// A record whose text says all of it. Those who read it share the text, and the places in it.
pub(crate) struct Packed(Text);

/// What the text does not say, and what is not worth reading it for. A store keeps this beside it.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    has_entry: bool,
    is_plain: bool,
}

impl Packed {
    /// `None` if the record is of another form.
    pub(crate) fn new(record: &Record) -> Option<(Self, Kind)> {
        let text = record.written.state.as_text()?;
        let is_usual = record.written.text_says_all && text.as_str().starts_with(HEAD);
        let kind = Kind {
            has_entry: record.has_entry(),
            is_plain: record.metadata().is_some_and(|it| !it.say_more()),
        };
        is_usual.then(|| (Self(text.clone()), kind))
    }

    pub(crate) fn text(&self) -> &str {
        self.0.as_str()
    }

    /// The record; `None` if the text is none, which `new` rules out. `kind` is what it returned.
    pub(crate) fn record(&self, kind: Kind) -> Option<Record> {
        let known = match kind.is_plain {
            true => Known::plain(),
            false => Known::Read(Facts::read(self.text())?),
        };
        let state = State::Text(self.0.clone());
        Some(Record::of(Written::enveloped(state, known, kind.has_entry)))
    }
}
