//! What the log may contain: events with reasons and fingerprints, never a key or a value.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::key::SessionKey;

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
        "another request renewed the session; the changes followed"
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
    tracing::warn!(session, reason = %why, "a request's changes to its session are dropped");
}

/// A read that was to extend a session's life could not. Throttled: it happens to every request.
pub(crate) fn not_extended(error: &dyn std::fmt::Display) {
    static REFUSED: Throttle = Throttle::new();

    if let Some(unreported) = REFUSED.pass() {
        tracing::warn!(
            %error,
            unreported,
            "a session is served without an extension: its store takes no writes at present"
        );
    }
}

/// Why a request's changes are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, derive_more::Display)]
pub(crate) enum Why {
    #[display("its session key was renewed a moment ago, and the new cookie is still on its way")]
    JustRenewed,
    #[display("there was no response that could carry the new cookie")]
    NoResponse,
}

/// Why a cookie opens no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, derive_more::Display)]
pub(crate) enum Refusal {
    /// None of the secret keys sealed it for this cookie.
    #[display("bad-seal")]
    BadSeal,
    /// Its signature does not cover the cookie's name.
    #[display("unbound-signature")]
    Unbound,
    /// Its key leads to no record: the session ended, expired or never existed.
    #[display("unknown-key")]
    UnknownKey,
    /// Its record cannot be read, and is left as it is.
    #[display("unreadable-record")]
    Unreadable,
    /// Another live session came first.
    #[display("duplicate-cookie")]
    Duplicate,
}

/// Logs a refused cookie. Refusals that a client can cause without limit are throttled and counted.
pub(crate) fn refused(reason: Refusal, key: Option<&SessionKey>) {
    static BAD_SEALS: Throttle = Throttle::new();
    static UNKNOWN_KEYS: Throttle = Throttle::new();

    let session = key.map(SessionKey::fingerprint);
    match reason {
        Refusal::BadSeal => {
            if let Some(unreported) = BAD_SEALS.pass() {
                tracing::info!(%reason, unreported, "a session cookie was refused");
            }
        }
        Refusal::UnknownKey => {
            if let Some(unreported) = UNKNOWN_KEYS.pass() {
                tracing::info!(%reason, session, unreported, "a session cookie was refused");
            }
        }
        Refusal::Unbound | Refusal::Unreadable | Refusal::Duplicate => {
            tracing::warn!(%reason, session, "a session cookie was refused");
        }
    }
}

/// Lets one event per second pass.
struct Throttle {
    /// Seconds since the first use, plus one.
    last: AtomicU64,
    held_back: AtomicU64,
}

impl Throttle {
    const fn new() -> Self {
        Self {
            last: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
        }
    }

    /// The number of events held back since the last one that passed, or `None` to hold this one
    /// back.
    fn pass(&self) -> Option<u64> {
        static START: OnceLock<Instant> = OnceLock::new();
        self.pass_at(START.get_or_init(Instant::now).elapsed().as_secs() + 1)
    }

    fn pass_at(&self, now: u64) -> Option<u64> {
        if self.last.swap(now, Ordering::Relaxed) == now {
            self.held_back.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.held_back.swap(0, Ordering::Relaxed))
    }
}

pub(crate) fn store_failed(operation: &'static str, error: &dyn std::error::Error) {
    tracing::error!(operation, error = %chain(error), "the session store failed");
}

pub(crate) fn log_failure<E: std::error::Error>(operation: &'static str, error: Option<E>) {
    if let Some(error) = error {
        store_failed(operation, &error);
    }
}

pub(crate) fn not_finished() {
    tracing::warn!(
        "a request was dropped outside a worker: its session changes were not committed"
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
    text.chars().map(harmless).collect()
}

/// An error may contain an entry's name, and a client may have chosen it: it must not add a line,
/// an escape sequence or a change of text direction to the log.
fn harmless(symbol: char) -> char {
    match symbol {
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        symbol if symbol.is_control() => char::REPLACEMENT_CHARACTER,
        symbol => symbol,
    }
}

pub(crate) fn replaced_line() {
    tracing::warn!("a handler set a cookie named like the session cookie; it was replaced");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_kind_is_one_event_a_second_that_counts_the_others() {
        let throttle = Throttle::new();
        assert_eq!(throttle.pass_at(1), Some(0));
        for _ in 0..1_000 {
            assert_eq!(throttle.pass_at(1), None);
        }
        assert_eq!(throttle.pass_at(2), Some(1_000));
        assert_eq!(throttle.pass_at(3), Some(0));
    }
}
