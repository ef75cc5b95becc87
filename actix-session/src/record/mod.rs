//! What a store holds under a key.

mod format;
mod lookup;
mod metadata;
mod names;
mod state;

use std::{borrow::Cow, collections::HashMap, fmt, sync::Arc};

use crate::clock::Millis;

pub use self::format::WireFormat;
pub(crate) use self::{
    format::{Undecodable, is_json, metadata_entry, metadata_from_entry, version_prefix},
    metadata::{Auth, Metadata, RESERVED},
    names::is_named,
    state::State,
};

/// A record: the state of a session, its metadata and the id of the last commit.
///
/// Opaque, cheap to clone, and shared by its readers. Stores make one from the bytes that they hold
/// ([`Record::decode`]) or from a map of entries ([`Record::from_map`]), and hand it to requests.
///
/// # Examples
/// ```
/// use actix_session::storage::Record;
///
/// let record = Record::decode(r#"{"v":1,"state":{"user":"ferris"}}"#.to_owned())?;
/// assert_eq!(record.to_map()["user"], r#""ferris""#);
/// # Ok::<(), actix_session::storage::DecodeError>(())
/// ```
#[derive(Clone)]
pub struct Record {
    /// What was written, shared by all that read it.
    written: Arc<Written>,
    /// The state lives in the cookie: only a new cookie changes it.
    in_cookie: bool,
    /// When the record ends unless a request extends it, if the store has said so.
    end: Option<Millis>,
    /// It was to be extended, and the store did not.
    kept_end: bool,
    /// The store has just extended it.
    extended: bool,
}

struct Written {
    state: State,
    metadata: Option<Metadata>,
    commit: u64,
    /// Of the last `clear`. Not every text keeps it.
    epoch: u64,
    format: WireFormat,
}

/// The text is not a record of a version that this library reads.
#[derive(Debug, derive_more::Display)]
#[display("{_0}")]
pub struct DecodeError(Undecodable);

impl std::error::Error for DecodeError {}

/// The metadata in the reserved entry of a map.
pub(crate) fn metadata_of_map(entries: &HashMap<String, String>) -> Option<Metadata> {
    let (_, metadata) = metadata_from_entry(entries.get(RESERVED)?)?;
    Some(metadata)
}

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
    /// Reads the text that a store holds, in the present format or one of 0.6 to 0.11.
    ///
    /// # Errors
    /// The text is not a JSON object of a known shape, or a newer version wrote it.
    pub fn decode(text: String) -> Result<Self, DecodeError> {
        let decoded = format::decode(text).map_err(DecodeError)?;
        let (commit, metadata) = match decoded.metadata {
            Some((commit, metadata)) => (commit, Some(metadata)),
            None => (0, None),
        };
        Ok(Self::of(Written {
            state: decoded.state,
            epoch: epoch_of(metadata.as_ref()),
            metadata,
            commit,
            format: decoded.format,
        }))
    }

    /// Makes a record from entries and their JSON texts, as [`SessionStore::load`] returns them.
    ///
    /// If the reserved entry is among them, the record takes its metadata from it.
    ///
    /// [`SessionStore::load`]: crate::storage::SessionStore::load
    ///
    /// # Examples
    /// ```
    /// use std::collections::HashMap;
    /// use actix_session::storage::Record;
    ///
    /// let map = HashMap::from([("n".to_owned(), "1".to_owned())]);
    /// assert_eq!(Record::from_map(map.clone()).to_map(), map);
    /// ```
    pub fn from_map(mut entries: HashMap<String, String>) -> Self {
        let reserved = entries.remove(RESERVED);
        let metadata = reserved.and_then(|json| metadata_from_entry(&json));
        let (commit, metadata) = match metadata {
            Some((commit, metadata)) => (commit, Some(metadata)),
            None => (0, None),
        };
        Self::of(Written {
            state: State::Map(entries),
            epoch: epoch_of(metadata.as_ref()),
            metadata,
            commit,
            format: WireFormat::V0_11,
        })
    }

    /// Like [`from_map`](Self::from_map), for the entries that a store holds: unreadable metadata
    /// is an error.
    pub(crate) fn from_stored(entries: HashMap<String, String>) -> Result<Self, DecodeError> {
        match entries.get(RESERVED) {
            Some(json) if metadata_from_entry(json).is_none() => {
                Err(DecodeError(Undecodable::Shape))
            }
            _ => Ok(Self::from_map(entries)),
        }
    }

    /// The entries and their JSON texts, without the metadata.
    pub fn to_map(&self) -> HashMap<String, String> {
        self.written.state.to_map()
    }

    /// The entries, with the metadata as the reserved entry, as [`SessionStore::save`] takes them.
    ///
    /// [`SessionStore::save`]: crate::storage::SessionStore::save
    pub fn to_map_with_metadata(&self) -> HashMap<String, String> {
        let mut map = self.to_map();
        if let Some(metadata) = &self.written.metadata {
            map.insert(
                RESERVED.to_owned(),
                metadata_entry(self.written.commit, metadata),
            );
        }
        map
    }

    /// The text that a store keeps.
    ///
    /// `None` if the record was made from a map and has not been written since.
    pub fn as_text(&self) -> Option<&str> {
        self.written.state.text()
    }

    pub(crate) fn empty() -> Self {
        Self::from_map(HashMap::new())
    }

    pub(crate) fn written(
        format: WireFormat,
        commit: u64,
        metadata: Metadata,
        entries: &[(Cow<'_, str>, Cow<'_, str>)],
    ) -> Self {
        // Only the older format can hold values that are not JSON. Old records may have some.
        let format = match format {
            WireFormat::V1 if !entries.iter().all(|(_, json)| is_json(json)) => WireFormat::V0_11,
            format => format,
        };
        Self::written_as(format, commit, metadata, entries)
    }

    /// Like [`written`](Self::written), for values that are known to be JSON.
    pub(crate) fn written_as(
        format: WireFormat,
        commit: u64,
        metadata: Metadata,
        entries: &[(Cow<'_, str>, Cow<'_, str>)],
    ) -> Self {
        let size = entries
            .iter()
            .map(|(name, json)| name.len() + json.len() + 6)
            .sum();
        let mut writer = format::Writer::new(format, commit, &metadata, size);
        for (name, json) in entries {
            writer.entry(name, json);
        }
        Self::of(Written {
            state: writer.finish(),
            epoch: metadata.epoch,
            metadata: Some(metadata),
            commit,
            format,
        })
    }

    fn of(written: Written) -> Self {
        Self {
            written: Arc::new(written),
            in_cookie: false,
            end: None,
            kept_end: false,
            extended: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.written.state.len()
    }

    /// Whether the record is past its absolute end, its own or the policy's.
    pub(crate) fn is_over(&self, now: Millis, absolute: Option<Millis>) -> bool {
        let Some(metadata) = self.metadata() else {
            return false;
        };
        let end = metadata
            .absolute_end
            .or_else(|| absolute.map(|span| metadata.since() + span));
        end.is_some_and(|end| end <= now)
    }

    pub(crate) fn state(&self) -> &State {
        &self.written.state
    }

    pub(crate) fn metadata(&self) -> Option<&Metadata> {
        self.written.metadata.as_ref()
    }

    pub(crate) fn commit_id(&self) -> u64 {
        self.written.commit
    }

    /// The epoch of the last `clear`; 0 before the first, or if nothing keeps it.
    pub(crate) fn epoch(&self) -> u64 {
        self.written.epoch
    }

    /// The epoch that lies beside the record, for a text that does not keep it.
    pub(crate) fn with_epoch_beside(self, epoch: Option<u64>) -> Self {
        match epoch {
            Some(epoch) if self.written.epoch == 0 => {
                self.rewritten(|written| written.epoch = epoch)
            }
            _ => self,
        }
    }

    /// The epoch that this record has, if the one that it was made from has another.
    pub(crate) fn epoch_since(&self, before: &Self) -> Option<u64> {
        Some(self.epoch()).filter(|epoch| *epoch != 0 && *epoch != before.epoch())
    }

    /// Whether a `clear` has come since this base was loaded. If nothing keeps its epoch any more,
    /// it came too long ago to matter.
    pub(crate) fn is_from_before_clear(&self, stored: &Self) -> bool {
        stored.epoch() != 0 && stored.epoch() != self.epoch()
    }

    pub(crate) fn principal(&self) -> Option<&str> {
        self.written.metadata.as_ref().and_then(Metadata::principal)
    }

    pub(crate) fn absolute_end(&self) -> Option<Millis> {
        self.written
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.absolute_end)
    }

    pub(crate) fn is_in_cookie(&self) -> bool {
        self.in_cookie
    }

    /// The id of the session that the record belongs to.
    pub(crate) fn id(&self) -> Option<u128> {
        self.metadata().map(|metadata| metadata.id)
    }

    /// The session's own time to live, in place of the policy's.
    pub(crate) fn own_ttl(&self) -> Option<Millis> {
        self.metadata().and_then(|metadata| metadata.ttl)
    }

    /// Whether the session has a time to live of its own.
    pub(crate) fn has_own_ttl(&self) -> bool {
        self.own_ttl().is_some()
    }

    /// In octets, as it is stored.
    pub(crate) fn size(&self) -> usize {
        self.as_text().map_or(0, str::len)
    }

    pub(crate) fn end(&self) -> Option<Millis> {
        self.end
    }

    pub(crate) fn version(&self) -> Version {
        let text = self.written.state.text().unwrap_or_default();
        if self.written.format == WireFormat::V1 && self.written.metadata.is_some() {
            let prefix = version_prefix(self.written.commit);
            // Another writer may have laid the fields out differently.
            if text.starts_with(&prefix) {
                return Version::Prefix(prefix);
            }
        }
        Version::Whole(text.to_owned())
    }

    pub(crate) fn with_metadata(self, metadata: Option<Metadata>) -> Self {
        self.rewritten(|written| {
            written.epoch = epoch_of(metadata.as_ref());
            written.metadata = metadata;
        })
    }

    /// Copies what was written if others share it.
    fn rewritten(mut self, change: impl FnOnce(&mut Written)) -> Self {
        let mut written = Arc::try_unwrap(self.written).unwrap_or_else(|shared| Written {
            state: shared.state.clone(),
            metadata: shared.metadata.clone(),
            ..*shared
        });
        change(&mut written);
        self.written = Arc::new(written);
        self
    }

    pub(crate) fn with_end(self, end: Option<Millis>) -> Self {
        Self { end, ..self }
    }

    /// The store takes no writes, so that a read could not extend the record.
    pub(crate) fn not_extended(mut self) -> Self {
        self.kept_end = true;
        self
    }

    /// Whether a read that was to extend the record has left its end as it is.
    pub(crate) fn has_kept_end(&self) -> bool {
        self.kept_end
    }

    /// The read that found the record has moved its end.
    pub(crate) fn extended(mut self) -> Self {
        self.extended = true;
        self
    }

    pub(crate) fn is_extended(&self) -> bool {
        self.extended
    }

    pub(crate) fn in_cookie(mut self) -> Self {
        self.in_cookie = true;
        self
    }
}

fn epoch_of(metadata: Option<&Metadata>) -> u64 {
    metadata.map_or(0, |metadata| metadata.epoch)
}

/// Shows sizes alone: entries, principals and ids must not reach a log.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("entries", &self.written.state.len())
            .field("format", &self.written.format)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) use self::names::counting::compared;
#[cfg(test)]
pub(crate) mod tests;
