//! The middleware that refuses the requests of other sites.

use std::{
    fmt,
    future::{Future, Ready, ready},
    pin::Pin,
    rc::Rc,
};

use actix_web::{
    HttpResponse, ResponseError,
    body::{EitherBody, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    http::{
        StatusCode,
        header::{CACHE_CONTROL, COOKIE, ContentType, HeaderMap, HeaderName, HeaderValue, VARY},
    },
};

use super::{
    origin::{self, InvalidOrigin},
    verdict::{CrossSiteReason, is_safe, judge},
};
use crate::{SessionMiddleware, cookie::read, event, storage::SessionStore};

/// A middleware that refuses the requests which another site makes in a visitor's name.
///
/// It lets a request pass, by the first rule that holds:
///
/// 1. The method is `GET`, `HEAD` or `OPTIONS`, so handlers of these must not change anything. The
///    handshake of a WebSocket is judged by the other rules.
/// 2. `Origin` is one that the application [trusts](Self::trust).
/// 3. The browser says in `Sec-Fetch-Site` that it comes from the same origin, or from no page at all.
///    If it says anything else, the request is refused; sibling subdomains are other origins.
/// 4. There is neither `Sec-Fetch-Site` nor `Origin`. No browser since 2020 sends such a request, hence
///    nobody's cookies were added to it. An older browser may send one, and it passes.
/// 5. `Origin` has the host and port of the request's `Host` field. The scheme is not compared, since
///    TLS may end at a proxy. Behind a proxy that changes `Host`, trust the public origin.
///
/// A refused request does not reach the handler. The response is a 403 with the [`CrossSiteReason`]
/// among its extensions, and [`CrossSiteRefusal`] as its error, so that CORS headers and the access log
/// are as for any other response. A log line names the reason.
///
/// It works inside and outside of [`SessionMiddleware`], and around an application, a scope or a
/// resource. Outside (wrapped later), what it refuses loads and extends no session. A middleware that
/// rewrites paths must be around it, such as
/// [`NormalizePath`](actix_web::middleware::NormalizePath): a route's name is that of the path which
/// the guard sees. [`SessionMiddleware::cross_site_guard`] makes one that judges only requests with the
/// session's cookie; put a guard made by [`new`](Self::new) around login routes, or name them in
/// [`always`](Self::always).
///
/// # Examples
/// ```
/// use actix_session::csrf::{CrossSiteGuard, CrossSiteReason};
/// use actix_web::{App, HttpResponse, test, web};
///
/// # actix_web::rt::System::new().block_on(async {
/// let app = App::new()
///     .wrap(CrossSiteGuard::new())
///     .route("/transfer", web::post().to(HttpResponse::Ok));
/// let app = test::init_service(app).await;
///
/// let request = test::TestRequest::post()
///     .uri("/transfer")
///     .insert_header(("Sec-Fetch-Site", "cross-site"));
/// let response = test::call_service(&app, request.to_request()).await;
/// assert_eq!(response.status(), 403);
/// let reason = response.response().extensions().get().copied();
/// assert_eq!(reason, Some(CrossSiteReason::CrossSite));
/// # });
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct CrossSiteGuard(Rc<Rules>);

#[derive(Debug, Clone, Default)]
struct Rules {
    trusted: Vec<String>,
    /// Names of routes that are never judged.
    exempt: Vec<String>,
    /// Names of routes that are judged without a cookie, too.
    always: Vec<String>,
    /// `None`: all requests are judged.
    carried: Option<Carried>,
}

/// What makes a browser's requests a visitor's.
#[derive(Debug, Clone)]
struct Carried {
    cookies: Vec<Rc<str>>,
    /// No browser adds it by itself. Beside it, no cookie counts.
    header: Option<HeaderName>,
}

impl Carried {
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let header = self.header.as_ref();
        if header.is_some_and(|name| headers.contains_key(name)) {
            return false;
        }
        let fields = headers.get_all(COOKIE).as_slice();
        let mut names = self.cookies.iter();
        names.any(|name| read::is_sent(fields, name))
    }
}

impl CrossSiteGuard {
    /// A guard that judges every request, with and without cookies: for login routes, or for all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets requests of another origin pass: `scheme://host`, with a port if it is not the scheme's
    /// own, in lower case. It is compared byte by byte; there are no wildcards.
    ///
    /// Whatever a page of this origin asks, its visitors' sessions do.
    ///
    /// # Errors
    /// No browser would send this text as an origin.
    ///
    /// # Examples
    /// ```
    /// use actix_session::csrf::CrossSiteGuard;
    ///
    /// let guard = CrossSiteGuard::new().trust("https://accounts.example.com")?;
    /// # let _ = guard;
    /// # Ok::<(), actix_session::csrf::InvalidOrigin>(())
    /// ```
    pub fn trust(mut self, origin: impl Into<String>) -> Result<Self, InvalidOrigin> {
        let origin: String = origin.into();
        origin::check(&origin)?;
        self.rules().trusted.push(origin);
        Ok(self)
    }

    /// Leaves out a route by the name of its resource
    /// ([`Resource::name`](actix_web::Resource::name)): one that another site has to call, and which
    /// proves by itself who calls, such as a webhook.
    ///
    /// A name is no pattern, and means what routing takes it for. If several resources with guards
    /// have the same path, the name of the first counts for all of them.
    ///
    /// # Examples
    /// ```
    /// use actix_session::csrf::CrossSiteGuard;
    /// use actix_web::{App, HttpResponse, test, web};
    ///
    /// # actix_web::rt::System::new().block_on(async {
    /// let app = App::new()
    ///     .wrap(CrossSiteGuard::new().exempt("webhook"))
    ///     .service(web::resource("/hooks/{id}").name("webhook").post(HttpResponse::Ok));
    /// let app = test::init_service(app).await;
    ///
    /// let request = test::TestRequest::post()
    ///     .uri("/hooks/7")
    ///     .insert_header(("Origin", "https://pay.example"));
    /// assert_eq!(test::call_service(&app, request.to_request()).await.status(), 200);
    /// # });
    /// ```
    pub fn exempt(mut self, route: impl Into<String>) -> Self {
        self.rules().exempt.push(route.into());
        self
    }

    /// Judges a route, by the name of its resource, without a cookie too: a login, where another site
    /// could log a visitor in to an account of its own.
    ///
    /// A name that no resource has is judged nowhere, and nothing says so. `App::route` makes resources
    /// without names.
    ///
    /// **Names are looked up without guards.** Of several scopes with one prefix that differ by a guard
    /// alone, such as one for each [`Host`](actix_web::guard::Host), only the names in the first are
    /// found, and a login in another one is not judged without a cookie. So it is with resources of one
    /// path. There, wrap the login's resource in a guard made by [`new`](Self::new).
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "memory-session")]
    /// # fn example(secret_key: actix_web::cookie::Key) {
    /// use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// use actix_web::{App, HttpResponse, web};
    ///
    /// let sessions = SessionMiddleware::new(MemorySessionStore::new(), secret_key);
    /// let guard = sessions.cross_site_guard().always("login");
    /// let app = App::new()
    ///     .wrap(sessions)
    ///     .wrap(guard)
    ///     .service(web::resource("/login").name("login").post(HttpResponse::Ok));
    /// # let _ = app;
    /// # }
    /// ```
    pub fn always(mut self, route: impl Into<String>) -> Self {
        self.rules().always.push(route.into());
        self
    }

    fn rules(&mut self) -> &mut Rules {
        Rc::make_mut(&mut self.0)
    }
}

impl fmt::Debug for CrossSiteGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CrossSiteGuard").field(&self.0).finish()
    }
}

impl<Store: SessionStore> SessionMiddleware<Store> {
    /// A guard against requests of other sites that judges those with a cookie of this middleware:
    /// without such a cookie, no session can be abused. See [`CrossSiteGuard`].
    ///
    /// Requests that carry the session in a [header](crate::config::SessionMiddlewareBuilder::header)
    /// pass: no browser adds it by itself.
    ///
    /// **A login needs no cookie to be abused.** Name login routes in
    /// [`always`](CrossSiteGuard::always).
    ///
    /// # Examples
    /// ```
    /// use actix_session::{SessionMiddleware, storage::MemorySessionStore};
    /// use actix_web::{App, HttpResponse, cookie::Key, test, web};
    ///
    /// # actix_web::rt::System::new().block_on(async {
    /// let sessions = SessionMiddleware::new(MemorySessionStore::new(), Key::generate());
    /// let guard = sessions.cross_site_guard();
    /// let app = App::new()
    ///     .wrap(sessions)
    ///     .wrap(guard)
    ///     .route("/", web::post().to(HttpResponse::Ok));
    /// let app = test::init_service(app).await;
    ///
    /// let evil = || test::TestRequest::post().insert_header(("Origin", "https://evil.example"));
    /// let with_cookie = evil().insert_header(("Cookie", "id=x")).to_request();
    /// assert_eq!(test::call_service(&app, with_cookie).await.status(), 403);
    /// let without = evil().to_request();
    /// assert_eq!(test::call_service(&app, without).await.status(), 200);
    /// # });
    /// ```
    pub fn cross_site_guard(&self) -> CrossSiteGuard {
        CrossSiteGuard(Rc::new(Rules {
            carried: Some(Carried {
                cookies: self.cookie_names(),
                header: self.header_name().cloned(),
            }),
            ..Rules::default()
        }))
    }
}

impl Rules {
    fn judge(&self, req: &ServiceRequest) -> Result<(), CrossSiteReason> {
        let headers = req.headers();
        if is_safe(req.method(), headers) {
            return Ok(());
        }
        let is_named = |names: &[String]| {
            let name = (!names.is_empty()).then(|| name_of(req));
            name.flatten()
                .is_some_and(|own| names.iter().any(|name| name == own))
        };
        let carried = self.carried.as_ref();
        let is_carried = carried.is_none_or(|carried| carried.is_in(headers));
        if is_named(&self.exempt) || !(is_carried || is_named(&self.always)) {
            return Ok(());
        }
        let authority = req.uri().authority().map(|authority| authority.as_str());
        judge(headers, authority, &self.trusted)
    }
}

/// The name of the resource that the request is routed to. Routing decodes the path first, and the
/// request's own lookup does not: it would take `/%6Cogin` for another resource than `/login`.
fn name_of(req: &ServiceRequest) -> Option<&str> {
    match req.match_info().as_str() {
        routed if routed == req.path() => req.request().match_name(),
        routed => req.resource_map().match_name(routed),
    }
}

/// A request that another site made, or that does not say clearly where it comes from: a 403.
///
/// # Examples
/// ```
/// use actix_session::csrf::{CrossSiteGuard, CrossSiteReason, CrossSiteRefusal};
/// use actix_web::{App, HttpResponse, test, web};
///
/// # actix_web::rt::System::new().block_on(async {
/// let app = App::new().wrap(CrossSiteGuard::new()).route("/", web::post().to(HttpResponse::Ok));
/// let app = test::init_service(app).await;
///
/// let request = test::TestRequest::post().insert_header(("Origin", "null")).to_request();
/// let response = test::call_service(&app, request).await;
/// let refusal = response.response().error().and_then(|error| error.as_error::<CrossSiteRefusal>());
/// assert_eq!(refusal.unwrap().reason(), CrossSiteReason::NullOrigin);
/// # });
/// ```
#[derive(Debug, Clone, PartialEq, Eq, derive_more::Display)]
#[display("the request comes from another site ({reason})")]
pub struct CrossSiteRefusal {
    reason: CrossSiteReason,
}

impl CrossSiteRefusal {
    /// Why it was refused.
    pub fn reason(&self) -> CrossSiteReason {
        self.reason
    }
}

impl std::error::Error for CrossSiteRefusal {}

impl ResponseError for CrossSiteRefusal {
    fn status_code(&self) -> StatusCode {
        StatusCode::FORBIDDEN
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::Forbidden()
            .insert_header(ContentType::plaintext())
            .insert_header((CACHE_CONTROL, "no-store"))
            .insert_header((VARY, HeaderValue::from_static("Sec-Fetch-Site, Origin")))
            .body("The request comes from another site.");
        response.extensions_mut().insert(self.reason);
        response
    }
}

impl<S, B> Transform<S, ServiceRequest> for CrossSiteGuard
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Transform = InnerCrossSiteGuard<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, Self::InitError>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let rules = Rc::clone(&self.0);
        ready(Ok(InnerCrossSiteGuard { service, rules }))
    }
}

/// The service that [`CrossSiteGuard`] makes of the inner one.
#[doc(hidden)]
#[non_exhaustive]
pub struct InnerCrossSiteGuard<S> {
    service: S,
    rules: Rc<Rules>,
}

impl<S> fmt::Debug for InnerCrossSiteGuard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InnerCrossSiteGuard")
            .finish_non_exhaustive()
    }
}

impl<S, B> Service<ServiceRequest> for InnerCrossSiteGuard<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>>>>;

    forward_ready!(service);

    fn call(&self, req: ServiceRequest) -> Self::Future {
        if let Err(reason) = self.rules.judge(&req) {
            event::cross_site(reason);
            let refused = req.error_response(CrossSiteRefusal { reason });
            return Box::pin(ready(Ok(refused.map_into_right_body())));
        }
        let served = self.service.call(req);
        Box::pin(async move { served.await.map(ServiceResponse::map_into_left_body) })
    }
}
