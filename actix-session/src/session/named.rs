//! One of several sessions of a request, chosen by its type.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    ops::Deref,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use actix_web::{
    Error, FromRequest, HttpMessage as _, HttpRequest, HttpResponse, dev::Payload,
    error::InternalError,
};

use super::{ExtractSession, Session};
use crate::event;

/// Names one of the sessions of an application: see [`NamedSession`].
///
/// # Examples
/// ```
/// use actix_session::SessionName;
///
/// struct Admin;
///
/// impl SessionName for Admin {
///     const COOKIE: &'static str = "admin";
/// }
/// ```
pub trait SessionName {
    /// The name of the cookie, as given to
    /// [`cookie_name`](crate::config::SessionMiddlewareBuilder::cookie_name).
    const COOKIE: &'static str;
}

/// The session whose cookie has the name that `N` says.
///
/// Several middlewares with different cookie names can serve one application, each with its own
/// store, policy and keys. [`Session`] is the innermost one's; this extractor returns any of them.
/// It dereferences to [`Session`].
///
/// # Errors
/// The response is a 500 if no middleware with this cookie name is around the handler, and a log line
/// says which name was asked for. Extract an `Option<NamedSession<N>>` if that may be so. It is a
/// 500 or a 503, too, if the session is loaded
/// [lazily](crate::config::SessionMiddlewareBuilder::lazy) and the store fails.
///
/// # Examples
/// ```
/// use actix_session::{NamedSession, Session, SessionMiddleware, SessionName, storage::MemorySessionStore};
/// use actix_web::{App, Result, cookie::Key, test, web};
///
/// struct Admin;
/// impl SessionName for Admin {
///     const COOKIE: &'static str = "admin";
/// }
///
/// async fn index(shop: Session, admin: NamedSession<Admin>) -> Result<String> {
///     shop.insert("basket", 3)?;
///     admin.insert("rights", "all")?;
///     Ok(format!("{} and {}", shop.entries().len(), admin.contains_key("basket")))
/// }
///
/// # actix_web::rt::System::new().block_on(async {
/// let named = |name: &str| {
///     SessionMiddleware::builder(MemorySessionStore::new(), Key::generate())
///         .cookie_name(name.to_owned())
///         .build()
/// };
/// let app = App::new()
///     .wrap(named("shop")) // the innermost
///     .wrap(named("admin"))
///     .route("/", web::get().to(index));
/// let app = test::init_service(app).await;
/// let response = test::call_service(&app, test::TestRequest::get().uri("/").to_request()).await;
/// assert_eq!(response.response().cookies().count(), 2);
/// assert_eq!(test::read_body(response).await, "1 and false");
/// # });
/// ```
pub struct NamedSession<N>(Session, PhantomData<fn() -> N>);

impl<N> NamedSession<N> {
    /// The session as a [`Session`].
    ///
    /// # Examples
    /// ```
    /// use actix_session::{NamedSession, Session};
    ///
    /// struct Admin;
    /// // as a test of a handler calls it
    /// let admin: NamedSession<Admin> = Session::new().into();
    /// let session: Session = admin.into_inner();
    /// assert!(session.is_empty());
    /// ```
    pub fn into_inner(self) -> Session {
        self.0
    }
}

/// For tests of handlers, and for whoever has got the session by
/// [`get_session_named`](super::SessionExt::get_session_named).
impl<N> From<Session> for NamedSession<N> {
    fn from(session: Session) -> Self {
        Self(session, PhantomData)
    }
}

impl<N> Deref for NamedSession<N> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl<N> Clone for NamedSession<N> {
    fn clone(&self) -> Self {
        self.0.clone().into()
    }
}

impl<N> fmt::Debug for NamedSession<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NamedSession").field(&self.0).finish()
    }
}

impl<N: SessionName + 'static> FromRequest for NamedSession<N> {
    type Error = Error;
    type Future = ExtractNamedSession<N>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let found = Session::extract_named(&request.extensions(), N::COOKIE);
        ExtractNamedSession(found, PhantomData)
    }
}

/// The future of the [`NamedSession`] extractor.
///
/// # Panics
/// If it is polled again after it has returned the session.
#[must_use = "futures do nothing unless they are polled"]
pub struct ExtractNamedSession<N>(Option<ExtractSession>, PhantomData<fn() -> N>);

impl<N: SessionName> Future for ExtractNamedSession<N> {
    type Output = Result<NamedSession<N>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Some(session) => pin!(session).poll(context).map_ok(NamedSession::from),
            None => Poll::Ready(Err(not_around(N::COOKIE))),
        }
    }
}

impl<N> fmt::Debug for ExtractNamedSession<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtractNamedSession")
            .finish_non_exhaustive()
    }
}

fn not_around(cookie: &str) -> Error {
    let error = anyhow::anyhow!(
        "a NamedSession was extracted, but no SessionMiddleware whose cookie is named {cookie:?} is \
         around the handler: wrap the application (or the scope) in one"
    );
    event::not_around(cookie, &error);
    InternalError::from_response(error, HttpResponse::InternalServerError().finish()).into()
}
