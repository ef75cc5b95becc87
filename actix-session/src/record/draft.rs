//! A record that is about to be written.

use std::{borrow::Cow, sync::Arc};

use super::{
    Record, WireFormat, Written, blanks,
    claim::Claim,
    format::{Writer, is_json},
    keys::{MetadataKeys, Place},
    metadata::Metadata,
};

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

    fn envelope(self, entries: &Entries<'_>) -> Record {
        let mut writer = Writer::envelope(self.commit, &self.metadata, size(entries));
        for (name, json) in entries {
            writer.entry(name, json);
        }
        let has_entry = self.needs_entry();
        Record::of(Written {
            commit: self.commit,
            epoch: self.metadata.epoch,
            metadata: Some(self.metadata),
            has_entry,
            keys: self.keys.cloned(),
            format: WireFormat::V1,
            ..Written::new(writer.finish())
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
        let end = self.take_blanks();
        let has_entry = self.needs_entry();
        let keys = self.keys.map(|keys| &**keys);
        let claim = || Claim::text(self.commit, &self.metadata, keys, self.place);
        let claim = has_entry.then(claim);
        let mut writer = Writer::flat(claim.as_deref(), size(entries));
        for (name, json) in entries {
            writer.entry(name, json);
        }
        let written = Written {
            commit: if has_entry { self.commit } else { 0 },
            epoch,
            metadata: has_entry.then_some(self.metadata),
            has_entry,
            keys: self.keys.cloned(),
            ..Written::new(writer.finish_with(end.as_ref().or(clear.as_ref())))
        };
        Record::of(written).with_end(end.as_deref().and_then(blanks::read))
    }

    /// If the idle end is all that a record has to say, it needs no entry for that.
    fn take_blanks(&mut self) -> Option<String> {
        let end = self.metadata.idle_end.take()?;
        let blanks = blanks::of(end).filter(|_| !self.needs_entry());
        if blanks.is_none() {
            self.metadata.idle_end = Some(end);
        }
        blanks
    }

    fn needs_entry(&self) -> bool {
        self.keeps_entry || self.metadata.say_more() || self.metadata.epoch != 0
    }
}

fn size(entries: &Entries<'_>) -> usize {
    let sizes = entries
        .iter()
        .map(|(name, json)| name.len() + json.len() + 6);
    sizes.sum()
}
