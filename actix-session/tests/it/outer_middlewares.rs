//! What is wrapped around the middleware of a session whose store fails.

use actix_cors::Cors;
use actix_session::{Session, SessionMiddleware, storage::MemorySessionStore};
use actix_web::{
    App, Result,
    cookie::Key,
    http::{
        StatusCode,
        header::{ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN},
    },
    test::{TestRequest, call_service, init_service, try_call_service},
    web,
};

use crate::support::Spy;

const ELSEWHERE: &str = "https://app.example";

async fn write(session: Session, value: web::Path<u32>) -> Result<&'static str> {
    session.insert("value", *value)?;
    Ok("written")
}

/// A script may read the failure, as it may read any other response.
#[actix_web::test]
async fn a_failure_keeps_the_headers_of_cors() {
    let spy = Spy::new(MemorySessionStore::new());
    let cors = Cors::default()
        .allowed_origin(ELSEWHERE)
        .supports_credentials();
    let app = App::new()
        .route("/{value}", web::get().to(write))
        .wrap(SessionMiddleware::new(spy.clone(), Key::generate()))
        .wrap(cors);
    let app = init_service(app).await;
    let request = |uri| TestRequest::with_uri(uri).insert_header((ORIGIN, ELSEWHERE));
    let response = call_service(&app, request("/1").to_request()).await;
    let cookie = response.response().cookies().next().unwrap().into_owned();

    for method in ["open", "commit", "create"] {
        spy.refuse(&[method]);
        let request = match method {
            "create" => request("/2"),
            _ => request("/2").cookie(cookie.clone()),
        };
        let error = try_call_service(&app, request.to_request()).await;
        let response = error.unwrap_err().error_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers();
        assert_eq!(headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), ELSEWHERE);
        let credentials = headers.get(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        assert_eq!(credentials.unwrap(), "true", "{method}");
    }
}
