//! What tells one write of a record from another.

use super::{Record, WireFormat, version_prefix};

/// What a compare-and-set compares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Version {
    /// The text begins with this: an envelope with this commit id.
    Prefix(String),
    /// The whole text: the record has no id, or old servers would keep its id while they change the
    /// rest.
    Whole(String),
}

impl Version {
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Whole(whole) => text == whole,
        }
    }
}

impl Record {
    pub(crate) fn version(&self) -> Version {
        let text = self.written.state.text().unwrap_or_default();
        if self.written.format == WireFormat::V1 && self.metadata().is_some() {
            let prefix = version_prefix(self.commit_id());
            // Another writer may have laid the fields out differently.
            if text.starts_with(&prefix) {
                return Version::Prefix(prefix);
            }
        }
        Version::Whole(text.to_owned())
    }

    /// Whether this is the record that a writer made: its last commit is the same one. Of records
    /// that keep no commit id, the texts are compared.
    pub(crate) fn is_same_commit(&self, made: &Self) -> bool {
        match (self.commit_id(), made.commit_id()) {
            (0, 0) => self.as_text() == made.as_text(),
            (commit, made) => commit == made,
        }
    }

    /// Whether this is the session that a writer made, whatever has been written to it since. Of
    /// records that keep no id, the texts are compared.
    pub(crate) fn is_same_session(&self, made: &Self) -> bool {
        match (self.id(), made.id()) {
            (None, None) => self.as_text() == made.as_text(),
            (id, made) => id == made,
        }
    }
}
