//! Notices that were answered before.

use super::{NOTICE, name_of, note_in, notes};
use crate::{
    clock::Millis,
    config::LONGEST,
    contract::Terms,
    digest,
    error::CommitError,
    protocol::{Backend, Name, Reply},
    random,
};

/// The names of answers begin with this, and a full stop.
pub(crate) const ANSWERED: &str = "answered";

/// An answer that is lost each time fails the notice, which its issuer repeats.
const ATTEMPTS: u8 = 3;

/// How many sessions a notice has ended that has come before.
pub(super) async fn answer_to<B: Backend>(
    store: &B,
    token: u128,
    terms: &Terms,
) -> Result<Option<u64>, CommitError> {
    let at = token_name(store, token);
    let known = note_in(store.read_note(&at, terms).await)?;
    Ok(known.map(|known| u64::try_from(notes::revoked(&known).0).unwrap_or_default()))
}

/// The first answer counts.
pub(super) async fn remember<B: Backend>(
    store: &B,
    token: u128,
    until: Millis,
    ended: u64,
    terms: &Terms,
) -> Result<(), CommitError> {
    let until = until.clamp(terms.now + NOTICE, terms.now + LONGEST);
    let answer = Millis(i64::try_from(ended).unwrap_or(i64::MAX));
    let note = notes::note(random::u128().map_err(CommitError::Other)?, answer);
    let note = note.map_err(CommitError::Other)?;
    let at = token_name(store, token);
    for _ in 0..ATTEMPTS {
        let reply = store.insert_note(&at, note.clone(), until, terms).await;
        if !matches!(reply.map_err(CommitError::of_store)?, Reply::Lost) {
            return Ok(());
        }
    }
    Err(CommitError::OutcomeUnknown)
}

fn token_name<B: Backend>(store: &B, token: u128) -> Name {
    name_of(store, ANSWERED, &format!("{token:032x}"))
}

/// The digest of a token's name at its issuer.
pub(crate) fn token(issuer: &str, name: &str) -> u128 {
    let length = issuer.len();
    digest::id(&format!("actix-session token\0{length}\0{issuer}{name}"))
}
