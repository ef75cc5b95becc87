//! What a store holds under a key.

mod blanks;
mod claim;
mod draft;
mod end;
mod epoch;
mod format;
mod keys;
mod known;
mod lookup;
mod metadata;
mod names;
mod numbers;
mod origin;
mod owner;
mod packed;
mod principal;
mod proofs;
mod scan;
mod spans;
mod splice;
mod state;
mod update;
mod upstream;
mod version;

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
};

use crate::clock::Millis;

pub use self::format::WireFormat;
use self::{
    claim::Claim,
    format::Found,
    keys::Maker,
    known::{Facts, Known},
};
pub(crate) use self::{
    draft::{Draft, Entries},
    format::{Undecodable, version_prefix},
    keys::{MetadataKeys, Place},
    metadata::{Auth, Metadata, RESERVED, id_after_clear},
    names::is_named,
    origin::Origin,
    owner::Owner,
    packed::{Kind, Packed},
    principal::{LONGEST_PRINCIPAL, PrincipalEntry, principal_of},
    proofs::{Lowered, Proof, Proofs},
    splice::{Value, Values},
    state::State,
    upstream::{Ended, UpstreamLogin},
    version::Version,
};

/// How long nobody need tell a list of a session again.
const LISTED_FOR: Millis = Millis::secs(30 * 86_400);

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

#[derive(Clone)]
struct Written {
    state: State,
    known: Known,
    /// Metadata that nothing has proven yet: its times count, and it gives no rights.
    claim: Option<Box<Claim>>,
    /// The metadata goes through the five methods as the reserved entry.
    has_entry: bool,
    /// They make the reserved entry count.
    keys: Option<Arc<MetadataKeys>>,
    format: WireFormat,
    /// Whoever reads the text sees the same record.
    text_says_all: bool,
    /// The owner is whom an entry names: the metadata do not say so.
    derived: bool,
    /// What the metadata say, if that is another session than the owner's.
    told: Option<Box<Metadata>>,
    /// The metadata are made up.
    undated: bool,
    /// The metadata count until a previous key is taken out.
    by_previous_key: bool,
}

/// The text is not a record of a version that this library reads.
#[derive(Debug, derive_more::Display)]
#[display("{_0}")]
pub struct DecodeError(Undecodable);

impl std::error::Error for DecodeError {}

impl Written {
    fn new(state: State) -> Self {
        Self {
            state,
            known: Known::Read(Facts::default()),
            claim: None,
            has_entry: false,
            keys: None,
            format: WireFormat::V0_11,
            text_says_all: false,
            derived: false,
            told: None,
            undated: false,
            by_previous_key: false,
        }
    }

    /// What an envelope says.
    fn enveloped(state: State, known: Known, has_entry: bool) -> Self {
        Self {
            known,
            has_entry,
            format: WireFormat::V1,
            text_says_all: true,
            ..Self::new(state)
        }
    }

    fn know(&mut self, commit: u64, metadata: Metadata) {
        self.facts_mut().know(commit, metadata);
        self.has_entry = true;
    }

    fn facts(&self) -> &Facts {
        self.known.facts(self.state.text())
    }

    fn facts_mut(&mut self) -> &mut Facts {
        self.known.facts_mut(self.state.text())
    }
}

impl Record {
    /// Reads the text that a store holds, in the present format or one of 0.6 to 0.11.
    ///
    /// # Errors
    /// The text is not a JSON object of a known shape, or a newer version wrote it.
    pub fn decode(text: String) -> Result<Self, DecodeError> {
        Self::read(text).map_err(DecodeError)
    }

    fn read(text: String) -> Result<Self, Undecodable> {
        format::decode(text).map(Self::of_decoded)
    }

    /// Without the scanner.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn read_slowly(text: String) -> Result<Self, Undecodable> {
        format::decode_slowly(text).map(Self::of_decoded)
    }

    fn of_decoded(decoded: format::Decoded) -> Self {
        let written = Written {
            format: decoded.format,
            ..Written::new(decoded.state)
        };
        match decoded.facts {
            Found::Known(commit, metadata) => {
                let has_entry = metadata.need_entry();
                let known = Known::Read(Facts::enveloped(commit, metadata));
                Self::of(Written::enveloped(written.state, known, has_entry))
            }
            Found::Claimed(claim) => {
                let end = written.state.text().and_then(blanks::read);
                Self::of(Written {
                    claim: Some(Box::new(claim.ending_at(end))),
                    ..written
                })
            }
            Found::None => {
                let end = written.state.text().and_then(blanks::read);
                Self::of(written).with_end(end)
            }
        }
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

    /// Makes a record from entries and their JSON texts, as [`SessionStore::load`] returns them.
    ///
    /// If the reserved entry is among them, the record takes its metadata from it. It counts once the
    /// middleware's secret key has proven it: in [`Changes::made_on`](crate::storage::Changes::made_on),
    /// and when [`SessionStore::open`](crate::storage::SessionStore::open) returns the record.
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
        let claim = reserved.and_then(|json| Claim::read(&json));
        Self::of(Written {
            claim: claim.map(Box::new),
            ..Written::new(State::Map(Box::new(entries)))
        })
    }

    /// The entries and their JSON texts, without the metadata.
    pub fn to_map(&self) -> HashMap<String, String> {
        self.written.state.to_map()
    }

    /// The entries, with the metadata as the reserved entry, as [`SessionStore::save`] takes them.
    ///
    /// A record has no such entry if its metadata say no more than the defaults do.
    ///
    /// [`SessionStore::save`]: crate::storage::SessionStore::save
    pub fn to_map_with_metadata(&self) -> HashMap<String, String> {
        self.clone().into_map_with_metadata()
    }

    /// The same without a copy, if nobody else has the record.
    pub(crate) fn into_map_with_metadata(self) -> HashMap<String, String> {
        let keys = self.written.keys.as_deref();
        // Whoever reads the map has to know.
        let before = keys.filter(|_| self.is_by_previous_key());
        let before = before.and_then(MetadataKeys::before);
        let entry = self.entry(before.as_ref().or(keys));
        let entry = entry.map(|text| format!("\"{text}\""));
        let mut map = self.into_map();
        if let Some(entry) = entry {
            map.insert(RESERVED.to_owned(), entry);
        }
        map
    }

    pub(crate) fn into_map(self) -> HashMap<String, String> {
        match Arc::try_unwrap(self.written) {
            Ok(written) => written.state.into_map(),
            Err(shared) => shared.state.to_map(),
        }
    }

    /// The text of the reserved entry for the five methods.
    fn entry(&self, keys: Option<&MetadataKeys>) -> Option<Cow<'_, str>> {
        let written = &*self.written;
        if let Some(claim) = &written.claim {
            return Some(claim.as_text().into());
        }
        let Facts {
            commit, metadata, ..
        } = written.facts();
        let metadata = metadata.as_ref().filter(|_| written.has_entry)?;
        Some(Claim::text(*commit, metadata, keys, Place::Unnamed).into())
    }

    /// The text that a store keeps.
    ///
    /// `None` if the record was made from a map and has not been written since.
    pub fn as_text(&self) -> Option<&str> {
        self.written.state.text()
    }

    /// The same, without a copy if nobody else has it.
    pub(crate) fn into_text(self) -> Option<String> {
        match Arc::try_unwrap(self.written) {
            Ok(written) => written.state.into_text(),
            Err(shared) => shared.state.text().map(str::to_owned),
        }
    }

    /// Without entries and metadata. All of these share what was written.
    pub(crate) fn empty() -> Self {
        static EMPTY: LazyLock<Record> = LazyLock::new(|| Record::from_map(HashMap::new()));
        EMPTY.clone()
    }

    /// A record that no middleware's keys have a part in.
    pub(crate) fn written(
        format: WireFormat,
        commit: u64,
        metadata: Metadata,
        entries: &Entries<'_>,
    ) -> Self {
        Draft::new(format, commit, metadata).write(entries, false)
    }

    /// This record as a text with the reserved entry as it came, for whoever has no keys.
    pub(crate) fn with_claim_as_it_is(&self) -> Self {
        let claim = self.written.claim.as_deref();
        let mut writer = format::Writer::flat(claim.map(Claim::as_text), 0);
        self.written
            .state
            .for_each(|name, json| writer.entry(name, &json));
        let state = writer.finish();
        self.clone().changed(|written| written.state = state)
    }

    /// Takes the metadata from a reserved entry whose MAC holds in this place. One whose MAC does
    /// not hold counts for nothing. Without keys it stays what it is.
    pub(crate) fn proven(self, place: Place<'_>, keys: Option<&Arc<MetadataKeys>>) -> Self {
        let Some(keys) = keys.filter(|_| self.written.claim.is_some()) else {
            return self;
        };
        self.changed(|written| {
            if let Some(claim) = written.claim.take()
                && let Some(maker) = claim.maker(keys, place)
            {
                written.know(claim.commit, claim.metadata);
                written.by_previous_key = maker == Maker::Previous;
            }
            written.keys = Some(Arc::clone(keys));
        })
    }

    pub(crate) fn with_keys(self, keys: Option<Arc<MetadataKeys>>) -> Self {
        self.changed(|written| written.keys = keys)
    }

    /// This record under an id that its text does not say.
    pub(crate) fn known_as(self, id: u128, now: Millis) -> Self {
        let metadata = Metadata {
            idle_end: self.end(),
            ..Metadata::new(id, now)
        };
        self.changed(|written| written.know(0, metadata))
    }

    /// Whether the metadata go through the five methods as the reserved entry.
    pub(crate) fn has_entry(&self) -> bool {
        self.written.has_entry
    }

    pub(crate) fn has_claim(&self) -> bool {
        self.written.claim.is_some()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.written.state.len()
    }

    pub(crate) fn state(&self) -> &State {
        &self.written.state
    }

    pub(crate) fn metadata(&self) -> Option<&Metadata> {
        self.written.facts().metadata.as_ref()
    }

    /// Whether the text says just this beside the entries and the commit.
    fn says_of_itself(&self, metadata: &Metadata) -> bool {
        self.written.text_says_all && self.metadata() == Some(metadata)
    }

    /// Whether the metadata are known to say no more than the defaults do.
    fn is_plain(&self) -> bool {
        self.written.known.are_plain()
    }

    /// The metadata for times and for endings alone. An old server can have made it up, and can set
    /// all times anyway.
    pub(crate) fn times(&self) -> Option<&Metadata> {
        let claim = self.written.claim.as_ref().map(|claim| &claim.metadata);
        claim.or_else(|| self.metadata())
    }

    /// All that a list of ended sessions may know it as, and first what it goes on as.
    pub(crate) fn all_known(&self) -> impl Iterator<Item = &Metadata> {
        let written = &*self.written;
        // Without keys nobody knows whether an old server has made the claim up.
        let claim = written.claim.as_ref().map(|claim| &claim.metadata);
        let told = written.told.as_deref();
        self.metadata().into_iter().chain(claim).chain(told)
    }

    /// Whether nothing says since when the session is there.
    pub(crate) fn is_undated(&self) -> bool {
        self.written.undated || !self.is_plain() && self.times().is_none()
    }

    /// Whether its metadata are lost with a previous key unless somebody writes them anew.
    pub(crate) fn is_by_previous_key(&self) -> bool {
        self.written.by_previous_key
    }

    /// Whether no step has written down whose record it is.
    pub(crate) fn has_derived_owner(&self) -> bool {
        self.written.derived
    }

    /// Whether it is somebody's whose list does not know of it.
    pub(crate) fn is_unlisted(&self) -> bool {
        self.written.derived && self.principal().is_some()
    }

    /// The login at an upstream that its own comes from.
    pub(crate) fn upstream(&self) -> Option<UpstreamLogin> {
        self.unusual()?.auth.as_deref()?.upstream()
    }

    /// Whether it is somebody's whose list may have forgotten it, if no other session of theirs has
    /// begun since: no step has told the list of this one for long.
    pub(crate) fn was_listed_long_ago(&self, now: Millis) -> bool {
        self.was_listed_by(now - LISTED_FOR)
    }

    /// Whether it is somebody's, and their list was last told of it by that time.
    pub(crate) fn was_listed_by(&self, at: Millis) -> bool {
        let auth = self.unusual().and_then(|it| it.auth.as_deref());
        auth.is_some_and(|auth| auth.listed() <= at)
    }

    pub(crate) fn format(&self) -> WireFormat {
        self.written.format
    }

    /// 0 if the record keeps none.
    pub(crate) fn commit_id(&self) -> u64 {
        self.written.facts().commit
    }

    pub(crate) fn principal(&self) -> Option<&str> {
        self.unusual()?.principal()
    }

    /// The metadata, unless they are known to say no more than the defaults do.
    fn unusual(&self) -> Option<&Metadata> {
        if self.is_plain() {
            return None;
        }
        self.metadata()
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
        self.unusual()?.ttl
    }

    /// Whether the session has a time to live of its own.
    pub(crate) fn has_own_ttl(&self) -> bool {
        self.own_ttl().is_some()
    }

    /// In octets, as it is stored.
    pub(crate) fn size(&self) -> usize {
        self.written.state.size()
    }

    pub(crate) fn in_cookie(mut self) -> Self {
        self.in_cookie = true;
        self
    }

    /// Copies what was written if others share it.
    fn changed(self, change: impl FnOnce(&mut Written)) -> Self {
        let mut written = Arc::unwrap_or_clone(self.written);
        change(&mut written);
        written.text_says_all = false;
        Self {
            written: Arc::new(written),
            ..self
        }
    }
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

#[cfg(any(test, fuzzing))]
pub(crate) use self::proofs::Demand;

#[cfg(test)]
pub(crate) use self::names::counting::compared;

#[cfg(test)]
pub(crate) mod tests;
