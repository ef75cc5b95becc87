//! Cookies of sessions that a test makes, and a look at what a response has left.

use actix_web::{
    cookie::Cookie,
    dev::ServiceResponse,
    http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE},
};

use super::seeds::shown;
use crate::{
    Session, SessionMiddleware,
    cookie::jar::Fields,
    middleware::{Parts, load::Incoming, seeded},
    storage::SessionStore,
};

/// The sessions of a middleware, for its tests: make one with a cookie, and look into it after a
/// response.
///
/// # Examples
/// ```
/// # #[cfg(feature = "memory-session")]
/// # actix_web::rt::System::new().block_on(async {
/// use actix_session::{
///     Session, SessionMiddleware, storage::MemorySessionStore, testing::TestSessions,
/// };
/// use actix_web::{App, HttpResponse, cookie::Key, test, web};
///
/// async fn count(session: Session) -> actix_web::Result<HttpResponse> {
///     session.modify("n", |n: Option<u32>| Some(n.unwrap_or(0) + 1))?;
///     Ok(HttpResponse::Ok().finish())
/// }
///
/// let middleware = SessionMiddleware::new(MemorySessionStore::new(), Key::generate());
/// let sessions = TestSessions::new(&middleware);
/// let app = test::init_service(App::new().wrap(middleware).default_service(web::to(count))).await;
///
/// let cookie = sessions.cookie(|session| session.insert("n", 41).unwrap()).await;
/// let response = test::TestRequest::get().cookie(cookie).send_request(&app).await;
/// assert_eq!(sessions.after(&response).await.get::<u32>("n").unwrap(), Some(42));
/// # });
/// ```
#[derive(Debug)]
pub struct TestSessions<S: SessionStore>(SessionMiddleware<S>);

impl<S: SessionStore> Clone for TestSessions<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: SessionStore> TestSessions<S> {
    /// Those of this middleware.
    pub fn new(middleware: &SessionMiddleware<S>) -> Self {
        Self(middleware.clone())
    }

    /// Makes a session of what `act` does, and returns its cookie as a browser would send it.
    ///
    /// # Panics
    /// `act` has done nothing, the store fails, or the cookie would be too long.
    pub async fn cookie(&self, act: impl FnOnce(&Session)) -> Cookie<'static> {
        let pair = seeded::sealed(self.0.parts(), act, false).await;
        let pair = pair.expect("the store makes the session of a test");
        let pair = String::from_utf8(pair).expect("a cookie is ASCII");
        let cookie = Cookie::parse_encoded(pair).expect("the pair is a cookie");
        cookie.into_owned()
    }

    /// The session as the response has left it, for its client: a handle that shows what is stored, and
    /// that nobody saves. It is empty if there is none, or no longer one. If the request came with the
    /// [header](crate::config::SessionMiddlewareBuilder::header) that carries sessions, it is the
    /// session which that header now carries.
    ///
    /// # Panics
    /// The store fails.
    pub async fn after<B>(&self, response: &ServiceResponse<B>) -> Session {
        let parts = self.0.parts();
        let carried = Carried::by(response, parts);
        let fields = Fields {
            cookies: &carried.cookies,
            header: &carried.header,
        };
        let loaded = Incoming::load(parts, fields, true).await;
        let Ok(incoming) = loaded else {
            panic!("the store must answer what the session of a test holds")
        };
        shown(incoming.loaded.record().cloned())
    }
}

/// What a client would send next that has kept what a response says.
struct Carried {
    cookies: Vec<HeaderValue>,
    header: Vec<HeaderValue>,
}

impl Carried {
    fn by<B, S>(response: &ServiceResponse<B>, parts: &Parts<S>) -> Self {
        let (sent, set) = (response.request().headers(), response.headers());
        let all = |headers: &HeaderMap, name: &HeaderName| {
            headers.get_all(name).cloned().collect::<Vec<_>>()
        };
        // A client that brings the field, be it empty, gets no cookie, and none of its own is read.
        if let Some(name) = parts.cookies.header_name()
            && sent.contains_key(name)
        {
            let header = match set.get(name) {
                Some(value) => vec![value.clone()],
                None => all(sent, name),
            };
            return Self {
                cookies: Vec::new(),
                header,
            };
        }
        let name = &*parts.cookies.own.wire_name;
        let set = set.get_all(SET_COOKIE);
        let set = set.filter_map(|field| own_pair(field, name)).next_back();
        Self {
            cookies: set.map_or_else(|| all(sent, &COOKIE), |pair| vec![pair]),
            header: Vec::new(),
        }
    }
}

/// The pair of a `Set-Cookie` field, if it is this cookie's.
fn own_pair(field: &HeaderValue, name: &str) -> Option<HeaderValue> {
    let pair = field.to_str().ok()?.split(';').next()?;
    let (found, _) = pair.split_once('=')?;
    (found.trim() == name).then(|| HeaderValue::from_str(pair).ok())?
}
