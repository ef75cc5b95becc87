//! Requests that have a session without a cookie: what a test wants to be in it.
//!
//! A `TestRequest` carries nothing but headers to an application. So it carries a random token, and
//! what it stands for stays in this process: nobody outside can name it.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
};

use actix_web::{
    http::header::{HeaderMap, HeaderName},
    test::TestRequest,
};
use serde::Serialize;

use crate::{Session, SessionInsertError, random, session::Shown, storage::Terms, sync::lock};

const HEADER: HeaderName = HeaderName::from_static("x-actix-session-test");

type Act = Box<dyn FnOnce(&Session) + Send>;

static SEEDS: LazyLock<Mutex<HashMap<String, Act>>> = LazyLock::new(Mutex::default);

/// Gives a [`TestRequest`] a session: to handlers behind a [`SessionMiddleware`] and to those that are
/// called without one.
///
/// Behind a middleware the session is made in its store, and the request carries its cookie, or the
/// [header](crate::config::SessionMiddlewareBuilder::header) if it has that, be it empty. All that
/// follows is as with a browser's: the handler finds it loaded, and may change, renew or end it.
/// Without a middleware, the extractor gives a session that shows this.
///
/// If several middlewares serve the request, the outermost one has the session.
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
            let value = serde_json::to_value(value).expect("a value serializes as JSON");
            (name.into(), value)
        });
        let entries: Vec<(String, serde_json::Value)> = entries.collect();
        let act = |session: &Session| {
            let inserted = entries
                .into_iter()
                .try_for_each(|(name, value)| session.insert(name, value));
            checked(inserted);
        };
        self.append_header((HEADER, keep(Box::new(act))))
    }

    #[track_caller]
    fn login(self, principal: impl Into<String>) -> Self {
        let principal = principal.into();
        let act = move |session: &Session| {
            session
                .login(principal)
                .expect("the principal of a test is not empty and not too long");
        };
        self.append_header((HEADER, keep(Box::new(act))))
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

/// What a request wants to be in its session. It is there once.
pub(crate) fn take(headers: &HeaderMap) -> Vec<Act> {
    let tokens = headers.get_all(HEADER);
    let acts = tokens.filter_map(|token| {
        let token = token.to_str().ok()?;
        lock(&SEEDS).remove(token)
    });
    acts.collect()
}

/// The session of a request that no middleware serves.
pub(crate) fn unattached(headers: &HeaderMap) -> Session {
    let acts = take(headers);
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
