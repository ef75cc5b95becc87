//! Access to the session from requests, responses and guards.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::{
    Error, FromRequest, HttpMessage as _, HttpRequest,
    dev::{Extensions, Payload, ServiceRequest, ServiceResponse},
    guard::GuardContext,
    http::header::HeaderMap,
};
use futures_util::future::LocalBoxFuture;

use super::Session;
use crate::{cookie::attributes::wire_name, middleware::seeded, sync::FirstTime};

/// Gets the [`Session`] from requests, responses and guards.
///
/// # Examples
/// ```
/// use actix_session::SessionExt;
/// use actix_web::{HttpResponse, guard, web};
///
/// let members = web::scope("/members")
///     .guard(guard::fn_guard(|ctx| ctx.get_session().contains_key("user_id")))
///     .route("/", web::get().to(HttpResponse::Ok));
/// # let _ = members;
/// ```
pub trait SessionExt {
    /// Returns the session of the innermost middleware.
    fn get_session(&self) -> Session;

    /// Returns the session whose cookie has this name, if its middleware serves the request.
    ///
    /// With several middlewares around a handler, each of their sessions can be had by its name.
    /// [`NamedSession`](crate::NamedSession) is the extractor for it.
    ///
    /// # Examples
    /// ```
    /// use actix_session::SessionExt;
    /// use actix_web::{HttpRequest, HttpResponse};
    ///
    /// async fn index(request: HttpRequest) -> HttpResponse {
    ///     match request.get_session_named("admin").and_then(|admin| admin.principal()) {
    ///         Some(_) => HttpResponse::Ok().body("hello, admin"),
    ///         None => HttpResponse::Forbidden().finish(),
    ///     }
    /// }
    /// # actix_web::web::to(index);
    /// ```
    fn get_session_named(&self, cookie: &str) -> Option<Session> {
        // Whoever has implemented this trait for a type of their own knows of one session.
        let _ = cookie;
        None
    }
}

impl SessionExt for HttpRequest {
    fn get_session(&self) -> Session {
        let found = Session::get_session(&self.extensions());
        found.unwrap_or_else(|| Session::unattached(&mut self.extensions_mut(), self.headers()))
    }

    fn get_session_named(&self, cookie: &str) -> Option<Session> {
        Session::get_named(&self.extensions(), cookie)
    }
}

impl SessionExt for ServiceRequest {
    fn get_session(&self) -> Session {
        let found = Session::get_session(&self.extensions());
        found.unwrap_or_else(|| Session::unattached(&mut self.extensions_mut(), self.headers()))
    }

    fn get_session_named(&self, cookie: &str) -> Option<Session> {
        Session::get_named(&self.extensions(), cookie)
    }
}

impl<B> SessionExt for ServiceResponse<B> {
    fn get_session(&self) -> Session {
        self.request().get_session()
    }

    fn get_session_named(&self, cookie: &str) -> Option<Session> {
        self.request().get_session_named(cookie)
    }
}

impl SessionExt for GuardContext<'_> {
    fn get_session(&self) -> Session {
        let found = Session::get_session(&self.req_data());
        found
            .unwrap_or_else(|| Session::unattached(&mut self.req_data_mut(), self.head().headers()))
    }

    fn get_session_named(&self, cookie: &str) -> Option<Session> {
        Session::get_named(&self.req_data(), cookie)
    }
}

/// Where a request's extensions keep the innermost session.
///
/// The middlewares of a request share it, so that each can take its own session back.
#[derive(Clone, Default)]
pub(crate) struct InRequest(Rc<RefCell<Nested>>);

/// Makes a session and loads it when somebody asks for it. An error is the response.
pub(crate) trait LoadLater {
    /// The session, loaded or not.
    fn session(&self) -> Session;

    /// Loads it without waiting; `None` if that is not possible.
    fn load_at_once(&self) -> Option<Result<(), Error>>;

    fn load(self: Rc<Self>) -> LocalBoxFuture<'static, Result<(), Error>>;
}

/// The session of a middleware.
#[derive(Clone)]
pub(crate) enum Held {
    /// Of no middleware yet: the first one that serves the request takes it over.
    Early(Session),
    Made(Session),
    Later(Rc<dyn LoadLater>),
}

impl Held {
    fn session(&self) -> Session {
        match self {
            Self::Early(session) | Self::Made(session) => session.clone(),
            Self::Later(later) => later.session(),
        }
    }

    fn found(self, is_around: bool) -> Found {
        let session = self.session();
        match self {
            Self::Later(later) if is_around => (session, Some(later)),
            Self::Early(_) | Self::Later(_) | Self::Made(_) => (session, None),
        }
    }
}

/// A session, and what loads it.
type Found = (Session, Option<Rc<dyn LoadLater>>);

struct Entered {
    held: Held,
    /// The name of its cookie, by which it can be had, even if a header carries it.
    cookie: Rc<str>,
    /// Under which name the response sets it: the cookie's, or a header's.
    written_as: Rc<str>,
    /// Its middleware still serves the request.
    is_around: bool,
}

#[derive(Default)]
struct Nested {
    /// Seldom there is more than one.
    outermost: Option<Entered>,
    inner: Vec<Entered>,
    /// The cookies that the response sets or removes. Seldom there is more than one.
    written: (Option<Rc<str>>, Vec<Rc<str>>),
}

impl InRequest {
    pub(crate) fn push(&self, held: Held, cookie: Rc<str>, written_as: Rc<str>) {
        let entered = Entered {
            held,
            cookie,
            written_as,
            is_around: true,
        };
        let nested = &mut *self.0.borrow_mut();
        if nested.outermost.is_some() {
            nested.inner.push(entered);
        } else {
            nested.outermost = Some(entered);
        }
    }

    /// Gives the session away that somebody has asked for around all middlewares.
    fn take_early(&self) -> Option<Session> {
        let outermost = &mut self.0.borrow_mut().outermost;
        let early = outermost.take_if(|it| matches!(it.held, Held::Early(_)));
        early.map(|it| it.held.session())
    }

    /// The outermost session stays: whatever is around its middleware may ask for it.
    pub(crate) fn pop(&self) {
        let nested = &mut *self.0.borrow_mut();
        if nested.inner.pop().is_some() {
            return;
        }
        if let Some(outermost) = &mut nested.outermost {
            outermost.is_around = false;
        }
        nested.written = Default::default();
    }

    /// Whether a middleware is around that sets this cookie or header.
    pub(crate) fn has(&self, written_as: &str) -> bool {
        let nested = self.0.borrow();
        let mut all = nested.outermost.iter().chain(&nested.inner);
        all.any(|it| it.is_around && *it.written_as == *written_as)
    }

    pub(crate) fn note_written(&self, cookie: Rc<str>) {
        let (first, others) = &mut self.0.borrow_mut().written;
        match first {
            Some(_) => others.push(cookie),
            None => *first = Some(cookie),
        }
    }

    pub(crate) fn has_written(&self, cookie: &str) -> bool {
        let nested = self.0.borrow();
        let (first, others) = &nested.written;
        first.iter().chain(others).any(|name| **name == *cookie)
    }

    /// With what loads it, as long as its middleware serves the request.
    fn innermost(&self) -> Option<Found> {
        let nested = self.0.borrow();
        let innermost = nested.inner.last().or(nested.outermost.as_ref())?;
        let (held, is_around) = (innermost.held.clone(), innermost.is_around);
        drop(nested);
        Some(held.found(is_around))
    }

    /// The same for the innermost one whose cookie has this name.
    fn named(&self, cookie: &str) -> Option<Found> {
        let cookie = wire_name(cookie);
        let nested = self.0.borrow();
        let mut innermost_first = nested.inner.iter().rev().chain(&nested.outermost);
        let named = innermost_first.find(|it| *it.cookie == *cookie)?;
        let (held, is_around) = (named.held.clone(), named.is_around);
        drop(nested);
        Some(held.found(is_around))
    }
}

impl Session {
    /// The session of the innermost middleware, if there is any. It is loaded, if that needs no
    /// waiting. The extensions are not written to: a handler may look into them meanwhile.
    fn get_session(extensions: &Extensions) -> Option<Self> {
        Self::innermost(extensions).map(Self::load_at_once)
    }

    fn get_named(extensions: &Extensions, cookie: &str) -> Option<Self> {
        Self::named(extensions, cookie).map(Self::load_at_once)
    }

    fn load_at_once((session, later): Found) -> Self {
        if let Some(later) = later {
            // A failure makes the response.
            let _ = later.load_at_once();
        }
        session
    }

    pub(super) fn extract_named(extensions: &Extensions, cookie: &str) -> Option<ExtractSession> {
        Self::named(extensions, cookie).map(ExtractSession::of)
    }

    fn named(extensions: &Extensions, cookie: &str) -> Option<Found> {
        let sessions = extensions.get::<InRequest>()?;
        sessions.named(cookie).map(Self::ask)
    }

    fn innermost(extensions: &Extensions) -> Option<Found> {
        let innermost = extensions.get().and_then(InRequest::innermost);
        innermost.map(Self::ask)
    }

    /// Notes that the application has asked for the session. What loads it is `None` once that has been
    /// done.
    fn ask((session, later): Found) -> Found {
        let mut pending = session.lock();
        pending.asked = true;
        let later = later.filter(|_| pending.unloaded);
        drop(pending);
        (session, later)
    }

    /// The session that somebody has asked for before any middleware served the request: a middleware
    /// of the application's around this one, or a guard.
    pub(crate) fn take_early(req: &ServiceRequest) -> Option<Self> {
        req.extensions().get().and_then(InRequest::take_early)
    }

    /// A new session, for whoever asks around all middlewares.
    fn unattached(extensions: &mut Extensions, headers: &HeaderMap) -> Self {
        warn_unattached();
        let session = seeded::unattached(headers);
        session.lock().wait_for_middleware();
        session.keep_early(extensions);
        session
    }

    /// For the first middleware that serves the request.
    pub(crate) fn keep_early(&self, extensions: &mut Extensions) {
        let sessions = InRequest::default();
        sessions.push(Held::Early(self.clone()), Rc::default(), Rc::default());
        extensions.insert(sessions);
    }
}

impl FromRequest for Session {
    type Error = Error;
    type Future = ExtractSession;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let innermost = Self::innermost(&req.extensions());
        ExtractSession::of(innermost.unwrap_or_else(|| {
            let session = Self::unattached(&mut req.extensions_mut(), req.headers());
            (session, None)
        }))
    }
}

/// The future of the [`Session`] extractor. It waits only for a session that is to be loaded
/// [lazily](crate::config::SessionMiddlewareBuilder::lazy).
///
/// # Panics
/// If it is polled again after it has returned the session.
///
/// # Examples
/// ```
/// use actix_session::Session;
/// use actix_web::{FromRequest as _, test::TestRequest};
///
/// # actix_web::rt::System::new().block_on(async {
/// let session = Session::extract(&TestRequest::default().to_http_request()).await.unwrap();
/// assert!(session.is_empty());
/// # });
/// ```
#[must_use = "futures do nothing unless they are polled"]
pub struct ExtractSession(Extract);

enum Extract {
    Done(Result<Session, Error>),
    Loading(Session, LocalBoxFuture<'static, Result<(), Error>>),
    Taken,
}

impl ExtractSession {
    fn of((session, later): Found) -> Self {
        Self(match later.map(|it| (it.load_at_once(), it)) {
            None => Extract::Done(Ok(session)),
            Some((Some(loaded), _)) => Extract::Done(loaded.map(|()| session)),
            Some((None, later)) => Extract::Loading(session, later.load()),
        })
    }

    /// Returns the session without waiting, as the `Ready` of the published crate does. One that is
    /// to be loaded first is not loaded.
    ///
    /// # Errors
    /// The session could not be loaded.
    ///
    /// # Panics
    /// If the future has returned the session already.
    pub fn into_inner(self) -> Result<Session, Error> {
        match self.0 {
            Extract::Done(result) => result,
            Extract::Loading(session, _) => Ok(session),
            Extract::Taken => panic!("{TAKEN}"),
        }
    }
}

const TAKEN: &str = "the extractor has already returned its session";

impl Future for ExtractSession {
    type Output = Result<Session, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match mem::replace(&mut self.0, Extract::Taken) {
            Extract::Done(result) => Poll::Ready(result),
            Extract::Loading(session, mut loading) => match loading.as_mut().poll(cx) {
                Poll::Ready(loaded) => Poll::Ready(loaded.map(|()| session)),
                Poll::Pending => {
                    self.0 = Extract::Loading(session, loading);
                    Poll::Pending
                }
            },
            Extract::Taken => panic!("{TAKEN}"),
        }
    }
}

impl fmt::Debug for ExtractSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtractSession").finish_non_exhaustive()
    }
}

fn warn_unattached() {
    static FIRST: FirstTime = FirstTime::new();
    if FIRST.is_now() {
        tracing::warn!(
            "a Session is used where no SessionMiddleware is around: it is empty, and unless one \
             further in serves the request, nothing will be saved. Wrap the application (or the \
             scope) in a SessionMiddleware, and wrap it last: what is wrapped last comes first."
        );
    }
}
