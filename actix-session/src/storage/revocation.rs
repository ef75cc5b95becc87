//! A list of ended sessions on the server, which ends cookie-stored sessions early.

use std::{future::Future, pin::Pin, time::SystemTime};

use crate::{clock::Millis, digest, record::Metadata};

/// A future of a [`RevocationStore`]. It is `Send`, as the calls of a [`CookieSessionStore`](super::CookieSessionStore) are.
pub type RevocationFuture<'a, T> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + Send + 'a>>;

/// Keeps the list of ended sessions for a [`CookieSessionStore`](super::CookieSessionStore).
///
/// The stores of this crate that keep records on the server implement it, except
/// `RedisActorSessionStore` and `AnySessionStore`. A name is the digest of what was revoked, and reveals
/// nothing of it.
///
/// # Examples
/// ```
/// use actix_session::storage::{CookieSessionStore, MemorySessionStore};
///
/// let store = CookieSessionStore::default().with_revocation(MemorySessionStore::new());
/// # let _ = store;
/// ```
pub trait RevocationStore: Send + Sync + 'static {
    /// Notes that `name` was revoked at the time `at`, and keeps the note until `until`. Returns
    /// whether there was no note before.
    ///
    /// If there is a note already, the later times win. If several calls note one name at once,
    /// exactly one must return `true`: a renewal that is not the first to end its old cookie has
    /// lost against a logout. If that cannot be known, `false` is the safe answer.
    fn revoke<'a>(
        &'a self,
        name: &'a str,
        at: SystemTime,
        until: SystemTime,
    ) -> RevocationFuture<'a, bool>;

    /// When `name` was revoked, or `None` if there is no note, or no longer one.
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

    /// Whether a session has ended that is known as this, or all sessions of whose it is.
    pub(super) async fn has_ended(&self, known: &Metadata) -> anyhow::Result<bool> {
        let id = note_of("session", known.id);
        if self.store.revoked_at(&id).await?.is_some() {
            return Ok(true);
        }
        let Some(auth) = &known.auth else {
            return Ok(false);
        };
        let name = note_name("principal", &auth.principal);
        let revoked = self.store.revoked_at(&name).await?;
        Ok(revoked.is_some_and(|at| auth.login() <= Millis::from(at)))
    }
}

pub(super) fn note_of(kind: &str, id: u128) -> String {
    note_name(kind, &format!("{id:032x}"))
}

/// The id that a renewal gives. A logout that knows only the old one can compute it.
pub(super) fn renewed_id(id: u128) -> u128 {
    id_after("id after", id)
}

/// The id of what is left of a session after a logout or a login over it. A purge that knows only the old
/// one can compute it.
pub(super) fn left_id(id: u128) -> u128 {
    id_after("id left after", id)
}

fn id_after(kind: &str, id: u128) -> u128 {
    let name = note_of(kind, id);
    u128::from_str_radix(&name[..32], 16).expect("a digest is hexadecimal")
}

/// The name of a note. It reveals nothing of what the note is about.
pub(super) fn note_name(kind: &str, what: &str) -> String {
    digest::hex(&format!("actix-session revoked {kind}\0{what}"))
}
