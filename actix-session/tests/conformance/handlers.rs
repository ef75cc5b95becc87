//! The helpers for tests of handlers, behind middlewares of every kind and without one.

use actix_session::{
    Session, SessionExt as _, SessionMiddleware,
    config::SessionMiddlewareBuilder,
    storage::{CookieSessionStore, MemorySessionStore, SessionStore},
    testing::{SessionTestRequest as _, TestClient, TestSessions},
};
use actix_web::{
    App, HttpMessage as _,
    cookie::Key,
    test::{TestRequest, call_and_read_body, init_service, read_body},
    web,
};

/// Shows the session, counts, and ends it if the path says so.
async fn visit(req: actix_web::HttpRequest, session: Session) -> actix_web::Result<String> {
    let seen: Option<u32> = session.get("n")?;
    if req.path() == "/end" {
        session.purge();
    } else {
        session.modify("n", |n: Option<u32>| Some(n.unwrap_or(0) + 1))?;
    }
    Ok(format!("{seen:?} {:?}", session.principal()))
}

fn builder<S: SessionStore + 'static>(store: S) -> SessionMiddlewareBuilder<S> {
    SessionMiddleware::builder(store, Key::generate())
}

async fn works_behind<S: SessionStore + 'static>(builder: SessionMiddlewareBuilder<S>) {
    let middleware = builder.build();
    let sessions = TestSessions::new(&middleware);
    let app = init_service(App::new().wrap(middleware).default_service(web::to(visit))).await;

    let request = TestRequest::get().session([("n", 4)]).login("user-42");
    let response = request.send_request(&app).await;
    let after = sessions.after(&response).await;
    assert_eq!(after.get::<u32>("n").unwrap(), Some(5));
    assert_eq!(after.principal().as_deref(), Some("user-42"));
    assert_eq!(read_body(response).await, r#"Some(4) Some("user-42")"#);

    let cookie = sessions.cookie(|s| s.login("user-7").unwrap()).await;
    let client = TestClient::new(&app);
    client.set_cookie(cookie);
    for seen in [r#"None Some("user-7")"#, r#"Some(1) Some("user-7")"#] {
        let response = client.send(TestRequest::get()).await;
        assert_eq!(read_body(response).await, seen);
    }
    let ended = client.send(TestRequest::with_uri("/end")).await;
    assert!(sessions.after(&ended).await.is_empty());
    assert!(client.cookie("id").is_none());
}

#[actix_web::test]
async fn a_test_gives_its_requests_a_session() {
    works_behind(builder(MemorySessionStore::new())).await;
    works_behind(builder(MemorySessionStore::new()).lazy()).await;
    works_behind(builder(CookieSessionStore::default())).await;
}

/// Clients without cookies: what a request brings in the header decides.
#[actix_web::test]
async fn a_header_carries_the_session_of_a_test() {
    let middleware = builder(MemorySessionStore::new())
        .header("X-Session")
        .build();
    let sessions = TestSessions::new(&middleware);
    let app = init_service(App::new().wrap(middleware).default_service(web::to(visit))).await;
    let by = |value: &str| TestRequest::get().insert_header(("X-Session", value));
    let number = async |response: &_| sessions.after(response).await.get::<u32>("n").unwrap();
    let value = |response: &actix_web::dev::ServiceResponse| {
        let value = response.headers().get("X-Session").unwrap();
        value.to_str().unwrap().to_owned()
    };

    let first = by("").send_request(&app).await.map_into_boxed_body();
    assert_eq!(number(&first).await, Some(1), "a new value came");
    let value = value(&first);
    let second = by(&value).send_request(&app).await;
    assert!(!second.headers().contains_key("X-Session"));
    assert_eq!(number(&second).await, Some(2), "the value stays");

    // A cookie beside it does not count.
    let cookie = sessions.cookie(|s| s.insert("n", 40).unwrap()).await;
    let both = by(&value).cookie(cookie.clone()).send_request(&app).await;
    assert_eq!(number(&both).await, Some(3));
    let only = TestRequest::get().cookie(cookie).send_request(&app).await;
    assert_eq!(number(&only).await, Some(41));

    let ended = by(&value).uri("/end").send_request(&app).await;
    assert!(sessions.after(&ended).await.is_empty());

    let seeded = by("").session([("n", 4)]).login("user-42");
    let seeded = seeded.send_request(&app).await;
    assert_eq!(number(&seeded).await, Some(5));
    assert!(!seeded.headers().contains_key("Set-Cookie"));
    assert_eq!(read_body(seeded).await, r#"Some(4) Some("user-42")"#);
}

#[actix_web::test]
async fn an_entry_names_the_principal() {
    let named = builder(MemorySessionStore::new()).principal_entry("user");
    let app = App::new()
        .wrap(named.build())
        .default_service(web::to(visit));
    let app = init_service(app).await;
    let request = TestRequest::get().session([("user", "user-42")]);
    let body = call_and_read_body(&app, request.to_request()).await;
    assert_eq!(body, r#"None Some("user-42")"#);
}

#[actix_web::test]
async fn a_handler_alone_has_one_too() {
    let request = TestRequest::get()
        .session([("n", 1)])
        .session([("name", "Ferris")])
        .login("user-42");
    let request = request.to_http_request();
    let session = request.get_session();
    assert_eq!(session.get::<u32>("n").unwrap(), Some(1));
    assert_eq!(session.get::<String>("name").unwrap().unwrap(), "Ferris");
    assert_eq!(session.principal().as_deref(), Some("user-42"));
    assert_eq!(session.status(), actix_session::SessionStatus::Unchanged);
    // The same one for all who ask.
    session.insert("n", 2).unwrap();
    assert_eq!(request.get_session().get::<u32>("n").unwrap(), Some(2));
}

/// The field of a request leads to nothing unless this process has made it, and only once.
#[actix_web::test]
async fn nobody_outside_can_name_a_session() {
    let middleware = builder(MemorySessionStore::new()).build();
    let app = App::new().wrap(middleware).default_service(web::to(visit));
    let app = init_service(app).await;
    const FIELD: &str = "x-actix-session-test";
    let made = TestRequest::get().login("user-42").to_request();
    let token = made.headers().get(FIELD).unwrap().clone();
    for token in ["", "x", &"a".repeat(64)] {
        let request = TestRequest::get().insert_header((FIELD, token));
        let body = call_and_read_body(&app, request.to_request()).await;
        assert_eq!(body, "None None");
    }
    let first = call_and_read_body(&app, made).await;
    assert_eq!(first, r#"None Some("user-42")"#);
    let again = TestRequest::get().insert_header((FIELD, token));
    let body = call_and_read_body(&app, again.to_request()).await;
    assert_eq!(body, "None None");
}

#[actix_web::test]
#[should_panic(expected = "names that are not reserved")]
async fn a_reserved_name_is_said_so() {
    let request = TestRequest::get().session([("__actix_session", "x")]);
    let _ = request.to_http_request().get_session();
}
