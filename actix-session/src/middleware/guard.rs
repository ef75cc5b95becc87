//! Carries out a purge even if the handler panics or is dropped halfway.

use std::{
    future::{Future, poll_fn},
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{HttpMessage as _, dev::ServiceRequest};
use tokio::time::Instant;

use super::{
    Parts,
    commit::{Departure, Failed, SetCookie, WayOut, commit, limit},
    decide::{Exit, is_left},
    end::Ending,
    lazy::WayIn,
    save::{After, Saving, Way},
    watching::{watch_found, watch_made},
};
use crate::{
    Session,
    boxed::boxed,
    changes::Made,
    error::CommitError,
    event,
    session::{Held, InRequest},
    storage::SessionStore,
};

/// Makes a session the innermost one of its request, until it is dropped: then the plain extractor
/// gives the outer session again, however the request ends.
pub(crate) struct Innermost(InRequest);

impl Innermost {
    pub(crate) fn enter(
        req: &ServiceRequest,
        held: Held,
        cookie: Rc<str>,
        written_as: &Rc<str>,
    ) -> Self {
        let mut extensions = req.extensions_mut();
        let sessions = extensions.get::<InRequest>().cloned().unwrap_or_default();
        if sessions.has(written_as) {
            event::wrapped_twice(written_as);
        }
        sessions.push(held, cookie, Rc::clone(written_as));
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

#[allow(
    clippy::large_enum_variant,
    reason = "it is made once a request, and most requests stay in the largest one"
)]
enum Stage<Store> {
    Serving(Unfinished<Store>),
    /// The store has been asked: that is finished without the client, too.
    Committing(Committing<Store>, Departure),
    Done,
}

struct Unfinished<Store> {
    parts: Rc<Parts<Store>>,
    way_in: WayIn<Store>,
    session: Attached,
    /// `purge_now` asked for it, and the store has not answered yet.
    ending: Option<Ending>,
    /// `purge_now` has already ended the session.
    ended: bool,
    /// `save` asked for it, and the store has not answered yet.
    saving: Option<Box<Saving>>,
    /// Nobody knows what became of something that was saved.
    is_unknown: bool,
}

/// The session's handle, until nobody serves it any more, for whatever reason.
struct Attached {
    session: Session,
    is_finished: bool,
}

impl Deref for Attached {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if !self.is_finished {
            self.session.lock().finish();
        }
    }
}

/// A request whose session is settled: what remains is to answer.
pub(crate) struct Settled<Store> {
    pub(crate) parts: Rc<Parts<Store>>,
    pub(crate) way_in: WayIn<Store>,
    pub(crate) set_cookie: Result<SetCookie, Failed>,
}

impl<Store> Settled<Store> {
    /// Nobody reads the answer but the log.
    pub(crate) fn log(self) {
        if let Err(failed) = self.set_cookie {
            failed.log(self.parts.observed());
        }
    }
}

type Committing<Store> = Pin<Box<dyn Future<Output = Settled<Store>>>>;

impl<Store: SessionStore + 'static> Guard<Store> {
    pub(crate) fn new(parts: Rc<Parts<Store>>, way_in: WayIn<Store>, session: Session) -> Self {
        Self(Stage::Serving(Unfinished {
            parts,
            way_in,
            session: Attached {
                session,
                is_finished: false,
            },
            ending: None,
            ended: false,
            saving: None,
            is_unknown: false,
        }))
    }

    /// If there is nothing to commit and the cookie stays as it is, finishes the session, and returns
    /// whether the application has asked for it.
    pub(crate) fn leave(&mut self, exit: Exit) -> Option<bool> {
        match &mut self.0 {
            Stage::Serving(unfinished) => unfinished.leave(exit),
            Stage::Committing(..) | Stage::Done => None,
        }
    }

    /// Commits what was asked of the session.
    pub(crate) async fn commit(&mut self, exit: Exit) -> Settled<Store> {
        if let Stage::Serving(unfinished) = std::mem::replace(&mut self.0, Stage::Done) {
            let departure = Departure::of(&unfinished.session);
            let way_out = unfinished.way_out(exit);
            self.0 = Stage::Committing(boxed(|| unfinished.commit(way_out)), departure);
        }
        poll_fn(|cx| {
            // Taken out: what panics must not be polled again.
            let stage = std::mem::replace(&mut self.0, Stage::Done);
            let Stage::Committing(mut committing, departure) = stage else {
                return Poll::Pending;
            };
            let polled = committing.as_mut().poll(cx);
            if polled.is_pending() {
                self.0 = Stage::Committing(committing, departure);
            }
            polled
        })
        .await
    }

    /// Ends or commits the session if the handler has asked for that.
    pub(crate) fn work_if_asked(&mut self, cx: &mut Context<'_>) {
        if let Stage::Serving(unfinished) = &mut self.0 {
            // The handler does not wait for this poll, and is told when there is an answer.
            let _ = unfinished.poll_asked(cx, None);
        }
    }
}

impl<Store: SessionStore + 'static> Unfinished<Store> {
    fn budget(&self) -> Duration {
        self.parts.configuration.terms.budget
    }

    /// Its time runs from now on.
    fn way_out(&self, exit: Exit) -> WayOut {
        WayOut::new(exit, Departure::of(&self.session), self.budget())
    }

    #[allow(
        clippy::manual_async_fn,
        reason = "a block uses what it captures where it lies; a function moves its arguments, and \
                  keeps room for both"
    )]
    fn commit(mut self, way_out: WayOut) -> impl Future<Output = Settled<Store>> {
        async move {
            poll_fn(|cx| self.poll_asked(cx, Some(way_out.limit))).await;
            let waiting = self.session.take_waiting_for_later();
            way_out.is_awaited.set(!waiting.is_empty());
            let mut snapshot = self.session.lock().take_snapshot();
            snapshot.changes.made = (!waiting.is_empty()).then(Made::default);
            drop(self.session);
            let (parts, way_in) = (&self.parts, &self.way_in);
            let loaded = way_in.load_for(&mut snapshot, way_out.limit).await;
            if snapshot.depends_on_owner() {
                snapshot.settle_named(way_in.incoming().loaded.record());
            }
            // In a box it takes less room while the commit runs.
            let set_cookie = match loaded.map_err(Box::new) {
                Ok(()) if self.is_unknown && !snapshot.purged => {
                    Err(CommitError::OutcomeUnknown.into())
                }
                // Without a response nobody hears of the failed load, and a purge is tried all the same.
                Err(failed) if way_out.has_head() || !snapshot.purged => Err(*failed),
                Ok(()) | Err(_) => {
                    commit(parts, way_in.incoming(), &snapshot, self.ended, &way_out).await
                }
            };
            if !waiting.is_empty() && set_cookie.is_ok() {
                let made = snapshot.changes.made.as_ref().and_then(Made::metadata);
                let loaded = &way_in.incoming().loaded;
                // A `clear` of what was empty writes nothing, and the session goes on.
                let cleared = snapshot.changes.cleared.is_some() && !snapshot.changes.renews();
                let is_kept = cleared && loaded.record().is_some();
                let came = loaded.key().filter(|_| !snapshot.purged);
                let came = came.filter(|_| made.is_some() || is_kept);
                // Nobody waits any more if none was made.
                if let Some(key) = way_out.made.borrow().as_deref().or(came) {
                    watch_made(parts, (key, made.as_ref()), waiting);
                }
            }
            Settled {
                parts: self.parts,
                way_in: self.way_in,
                set_cookie,
            }
        }
    }

    /// Finishes the session if it was asked for nothing and stays as it is.
    fn leave(&mut self, exit: Exit) -> Option<bool> {
        let waits = self.ending.is_some() || self.saving.is_some();
        let busy = waits || self.ended || self.is_unknown || self.way_in.has_failed();
        let policy = || self.parts.policy();
        let loaded = self.way_in.loaded();
        if busy || loaded.is_some_and(|incoming| !is_left(incoming, exit, policy())) {
            return None;
        }
        let mut pending = self.session.lock();
        if !pending.is_at_rest() {
            return None;
        }
        pending.finish();
        let asked = pending.asked;
        drop(pending);
        self.session.is_finished = true;
        Some(asked)
    }

    fn is_asked_for_anything(&self) -> bool {
        let is_at_rest = || self.session.lock().is_at_rest();
        self.saving.is_some() || !self.session.is_finished && !is_at_rest()
    }

    /// Goes on with what the handler has asked for. What it saves may have been asked for while an
    /// ending ran, or the other way round.
    fn poll_asked(&mut self, cx: &mut Context<'_>, way_out: Option<Instant>) -> Poll<()> {
        if self.ending.is_none() && self.saving.is_none() && !self.session.is_asked() {
            return Poll::Ready(());
        }
        self.watch_present();
        let ended = self.poll_ending(cx, way_out);
        let saved = self.poll_saving(cx, way_out);
        if ended.is_pending() || saved.is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Goes on with the commit that was asked for, until there is no more.
    fn poll_saving(&mut self, cx: &mut Context<'_>, way_out: Option<Instant>) -> Poll<()> {
        loop {
            let Some(mut saving) = self.saving.take().or_else(|| self.asked_to_save(way_out))
            else {
                return Poll::Ready(());
            };
            let Poll::Ready((after, answers)) = saving.poll(cx) else {
                self.saving = Some(saving);
                return Poll::Pending;
            };
            self.go_on(after);
            self.begin_watching();
            answers.send();
        }
    }

    fn asked_to_save(&self, way_out: Option<Instant>) -> Option<Box<Saving>> {
        let asked = self.session.take_asked_to_save();
        if asked.is_empty() {
            return None;
        }
        let way = match &self.way_in {
            WayIn::Loaded(incoming) => Way::Loaded(Box::new(incoming.duplicate())),
            WayIn::Lazy(lazy) => Way::Lazy(Rc::clone(lazy)),
        };
        let limit = way_out.unwrap_or_else(|| limit(self.budget()));
        let saving = Saving::new(&self.parts, way, &self.session, asked, limit);
        Some(Box::new(saving))
    }

    fn go_on(&mut self, after: After) {
        let session = &self.session;
        match after {
            After::AsBefore => session.lock().not_saved(),
            After::Saved(changes, incoming) => {
                if let Some(record) = incoming.loaded.record() {
                    session.go_on_from(record.clone(), &changes);
                }
                self.way_in = WayIn::Loaded(*incoming);
            }
            After::Unneeded(changes) => session.lock().not_needed(&changes),
            After::Gone(changes) => session.lock().give_up(&changes),
            After::Unknown(changes) => {
                session.lock().give_up(&changes);
                self.is_unknown = true;
            }
        }
    }

    /// Those who wait for the end of what was saved need not wait for the response.
    fn begin_watching(&self) {
        let waiting = self.session.take_waiting_for_present();
        let loaded = &self.way_in.incoming().loaded;
        if let Some((key, record)) = loaded.key().zip(loaded.record()) {
            watch_made(&self.parts, (key, record.metadata()), waiting);
        }
    }

    /// Goes on with the ending that was asked for, until there is no more. On the way out, nothing
    /// has a time limit of its own.
    fn poll_ending(&mut self, cx: &mut Context<'_>, way_out: Option<Instant>) -> Poll<()> {
        loop {
            // If it panics, nobody polls it again: the commit ends the session then.
            let Some(mut ending) = self.ending.take().or_else(|| self.asked_for(way_out)) else {
                return Poll::Ready(());
            };
            let Poll::Ready(ended) = ending.poll(&self.session, cx) else {
                self.ending = Some(ending);
                return Poll::Pending;
            };
            self.ended |= ended;
        }
    }

    /// Hands those to the store who wait for the end of what was loaded.
    fn watch_present(&self) {
        let waiting = self.session.take_waiting();
        if waiting.is_empty() {
            return;
        }
        let loaded = &self.way_in.incoming().loaded;
        if let Some(found) = loaded.key().zip(loaded.record()) {
            watch_found(&self.parts, found, waiting);
        }
    }

    fn asked_for(&self, way_out: Option<Instant>) -> Option<Ending> {
        let asked = self.session.take_asked();
        if asked.is_empty() {
            return None;
        }
        let incoming = self.way_in.incoming();
        let keys = incoming
            .keys()
            .map(|(key, leads)| (key.duplicate(), leads))
            .collect();
        let limit = way_out.unwrap_or_else(|| limit(self.budget()));
        let owner = incoming.owner();
        Some(Ending::new(&self.parts, keys, owner, asked, limit))
    }
}

impl<Store: SessionStore + 'static> Drop for Guard<Store> {
    fn drop(&mut self) {
        let is_settled = match &self.0 {
            Stage::Serving(unfinished) => !unfinished.is_asked_for_anything(),
            Stage::Committing(..) => false,
            Stage::Done => true,
        };
        if is_settled {
            return;
        }
        match std::mem::replace(&mut self.0, Stage::Done) {
            Stage::Serving(unfinished) => {
                let way_out = unfinished.way_out(Exit::NoHead);
                spawn(Box::pin(unfinished.commit(way_out)));
            }
            Stage::Committing(committing, departure) => {
                departure.note();
                spawn(committing);
            }
            Stage::Done => {}
        }
    }
}

/// Best effort: at shutdown the worker may not live long enough.
fn spawn<Store: 'static>(committing: Committing<Store>) {
    let work = async move {
        committing.await.log();
    };
    if !on_worker(work) {
        event::not_finished();
    }
}

/// Whether an Actix server has made this thread for one of its workers.
pub(crate) fn is_workers_thread() -> bool {
    std::thread::current().name().is_some_and(|name| {
        name.starts_with("actix-rt|") || name.starts_with("actix-server worker")
    })
}

/// Runs a task on this worker. `false`: this thread is none.
pub(crate) fn on_worker(work: impl Future<Output = ()> + 'static) -> bool {
    // Under `#[tokio::main]`, workers have no actix `System`. `spawn` panics if this thread takes no
    // local tasks right now, and there is no way to ask first.
    let on_worker = (actix_web::rt::System::is_registered() || is_workers_thread())
        && tokio::runtime::Handle::try_current().is_ok();
    on_worker && catch_unwind(AssertUnwindSafe(|| drop(actix_web::rt::spawn(work)))).is_ok()
}
