//! Metadata that an application on an old server can have written.

use super::{
    keys::{Maker, MetadataKeys, Place},
    metadata::{Metadata, is_plain},
};
use crate::clock::Millis;

/// The text of a reserved entry, and what it says.
///
/// Until a MAC has proven it, its times count and nothing else: they give no rights.
#[derive(Clone)]
pub(crate) struct Claim {
    /// `metadata:mac`
    text: Box<str>,
    pub(super) commit: u64,
    pub(super) metadata: Metadata,
}

impl Claim {
    /// Reads the reserved entry's JSON text. One that cannot be read claims nothing.
    pub(crate) fn read(json: &str) -> Option<Self> {
        let text: String = serde_json::from_str(json).ok()?;
        let (metadata, mac) = parts(&text);
        let (commit, metadata) = Metadata::decode(metadata)?;
        is_plain(mac).then(|| Self {
            commit,
            metadata,
            text: text.into(),
        })
    }

    /// The idle end that stands behind the text, if this entry says none.
    pub(super) fn ending_at(mut self, end: Option<Millis>) -> Self {
        self.metadata.idle_end = self.metadata.idle_end.or(end);
        self
    }

    /// The reserved entry's text for these metadata; without keys it has no MAC.
    pub(super) fn text(
        commit: u64,
        metadata: &Metadata,
        keys: Option<&MetadataKeys>,
        place: Place<'_>,
    ) -> String {
        let mut text = String::with_capacity(160);
        metadata.encode(commit, &mut text);
        if let Some(keys) = keys {
            let mac = keys.mac(&text, place);
            text.push(':');
            text.push_str(&mac);
        }
        text
    }

    pub(super) fn as_text(&self) -> &str {
        &self.text
    }

    /// `None` if none of the keys proves it.
    pub(super) fn maker(&self, keys: &MetadataKeys, place: Place<'_>) -> Option<Maker> {
        let (metadata, mac) = parts(&self.text);
        keys.maker(metadata, mac, place)
    }
}

fn parts(text: &str) -> (&str, &str) {
    text.split_once(':').unwrap_or((text, ""))
}
