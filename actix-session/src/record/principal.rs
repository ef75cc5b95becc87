//! The principal that an entry of the application's names.

use std::sync::Arc;

use super::{
    Record,
    keys::Place,
    metadata::{Auth, Metadata},
    proofs::Proofs,
};
use crate::{Level, clock::Millis, digest};

/// The maximum length of a principal, in bytes.
pub(crate) const LONGEST_PRINCIPAL: usize = 1024;

/// The name of the entry that names the principal.
pub(crate) type PrincipalEntry = Arc<str>;

/// The principal that a JSON text names, if it is a string that can be one.
pub(crate) fn principal_of(json: &str) -> Option<String> {
    let named: String = serde_json::from_str(json).ok()?;
    (1..=LONGEST_PRINCIPAL)
        .contains(&named.len())
        .then_some(named)
}

impl Record {
    /// This record as one of whom the entry names. If the metadata say something else, another
    /// program wrote the entry, and they count as none: the login is older than every revocation.
    pub(crate) fn with_principal_in(self, entry: &str, place: Place<'_>, now: Millis) -> Self {
        let named = self.state().get(entry);
        let named = named.and_then(|json| principal_of(&json));
        if named.as_deref() == self.principal() {
            return self;
        }
        let known = self.metadata();
        let undated = known.is_none();
        let id = || self.derived_id(named.as_deref(), place);
        let mut metadata = known.cloned().unwrap_or_else(|| Metadata::new(id(), now));
        metadata.belong_to(named, Millis::ZERO);
        if let Some(auth) = &mut metadata.auth {
            // Nobody knows when they proved who they are: they are only remembered.
            auth.proofs = Proofs::of(Level::Zero, auth.at, "");
        }
        let mut told = known.filter(|told| told.id != metadata.id).cloned();
        if let (Some(told), Some(_)) = (&mut told, &metadata.auth) {
            // The session is another person's: this one counts for nothing.
            told.auth = None;
        }
        self.changed(|written| {
            written.facts_mut().metadata = Some(metadata);
            written.derived = true;
            written.told = told.map(Box::new);
            written.undated = undated;
        })
    }
}

impl Record {
    /// The id of a record that keeps none. Two sessions of one user may have the same entries, so the
    /// name counts, if it is known.
    fn derived_id(&self, principal: Option<&str>, place: Place<'_>) -> u128 {
        match (place, principal) {
            (Place::Named(at), Some(principal)) if !at.is_empty() => {
                digest::id(&format!("actix-session of\0{at}\0{principal}"))
            }
            _ => digest::id(self.as_text().unwrap_or_default()),
        }
    }
}

impl Metadata {
    /// Makes it the session of somebody else, or of nobody. `login` is the time of the login.
    pub(crate) fn belong_to(&mut self, principal: Option<String>, login: Millis) {
        if let Some(auth) = self.auth.take() {
            // The next person's session is another one.
            let named = principal.as_deref().unwrap_or_default();
            let next = format!("{:032x} after {} {named}", self.id, auth.at.0);
            self.set_id(digest::id(&next));
            self.ttl = None;
            self.absolute_end = None;
        }
        let at = self.created.max(login);
        let auth = |principal| Auth {
            login: Some(login).filter(|login| *login != at),
            ..Auth::new(principal, at)
        };
        self.auth = principal.map(|principal: String| auth(principal).into());
    }
}
