//! The middleware: loads a request's session, and commits its changes.

#[cfg(feature = "_backend")]
pub(crate) mod cap;
#[cfg(not(feature = "_backend"))]
#[path = "no_cap.rs"]
pub(crate) mod cap;
mod commit;
pub(crate) mod decide;
mod end;
pub(crate) mod guard;
mod headers;
pub(crate) mod lazy;
pub(crate) mod load;
mod save;
#[cfg(feature = "testing")]
pub(crate) mod seeded;
#[cfg(not(feature = "testing"))]
#[path = "no_seeded.rs"]
pub(crate) mod seeded;
mod visit;
mod watching;

use std::{
    any::Any,
    fmt,
    future::{Future, Ready, ready},
    panic::{RefUnwindSafe, UnwindSafe},
    pin::Pin,
    rc::Rc,
    sync::Arc,
};

use actix_web::{
    body::MessageBody,
    cookie::Key,
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    http::header::{HeaderMap, HeaderName},
};

use self::{
    commit::{SetCookie, commit_failed, opaque},
    decide::{Exit, Policy},
    guard::{Innermost, Settled},
    headers::{vary, varying, write_headers},
    visit::Visit,
};
use crate::{
    Session,
    config::{Configuration, SessionMiddlewareBuilder},
    contract::{ExtendOnRead, Terms},
    cookie::jar::Cookies,
    error::CommitError,
    live::Looking,
    observe::Observed,
    record::{MetadataKeys, WireFormat},
    session::{Served, Shown, Times},
    storage::SessionStore,
};

/// The middleware that gives each request its [`Session`] and keeps it in a store.
///
/// It takes a store and a secret key. By default the cookie is encrypted, `Secure`, `HttpOnly` and
/// `SameSite=Lax`, and ends with the browser's session; the state lives for one day after its last
/// change. [`builder`](Self::builder) changes these settings.
///
/// Several middlewares with different cookie names can serve one application, nested or side by
/// side. The extractor returns the innermost one's session.
///
/// # Examples
/// ```no_run
/// use actix_session::{SessionMiddleware, storage::MemorySessionStore};
/// use actix_web::{App, HttpServer, cookie::Key};
///
/// #[actix_web::main]
/// async fn main() -> std::io::Result<()> {
///     // Made once, outside the closure that each worker calls.
///     let store = MemorySessionStore::new();
///     // In production, read the key from your configuration: all sessions end when it changes.
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
pub struct SessionMiddleware<Store: SessionStore>(Rc<Parts<Store>>);

impl<Store: SessionStore> Clone for SessionMiddleware<Store> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

/// As published. What the settings hold of the application's own answers for itself.
impl<Store: SessionStore + RefUnwindSafe> UnwindSafe for SessionMiddleware<Store> {}
impl<Store: SessionStore + RefUnwindSafe> RefUnwindSafe for SessionMiddleware<Store> {}

/// Does not show the store: its address may contain a password.
impl<Store: SessionStore> fmt::Debug for SessionMiddleware<Store> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionMiddleware")
            .field("cookie", &self.0.configuration.cookie)
            .finish_non_exhaustive()
    }
}

/// What all requests of a middleware share.
pub(crate) struct Parts<Store> {
    pub(crate) store: Store,
    pub(crate) configuration: Configuration,
    pub(crate) cookies: Cookies,
    /// Cookie-stored sessions are accepted even if the MAC does not cover the cookie's name.
    pub(crate) accepts_unbound: bool,
    served: Arc<Served>,
    /// The same for requests that extend nothing.
    quiet: Arc<Served>,
    /// How ends are looked for, after the request too.
    pub(crate) looking: Looking,
}

impl<Store: SessionStore> SessionMiddleware<Store> {
    /// Creates a middleware with the default settings.
    pub fn new(store: Store, key: Key) -> Self {
        Self::builder(store, key).build()
    }

    /// Returns a builder, to change the default settings.
    pub fn builder(store: Store, key: Key) -> SessionMiddlewareBuilder<Store> {
        SessionMiddlewareBuilder::new(store, key)
    }

    /// A manager of the sessions that this middleware makes, with its settings. Make it once, and give
    /// it to all workers as application data.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// use actix_web::{App, HttpServer, cookie::Key, web};
    ///
    /// # fn run() -> std::io::Result<()> {
    /// let (store, secret_key) = (MemorySessionStore::new(), Key::generate());
    /// // Each worker makes a middleware, all with the same settings.
    /// let middleware = move || SessionMiddleware::new(store.clone(), secret_key.clone());
    /// let sessions = middleware().manager();
    ///
    /// HttpServer::new(move || {
    ///     App::new()
    ///         .app_data(web::Data::new(sessions.clone()))
    ///         .wrap(middleware())
    /// })
    /// .bind(("127.0.0.1", 0))?
    /// # ; Ok(())
    /// # }
    /// ```
    #[cfg(feature = "_backend")]
    pub fn manager(&self) -> crate::SessionManager
    where
        Store: crate::storage::SessionIndex,
    {
        let Parts {
            store,
            configuration,
            looking,
            ..
        } = &*self.0;
        crate::SessionManager::of_middleware(
            store.index(),
            configuration.terms.clone(),
            looking.clone(),
            configuration.observed.clone(),
        )
    }

    /// The names of the cookies that are read, as headers carry them.
    pub(crate) fn cookie_names(&self) -> Vec<Rc<str>> {
        self.0.cookies.names()
    }

    /// The header that may come in their place.
    pub(crate) fn header_name(&self) -> Option<&HeaderName> {
        self.0.cookies.header_name()
    }

    /// What its requests share.
    #[cfg(feature = "testing")]
    pub(crate) fn parts(&self) -> &Parts<Store> {
        &self.0
    }

    pub(crate) fn from_parts(store: Store, mut configuration: Configuration) -> Self {
        let Configuration {
            key, previous_keys, ..
        } = &configuration;
        let keys = MetadataKeys::new(key, previous_keys);
        configuration.terms.keys = Some(Arc::new(keys));
        let served = |extend| {
            let times = Times::from(&configuration.terms);
            Arc::new(Served {
                principal_entry: configuration.terms.principal_entry.clone(),
                clock: configuration.clock.clone(),
                times: Times { extend, ..times },
                // The store can tell when a session ends.
                knows_ends: store.knows_ends(),
            })
        };
        Self(Rc::new(Parts {
            served: served(configuration.terms.extend),
            quiet: served(ExtendOnRead::Quiet),
            store,
            cookies: Cookies::new(&configuration),
            accepts_unbound: configuration.accepts_unbound,
            looking: configuration.looking(),
            configuration,
        }))
    }
}

impl<Store> Parts<Store> {
    /// The terms of a store call made now, for a request that may be quiet.
    pub(crate) fn terms(&self, quiet: bool) -> Terms {
        let mut terms = self.configuration.terms.clone();
        terms.now = self.configuration.clock.now();
        if quiet {
            terms.extend = ExtendOnRead::Quiet;
        }
        terms
    }

    fn served(&self, quiet: bool) -> &Arc<Served> {
        if quiet { &self.quiet } else { &self.served }
    }

    /// Serves a session that somebody has asked for before this middleware served the request.
    #[cold]
    fn attach(&self, early: &Session, quiet: bool, shown: Shown) -> Result<(), actix_web::Error> {
        let attached = early.attach(self.served(quiet), shown);
        attached.map_err(|error| {
            let error = CommitError::Serialization(error);
            self.observed().not_committed("attach", &error);
            opaque(error)
        })
    }

    pub(crate) fn observed(&self) -> &Observed {
        &self.configuration.observed
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy {
            extend: self.configuration.terms.extend,
            persistent: self.configuration.persistent,
            absolute: self.configuration.terms.absolute,
        }
    }

    pub(crate) fn writes_old_mac(&self) -> bool {
        self.configuration.terms.format == WireFormat::V0_11
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
        let parts = Rc::clone(&self.0);
        ready(Ok(InnerSessionMiddleware {
            service: Rc::new(service),
            parts,
        }))
    }
}

/// The service that [`SessionMiddleware`] makes of the inner one.
#[doc(hidden)]
#[non_exhaustive]
pub struct InnerSessionMiddleware<S, Store: SessionStore + 'static> {
    service: Rc<S>,
    parts: Rc<Parts<Store>>,
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
        let parts = Rc::clone(&self.parts);
        Box::pin(handle(parts, service, req))
    }
}

async fn handle<S, B, Store>(
    parts: Rc<Parts<Store>>,
    service: Rc<S>,
    mut req: ServiceRequest,
) -> Result<ServiceResponse<B>, actix_web::Error>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    Store: SessionStore + 'static,
{
    seeded::plant(&parts, &mut req).await?;
    let cookie = Rc::clone(&parts.cookies.own.wire_name);
    let name = Rc::clone(parts.cookies.written_name(req.headers()));
    let header = parts.cookies.header_name().cloned();
    let mut visit = Visit::begin(parts, &req).await?;
    let innermost = Innermost::enter(&req, visit.held(), cookie, &name);
    let result = visit.serve(&*service, req).await;
    let Some((session, guard)) = visit.asked() else {
        return result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    };

    // If this middleware was wrapped twice, the inner one's cookie stands.
    let has_head = matches!(result, Ok(Ok(_))) && !innermost.has_written(&name);
    let exit = if has_head {
        Exit::Response
    } else {
        Exit::NoHead
    };
    if let Some(asked) = guard.leave(exit) {
        // Most requests: nothing is moved around for them.
        return answer_as_it_is(result, asked, header);
    }
    let settled = guard.commit(exit).await;
    match result {
        Err(panic) => {
            settled.log();
            std::panic::resume_unwind(panic)
        }
        Ok(Err(error)) => {
            settled.log();
            let asked = session.lock().asked;
            Err(varying_if(asked, error, header))
        }
        Ok(Ok(mut response)) => {
            if respond(settled, session, response.headers_mut(), has_head)? {
                innermost.note_written(name);
            }
            Ok(response)
        }
    }
}

/// The response of a request that leaves its session as it is.
fn answer_as_it_is<B>(
    result: Result<Result<ServiceResponse<B>, actix_web::Error>, Box<dyn Any + Send>>,
    asked: bool,
    header: Option<HeaderName>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let answer = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let mut response = match answer {
        Ok(response) => response,
        Err(error) => return Err(varying_if(asked, error, header)),
    };
    if asked {
        vary(response.headers_mut(), header.as_ref());
    }
    Ok(response)
}

fn varying_if(
    asked: bool,
    error: actix_web::Error,
    header: Option<HeaderName>,
) -> actix_web::Error {
    if asked { varying(error, header) } else { error }
}

/// Writes what became of the session into the response's headers, and answers whether the cookie is
/// among them; an error is the response.
fn respond<Store>(
    settled: Settled<Store>,
    session: &Session,
    headers: &mut HeaderMap,
    has_head: bool,
) -> Result<bool, actix_web::Error> {
    let Settled {
        parts,
        way_in,
        set_cookie,
    } = settled;
    let write =
        |headers: &mut _, set_cookie| write_headers(&parts, &way_in, session, headers, set_cookie);
    let set_cookie = set_cookie.map_err(|failed| {
        failed.log(parts.observed());
        commit_failed(failed.error, |headers| write(headers, failed.set_cookie))
    })?;
    let set_cookie = if has_head {
        set_cookie
    } else {
        SetCookie::Leave
    };
    let writes = set_cookie != SetCookie::Leave;
    write(headers, set_cookie).map_err(opaque)?;
    Ok(writes)
}

fn session_of<Store>(parts: &Parts<Store>, quiet: bool, shown: Shown) -> Session {
    Session::of_request(Arc::clone(parts.served(quiet)), shown)
}
