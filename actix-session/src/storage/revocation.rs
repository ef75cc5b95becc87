//! What ends cookie-stored sessions before their time: a list of the ended ones on the server.

use std::{future::Future, pin::Pin, time::SystemTime};

use crate::{clock::Millis, digest};

/// A future of a [`RevocationStore`].
pub type RevocationFuture<'a, T> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + 'a>>;

/// Where a [`CookieSessionStore`](super::CookieSessionStore) keeps which sessions have ended.
///
/// The stores of this crate that keep records on the server implement it. A name is the digest of
/// what was revoked, and tells nothing of it.
///
/// # Examples
/// ```
/// use actix_session::storage::{CookieSessionStore, MemorySessionStore};
///
/// let store = CookieSessionStore::default().with_revocation(MemorySessionStore::new());
/// # let _ = store;
/// ```
pub trait RevocationStore: Send + Sync + 'static {
    /// Notes that what is named was revoked at that time, and keeps the note until then; answers
    /// whether there was no note before.
    ///
    /// A note that is there already keeps its later times. Of several that note one name at once
    /// exactly one is answered `true`: a renewal that is not the first to end its old cookie has
    /// lost against a logout. Where that cannot be known, `false` is the safe answer.
    fn revoke<'a>(
        &'a self,
        name: &'a str,
        at: SystemTime,
        until: SystemTime,
    ) -> RevocationFuture<'a, bool>;

    /// When what is named was revoked, where it was and the note is kept still.
    fn revoked_at<'a>(&'a self, name: &'a str) -> RevocationFuture<'a, Option<SystemTime>>;
}

/// A list, and how a cookie-stored session is named on it.
pub(super) struct Revocation {
    pub(super) store: Box<dyn RevocationStore>,
}

impl Revocation {
    pub(super) async fn revoke(
        &self,
        name: &str,
        at: Millis,
        until: Millis,
    ) -> anyhow::Result<bool> {
        self.store
            .revoke(name, at.to_system_time(), until.to_system_time())
            .await
    }
}

pub(super) fn note_of(kind: &str, id: u128) -> String {
    note_name(kind, &format!("{id:032x}"))
}

/// The id that a renewal gives: a logout that knows the old one alone can tell it.
pub(super) fn renewed_id(id: u128) -> u128 {
    let name = note_of("id after", id);
    u128::from_str_radix(&name[..32], 16).expect("a digest is hexadecimal")
}

/// The name of a note, which tells nothing of what it is about.
pub(super) fn note_name(kind: &str, what: &str) -> String {
    digest::hex(&format!("actix-session revoked {kind}\0{what}"))
}
