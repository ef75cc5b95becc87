//! Commits what a handler has asked for before it answers.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, timeout_at};

use super::{
    Parts,
    commit::{tell_dropped, tell_logout, tell_lost_time},
    decide::{Decision, Exit, Finished, Silence},
    lazy::Lazy,
    load::{Incoming, Loaded},
};
use crate::{
    Session,
    changes::Changes,
    contract::{Committed, ExtendOnRead, Opened, Terms},
    error::CommitError,
    event,
    key::SessionKey,
    measure::{self, timed},
    observe::Observed,
    record::Record,
    session::{AskedToSave, Kept, Saved, Snapshot},
    storage::SessionStore,
};

/// A commit that a handler waits for.
pub(crate) struct Saving {
    work: Pin<Box<dyn Future<Output = Done>>>,
    asked: Vec<AskedToSave>,
}

/// What came of it.
pub(crate) struct Done {
    outcome: Result<Saved, CommitError>,
    /// The store was not asked, or its failure was told when the session was loaded.
    is_told: bool,
    pub(crate) after: After,
}

/// Where the request goes on from.
pub(crate) enum After {
    /// Nothing was done: the changes wait for the response.
    AsBefore,
    /// From the record that these changes have left.
    Saved(Changes, Box<Incoming>),
    /// The record is what these changes would make of it.
    Unneeded(Changes),
    /// The session has ended, and these changes with it.
    Gone(Changes),
    /// Nobody knows what became of these changes, so they are not tried again.
    Unknown(Changes),
}

/// What the request carried, or what loads it.
pub(crate) enum Way<Store> {
    Loaded(Box<Incoming>),
    Lazy(Rc<Lazy<Store>>),
}

impl Saving {
    pub(crate) fn new<S: SessionStore + 'static>(
        parts: &Rc<Parts<S>>,
        way: Way<S>,
        session: &Session,
        asked: Vec<AskedToSave>,
        limit: Instant,
    ) -> Self {
        let (parts, session) = (Rc::clone(parts), session.clone());
        let work = async move {
            let done = save(&parts, way, &session, limit).await;
            done.told(parts.observed())
        };
        Self {
            work: Box::pin(work),
            asked,
        }
    }

    /// Those who have asked meanwhile want what they have changed meanwhile, too, and wait for the
    /// next commit.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(After, Answers)> {
        let Done { outcome, after, .. } = ready!(self.work.as_mut().poll(cx));
        let outcome = outcome.map_err(Kept::new);
        let asked = std::mem::take(&mut self.asked);
        Poll::Ready((after, Answers { asked, outcome }))
    }
}

/// Sent once the handle shows what was saved.
pub(crate) struct Answers {
    asked: Vec<AskedToSave>,
    outcome: Result<Saved, Kept>,
}

impl Answers {
    pub(crate) fn send(self) {
        for asked in self.asked {
            // It counts even if the handler no longer waits.
            let _ = asked.send(self.outcome.clone());
        }
    }
}

impl Done {
    const fn new(outcome: Result<Saved, CommitError>, after: After) -> Self {
        Self {
            outcome,
            is_told: false,
            after,
        }
    }

    /// The response shows no detail, so the log has to.
    fn told(self, observed: &Observed) -> Self {
        if let Err(error) = &self.outcome
            && !self.is_told
        {
            observed.not_committed("save", error);
        }
        self
    }
}

async fn save<S: SessionStore + 'static>(
    parts: &Parts<S>,
    way: Way<S>,
    session: &Session,
    limit: Instant,
) -> Done {
    let incoming = match way {
        Way::Loaded(incoming) => incoming,
        Way::Lazy(lazy) => match lazy.loaded_for_saving(limit).await {
            Ok(incoming) => incoming,
            Err(failed) => {
                return Done {
                    is_told: failed.is_logged,
                    ..as_before(Err(failed.error))
                };
            }
        },
    };
    let snapshot = session.lock().snapshot_to_save();
    let terms = parts.terms(incoming.quiet);
    let decision = decide(parts, &incoming, &snapshot, &terms);
    match (decision, &incoming.loaded) {
        (Decision::Commit, Loaded::Live(key, base)) if !base.is_in_cookie() => {
            let view = session.lock().view(base, &terms);
            let changes = &snapshot.changes;
            let committed = commit(parts, (key, base), changes, &terms, limit).await;
            let mut has_told = false;
            if let Ok(answer) = &committed {
                measure::committed(answer);
                tell_lost_time(parts, &incoming, changes, answer);
                has_told = tell_logout(parts, &incoming, changes, answer.is_written());
            }
            let left = Left {
                parts,
                terms: &terms,
                incoming: &incoming,
                has_told,
                view: view.unwrap_or_else(|| base.clone()),
                limit,
            };
            left.after(committed, snapshot.changes.clone()).await
        }
        // Nothing is to be written, but whoever waits hears whether the session is still there.
        (
            Decision::Leave(Silence::Unneeded) | Decision::Check | Decision::Touch,
            Loaded::Live(key, base),
        ) if snapshot.changes.set_any() && !base.is_in_cookie() => {
            let terms = match decision {
                Decision::Touch => terms.touching(),
                _ => terms,
            };
            match commit(parts, (key, base), Changes::none(), &terms, limit).await {
                Ok(Committed::Gone) => gone(parts, &incoming, snapshot.changes),
                Ok(_) => Done::new(Ok(Saved::Done), After::Unneeded(snapshot.changes)),
                // No effect is in doubt.
                Err(CommitError::OutcomeUnknown) => as_before(Err(CommitError::of_store(
                    anyhow::anyhow!("the store did not say in time whether the session is there"),
                ))),
                Err(error) => as_before(Err(error)),
            }
        }
        (Decision::Leave(Silence::Unneeded) | Decision::Check | Decision::Touch, loaded) => {
            let after = match loaded {
                Loaded::Live(..) => After::Unneeded(snapshot.changes),
                // They may become part of a session that this request makes.
                _ => After::AsBefore,
            };
            Done::new(Ok(Saved::Done), after)
        }
        // The cookie of the renewed session is on its way.
        (Decision::Leave(Silence::Dropped(_)), _) => Done {
            is_told: true,
            ..as_before(Err(CommitError::Contended))
        },
        (Decision::Refuse, _) => Done {
            is_told: true,
            ..as_before(Err(CommitError::degraded()))
        },
        _ => as_before(look_at_cap(parts, &incoming, &snapshot, &terms).await),
    }
}

/// What waits for the response is tried as far as it may be refused.
async fn look_at_cap<S>(
    parts: &Parts<S>,
    incoming: &Incoming,
    snapshot: &Snapshot,
    terms: &Terms,
) -> Result<Saved, CommitError> {
    if let Some(cap) = &parts.configuration.cap {
        // A session that is purged is gone before somebody logs in.
        let base = incoming.loaded.record();
        cap.look(base, &snapshot.changes, terms).await?;
    }
    Ok(Saved::WithResponse)
}

fn as_before(outcome: Result<Saved, CommitError>) -> Done {
    Done::new(outcome, After::AsBefore)
}

fn decide<S>(
    parts: &Parts<S>,
    incoming: &Incoming,
    snapshot: &Snapshot,
    terms: &Terms,
) -> Decision {
    let request = Finished {
        incoming,
        snapshot,
        exit: Exit::Response,
        policy: parts.policy(),
        now: terms.now,
    };
    request.decide()
}

async fn commit<S: SessionStore>(
    parts: &Parts<S>,
    (key, base): (&SessionKey, &Record),
    changes: &Changes,
    terms: &Terms,
    limit: Instant,
) -> Result<Committed, CommitError> {
    let commit = timed(
        "commit",
        parts.store.commit(key, Some(base), changes, terms),
    );
    if parts.store.opens_at_once() {
        return commit.await;
    }
    let committed = timeout_at(limit, commit).await;
    committed.unwrap_or(Err(CommitError::OutcomeUnknown))
}

/// The session has ended, and the changes are lost with it.
fn gone<S>(parts: &Parts<S>, incoming: &Incoming, changes: Changes) -> Done {
    if let Some(key) = incoming.loaded.key() {
        event::gone(key);
    }
    tell_dropped(parts, incoming);
    Done::new(Err(CommitError::gone()), After::Gone(changes))
}

/// What a commit leaves.
struct Left<'a, S> {
    parts: &'a Parts<S>,
    terms: &'a Terms,
    incoming: &'a Incoming,
    /// A logout among the changes was told.
    has_told: bool,
    /// The base with the request's changes on top.
    view: Record,
    limit: Instant,
}

impl<S: SessionStore> Left<'_, S> {
    async fn after(self, committed: Result<Committed, CommitError>, changes: Changes) -> Done {
        let incoming = match committed {
            Ok(Committed::Saved(end)) => {
                let record = self.stored().await;
                let end = record.end().unwrap_or_else(|| end.millis());
                self.incoming.after_save(None, record.with_end(Some(end)))
            }
            Ok(Committed::NotExtended) => {
                let record = self.stored().await;
                self.incoming.after_save(None, record)
            }
            Ok(Committed::NewValue(value, _, older)) => match older.end().await {
                // Until the response brings it, nobody has the new value.
                Ok(true) => {
                    let incoming = self.incoming.after_save(Some(value), self.view);
                    let after = After::Saved(changes, Box::new(incoming));
                    return Done::new(Ok(Saved::WithResponse), after);
                }
                Ok(false) => return self.gone(changes),
                Err(error) => return as_before(Err(CommitError::of_store(error))),
            },
            // Nothing that is found behind a redirect is shown.
            Ok(Committed::Forwarded) => self.incoming.after_save(None, self.view),
            Ok(Committed::Gone) => return self.gone(changes),
            Err(CommitError::OutcomeUnknown) => {
                let unknown = Err(CommitError::OutcomeUnknown);
                return Done::new(unknown, After::Unknown(changes));
            }
            Err(error) => return as_before(Err(error)),
        };
        Done::new(Ok(Saved::Done), After::Saved(changes, Box::new(incoming)))
    }

    fn gone(&self, changes: Changes) -> Done {
        // A logout that was all that there was to do is not lost.
        if self.has_told && changes.effects.is_empty() {
            return Done::new(Err(CommitError::gone()), After::Gone(changes));
        }
        gone(self.parts, self.incoming, changes)
    }

    /// The record as it is stored now. If it cannot be read, the next commit finds out that the base
    /// with the changes on top is another version, and merges.
    async fn stored(&self) -> Record {
        let Loaded::Live(key, _) = &self.incoming.loaded else {
            return self.view.clone();
        };
        let terms = Terms {
            extend: ExtendOnRead::Never,
            ..self.terms.clone()
        };
        let opened = timeout_at(self.limit, self.parts.store.open(key, &terms)).await;
        match opened.map(|opened| opened.map(|opened| opened.proven(&terms))) {
            // After a `clear` this request counts as having come before it, with all that follows.
            Ok(Ok(Opened::Live(record))) if !self.view.is_from_before_clear(&record) => record,
            _ => self.view.clone(),
        }
    }
}

#[cfg(all(test, feature = "memory-session"))]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
            mpsc::channel,
        },
        time::Duration,
    };

    use actix_web::{
        App, HttpRequest, HttpResponse, ResponseError as _, cookie::Key, dev::Service as _,
        http::header, test, web,
    };
    use tracing::Level;

    use crate::{
        Session, SessionEventKind, SessionExt as _, SessionMiddleware,
        config::OnLoadError,
        forward_store_methods,
        lines::Lines,
        storage::{
            Contended, LoadError, MemorySessionStore, Opened, SessionKey, SessionStore, Terms,
        },
    };

    /// How long an event may take that is sure to come.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Cannot load anything.
    #[derive(Clone)]
    struct Failing {
        inner: MemorySessionStore,
        is_busy: bool,
    }

    impl SessionStore for Failing {
        forward_store_methods!(self => self.inner; except open, opens_at_once);

        async fn open(&self, _: &SessionKey, _: &Terms) -> Result<Opened, LoadError> {
            Err(LoadError::Other(match self.is_busy {
                true => Contended.into(),
                false => anyhow::anyhow!("the store is down"),
            }))
        }

        fn opens_at_once(&self) -> bool {
            false
        }
    }

    /// By the load. What the handler hears is what the response is.
    #[actix_web::test]
    async fn a_failed_load_is_told_once_although_the_handler_saves() {
        for (is_busy, on_error, status) in [
            (true, OnLoadError::Fail, 503),
            (false, OnLoadError::Fail, 500),
            (false, OnLoadError::Anonymous, 503),
        ] {
            let store = Failing {
                inner: MemorySessionStore::new(),
                is_busy,
            };
            let (sender, told) = channel();
            let middleware = SessionMiddleware::builder(store, Key::from(&[7; 64]))
                .lazy()
                .on_load_error(on_error)
                .on_event(move |event| sender.send(event.kind()).unwrap());
            let begin = |session: Session| async move {
                session.insert("a", 1).map(|()| HttpResponse::Ok().finish())
            };
            let heard = Arc::new(AtomicUsize::new(0));
            let hears = Arc::clone(&heard);
            let save = move |request: HttpRequest| {
                let hears = Arc::clone(&hears);
                async move {
                    let session = request.get_session();
                    session.insert("a", 1).map(drop)?;
                    let status = session.save().await.unwrap_err().status_code();
                    hears.store(status.as_u16().into(), Ordering::SeqCst);
                    Ok::<_, actix_web::Error>(HttpResponse::Ok())
                }
            };
            let app = App::new()
                .wrap(middleware.build())
                .route("/begin", web::post().to(begin))
                .route("/save", web::post().to(save));
            let app = test::init_service(app).await;
            let post = |path: &str| test::TestRequest::post().uri(path);
            let answer = test::call_service(&app, post("/begin").to_request()).await;
            let cookie = answer.response().cookies().next().unwrap().to_string();
            let cookie = cookie.split(';').next().unwrap().to_owned();

            let lines = Lines::default();
            let here = tracing::subscriber::set_default(lines.clone());
            let request = post("/save").insert_header((header::COOKIE, cookie));
            let answer = app.call(request.to_request()).await;
            drop(here);
            let answered = answer.map_or_else(
                |error| error.as_response_error().status_code(),
                |answer| answer.status(),
            );
            assert_eq!(usize::from(answered.as_u16()), status);
            assert_eq!(heard.load(Ordering::SeqCst), status);
            assert_eq!(lines.count(Level::ERROR), 1);
            // What comes next shows that nothing else has come.
            test::call_service(&app, post("/begin").to_request()).await;
            for kind in [
                SessionEventKind::Created,
                SessionEventKind::StoreFailed,
                SessionEventKind::Created,
            ] {
                assert_eq!(told.recv_timeout(PATIENCE).unwrap(), kind);
            }
        }
    }

    #[actix_web::test]
    async fn what_waits_for_a_cookie_on_its_way_is_no_failure_of_the_store() {
        let middleware = SessionMiddleware::new(MemorySessionStore::new(), Key::from(&[7; 64]));
        let login =
            |session: Session| async move { session.login("ferris").map(|()| HttpResponse::Ok()) };
        let save = |session: Session| async move {
            session.insert("a", 1).map(drop)?;
            let saved = session.save().await;
            assert!(saved.is_err(), "{saved:?}");
            Ok::<_, actix_web::Error>(HttpResponse::Ok())
        };
        let app = App::new()
            .wrap(middleware)
            .route("/login", web::post().to(login))
            .route("/save", web::post().to(save));
        let app = test::init_service(app).await;
        let post = |path: &str, cookie: &str| {
            let request = test::TestRequest::post().uri(path);
            request.insert_header((header::COOKIE, cookie)).to_request()
        };
        let answer = test::call_service(&app, post("/login", "")).await;
        let cookie = answer.response().cookies().next().unwrap().to_string();
        let cookie = cookie.split(';').next().unwrap();
        test::call_service(&app, post("/login", cookie)).await;

        let lines = Lines::default();
        let _here = tracing::subscriber::set_default(lines.clone());
        let answer = test::call_service(&app, post("/save", cookie)).await;
        assert!(answer.status().is_success());
        assert_eq!(lines.count(Level::ERROR), 0);
    }
}
