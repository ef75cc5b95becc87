//! What is wrapped around the middleware of a session whose store fails.

use actix_cors::Cors;
use actix_session::{Session, SessionMiddleware, storage::MemorySessionStore};
use actix_web::{
    App, Error, HttpServer, Result,
    body::MessageBody,
    cookie::Key,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        StatusCode,
        header::{ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN},
    },
    middleware::{Logger, Next, from_fn},
    test::{TestRequest, call_service, init_service, try_call_service},
    web,
};

use crate::{
    attacks::capture,
    support::{HttpAnswer, Spy},
};

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

/// Begins as the library's targets do, so that the lines of the server's threads are kept.
const ACCESS: &str = "actix_session::tests::access";

/// The recipe of the cookbook.
async fn log_failures(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let line = format!("{} {}", request.method(), request.path());
    next.call(request).await.inspect_err(|error| {
        let status = error.as_response_error().status_code().as_u16();
        log::error!(target: ACCESS, "\"{line}\" {status}");
    })
}

/// Through a real server, for each way in which a store can fail a request.
#[actix_web::test]
async fn a_failure_keeps_its_line_of_the_access_log() {
    capture::install();
    let spy = Spy::new(MemorySessionStore::new());
    let (store, key) = (spy.clone(), Key::generate());
    let make = move || {
        let cors = Cors::default()
            .allowed_origin(ELSEWHERE)
            .supports_credentials();
        App::new()
            .route("/{name}/{value}", web::get().to(write_second))
            .wrap(SessionMiddleware::new(store.clone(), key.clone()))
            .wrap(from_fn(log_failures))
            .wrap(cors)
            .wrap(Logger::new("\"%r\" %s").log_target(ACCESS))
    };
    let server = HttpServer::new(make).workers(1).disable_signals();
    let server = server.bind(("127.0.0.1", 0)).unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);

    let from = ("origin", ELSEWHERE);
    let answer = HttpAnswer::get(address, "/none/1", &[from]).await;
    assert_eq!(answer.status(), 200);
    let cookie = answer.cookie().unwrap();
    for method in ["open", "commit", "create"] {
        spy.refuse(&[method]);
        let fields = [from, ("cookie", &cookie)];
        let fields = if method == "create" {
            &fields[..1]
        } else {
            &fields
        };
        let answer = HttpAnswer::get(address, &format!("/{method}/2"), fields).await;
        assert_eq!(answer.status(), 500, "{method}");
        for (name, value) in [
            ("access-control-allow-origin", ELSEWHERE),
            ("access-control-allow-credentials", "true"),
        ] {
            assert_eq!(answer.field(name), Some(value), "{method}");
        }
    }
    // What was sent may be logged a moment later.
    handle.stop(true).await;
    for (path, status) in [
        ("/none/1", "200"),
        ("/open/2", "500"),
        ("/commit/2", "500"),
        ("/create/2", "500"),
    ] {
        let lines = capture::own_lines().into_iter();
        let lines = lines.filter(|line| line.target == ACCESS && line.text.contains(path));
        let lines: Vec<_> = lines.map(|line| line.text).collect();
        assert_eq!(lines.len(), 1, "{path}: {lines:?}");
        assert!(lines[0].ends_with(status), "{lines:?}");
    }
}

async fn write_second(session: Session, path: web::Path<(String, u32)>) -> Result<&'static str> {
    session.insert("value", path.1)?;
    Ok("written")
}
