//! Carries out a purge even if the handler panics or is dropped halfway.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use actix_web::{
    HttpMessage as _,
    dev::{Service, ServiceRequest},
};
use tokio::sync::oneshot;

use super::{
    Parts,
    commit::{Departure, Failed, SetCookie, commit, end, limit},
    decide::Exit,
    load::Incoming,
};
use crate::{Session, error::CommitError, event, session::InRequest, storage::SessionStore};

/// Makes a session the innermost one of its request, until it is dropped: then the plain extractor
/// gives the outer session again, however the request ends.
pub(crate) struct Innermost(InRequest);

impl Innermost {
    pub(crate) fn enter(req: &ServiceRequest, session: &Session, cookie: &Rc<str>) -> Self {
        let mut extensions = req.extensions_mut();
        let sessions = extensions.get::<InRequest>().cloned().unwrap_or_default();
        if sessions.has(cookie) {
            event::wrapped_twice(cookie);
        }
        sessions.push(session.clone(), Rc::clone(cookie));
        extensions.insert(sessions.clone());
        Self(sessions)
    }

    /// Notes that a middleware has set or removed the cookie of this name.
    pub(crate) fn note_written(&self, cookie: Rc<str>) {
        self.0.note_written(cookie);
    }

    /// Whether another middleware, further in, has.
    pub(crate) fn has_written(&self, cookie: &str) -> bool {
        self.0.has_written(cookie)
    }
}

impl Drop for Innermost {
    fn drop(&mut self) {
        self.0.pop();
    }
}

/// Finishes a request's session, whether its future is polled to the end or dropped.
pub(crate) struct Guard<Store: SessionStore + 'static>(Stage<Store>);

enum Stage<Store> {
    Serving(Unfinished<Store>),
    /// The store has been asked: that is finished without the client, too.
    Committing(Committing<Store>, Departure),
    Done,
}

struct Unfinished<Store> {
    parts: Rc<Parts<Store>>,
    incoming: Incoming,
    session: Session,
    /// `purge_now` has already ended the session.
    ended: bool,
}

/// A request whose session is finished.
pub(crate) struct Finished<Store> {
    pub(crate) parts: Rc<Parts<Store>>,
    pub(crate) incoming: Incoming,
    pub(crate) set_cookie: Result<SetCookie, Failed>,
}

impl<Store> Finished<Store> {
    pub(crate) fn error(self) -> Option<CommitError> {
        self.set_cookie.err().map(|failed| failed.error)
    }
}

type Committing<Store> = Pin<Box<dyn Future<Output = Finished<Store>>>>;

impl<Store: SessionStore + 'static> Guard<Store> {
    pub(crate) fn new(parts: Rc<Parts<Store>>, incoming: Incoming, session: Session) -> Self {
        Self(Stage::Serving(Unfinished {
            parts,
            incoming,
            session,
            ended: false,
        }))
    }

    /// Commits what was asked of the session.
    pub(crate) async fn commit(&mut self, exit: Exit) -> Finished<Store> {
        if let Stage::Serving(unfinished) = std::mem::replace(&mut self.0, Stage::Done) {
            let departure = Departure::default();
            let committing = unfinished.commit(exit, departure.clone());
            self.0 = Stage::Committing(Box::pin(committing), departure);
        }
        let finished = poll_fn(|cx| match &mut self.0 {
            Stage::Committing(committing, _) => committing.as_mut().poll(cx),
            Stage::Serving(_) | Stage::Done => Poll::Pending,
        });
        let finished = finished.await;
        self.0 = Stage::Done;
        finished
    }

    /// Ends the session now, for a handler that waits for it.
    async fn end_now(&mut self, answer: oneshot::Sender<anyhow::Result<()>>) {
        let Stage::Serving(unfinished) = &mut self.0 else {
            return;
        };
        let limit = limit(unfinished.parts.configuration.terms.budget);
        let result = end(&unfinished.parts, &unfinished.incoming, limit).await;
        unfinished.ended = result.is_ok();
        // The purge counts even if the handler no longer waits.
        let _ = answer.send(result);
    }
}

impl<Store: SessionStore + 'static> Unfinished<Store> {
    async fn commit(self, exit: Exit, departure: Departure) -> Finished<Store> {
        let snapshot = self.session.lock().take_snapshot();
        let Self {
            parts,
            incoming,
            ended,
            ..
        } = self;
        let set_cookie = commit(&parts, &incoming, &snapshot, exit, ended, &departure).await;
        Finished {
            parts,
            incoming,
            set_cookie,
        }
    }
}

impl<Store: SessionStore + 'static> Drop for Guard<Store> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.0, Stage::Done) {
            Stage::Serving(unfinished) if unfinished.session.lock().is_asked_for_anything() => {
                let departure = Departure::default();
                spawn(Box::pin(unfinished.commit(Exit::NoHead, departure)));
            }
            Stage::Committing(committing, departure) => {
                departure.note();
                spawn(committing);
            }
            Stage::Serving(_) | Stage::Done => {}
        }
    }
}

/// Best effort: at shutdown the worker may not live long enough.
fn spawn<Store: 'static>(committing: Committing<Store>) {
    let work = async move {
        let finished = committing.await;
        event::log_failure("commit", finished.error());
    };
    // `spawn` panics if this thread takes no local tasks right now, and there is no way to ask
    // first.
    let on_worker =
        actix_web::rt::System::is_registered() && tokio::runtime::Handle::try_current().is_ok();
    let spawned =
        on_worker && catch_unwind(AssertUnwindSafe(|| drop(actix_web::rt::spawn(work)))).is_ok();
    if !spawned {
        event::not_finished();
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
