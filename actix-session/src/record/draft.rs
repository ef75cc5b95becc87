//! A record that is about to be written.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Record, WireFormat, Written, blanks,
    claim::Claim,
    format::{Writer, is_json, with_head},
    keys::{MetadataKeys, Place},
    known::{Facts, Known},
    metadata::Metadata,
    names::is_named,
    splice::{Values, fresh, splice},
    state::{State, Text},
};

/// Up to this many names, comparing each one is faster than a set.
const FEW: usize = 16;

/// Entries and their JSON texts.
pub(crate) type Entries<'a> = [(Cow<'a, str>, Cow<'a, str>)];

/// Everything of a record but its entries.
#[derive(Clone)]
pub(crate) struct Draft<'a> {
    pub(crate) format: WireFormat,
    pub(crate) commit: u64,
    pub(crate) metadata: Metadata,
    /// Whoever has no keys writes metadata that give no rights in the older format.
    pub(crate) keys: Option<&'a Arc<MetadataKeys>>,
    pub(crate) place: Place<'a>,
    /// The text keeps the epoch in the older format too.
    pub(crate) keeps_epoch: bool,
    /// There is a reserved entry even if it says no more than the defaults.
    pub(crate) keeps_entry: bool,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(format: WireFormat, commit: u64, metadata: Metadata) -> Self {
        Self {
            format,
            commit,
            metadata,
            keys: None,
            place: Place::Unnamed,
            keeps_epoch: true,
            keeps_entry: false,
        }
    }

    /// `checked`: all values are known to be JSON.
    pub(crate) fn write(mut self, entries: &Entries<'_>, checked: bool) -> Record {
        if self.format == WireFormat::V0_11 {
            return self.flat(entries);
        }
        if checked || entries.iter().all(|(_, json)| is_json(json)) {
            return self.envelope(entries);
        }
        // Only the older format can hold values that are not JSON. Old records may have some.
        self.keeps_epoch = true;
        self.keeps_entry = true;
        self.flat(entries)
    }

    /// The stored entries with some of them replaced, and the others as they are.
    pub(crate) fn write_onto(self, stored: &Record, values: &Values<'_>) -> Record {
        if let Some(text) = self.tight(stored, values) {
            return self.enveloped(State::Text(text));
        }
        let stored = stored.state();
        let many: Option<HashSet<&str>> =
            (values.len() > FEW).then(|| values.iter().map(|(name, _)| *name).collect());
        let is_changed = |name: &str| match &many {
            Some(changed) => changed.contains(name),
            None => values.iter().any(|(changed, _)| is_named(changed, name)),
        };
        let mut entries: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(stored.len() + 1);
        stored.for_each(|name, json| {
            if !is_changed(name) {
                entries.push((name.into(), json));
            }
        });
        for (name, value) in values {
            if let Some(json) = value {
                entries.push(((*name).into(), Cow::Borrowed(json)));
            }
        }
        // Requests' values were serialized a moment ago. Stored ones may be older than the checks.
        self.write(&entries, stored.is_checked())
    }

    /// `None` if something is not of the usual form.
    fn tight(&self, stored: &Record, values: &Values<'_>) -> Option<Text> {
        if self.format != WireFormat::V1 {
            return None;
        }
        let is_same = stored.says_of_itself(&self.metadata);
        let text = match stored.state().is_empty() {
            true => None,
            false => Some(stored.state().as_text()?),
        };
        let before = text.filter(|_| is_same).and_then(Text::head);
        with_head(self.commit, &self.metadata, before, |head| match text {
            None => fresh(head, values),
            Some(text) => splice(text, head, values),
        })
    }

    /// The record of a store that takes maps: nothing writes its text.
    pub(crate) fn map(mut self, entries: HashMap<String, String>) -> Record {
        let epoch = self.metadata.epoch;
        if !self.keeps_epoch {
            self.metadata.epoch = 0;
        }
        let has_entry = self.needs_entry();
        let knows_itself = has_entry || self.format == WireFormat::V1;
        Record::of(Written {
            known: Known::Read(Facts {
                commit: if knows_itself { self.commit } else { 0 },
                epoch,
                metadata: knows_itself.then_some(self.metadata),
            }),
            has_entry,
            keys: self.keys.cloned(),
            format: self.format,
            ..Written::new(State::Map(Box::new(entries)))
        })
    }

    fn envelope(self, entries: &Entries<'_>) -> Record {
        let mut writer = Writer::envelope(self.commit, &self.metadata, size(entries));
        for (name, json) in entries {
            writer.entry(name, json);
        }
        self.enveloped(writer.finish())
    }

    fn enveloped(self, state: State) -> Record {
        let has_entry = self.needs_entry();
        let facts = Facts::enveloped(self.commit, self.metadata);
        Record::of(Written {
            keys: self.keys.cloned(),
            ..Written::enveloped(state, Known::Read(facts), has_entry)
        })
    }

    /// For old servers, a record without metadata of its own has no reserved entry.
    fn flat(mut self, entries: &Entries<'_>) -> Record {
        let epoch = self.metadata.epoch;
        if !self.keeps_epoch {
            self.metadata.epoch = 0;
        }
        let in_store = self.metadata.idle_end.is_none();
        let clear = (in_store && epoch != self.metadata.epoch).then(|| blanks::of_epoch(epoch));
        // It stands behind the text, where an old server's write drops it: that server knows nothing of
        // this end, and has its own time.
        let end = self.metadata.idle_end.take();
        let blanks = end.and_then(blanks::of);
        if blanks.is_none() {
            self.metadata.idle_end = end;
        }
        let has_entry = self.needs_entry();
        let keys = self.keys.map(|keys| &**keys);
        let claim = || Claim::text(self.commit, &self.metadata, keys, self.place);
        let claim = has_entry.then(claim);
        self.metadata.idle_end = end;
        let mut writer = Writer::flat(claim.as_deref(), size(entries));
        for (name, json) in entries {
            writer.entry(name, json);
        }
        let written = Written {
            known: Known::Read(Facts {
                commit: if has_entry { self.commit } else { 0 },
                epoch,
                metadata: has_entry.then_some(self.metadata),
            }),
            has_entry,
            keys: self.keys.cloned(),
            ..Written::new(writer.finish_with(blanks.as_ref().or(clear.as_ref())))
        };
        Record::of(written).with_end(end.filter(|_| !has_entry))
    }

    fn needs_entry(&self) -> bool {
        self.keeps_entry || self.metadata.need_entry()
    }
}

fn size(entries: &Entries<'_>) -> usize {
    let sizes = entries
        .iter()
        .map(|(name, json)| name.len() + json.len() + 6);
    sizes.sum()
}
