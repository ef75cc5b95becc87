//! What a request carried, loaded before the handler or when its session is first asked for.

use std::{
    cell::{self, Cell, RefCell},
    rc::Rc,
    task::Waker,
};

use actix_web::{dev::ServiceRequest, http::header::HeaderValue};
use futures_util::{FutureExt as _, future::LocalBoxFuture};
use tokio::{
    sync,
    task::unconstrained,
    time::{Instant, timeout_at},
};

use super::{
    Parts,
    commit::{Failed, not_loaded},
    decide::COOKIE_IN_FLIGHT,
    guard::Guard,
    load::{Incoming, Loaded},
    session_of,
};
use crate::{
    Session,
    config::OnLoadError,
    cookie::jar::Fields,
    error::{CommitError, LoadError},
    session::{LoadLater, Shown, Snapshot},
    storage::SessionStore,
};

pub(super) const LATE: &str = "the store did not load the session within the time limit";

/// What a request carried.
pub(crate) enum WayIn<Store> {
    Loaded(Incoming),
    Lazy(Rc<Lazy<Store>>),
}

/// A session that is loaded when it is first asked for.
pub(crate) struct Lazy<Store> {
    parts: Rc<Parts<Store>>,
    /// The request's `Cookie` fields. The request itself cannot be kept: actix-web requires to be
    /// its only owner while it routes.
    cookies: Vec<HeaderValue>,
    /// The fields that may come in place of cookies.
    header: Vec<HeaderValue>,
    /// The request extends no session.
    quiet: bool,
    session: cell::OnceCell<Session>,
    /// Wakes the middleware once the session is made.
    waker: Cell<Option<Waker>>,
    /// The middleware looks after the session that was made.
    is_guarded: Cell<bool>,
    /// The request is over: nothing is loaded any more.
    is_over: Cell<bool>,
    loaded: sync::OnceCell<Incoming>,
    /// The cookies alone, for a purge that comes first.
    unopened: cell::OnceCell<Incoming>,
    /// Why the load failed: that makes the response, whatever the handler answers.
    failure: RefCell<Option<LoadError>>,
}

impl<Store> WayIn<Store> {
    /// What was loaded; `None` if nobody has asked for the session.
    pub(crate) fn loaded(&self) -> Option<&Incoming> {
        match self {
            Self::Loaded(incoming) => Some(incoming),
            Self::Lazy(lazy) => lazy.loaded.get(),
        }
    }

    /// Whether the session could not be loaded when it was asked for.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self, Self::Lazy(lazy) if lazy.failure.borrow().is_some())
    }

    /// What is known of the request's cookies: without a load, only what they say by themselves.
    pub(crate) fn incoming(&self) -> &Incoming {
        match self {
            Self::Loaded(incoming) => incoming,
            Self::Lazy(lazy) => lazy.incoming(),
        }
    }
}

impl<Store: SessionStore + 'static> WayIn<Store> {
    /// Loads what the commit of this snapshot needs. A purge needs the keys alone.
    ///
    /// # Errors
    /// The session cannot be loaded, or could not be when it was asked for.
    pub(crate) async fn load_for(
        &self,
        snapshot: &mut Snapshot,
        limit: Instant,
    ) -> Result<(), Failed> {
        let Self::Lazy(lazy) = self else {
            return Ok(());
        };
        if !snapshot.purged && snapshot.needs_record() {
            timeout_at(limit, lazy.loaded())
                .await
                .map_err(|_| CommitError::Other(anyhow::anyhow!(LATE)))?;
            if lazy.session.get().is_some_and(|it| it.lock().unloaded) {
                snapshot.was_unseen();
            }
        }
        match lazy.failure.take() {
            Some(error) => Err(Failed::at_load(error)),
            None => Ok(()),
        }
    }
}

impl<Store> Lazy<Store> {
    pub(crate) fn new(
        parts: Rc<Parts<Store>>,
        req: &ServiceRequest,
        quiet: bool,
        early: Option<Session>,
    ) -> Self {
        let Fields { cookies, header } = parts.cookies.fields(req.headers());
        let (cookies, header) = (cookies.to_vec(), header.to_vec());
        Self {
            parts,
            cookies,
            header,
            quiet,
            session: early.map_or_else(cell::OnceCell::new, cell::OnceCell::from),
            waker: Cell::new(None),
            is_guarded: Cell::new(false),
            is_over: Cell::new(false),
            loaded: sync::OnceCell::new(),
            unopened: cell::OnceCell::new(),
            failure: RefCell::default(),
        }
    }

    /// Sets what wakes the middleware when somebody first asks for the session.
    pub(crate) fn wake_by(&self, waker: &Waker) {
        self.waker.set(Some(waker.clone()));
    }

    /// What finishes the session that was made, once.
    pub(crate) fn guard(self: &Rc<Self>) -> Option<(Session, Guard<Store>)>
    where
        Store: SessionStore + 'static,
    {
        let session = self.session.get()?;
        if self.is_guarded.replace(true) {
            return None;
        }
        let parts = Rc::clone(&self.parts);
        let guard = Guard::new(parts, WayIn::Lazy(Rc::clone(self)), session.clone());
        Some((session.clone(), guard))
    }

    /// Whoever asks from now on comes too late.
    pub(crate) fn end(&self) {
        self.is_over.set(true);
    }

    fn make(&self) -> Session {
        let session = session_of(&self.parts, self.quiet, Shown::default());
        let mut pending = session.lock();
        pending.unloaded = true;
        if self.is_over.get() {
            pending.finish();
        }
        drop(pending);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        session
    }

    fn fields(&self) -> Fields<'_> {
        Fields {
            cookies: &self.cookies,
            header: &self.header,
        }
    }

    fn incoming(&self) -> &Incoming {
        let unopened = || Incoming::unopened(&self.parts, self.fields());
        let loaded = self.loaded.get();
        loaded.unwrap_or_else(|| self.unopened.get_or_init(unopened))
    }
}

impl<Store: SessionStore + 'static> Lazy<Store> {
    /// Loads the session, unless that has been done. Whoever asks meanwhile waits for it.
    async fn loaded(&self) -> &Incoming {
        self.loaded.get_or_init(|| self.load()).await
    }

    /// What a commit before the response needs.
    ///
    /// # Errors
    /// The session cannot be loaded. The load has told why, and the response says it.
    pub(super) async fn loaded_for_saving(&self, limit: Instant) -> Result<Box<Incoming>, Failed> {
        let loaded = timeout_at(limit, self.loaded()).await;
        let incoming = loaded.map_err(|_| CommitError::Other(anyhow::anyhow!(LATE)))?;
        if let Some(error) = &*self.failure.borrow() {
            return Err(Failed::not_loaded(error));
        }
        // Nothing else can go wrong.
        let _ = self.fill(incoming);
        Ok(Box::new(incoming.duplicate()))
    }

    async fn load(&self) -> Incoming {
        let parts = &*self.parts;
        let loaded = Incoming::load(parts, self.fields(), self.quiet).await;
        loaded.unwrap_or_else(|(error, degraded)| {
            parts.observed().store_failed("load", &error);
            if parts.configuration.on_load_error == OnLoadError::Fail {
                self.failure.replace(Some(error));
            }
            degraded
        })
    }

    /// Hands the session what was loaded.
    ///
    /// # Errors
    /// It could not be.
    fn fill(&self, incoming: &Incoming) -> Result<(), actix_web::Error> {
        if let Some(error) = &*self.failure.borrow() {
            return Err(not_loaded(error));
        }
        let session = self.session();
        // It may have gone on from what was loaded.
        let unloaded = session.lock().unloaded;
        if unloaded {
            session.fill(shown(incoming));
        }
        Ok(())
    }
}

impl<Store: SessionStore + 'static> LoadLater for Lazy<Store> {
    fn session(&self) -> Session {
        self.session.get_or_init(|| self.make()).clone()
    }

    fn load_at_once(&self) -> Option<Result<(), actix_web::Error>> {
        if !self.parts.store.opens_at_once() {
            return None;
        }
        // Whatever the task has done before: it does not wait.
        let incoming = unconstrained(self.loaded()).now_or_never()?;
        Some(self.fill(incoming))
    }

    fn load(self: Rc<Self>) -> LocalBoxFuture<'static, Result<(), actix_web::Error>> {
        Box::pin(async move { self.fill(self.loaded().await) })
    }
}

/// What a session shows of what was loaded.
pub(crate) fn shown(incoming: &Incoming) -> Shown {
    Shown {
        record: incoming.loaded.record().cloned(),
        degraded: incoming.degraded,
        extended: incoming.extended,
        moved: matches!(incoming.loaded, Loaded::Moved(..)),
        in_flight: matches!(incoming.loaded, Loaded::Moved(_, age) if age < COOKIE_IN_FLIGHT),
    }
}

#[cfg(all(test, feature = "memory-session"))]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use actix_web::{
        App, HttpRequest, HttpResponse, cookie::Key, dev::Service as _, http::header, rt, test, web,
    };
    use futures_util::FutureExt as _;
    use tokio::sync::RwLock;

    use crate::{
        Session, SessionExt as _, SessionMiddleware, forward_store_methods,
        storage::{
            Changes, CommitError, LoadError, MemorySessionStore, Opened, Record, Rotated,
            SessionKey, SessionStore, Terms,
        },
    };

    /// Opens nothing while the gate is held.
    #[derive(Clone)]
    struct Gated {
        inner: MemorySessionStore,
        gate: Arc<RwLock<()>>,
        opened: Arc<AtomicUsize>,
        renewed: Arc<AtomicUsize>,
    }

    impl SessionStore for Gated {
        forward_store_methods!(self => self.inner; except open, rotate);

        async fn open(&self, key: &SessionKey, terms: &Terms) -> Result<Opened, LoadError> {
            drop(self.gate.read().await);
            let opened = self.inner.open(key, terms).await;
            self.opened.fetch_add(1, Ordering::SeqCst);
            opened
        }

        async fn rotate(
            &self,
            key: &SessionKey,
            base: Option<&Record>,
            changes: &Changes,
            terms: &Terms,
        ) -> Result<Rotated, CommitError> {
            self.renewed.fetch_add(1, Ordering::SeqCst);
            self.inner.rotate(key, base, changes, terms).await
        }
    }

    #[actix_web::test]
    async fn a_client_that_goes_before_the_store_was_asked_is_not_logged_in() {
        let store = Gated {
            inner: MemorySessionStore::new(),
            gate: Arc::default(),
            opened: Arc::default(),
            renewed: Arc::default(),
        };
        let middleware = SessionMiddleware::builder(store.clone(), Key::from(&[7; 64])).lazy();
        let begin = |session: Session| async move {
            session.insert("a", 1).map(|()| HttpResponse::Ok().finish())
        };
        // It does not wait for the load.
        let login = |req: HttpRequest| async move {
            req.get_session()
                .login("ferris")
                .map(|()| HttpResponse::Ok().finish())
        };
        let app = App::new()
            .wrap(middleware.build())
            .route("/", web::post().to(begin))
            .route("/login", web::post().to(login));
        let app = test::init_service(app).await;
        let post = |path: &str| test::TestRequest::post().uri(path);
        let answer = test::call_service(&app, post("/").to_request()).await;
        let cookie = answer.response().cookies().next().unwrap().to_string();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let login = || {
            let request = post("/login").insert_header((header::COOKIE, cookie.as_str()));
            app.call(request.to_request())
        };

        let held = store.gate.write().await;
        let mut call = Box::pin(login());
        assert!((&mut call).now_or_never().is_none());
        drop(call);
        drop(held);
        while store.opened.load(Ordering::SeqCst) == 0 {
            rt::task::yield_now().await;
        }
        for _ in 0..100 {
            rt::task::yield_now().await;
        }
        assert_eq!(store.renewed.load(Ordering::SeqCst), 0);
        // Whoever waits is.
        assert!(login().await.unwrap().status().is_success());
        assert_eq!(store.renewed.load(Ordering::SeqCst), 1);
    }
}
