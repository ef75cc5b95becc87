//! What the log may contain: events with reasons and fingerprints, never a key or a value.

use std::{
    sync::{Mutex, OnceLock},
    time::Instant,
};

use crate::{
    config::ConfigError,
    csrf::CrossSiteReason,
    key::SessionKey,
    record::LONGEST_PRINCIPAL,
    sync::{FirstTime, lock},
};

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
    static GONE: Throttle = Throttle::new();

    let session = key.fingerprint();
    if let Some(unreported) = GONE.pass(Some(&session)) {
        tracing::info!(
            session,
            unreported,
            "the session ended while a request was in flight; its changes are dropped"
        );
    }
}

pub(crate) fn dropped(why: Why, key: Option<&SessionKey>) {
    static JUST_RENEWED: Throttle = Throttle::new();
    static NO_RESPONSE: Throttle = Throttle::new();

    let session = key.map(SessionKey::fingerprint);
    let throttle = match why {
        Why::JustRenewed => &JUST_RENEWED,
        Why::NoResponse => &NO_RESPONSE,
    };
    if let Some(unreported) = throttle.pass(session.as_deref()) {
        tracing::warn!(
            session,
            reason = %why,
            unreported,
            "a request's changes to its session are dropped"
        );
    }
}

/// A login that is refused is the user's to know, not the operator's.
pub(crate) fn login_refused(why: RefusedLogin) {
    static ENDED: Throttle = Throttle::new();
    static TOO_MANY: Throttle = Throttle::new();

    let throttle = match why {
        RefusedLogin::Ended => &ENDED,
        RefusedLogin::TooMany => &TOO_MANY,
    };
    if let Some(unreported) = throttle.pass(None) {
        tracing::info!(reason = %why, unreported, "a login was refused");
    }
}

/// Why a login does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, derive_more::Display)]
pub(crate) enum RefusedLogin {
    /// The principal's sessions, or this one, have ended since it began.
    #[display("ended-meanwhile")]
    Ended,
    /// The principal has as many sessions as are allowed.
    #[display("too-many-sessions")]
    TooMany,
}

/// Why what a request wants of its session is refused for now: a 503.
///
/// It prints itself as in the log, where it stays the same from one version to the next.
///
/// # Examples
/// ```
/// assert_eq!(actix_session::TurnedAway::Contended.to_string(), "contended");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TurnedAway {
    /// The memory store is full of sessions that belong to somebody, and the new one does not.
    Full,
    /// Other requests kept changing the session until the time was up; or, at a commit, the store's
    /// server or pool had no room for this one. (A load that fails so is
    /// [`StoreFailed`](crate::SessionEventKind::StoreFailed).)
    Contended,
}

impl TurnedAway {
    /// What it prints.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Contended => "contended",
        }
    }
}

impl std::fmt::Display for TurnedAway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}

/// One client can cause it as often as it likes.
pub(crate) fn turned_away(operation: &'static str, reason: TurnedAway) {
    static FULL: Throttle = Throttle::new();
    static CONTENDED: Throttle = Throttle::new();

    let throttle = match reason {
        TurnedAway::Full => &FULL,
        TurnedAway::Contended => &CONTENDED,
    };
    if let Some(unreported) = throttle.pass(None) {
        tracing::warn!(
            operation,
            %reason,
            unreported,
            "a request was turned away: the same one may succeed later"
        );
    }
}

/// A read that was to extend a session's life could not: it happens to every request.
pub(crate) fn not_extended(error: &dyn std::fmt::Display) {
    static REFUSED: Throttle = Throttle::new();

    if let Some(unreported) = REFUSED.pass(None) {
        tracing::warn!(
            %error,
            unreported,
            "a session is served without an extension: its store takes no writes at present"
        );
    }
}

/// The store has not failed: it had no room for now, or what the cookie holds does not fit into one any
/// more.
pub(crate) fn not_refreshed(error: &dyn std::fmt::Display) {
    static LEFT: Throttle = Throttle::new();

    if let Some(unreported) = LEFT.pass(None) {
        tracing::warn!(%error, unreported, "a session's cookie was not sent again");
    }
}

/// Each worker says so, and again if the server does not say what it is.
#[cfg(feature = "redis-session")]
pub(crate) fn left_replica() {
    static LEFT: Throttle = Throttle::new();

    if let Some(unreported) = LEFT.pass(None) {
        tracing::info!(
            unreported,
            "the Redis server takes no writes, and its address leads to another one, which is used from \
             now on"
        );
    }
}

/// It happens to every ending and renewal while a replica is away.
#[cfg(feature = "redis-session")]
pub(crate) fn too_few_replicas(wanted: u32, have: &dyn std::fmt::Debug) {
    static TOO_FEW: Throttle = Throttle::new();

    if let Some(unreported) = TOO_FEW.pass(None) {
        tracing::warn!(
            wanted,
            ?have,
            unreported,
            "too few replicas have the ending or renewal of a session: a failover could undo it"
        );
    }
}

/// The server refuses `WAIT`.
#[cfg(feature = "redis-session")]
pub(crate) fn replicas_unknown(error: &dyn std::fmt::Display) {
    static UNKNOWN: Throttle = Throttle::new();

    if let Some(unreported) = UNKNOWN.pass(None) {
        tracing::warn!(
            %error,
            unreported,
            "the server does not say which replicas have the ending or renewal of a session"
        );
    }
}

/// Rows of a principal that say neither a session's id nor its login: each list meets them again.
#[cfg(feature = "_sql")]
pub(crate) fn left_out(rows: usize) {
    static LEFT_OUT: Throttle = Throttle::new();

    if let Some(unreported) = LEFT_OUT.pass(None) {
        tracing::warn!(
            rows,
            unreported,
            "rows are left out of the list of a user's sessions: their `session_id` or the time of \
             their login is damaged"
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

/// Why a cookie, or the value of a session header, opens no session.
///
/// It prints itself as in the log, where it stays the same from one version to the next.
///
/// # Examples
/// ```
/// assert_eq!(actix_session::Refusal::BadSeal.to_string(), "bad-seal");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// None of the secret keys sealed it for this cookie.
    BadSeal,
    /// Its signature does not cover the cookie's name.
    Unbound,
    /// Its key leads to no record: the session ended, expired or never existed.
    UnknownKey,
    /// Its record cannot be read, and is left as it is.
    Unreadable,
    /// Another live session came first.
    Duplicate,
    /// The request carries its session in a header field.
    BesideHeader,
}

impl Refusal {
    /// What it prints.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::BadSeal => "bad-seal",
            Self::Unbound => "unbound-signature",
            Self::UnknownKey => "unknown-key",
            Self::Unreadable => "unreadable-record",
            Self::Duplicate => "duplicate-cookie",
            Self::BesideHeader => "beside-header",
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}

/// Logs a refused cookie.
pub(crate) fn refused(reason: Refusal, key: Option<&SessionKey>) {
    static BAD_SEALS: Throttle = Throttle::new();
    static UNKNOWN_KEYS: Throttle = Throttle::new();
    static UNBOUND: Throttle = Throttle::new();
    static UNREADABLE: Throttle = Throttle::new();
    static DUPLICATES: Throttle = Throttle::new();
    static BESIDE_HEADERS: Throttle = Throttle::new();

    let session = key.map(SessionKey::fingerprint);
    // A client can make as many keys unknown as it likes, so that these count as one.
    let (throttle, counted_as) = match reason {
        Refusal::BadSeal => (&BAD_SEALS, None),
        Refusal::UnknownKey => (&UNKNOWN_KEYS, None),
        Refusal::Unbound => (&UNBOUND, session.as_deref()),
        Refusal::Unreadable => (&UNREADABLE, session.as_deref()),
        Refusal::Duplicate => (&DUPLICATES, session.as_deref()),
        Refusal::BesideHeader => (&BESIDE_HEADERS, None),
    };
    let Some(unreported) = throttle.pass(counted_as) else {
        return;
    };
    match reason {
        Refusal::BadSeal | Refusal::UnknownKey | Refusal::BesideHeader => {
            tracing::info!(%reason, session, unreported, "a session cookie was refused");
        }
        Refusal::Unbound | Refusal::Unreadable | Refusal::Duplicate => {
            tracing::warn!(%reason, session, unreported, "a session cookie was refused");
        }
    }
}

/// Lets one event per second pass, or one of each session, for so many sessions.
struct Throttle(Mutex<Second>);

/// What has passed within a second, and how many events have not since.
struct Second {
    /// Since the first use, plus one.
    number: u64,
    passed: Vec<Option<String>>,
    held_back: u64,
}

impl Throttle {
    /// How many sessions may have an event in one second.
    const MOST: usize = 256;

    const fn new() -> Self {
        Self(Mutex::new(Second {
            number: 0,
            passed: Vec::new(),
            held_back: 0,
        }))
    }

    /// The number of events held back since the last one that passed, or `None` to hold this one
    /// back.
    fn pass(&self, session: Option<&str>) -> Option<u64> {
        static START: OnceLock<Instant> = OnceLock::new();
        self.pass_at(
            START.get_or_init(Instant::now).elapsed().as_secs() + 1,
            session,
        )
    }

    fn pass_at(&self, now: u64, session: Option<&str>) -> Option<u64> {
        let mut second = lock(&self.0);
        if second.number != now {
            second.number = now;
            second.passed.clear();
        }
        let mut passed = second.passed.iter();
        let known = passed.any(|passed| passed.as_deref() == session);
        if known || second.passed.len() >= Self::MOST {
            second.held_back += 1;
            return None;
        }
        second.passed.push(session.map(str::to_owned));
        Some(std::mem::take(&mut second.held_back))
    }
}

pub(crate) fn store_failed(operation: &'static str, error: &dyn std::error::Error) {
    tracing::error!(operation, error = %chain(error), "the session store failed");
}

/// The store has nothing to do with it.
pub(crate) fn not_kept(operation: &'static str, error: &dyn std::error::Error) {
    tracing::error!(
        operation,
        error = %chain(error),
        "what a handler has set in its session cannot be kept"
    );
}

pub(crate) fn not_finished() {
    static DROPPED: Throttle = Throttle::new();

    if let Some(unreported) = DROPPED.pass(None) {
        tracing::warn!(
            unreported,
            "a request was dropped outside a worker: its session changes were not committed"
        );
    }
}

/// A socket may do so with each message.
pub(crate) fn changed_too_late() {
    static LATE: Throttle = Throttle::new();

    if let Some(unreported) = LATE.pass(None) {
        tracing::warn!(
            unreported,
            "a session was changed after its response had been sent: the change is lost"
        );
    }
}

/// A handler asks for the session of a middleware that is not there.
pub(crate) fn not_around(cookie: &str, error: &dyn std::fmt::Display) {
    static MISSING: Throttle = Throttle::new();

    if let Some(unreported) = MISSING.pass(Some(cookie)) {
        tracing::error!(unreported, "{error}");
    }
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

/// Whoever sends logout tokens can cause it.
pub(crate) fn no_provider_keys(error: &dyn std::error::Error) {
    static FAILED: Throttle = Throttle::new();

    if let Some(unreported) = FAILED.pass(None) {
        tracing::error!(
            error = %chain(error),
            unreported,
            "the keys of an identity provider could not be had: its logout token is refused for now"
        );
    }
}

/// The reason shows nothing of the token.
#[cfg(feature = "_backend")]
pub(crate) fn logout_token_refused(reason: &crate::BackChannelLogoutError) {
    static REFUSED: Throttle = Throttle::new();

    if let Some(unreported) = REFUSED.pass(None) {
        tracing::warn!(
            %reason,
            unreported,
            "a logout token was refused: the sessions that it may name go on"
        );
    }
}

/// What a request says of itself is the client's, and not shown.
pub(crate) fn cross_site(reason: CrossSiteReason) {
    static REFUSED: Throttle = Throttle::new();

    if let Some(unreported) = REFUSED.pass(None) {
        tracing::info!(%reason, unreported, "a request from another site was refused");
    }
}

pub(crate) fn replaced_line() {
    static REPLACED: Throttle = Throttle::new();

    if let Some(unreported) = REPLACED.pass(None) {
        tracing::warn!(
            unreported,
            "a handler set a cookie named like the session cookie; it was replaced"
        );
    }
}

pub(crate) fn replaced_field() {
    static REPLACED: Throttle = Throttle::new();

    if let Some(unreported) = REPLACED.pass(None) {
        tracing::warn!(
            unreported,
            "a handler set a header field named like the session header; it was replaced"
        );
    }
}

/// Two middlewares of one request have a cookie's or header's name in common.
pub(crate) fn wrapped_twice(name: &str) {
    static FIRST: FirstTime = FirstTime::new();
    if FIRST.is_now() {
        tracing::warn!(
            cookie = name,
            "two session middlewares around one handler have the same cookie name, or header: the \
             inner one's is sent; wrap once, or give each its own `cookie_name` and `header`"
        );
    }
}

/// What the application has set for the entry that names the principal can be none.
pub(crate) fn no_principal(entry: &str) {
    static FIRST: FirstTime = FirstTime::new();
    if FIRST.is_now() {
        tracing::warn!(
            entry,
            "the session entry that `principal_entry` names was set to a value that can be no \
             principal: it must be a JSON string of 1 to {LONGEST_PRINCIPAL} bytes; such sessions \
             count as nobody's, are in no list, and cannot be revoked"
        );
    }
}

/// Said once for each kind: each worker builds the middleware anew.
pub(crate) fn invalid_setting(error: &ConfigError) {
    static SAID: Mutex<Vec<ConfigError>> = Mutex::new(Vec::new());

    let mut said = lock(&SAID);
    if said.contains(error) {
        return;
    }
    said.push(error.clone());
    drop(said);
    tracing::warn!(%error, "a session setting is invalid");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_kind_is_one_event_a_second_that_counts_the_others() {
        for session in [None, Some("a")] {
            let throttle = Throttle::new();
            assert_eq!(throttle.pass_at(1, session), Some(0));
            for _ in 0..1_000 {
                assert_eq!(throttle.pass_at(1, session), None);
            }
            assert_eq!(throttle.pass_at(2, session), Some(1_000));
            assert_eq!(throttle.pass_at(3, session), Some(0));
        }
    }

    #[test]
    fn sessions_have_an_event_each_up_to_a_limit() {
        let throttle = Throttle::new();
        for _ in 0..2 {
            for session in 0..1_000 {
                throttle.pass_at(1, Some(&format!("{session}")));
            }
        }
        let held_back = 2_000 - Throttle::MOST as u64;
        assert_eq!(throttle.pass_at(2, Some("a")), Some(held_back));
    }
}
