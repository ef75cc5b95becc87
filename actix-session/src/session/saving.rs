//! Commits that a handler waits for, before it has answered.

use std::{
    error::Error as StdError,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use derive_more::Display;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::{
    Session,
    errors::{SessionSaveError, SessionTakeError, reserved},
    parse, unloaded,
};
use crate::{
    changes::Modify,
    error::{CommitError, Contended, Degraded, Gone, OutcomeUnknown, StoreFull, TooManySessions},
    record::RESERVED,
};

/// What [`Session::save`] has done.
///
/// # Examples
/// ```
/// use actix_session::{Saved, Session};
/// use actix_web::HttpResponse;
///
/// async fn order(session: Session) -> actix_web::Result<HttpResponse> {
///     session.insert("state", "ordered")?;
///     Ok(match session.save().await? {
///         Saved::Done => HttpResponse::Ok().body("the order is stored"),
///         _ => HttpResponse::Ok().body("the order is stored with this response"),
///     })
/// }
/// # actix_web::web::to(order);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Saved {
    /// The store has the changes, or there were none. They stay, whatever the handler answers. If another
    /// request has renewed the session meanwhile, they have followed as far as they apply there.
    Done,

    /// Nothing is written yet, since something is pending that only the response can complete: a
    /// purge, a renewal, a login, a new session, or a state that lives in the cookie. All of it is
    /// committed once the handler has answered.
    WithResponse,
}

/// One error for several that wait.
#[derive(Debug, Clone)]
pub(crate) enum Kept {
    Gone,
    Contended,
    Full,
    Degraded,
    OutcomeUnknown,
    TooManySessions,
    Other(Arc<anyhow::Error>),
}

impl Kept {
    pub(crate) fn new(error: CommitError) -> Self {
        match error {
            CommitError::Contended => Self::Contended,
            CommitError::Full => Self::Full,
            CommitError::OutcomeUnknown => Self::OutcomeUnknown,
            CommitError::Other(error) if error.is::<Gone>() => Self::Gone,
            CommitError::Other(error) if error.is::<Degraded>() => Self::Degraded,
            CommitError::Other(error) if error.is::<TooManySessions>() => Self::TooManySessions,
            error => Self::Other(Arc::new(error.into_anyhow())),
        }
    }

    pub(super) fn into_anyhow(self) -> anyhow::Error {
        match self {
            Self::Gone => Gone.into(),
            Self::Contended => Contended.into(),
            Self::Full => StoreFull.into(),
            Self::Degraded => Degraded.into(),
            Self::OutcomeUnknown => OutcomeUnknown.into(),
            Self::TooManySessions => TooManySessions.into(),
            Self::Other(error) => {
                Arc::try_unwrap(error).unwrap_or_else(|error| Shared(error).into())
            }
        }
    }
}

/// It says what the error says.
#[derive(Debug, Display)]
#[display("{_0}")]
struct Shared(Arc<anyhow::Error>);

impl StdError for Shared {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

pub(crate) type AskedToSave = oneshot::Sender<Result<Saved, Kept>>;

impl Session {
    /// Commits the changes made so far, and returns when the store has them.
    ///
    /// Without it, the middleware commits once the handler has answered. Call `save` before you do
    /// something that must not happen if the changes are lost: charge a card, or send a mail. What
    /// was saved stays, whatever the handler answers. The request goes on from the record that this
    /// has left, with what parallel requests have committed meanwhile.
    ///
    /// While a purge, a renewal, a login or a new session is pending, nothing is written, and the
    /// answer is [`Saved::WithResponse`]: only the response can complete these. The same goes for
    /// states that live in the cookie.
    ///
    /// The middleware does the work, on the request's own thread. Whoever blocks that thread until this
    /// returns (`futures::executor::block_on`) waits for ever; from another thread it works.
    ///
    /// # Errors
    /// - The session has ended meanwhile ([`is_gone`](SessionSaveError::is_gone)): the changes are
    ///   gone with it.
    /// - It is unknown whether the changes are stored
    ///   ([`is_outcome_unknown`](SessionSaveError::is_outcome_unknown)): they are not tried again,
    ///   and the response becomes a 500, whatever the handler answers.
    /// - The store has refused the changes, other requests kept changing the session, or one has just
    ///   renewed it: the changes wait for the response, and are tried again then.
    /// - The login that waits for the response would be one too many
    ///   ([`is_too_many_sessions`](SessionSaveError::is_too_many_sessions)).
    /// - The session could not be loaded ([`is_degraded`](Self::is_degraded)), or cannot be loaded now
    ///   ([`lazy`](crate::config::SessionMiddlewareBuilder::lazy)).
    /// - There is no middleware, or the request has been answered.
    ///
    /// # Concurrency
    /// Changes that other tasks of this request make while `save` runs wait for the next commit. If
    /// the handler drops the future, or the client goes, the commit is finished all the same.
    ///
    /// # Examples
    /// ```
    /// use actix_session::Session;
    ///
    /// async fn pay(session: Session) -> actix_web::Result<&'static str> {
    ///     session.insert("order", "paid")?;
    ///     session.save().await?;
    ///     // Now charge the card.
    ///     Ok("thank you")
    /// }
    /// # actix_web::web::to(pay);
    /// ```
    pub async fn save(&self) -> Result<Saved, SessionSaveError> {
        let asked = self.lock().ask_for_save();
        let Some((answer, waker)) = asked else {
            return Err(unattached());
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        match answer.await {
            Ok(outcome) => outcome.map_err(|kept| SessionSaveError(kept.into_anyhow())),
            Err(_) => Err(unattached()),
        }
    }

    /// Removes an entry at once, and returns its value if this request is the one that has removed
    /// it: of several requests that take one value, one gets it. If another request clears the
    /// session or renews it meanwhile, perhaps nobody does.
    ///
    /// This is for what may be used once: a token, a nonce, a pending login. It is a
    /// [`save`](Self::save), so that other changes made so far are committed too. Whoever loses the
    /// store's answer loses the value.
    ///
    /// If the store refuses, the value stays, and can be taken again.
    ///
    /// Two kinds of store cannot keep this promise between requests: with cookie-stored sessions,
    /// and in a custom store with the five published methods alone, two parallel requests can get
    /// the same value.
    ///
    /// As with [`save`](Self::save), nobody must block the request's own thread meanwhile.
    ///
    /// # Errors
    /// The value is of another type, and stays; the name is reserved; a renewal, a login or a purge
    /// is pending, so that nothing can be committed now; the session is not loaded
    /// ([`lazy`](crate::config::SessionMiddlewareBuilder::lazy)); or as for [`save`](Self::save).
    ///
    /// A session that no middleware serves ([`Session::new`]) just loses the entry.
    ///
    /// # Examples
    /// ```
    /// use actix_session::Session;
    ///
    /// async fn confirm(session: Session) -> actix_web::Result<&'static str> {
    ///     Ok(match session.take::<String>("token").await? {
    ///         Some(_token) => "confirmed",
    ///         None => "this link has been used",
    ///     })
    /// }
    /// # actix_web::web::to(confirm);
    /// ```
    pub async fn take<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<T>, SessionTakeError> {
        if key == RESERVED {
            return Err(SessionTakeError(reserved(key)));
        }
        loop {
            // What is being saved may already be seen by others.
            while self.lock().is_saving() {
                self.save()
                    .await
                    .map_err(|error| SessionTakeError(error.0))?;
            }
            let Some(json) = self.loaded_text(key).map_err(SessionTakeError)? else {
                // Whoever is told that there is none would take it for used.
                let session = self.lock();
                return match session.is_hidden_for_now() {
                    true if session.degraded => Err(SessionTakeError(Degraded.into())),
                    true => Err(SessionTakeError(Contended.into())),
                    false => Ok(None),
                };
            };
            let value = parse(key, &json).map_err(SessionTakeError)?;
            match self.remove_if_same(key, &json).map_err(SessionTakeError)? {
                Taking::Changed => {}
                Taking::Alone => return Ok(Some(value)),
                Taking::Own => {
                    self.taken_own(key, json).await.map_err(SessionTakeError)?;
                    return Ok(Some(value));
                }
                Taking::Asked(taken) => {
                    let is_ours = self.taken(key, &taken, json).await;
                    return Ok(is_ours.map_err(SessionTakeError)?.then_some(value));
                }
            }
        }
    }

    /// Whether this request was the one that has removed an entry. If nothing was done, the entry
    /// stays.
    async fn taken(
        &self,
        key: &str,
        taken: &Arc<AtomicBool>,
        json: String,
    ) -> anyhow::Result<bool> {
        let is_ours = || Ok(taken.load(Ordering::Acquire));
        let error = match self.save().await {
            Ok(Saved::Done) => return is_ours(),
            Ok(Saved::WithResponse) => None,
            Err(error) if error.is_final() => return Err(error.0),
            Err(error) => Some(error.0),
        };
        let mut session = self.lock();
        let is_withdrawn = session.withdraw(key, taken, json);
        // Another task has purged the session or logged in, and nobody has asked the store.
        let is_discarded = !session.can_save() && !taken.load(Ordering::Acquire);
        drop(session);
        match error {
            // The store has a new value for the cookie, which the response carries.
            None if !is_withdrawn && !is_discarded => is_ours(),
            error => Err(error.unwrap_or_else(pending)),
        }
    }

    /// Saves what this request has removed of its own, which stays if nothing was done.
    async fn taken_own(&self, key: &str, json: String) -> anyhow::Result<()> {
        let Err(error) = self.save().await else {
            return Ok(());
        };
        if !error.is_final() {
            self.lock().put_back(key, json);
        }
        Err(error.0)
    }

    /// Removes an entry as soon as it is committed, if it has the same value then.
    fn remove_if_same(&self, key: &str, json: &str) -> anyhow::Result<Taking> {
        let mut session = self.lock();
        session.writable()?;
        if session.value(key).as_deref() != Some(json) {
            return Ok(Taking::Changed);
        }
        anyhow::ensure!(!session.is_unknown(key), unloaded::error());
        if session.decides_alone(key) {
            session.remove(key);
            let alone = !session.endings().is_attached();
            return Ok(if alone { Taking::Alone } else { Taking::Own });
        }
        anyhow::ensure!(session.can_save(), pending());
        let taken = Arc::new(AtomicBool::new(false));
        let (flag, json) = (Arc::clone(&taken), json.to_owned());
        let take = move |stored: Option<&str>| {
            let is_same = stored == Some(json.as_str());
            flag.store(is_same, Ordering::Release);
            Ok(stored.filter(|_| !is_same).map(str::to_owned))
        };
        let modify = Modify(Arc::new(take), Some(Arc::clone(&taken)));
        session.modify(key, modify, None);
        Ok(Taking::Asked(taken))
    }
}

/// Whose word counts for a removal.
enum Taking {
    /// Another task has changed the entry meanwhile.
    Changed,
    /// That of this handle, which no middleware serves.
    Alone,
    /// This request's alone.
    Own,
    /// The store's: set once the entry was removed where it stood.
    Asked(Arc<AtomicBool>),
}

fn pending() -> anyhow::Error {
    anyhow::anyhow!(
        "`take` cannot be called after a renewal, a login or a purge in the same request, since \
         nothing can be committed before the response: call it first"
    )
}

fn unattached() -> SessionSaveError {
    SessionSaveError(anyhow::anyhow!(
        "nothing was saved: `save` must be called while a SessionMiddleware serves the request"
    ))
}
