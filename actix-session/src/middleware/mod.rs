//! The middleware: loads a request's session, and commits what was done to it.

pub(crate) mod decide;
mod finish;
mod guard;
mod headers;
pub(crate) mod open;

use std::{
    fmt,
    future::{Future, Ready, ready},
    pin::Pin,
    rc::Rc,
};

use actix_web::{
    HttpMessage as _,
    body::MessageBody,
    cookie::Key,
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
};

use self::{
    decide::{Exit, Policy},
    finish::{commit_failed, finish, opaque},
    guard::{Guard, Outside, serve},
    headers::write_headers,
    open::{Incoming, Loaded},
};
use crate::{
    Session,
    clock::Millis,
    config::{Configuration, OnLoadError, SessionMiddlewareBuilder},
    contract::{Extension, Terms},
    cookie::jar::Cookies,
    event,
    record::{Record, WireFormat},
    session::InRequest,
    storage::SessionStore,
};

/// The middleware that gives each request its [`Session`] and keeps it in a store.
///
/// It takes a store and a secret key. The defaults are safe: the cookie is encrypted, `Secure`,
/// `HttpOnly` and `SameSite=Lax`, ends with the browser's session, and the state lives for a day
/// after its last change. [`builder`](Self::builder) changes them.
///
/// Several middlewares with different cookie names can serve one application, nested or side by
/// side. The extractor gives the innermost one's session.
///
/// # Examples
/// ```no_run
/// use actix_session::{SessionMiddleware, storage::MemorySessionStore};
/// use actix_web::{App, HttpServer, cookie::Key};
///
/// #[actix_web::main]
/// async fn main() -> std::io::Result<()> {
///     // Both are made outside of the closure: each worker calls it once.
///     let store = MemorySessionStore::new();
///     // A key of your own comes from the configuration: sessions end when it changes.
///     let secret_key = Key::generate();
///
///     HttpServer::new(move || {
///         App::new().wrap(SessionMiddleware::new(store.clone(), secret_key.clone()))
///     })
///     .bind(("127.0.0.1", 8080))?
///     .run()
///     .await
/// }
/// ```
pub struct SessionMiddleware<Store: SessionStore>(Rc<Shared<Store>>);

impl<Store: SessionStore> Clone for SessionMiddleware<Store> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

/// Shows nothing of the store, whose address may hold a password.
impl<Store: SessionStore> fmt::Debug for SessionMiddleware<Store> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionMiddleware")
            .field("cookie", &self.0.configuration.cookie)
            .finish_non_exhaustive()
    }
}

/// What all requests of a middleware share.
pub(crate) struct Shared<Store> {
    pub(crate) store: Store,
    pub(crate) configuration: Configuration,
    pub(crate) cookies: Cookies,
    /// Values of cookie-stored sessions whose MAC is not bound to the cookie's name are accepted.
    pub(crate) accepts_unbound: bool,
}

impl<Store: SessionStore> SessionMiddleware<Store> {
    /// Makes a middleware with the default settings.
    pub fn new(store: Store, key: Key) -> Self {
        Self::builder(store, key).build()
    }

    /// Settings other than the default ones.
    pub fn builder(store: Store, key: Key) -> SessionMiddlewareBuilder<Store> {
        SessionMiddlewareBuilder::new(store, key)
    }

    pub(crate) fn from_parts(store: Store, configuration: Configuration) -> Self {
        Self(Rc::new(Shared {
            store,
            cookies: Cookies::new(&configuration),
            accepts_unbound: configuration.accepts_unbound,
            configuration,
        }))
    }
}

impl<Store> Shared<Store> {
    /// The terms of now.
    pub(crate) fn terms(&self) -> Terms {
        let configuration = &self.configuration;
        Terms {
            now: configuration.clock.now(),
            ttl: configuration.ttl,
            absolute: configuration.absolute,
            extend: configuration.extend,
            budget: configuration.budget,
            grace: configuration.grace,
            format: configuration.format,
            max_state: configuration.max_state,
        }
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy {
            extend: self.configuration.extend != Extension::Never,
            persistent: self.configuration.persistent,
        }
    }

    /// Whether a record is a cookie-stored one without times, and those are accepted no more.
    pub(crate) fn is_too_old(&self, record: &Record, now: Millis) -> bool {
        let untimed = record.is_sealed() && record.end().is_none();
        untimed
            && self
                .configuration
                .untimed_until
                .is_some_and(|until| until <= now)
    }

    pub(crate) fn writes_old_mac(&self) -> bool {
        self.configuration.format == WireFormat::V0_11
    }
}

impl<S, B, Store> Transform<S, ServiceRequest> for SessionMiddleware<Store>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
    Store: SessionStore + 'static,
{
    type Response = ServiceResponse<B>;
    type Error = actix_web::Error;
    type Transform = InnerSessionMiddleware<S, Store>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, Self::InitError>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let shared = Rc::clone(&self.0);
        ready(Ok(InnerSessionMiddleware {
            service: Rc::new(service),
            shared,
        }))
    }
}

/// The service that [`SessionMiddleware`] makes of another.
#[doc(hidden)]
#[non_exhaustive]
pub struct InnerSessionMiddleware<S, Store: SessionStore + 'static> {
    service: Rc<S>,
    shared: Rc<Shared<Store>>,
}

impl<S, Store: SessionStore + 'static> fmt::Debug for InnerSessionMiddleware<S, Store> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InnerSessionMiddleware")
            .finish_non_exhaustive()
    }
}

impl<S, B, Store> Service<ServiceRequest> for InnerSessionMiddleware<S, Store>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    S::Future: 'static,
    B: 'static,
    Store: SessionStore + 'static,
{
    type Response = ServiceResponse<B>;
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>>>>;

    forward_ready!(service);

    fn call(&self, req: ServiceRequest) -> Self::Future {
        let service = Rc::clone(&self.service);
        let shared = Rc::clone(&self.shared);
        Box::pin(handle(shared, service, req))
    }
}

async fn handle<S, B, Store>(
    shared: Rc<Shared<Store>>,
    service: Rc<S>,
    req: ServiceRequest,
) -> Result<ServiceResponse<B>, actix_web::Error>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    Store: SessionStore + 'static,
{
    let terms = shared.terms();
    let incoming = match Incoming::load(&shared, req.headers(), &terms).await {
        Ok(incoming) => incoming,
        Err(error) => {
            event::store_failed("load", &error);
            match shared.configuration.on_load_error {
                OnLoadError::Anonymous => Incoming {
                    degraded: true,
                    ..Incoming::default()
                },
                OnLoadError::Fail => return Err(opaque(error)),
            }
        }
    };
    let configuration = &shared.configuration;
    let session = Session::of_request(configuration.clock.clone(), configuration.absolute);
    session.lock().degraded = incoming.degraded;
    if let Loaded::Live(_, record) = &incoming.loaded {
        session.lock().load(record.clone());
    }
    let outer = Outside::enter(&req, &session);
    let mut guard = Guard::new(shared, incoming, session.clone());

    let result = serve(&service, req, &session, &mut guard).await;

    let exit = if matches!(result, Ok(Ok(_))) {
        Exit::Response
    } else {
        Exit::NoHead
    };
    let (shared, incoming, ended) = guard.disarm();
    let snapshot = session.lock().take_snapshot();
    let finished = finish(&shared, &incoming, &snapshot, exit, ended).await;
    let mut response = match result {
        Err(panic) => {
            event::log_failure("commit", finished.err());
            std::panic::resume_unwind(panic)
        }
        Ok(Err(error)) => {
            event::log_failure("commit", finished.err());
            return Err(error);
        }
        Ok(Ok(response)) => response,
    };
    outer.leave(response.request());
    let action = finished.map_err(|error| {
        event::store_failed("commit", &error);
        commit_failed(error)
    })?;
    write_headers(&shared, &incoming, &session, response.headers_mut(), action).map_err(opaque)?;
    Ok(response)
}

impl Outside {
    /// Makes the session the innermost one of the request.
    fn enter(req: &ServiceRequest, session: &Session) -> Self {
        Self(req.extensions_mut().insert(InRequest(session.clone())))
    }

    /// On the way out the plain extractor gives the outer session again.
    fn leave(self, req: &actix_web::HttpRequest) {
        if let Some(outer) = self.0 {
            req.extensions_mut().insert(outer);
        }
    }
}
