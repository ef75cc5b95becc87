//! Requests that have a session without a cookie: what a test wants to be in it.
//!
//! A `TestRequest` carries nothing but headers to an application. So it carries a random token, and
//! what it stands for stays in this process: nobody outside can name it.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use actix_web::{
    http::header::{HeaderMap, HeaderName},
    test::TestRequest,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::{Session, SessionInsertError, random, session::Shown, storage::Terms, sync::lock};

const HEADER: HeaderName = HeaderName::from_static("x-actix-session-test");

type Act = Arc<dyn Fn(&Session) + Send + Sync>;

static SEEDS: LazyLock<Mutex<HashMap<String, Act>>> = LazyLock::new(Mutex::default);

/// Gives a [`TestRequest`] a session: to handlers behind a [`SessionMiddleware`] and to those that are
/// called without one.
///
/// Behind a middleware the session is made in its store, and the request carries its cookie, or the
/// [header](crate::config::SessionMiddlewareBuilder::header) if it has that, be it empty. All that
/// follows is as with a browser's: the handler finds it loaded, and may change, renew or end it.
/// Without a middleware, the extractor gives a session that shows this.
///
/// If several middlewares serve the request, the outermost one has the session. Whoever asks for it
/// outside of them, where a server's request shows an empty one, sees these entries and this login too.
///
/// # Examples
/// ```
/// # #[cfg(feature = "memory-session")]
/// # actix_web::rt::System::new().block_on(async {
/// use actix_session::{
///     Session, SessionMiddleware, storage::MemorySessionStore, testing::SessionTestRequest as _,
/// };
/// use actix_web::{App, FromRequest as _, cookie::Key, test, test::TestRequest, web};
///
/// async fn greet(session: Session) -> actix_web::Result<String> {
///     let name = session.get::<String>("name")?.unwrap_or_default();
///     Ok(format!("{name} is {:?}", session.principal()))
/// }
///
/// let middleware = SessionMiddleware::new(MemorySessionStore::new(), Key::generate());
/// let app = test::init_service(App::new().wrap(middleware).default_service(web::to(greet))).await;
/// let request = TestRequest::get().session([("name", "Ferris")]).login("user-42");
/// let body = test::call_and_read_body(&app, request.to_request()).await;
/// assert_eq!(body, r#"Ferris is Some("user-42")"#);
///
/// // The handler alone, without an application:
/// let request = TestRequest::get().session([("name", "Ferris")]).to_http_request();
/// let session = Session::extract(&request).await.unwrap();
/// assert_eq!(greet(session).await.unwrap(), "Ferris is None");
/// # });
/// ```
///
/// [`SessionMiddleware`]: crate::SessionMiddleware
pub trait SessionTestRequest: Sized {
    /// The session has these entries. Call it again for values of another type.
    ///
    /// # Panics
    /// A value does not serialize as JSON, or a name is reserved.
    #[must_use]
    fn session<K: Into<String>, V: Serialize>(
        self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Self;

    /// The session is logged in as this principal.
    ///
    /// # Panics
    /// The principal is empty or too long.
    #[must_use]
    fn login(self, principal: impl Into<String>) -> Self;
}

impl SessionTestRequest for TestRequest {
    #[track_caller]
    fn session<K: Into<String>, V: Serialize>(
        self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let entries = entries.into_iter().map(|(name, value)| {
            // As text, numbers stay as they are.
            let value = to_raw_value(&value).expect("a value serializes as JSON");
            (name.into(), value)
        });
        let entries: Vec<(String, Box<RawValue>)> = entries.collect();
        let act = move |session: &Session| {
            let mut entries = entries.iter();
            checked(entries.try_for_each(|(name, value)| session.insert(name, value)));
        };
        self.append_header((HEADER, keep(Arc::new(act))))
    }

    #[track_caller]
    fn login(self, principal: impl Into<String>) -> Self {
        let principal = principal.into();
        let act = move |session: &Session| {
            session
                .login(&*principal)
                .expect("the principal of a test is not empty and not too long");
        };
        self.append_header((HEADER, keep(Arc::new(act))))
    }
}

fn checked(inserted: Result<(), SessionInsertError>) {
    inserted.expect("the entries of a test have names that are not reserved");
}

/// Keeps what to do, and returns what stands for it.
fn keep(act: Act) -> String {
    let token = String::from(random::generate_session_key());
    lock(&SEEDS).insert(token.clone(), act);
    token
}

/// What a request wants to be in its session, for the middleware that makes it: it is there once.
pub(crate) fn take(headers: &HeaderMap) -> Vec<Act> {
    acts(headers, |token| lock(&SEEDS).remove(token))
}

fn acts(headers: &HeaderMap, by_token: impl Fn(&str) -> Option<Act>) -> Vec<Act> {
    let tokens = headers.get_all(HEADER);
    let acts = tokens.filter_map(|token| by_token(token.to_str().ok()?));
    acts.collect()
}

/// The session of a request that no middleware serves, or none yet: one further in finds all of it.
pub(crate) fn unattached(headers: &HeaderMap) -> Session {
    let acts = acts(headers, |token| lock(&SEEDS).get(token).cloned());
    let session = Session::new();
    if acts.is_empty() {
        return session;
    }
    acts.into_iter().for_each(|act| act(&session));
    let changes = session.lock().take_snapshot().changes;
    let record = changes
        .new_record(&Terms::default())
        .expect("what a test has set can be written");
    shown(Some(record))
}

/// A session that shows a record, and that nobody saves.
pub(crate) fn shown(record: Option<crate::record::Record>) -> Session {
    let session = Session::new();
    session.fill(Shown {
        record,
        ..Shown::default()
    });
    session
}

#[cfg(test)]
#[cfg(feature = "memory-session")]
mod tests {
    use actix_web::{
        App, Error, HttpResponse,
        body::MessageBody,
        cookie::{Cookie, Key},
        dev::{ServiceRequest, ServiceResponse},
        middleware::{Next, from_fn},
        test, web,
    };

    use super::*;
    use crate::{
        SessionExt as _, SessionMiddleware,
        storage::MemorySessionStore,
        testing::{TestClient, TestSessions},
    };

    /// Around the middleware.
    async fn around(
        req: ServiceRequest,
        next: Next<impl MessageBody + 'static>,
    ) -> Result<ServiceResponse<impl MessageBody>, Error> {
        if req.path() == "/writes" {
            req.get_session().insert("early", 1)?;
        } else {
            req.get_session();
        }
        next.call(req).await
    }

    async fn handler(session: Session) -> Result<HttpResponse, Error> {
        let counts = [session.get::<u8>("n")?, session.get("early")?];
        Ok(HttpResponse::Ok().body(format!("{:?} {counts:?}", session.principal())))
    }

    #[actix_web::test]
    async fn whoever_asks_outside_of_the_middleware_leaves_the_session_to_it() {
        for is_lazy in [false, true] {
            let builder =
                SessionMiddleware::builder(MemorySessionStore::new(), Key::from(&[7; 64]));
            let builder = if is_lazy { builder.lazy() } else { builder };
            let app = App::new()
                .wrap(builder.build())
                .wrap(from_fn(around))
                .default_service(web::to(handler));
            let app = test::init_service(app).await;
            for (path, early) in [("/", "None"), ("/writes", "Some(1)")] {
                let request = TestRequest::with_uri(path).login("ada").session([("n", 7)]);
                let seen = test::call_and_read_body(&app, request.to_request()).await;
                let expected = format!("Some(\"ada\") [Some(7), {early}]");
                assert_eq!(seen, expected, "lazy: {is_lazy}");
            }
        }
    }

    #[actix_web::test]
    async fn what_a_test_gives_takes_the_place_of_the_clients_own_cookie() {
        for is_strict in [false, true] {
            let builder =
                SessionMiddleware::builder(MemorySessionStore::new(), Key::from(&[7; 64]));
            let builder = if is_strict { builder.strict() } else { builder };
            let middleware = builder.build();
            let sessions = TestSessions::new(&middleware);
            let app = App::new().wrap(middleware);
            let app = test::init_service(app.default_service(web::to(handler))).await;
            let client = TestClient::new(&app);
            client.set_cookie(Cookie::new("other", "1"));
            client.set_cookie(sessions.cookie(|s| s.login("ada").unwrap()).await);
            let request = TestRequest::default().login("bob").session([("n", 7)]);
            let seen = test::read_body(client.send(request).await).await;
            assert_eq!(seen, r#"Some("bob") [Some(7), None]"#);
        }
    }

    #[actix_web::test]
    async fn numbers_of_128_bits_stay_as_they_are() {
        let numbers = [u128::MAX, u128::from(u64::MAX) + 1];
        let request = TestRequest::default().session([("n", numbers)]);
        let session = request.to_http_request().get_session();
        assert_eq!(session.get("n").unwrap(), Some(numbers));
        let request = TestRequest::default().session([("n", i128::MIN)]);
        let session = request.to_http_request().get_session();
        assert_eq!(session.get("n").unwrap(), Some(i128::MIN));
    }
}
