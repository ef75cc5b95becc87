//! Carries out a purge even if the handler panics or is dropped halfway.

use std::{
    any::Any,
    future::{Future as _, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    task::Poll,
};

use actix_web::{
    HttpMessage as _, HttpRequest,
    dev::{Service, ServiceRequest},
};
use tokio::sync::oneshot;

use super::{
    Parts,
    commit::{commit, end},
    decide::Exit,
    load::Incoming,
};
use crate::{
    Session, event,
    session::{InRequest, Snapshot},
    storage::SessionStore,
};

/// The session of the outer middleware.
pub(crate) struct Outside(Option<InRequest>);

impl Outside {
    /// Makes the session the innermost one of the request.
    pub(crate) fn enter(req: &ServiceRequest, session: &Session) -> Self {
        Self(req.extensions_mut().insert(InRequest(session.clone())))
    }

    /// Makes the extractor return the outer session again, on the way out.
    pub(crate) fn leave(self, req: &HttpRequest) {
        if let Some(outer) = self.0 {
            req.extensions_mut().insert(outer);
        }
    }
}

/// Finishes a request's session if the request's future is dropped.
pub(crate) struct Guard<Store: SessionStore + 'static>(Option<Unfinished<Store>>);

struct Unfinished<Store> {
    parts: Rc<Parts<Store>>,
    incoming: Incoming,
    session: Session,
    /// `purge_now` has already ended the session.
    ended: bool,
}

impl<Store: SessionStore + 'static> Guard<Store> {
    pub(crate) fn new(parts: Rc<Parts<Store>>, incoming: Incoming, session: Session) -> Self {
        Self(Some(Unfinished {
            parts,
            incoming,
            session,
            ended: false,
        }))
    }

    pub(crate) fn disarm(mut self) -> (Rc<Parts<Store>>, Incoming, bool) {
        let unfinished = self.0.take().expect("a guard is disarmed once, by value");
        (unfinished.parts, unfinished.incoming, unfinished.ended)
    }

    /// Ends the session now, for a handler that waits for it.
    async fn end_now(&mut self, answer: oneshot::Sender<anyhow::Result<()>>) {
        let Some(unfinished) = &mut self.0 else {
            return;
        };
        let result = end(&unfinished.parts, &unfinished.incoming).await;
        unfinished.ended = result.is_ok();
        // The purge counts even if the handler no longer waits.
        let _ = answer.send(result);
    }
}

impl<Store: SessionStore + 'static> Drop for Guard<Store> {
    fn drop(&mut self) {
        let Some(unfinished) = self.0.take() else {
            return;
        };
        let snapshot = unfinished.session.lock().take_snapshot();
        if snapshot.purged || !snapshot.changes.is_empty() {
            spawn_finish(unfinished, snapshot);
        }
    }
}

/// Best effort: at shutdown the worker may not live long enough.
fn spawn_finish<Store: SessionStore + 'static>(unfinished: Unfinished<Store>, snapshot: Snapshot) {
    let key = unfinished
        .incoming
        .loaded
        .key()
        .map(|key| key.fingerprint());
    let work = async move {
        let Unfinished {
            parts,
            incoming,
            ended,
            ..
        } = unfinished;
        let committed = commit(&parts, &incoming, &snapshot, Exit::NoHead, ended).await;
        event::log_failure("commit", committed.err());
    };
    // `spawn` panics if this thread takes no local tasks right now, and there is no way to ask
    // first.
    let on_worker =
        actix_web::rt::System::is_registered() && tokio::runtime::Handle::try_current().is_ok();
    let spawned =
        on_worker && catch_unwind(AssertUnwindSafe(|| drop(actix_web::rt::spawn(work)))).is_ok();
    if !spawned {
        event::not_finished(key.as_deref());
    }
}

enum Event<T> {
    Answered(T),
    Purge(oneshot::Sender<anyhow::Result<()>>),
}

/// Runs the inner service to its end or a panic, and ends the session when the handler asks for it.
pub(crate) async fn serve<S, Store>(
    service: &S,
    req: ServiceRequest,
    session: &Session,
    guard: &mut Guard<Store>,
) -> Result<Result<S::Response, S::Error>, Box<dyn Any + Send>>
where
    S: Service<ServiceRequest>,
    Store: SessionStore + 'static,
{
    // A panic leaves only the handler's own state half done; ours is only read after it.
    let future = catch_unwind(AssertUnwindSafe(|| service.call(req)))?;
    let mut future = pin!(future);
    loop {
        let event = poll_fn(|cx| {
            session.lock().purge_requests().listen(cx.waker());
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
            match polled {
                Err(panic) => return Poll::Ready(Event::Answered(Err(panic))),
                Ok(Poll::Ready(result)) => return Poll::Ready(Event::Answered(Ok(result))),
                Ok(Poll::Pending) => {}
            }
            match session.lock().purge_requests().asked.take() {
                Some(answer) => Poll::Ready(Event::Purge(answer)),
                None => Poll::Pending,
            }
        });
        match event.await {
            Event::Answered(result) => return result,
            Event::Purge(answer) => guard.end_now(answer).await,
        }
    }
}
