//! What a record says of its session. It is read when somebody asks, if it is known to say nothing
//! unusual.

use std::sync::OnceLock;

use super::{metadata::Metadata, scan::HEAD};

/// Metadata, with the id of the commit that wrote them.
#[derive(Clone, Default)]
pub(super) struct Facts {
    pub(super) metadata: Option<Metadata>,
    /// 0 if the record keeps none.
    pub(super) commit: u64,
    /// Of the last `clear`. Not every text keeps it.
    pub(super) epoch: u64,
}

#[derive(Clone)]
pub(super) enum Known {
    Read(Facts),
    /// Those of a text by this library, which say no more than the defaults do.
    Plain(OnceLock<Facts>),
}

impl Facts {
    /// What an envelope says.
    pub(super) fn enveloped(commit: u64, metadata: Metadata) -> Self {
        Self {
            epoch: metadata.epoch,
            metadata: Some(metadata),
            commit,
        }
    }

    /// Of a text that begins as this library writes it.
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix(HEAD)?;
        let (metadata, _) = text.split_at_checked(memchr::memchr(b'"', text.as_bytes())?)?;
        let (commit, metadata) = Metadata::decode(metadata)?;
        Some(Self::enveloped(commit, metadata))
    }

    /// An epoch that lies beside the record stays if the metadata keep none.
    pub(super) fn know(&mut self, commit: u64, metadata: Metadata) {
        self.commit = commit;
        if metadata.epoch != 0 {
            self.epoch = metadata.epoch;
        }
        self.metadata = Some(metadata);
    }
}

impl Known {
    /// For a text whose metadata say no more than the defaults do.
    pub(super) const fn plain() -> Self {
        Self::Plain(OnceLock::new())
    }

    /// Whether they are known to say no more than the defaults do.
    pub(super) const fn are_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    pub(super) fn facts(&self, text: Option<&str>) -> &Facts {
        match self {
            Self::Read(facts) => facts,
            Self::Plain(facts) => facts.get_or_init(|| read(text)),
        }
    }

    pub(super) fn facts_mut(&mut self, text: Option<&str>) -> &mut Facts {
        if let Self::Plain(facts) = self {
            let facts = facts.take().unwrap_or_else(|| read(text));
            *self = Self::Read(facts);
        }
        match self {
            Self::Read(facts) => facts,
            Self::Plain(_) => unreachable!("they have just been read"),
        }
    }
}

/// The text was written from metadata.
fn read(text: Option<&str>) -> Facts {
    text.and_then(Facts::read).unwrap_or_default()
}
