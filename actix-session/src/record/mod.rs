//! What a store holds under a key.

mod facts;
mod format;
mod state;

use std::{borrow::Cow, collections::HashMap, fmt, sync::Arc};

use crate::clock::Millis;

pub use self::format::WireFormat;
pub(crate) use self::{
    facts::{Auth, Facts, RESERVED},
    format::{Undecodable, facts_entry, facts_from_entry, is_json, version_prefix},
    state::State,
};

/// A record: the state of a session, the facts about it and the id of the last commit.
///
/// Opaque, cheap to clone and shared by its readers. Stores make it from the bytes that they hold
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
pub struct Record(Arc<Inner>);

struct Inner {
    state: State,
    facts: Option<Facts>,
    commit: u64,
    format: WireFormat,
    /// The state lives in the cookie: only a new cookie changes it.
    in_cookie: bool,
    /// When the record ends unless somebody extends it, as far as its store has said.
    end: Option<Millis>,
}

/// A text that is not a record of a version that this library reads.
#[derive(Debug, derive_more::Display)]
#[display("{_0}")]
pub struct DecodeError(Undecodable);

impl std::error::Error for DecodeError {}

/// The facts that the reserved entry of a map holds.
pub(crate) fn facts_of_map(entries: &HashMap<String, String>) -> Option<Facts> {
    let (_, facts) = facts_from_entry(entries.get(RESERVED)?)?;
    Some(facts)
}

/// What a compare-and-set compares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Version {
    /// The text begins with this: an envelope with this commit id.
    Prefix(String),
    /// The text is this: a record that has no id, or whose id old servers would carry along.
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
    /// Reads the text that a store holds: the present format and those of 0.6 to 0.11.
    ///
    /// # Errors
    /// The text is not a JSON object of a known shape, or a newer version wrote it.
    pub fn decode(text: String) -> Result<Self, DecodeError> {
        let decoded = format::decode(text).map_err(DecodeError)?;
        let (commit, facts) = match decoded.facts {
            Some((commit, facts)) => (commit, Some(facts)),
            None => (0, None),
        };
        Ok(Self(Arc::new(Inner {
            state: decoded.state,
            facts,
            commit,
            format: decoded.format,
            in_cookie: false,
            end: None,
        })))
    }

    /// Makes a record of entries and their JSON texts, as [`SessionStore::load`] returns them.
    ///
    /// The reserved entry, where it is among them, carries the facts.
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
        let facts = reserved.and_then(|json| facts_from_entry(&json));
        let (commit, facts) = match facts {
            Some((commit, facts)) => (commit, Some(facts)),
            None => (0, None),
        };
        Self(Arc::new(Inner {
            state: State::Map(entries),
            facts,
            commit,
            format: WireFormat::V0_11,
            in_cookie: false,
            end: None,
        }))
    }

    /// As [`from_map`](Self::from_map), for what a store has kept: facts that cannot be read are not
    /// passed over.
    pub(crate) fn from_stored(entries: HashMap<String, String>) -> Result<Self, DecodeError> {
        match entries.get(RESERVED) {
            Some(json) if facts_from_entry(json).is_none() => Err(DecodeError(Undecodable::Shape)),
            _ => Ok(Self::from_map(entries)),
        }
    }

    /// The entries and their JSON texts, without the facts.
    pub fn to_map(&self) -> HashMap<String, String> {
        self.0.state.to_map()
    }

    /// The entries with the facts as the reserved entry, as [`SessionStore::save`] takes them.
    ///
    /// [`SessionStore::save`]: crate::storage::SessionStore::save
    pub fn to_map_with_facts(&self) -> HashMap<String, String> {
        let mut map = self.to_map();
        if let Some(facts) = &self.0.facts {
            map.insert(RESERVED.to_owned(), facts_entry(self.0.commit, facts));
        }
        map
    }

    /// The text that a store keeps.
    ///
    /// `None` for a record that was made from a map and not written since.
    pub fn as_text(&self) -> Option<&str> {
        self.0.state.text()
    }

    pub(crate) fn empty() -> Self {
        Self::from_map(HashMap::new())
    }

    pub(crate) fn written(
        format: WireFormat,
        commit: u64,
        facts: Facts,
        entries: &[(Cow<'_, str>, Cow<'_, str>)],
    ) -> Self {
        // What is not JSON (old records may hold such texts) fits the older format alone.
        let format = match format {
            WireFormat::V1 if !entries.iter().all(|(_, json)| is_json(json)) => WireFormat::V0_11,
            format => format,
        };
        Self::written_as(format, commit, facts, entries)
    }

    /// As [`written`](Self::written), where all values are known to be JSON.
    pub(crate) fn written_as(
        format: WireFormat,
        commit: u64,
        facts: Facts,
        entries: &[(Cow<'_, str>, Cow<'_, str>)],
    ) -> Self {
        let size = entries
            .iter()
            .map(|(name, json)| name.len() + json.len() + 6)
            .sum();
        let mut writer = format::Writer::new(format, commit, &facts, size);
        for (name, json) in entries {
            writer.entry(name, json);
        }
        Self(Arc::new(Inner {
            state: writer.finish(),
            facts: Some(facts),
            commit,
            format,
            in_cookie: false,
            end: None,
        }))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.state.len()
    }

    /// Whether the record is past its absolute end, its own or the policy's.
    pub(crate) fn is_over(&self, now: Millis, absolute: Option<Millis>) -> bool {
        let Some(facts) = self.facts() else {
            return false;
        };
        let end = facts
            .absolute_end
            .or_else(|| absolute.map(|span| facts.since() + span));
        end.is_some_and(|end| end <= now)
    }

    pub(crate) fn state(&self) -> &State {
        &self.0.state
    }

    pub(crate) fn facts(&self) -> Option<&Facts> {
        self.0.facts.as_ref()
    }

    pub(crate) fn commit_id(&self) -> u64 {
        self.0.commit
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.0.facts.as_ref().map_or(0, |facts| facts.epoch)
    }

    pub(crate) fn principal(&self) -> Option<&str> {
        self.0.facts.as_ref().and_then(Facts::principal)
    }

    pub(crate) fn absolute_end(&self) -> Option<Millis> {
        self.0.facts.as_ref().and_then(|facts| facts.absolute_end)
    }

    pub(crate) fn is_in_cookie(&self) -> bool {
        self.0.in_cookie
    }

    pub(crate) fn end(&self) -> Option<Millis> {
        self.0.end
    }

    pub(crate) fn version(&self) -> Version {
        let text = self.0.state.text().unwrap_or_default();
        if self.0.format == WireFormat::V1 && self.0.facts.is_some() {
            let prefix = version_prefix(self.0.commit);
            // Another writer may have laid the fields out differently.
            if text.starts_with(&prefix) {
                return Version::Prefix(prefix);
            }
        }
        Version::Whole(text.to_owned())
    }

    pub(crate) fn with_facts(self, facts: Option<Facts>) -> Self {
        self.changed(|inner| inner.facts = facts)
    }

    pub(crate) fn with_end(self, end: Option<Millis>) -> Self {
        self.changed(|inner| inner.end = end)
    }

    pub(crate) fn in_cookie(self) -> Self {
        self.changed(|inner| inner.in_cookie = true)
    }

    fn changed(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::try_unwrap(self.0).unwrap_or_else(|shared| Inner {
            state: shared.state.clone(),
            facts: shared.facts.clone(),
            ..*shared
        });
        change(&mut inner);
        Self(Arc::new(inner))
    }
}

/// Shows sizes alone: entries, principals and ids are nobody's business in a log.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("entries", &self.0.state.len())
            .field("format", &self.0.format)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
