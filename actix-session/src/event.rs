//! What the log may say: events with reasons and fingerprints, never a key or a value.

use std::fmt::Write as _;

use crate::{middleware::Why, storage::SessionKey};

/// The first 32 bits of a key's SHA-256, in hexadecimal.
pub(crate) fn fingerprint(key: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    digest
        .as_ref()
        .iter()
        .take(4)
        .fold(String::with_capacity(8), |mut text, byte| {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

pub(crate) fn created(key: &SessionKey) {
    tracing::debug!(session = %key.fingerprint(), "session created");
}

pub(crate) fn renewed(old: &SessionKey, new: &SessionKey) {
    tracing::debug!(session = %new.fingerprint(), before = %old.fingerprint(), "session renewed");
}

pub(crate) fn ended(key: &SessionKey) {
    tracing::debug!(session = %key.fingerprint(), "session ended");
}

pub(crate) fn forwarded(key: &SessionKey) {
    tracing::debug!(
        session = %key.fingerprint(),
        "the session was renewed by another request; the changes followed"
    );
}

pub(crate) fn gone(key: &SessionKey) {
    tracing::info!(
        session = %key.fingerprint(),
        "the session ended while a request was in flight; its changes are dropped"
    );
}

pub(crate) fn dropped(why: Why, key: Option<&SessionKey>) {
    let session = key.map(SessionKey::fingerprint);
    tracing::warn!(session, reason = %why, "the changes that a request made to its session are dropped");
}

pub(crate) fn unknown_key(key: &SessionKey) {
    tracing::debug!(session = %key.fingerprint(), "a session key leads to no record");
}

pub(crate) fn unreadable_record(key: &SessionKey) {
    tracing::warn!(
        session = %key.fingerprint(),
        "a session record cannot be read; it is left as it is, and the request starts empty"
    );
}

pub(crate) fn duplicate_cookie(key: &SessionKey) {
    tracing::warn!(
        session = %key.fingerprint(),
        "a request came with several live session cookies; the first one is used"
    );
}

pub(crate) fn refused_cookie() {
    tracing::debug!("a session cookie does not verify; it counts as none");
}

pub(crate) fn refused_unbound() {
    tracing::warn!(
        "a signed cookie-stored session is refused: its signature, as actix-session 0.11 and \
         older made them, does not say for which cookie it was made"
    );
}

pub(crate) fn store_failed(operation: &'static str, error: &dyn std::error::Error) {
    tracing::error!(operation, error = %chain(error), "the session store failed");
}

pub(crate) fn log_failure<E: std::error::Error>(operation: &'static str, error: Option<E>) {
    if let Some(error) = error {
        store_failed(operation, &error);
    }
}

pub(crate) fn not_finished(session: Option<&str>) {
    tracing::warn!(
        session,
        "a request was dropped outside of a worker: what it asked of its session is not done"
    );
}

/// The messages of an error and its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Some errors show their cause themselves.
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}
