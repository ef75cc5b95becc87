//! Ends the sessions of which a request carried the keys.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::{Parts, commit::margin};
use crate::{
    EndReason, Session,
    error::CommitError,
    event,
    handed::{Handed, hand},
    key::SessionKey,
    measure::timed,
    observe::SessionEventKind,
    record::Owner,
    session::{Asked, Kept, Outcome},
    storage::SessionStore,
};

/// Ends every session of which a verified key came: all at once, so that each is tried before any
/// is repeated. The owner is that of the one in use. Nothing is told of a key that leads nowhere.
pub(crate) async fn end<'a, S: SessionStore>(
    parts: &Parts<S>,
    keys: impl Iterator<Item = (&'a SessionKey, bool)>,
    owner: Option<&Owner>,
    limit: Instant,
) -> anyhow::Result<()> {
    let terms = &parts.configuration.terms;
    let handed = &Handed {
        until: limit.checked_sub(margin(terms.budget)).unwrap_or(limit),
        ..terms.handed()
    };
    let endings = join_all(keys.enumerate().map(|(index, (key, leads))| async move {
        // The key in use comes first.
        let owner = owner.filter(|_| index == 0);
        let handed = Handed {
            owner: owner.cloned(),
            ..handed.clone()
        };
        let deleting = hand(handed, parts.store.delete(key));
        timed("delete", deleting).await.0?;
        if !leads {
            return Ok(());
        }
        event::ended(key);
        let kind = SessionEventKind::Ended(EndReason::LoggedOut);
        parts
            .observed()
            .tell(kind, Some(key), owner.map(|owner| &*owner.principal));
        Ok(())
    }));
    match timeout_at(limit, endings).await {
        Ok(endings) => endings.into_iter().collect(),
        Err(_) => anyhow::bail!("the store did not end the sessions within the time limit"),
    }
}

/// An ending that a handler waits for.
pub(crate) struct Ending {
    work: Pin<Box<dyn Future<Output = anyhow::Result<()>>>>,
    asked: Vec<Asked>,
}

impl Ending {
    pub(crate) fn new<S: SessionStore + 'static>(
        parts: &Rc<Parts<S>>,
        keys: Vec<(SessionKey, bool)>,
        owner: Option<Owner>,
        asked: Vec<Asked>,
        limit: Instant,
    ) -> Self {
        let parts = Rc::clone(parts);
        let work = async move {
            let keys = keys.iter().map(|(key, leads)| (key, *leads));
            end(&parts, keys, owner.as_ref(), limit).await
        };
        Self {
            work: Box::pin(work),
            asked,
        }
    }

    /// Whether the session has ended. All that have asked until now get the answer.
    pub(crate) fn poll(&mut self, session: &Session, cx: &mut Context<'_>) -> Poll<bool> {
        let outcome = ready!(self.work.as_mut().poll(cx));
        let outcome: Outcome = outcome.map_err(|error| Kept::new(CommitError::of_store(error)));
        let asked = self.asked.drain(..).chain(session.take_asked());
        for asked in asked {
            // The ending counts even if the handler no longer waits.
            let _ = asked.send(outcome.clone());
        }
        Poll::Ready(outcome.is_ok())
    }
}
