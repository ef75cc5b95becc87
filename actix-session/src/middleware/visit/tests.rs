use std::{iter, sync::mpsc::channel, time::Duration};

use actix_web::{
    App, Error, FromRequest as _, HttpRequest, HttpResponse,
    body::MessageBody,
    cookie::Key,
    dev::{Service as _, ServiceRequest, ServiceResponse},
    http::{Method, header},
    middleware::{Next, from_fn},
    test, web,
};
use futures_util::FutureExt as _;
use tracing::Level;

use crate::{
    Session, SessionEventKind, SessionExt as _, SessionMiddleware, lines::Lines,
    storage::MemorySessionStore,
};

/// An event that does not come is a failure by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// Around the middleware.
async fn around(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let early = (req.path() != "/").then(|| req.get_session());
    match (req.path(), &early) {
        ("/lowers", Some(session)) => {
            session.insert("role", "admin")?;
            session.modify("user", |user: Option<String>| {
                user.map(|it| it.to_lowercase())
            })?;
        }
        ("/locks", Some(session)) => {
            session.modify("user", |user: Option<String>| {
                user.filter(|it| it == "nobody")
            })?;
        }
        // The first time nobody is known to be there.
        ("/fails", Some(session)) => {
            session.login("ada")?;
            session.modify("user", |user: Option<u64>| user)?;
        }
        _ => {}
    }
    let res = next.call(req).await;
    if let (Err(_), Some(session)) = (&res, early) {
        let answers = (
            session.save().now_or_never(),
            session.purge_now().now_or_never(),
        );
        assert!(
            matches!(answers, (Some(Err(_)), Some(Err(_)))),
            "{answers:?}"
        );
    }
    res
}

async fn handler(req: HttpRequest) -> HttpResponse {
    let session = if req.method() == Method::POST {
        let session = req.get_session();
        session.insert("user", "Ada").unwrap();
        session
    } else {
        Session::extract(&req).await.unwrap()
    };
    if req.path() == "/mark" {
        session.insert("mark", 1).unwrap();
    }
    let role = session.get::<String>("role").unwrap_or_default();
    HttpResponse::Ok().body(format!("{:?} {role:?}", session.principal()))
}

/// Answers what the handler sees, how many errors were logged, and the kinds of events.
async fn visit(path: &str, is_lazy: bool) -> (Result<String, u16>, usize, Vec<SessionEventKind>) {
    let (sender, told) = channel();
    let builder = SessionMiddleware::builder(MemorySessionStore::new(), Key::from(&[7; 64]))
        .principal_entry("user")
        .on_event(move |event| sender.send(event.kind()).unwrap());
    let builder = if is_lazy { builder.lazy() } else { builder };
    let app = App::new()
        .wrap(builder.build())
        .wrap(from_fn(around))
        .default_service(web::to(handler));
    let app = test::init_service(app).await;
    let answer = test::call_service(&app, test::TestRequest::post().to_request()).await;
    let cookie = answer.response().cookies().next().unwrap().to_string();
    let cookie = cookie.split(';').next().unwrap().to_owned();

    let lines = Lines::default();
    let here = tracing::subscriber::set_default(lines.clone());
    let request = test::TestRequest::get().uri(path);
    let request = request.insert_header((header::COOKIE, cookie));
    let answer = app.call(request.to_request()).await;
    drop(here);
    let answer = match answer {
        Ok(answer) => Ok(String::from_utf8(test::read_body(answer).await.to_vec()).unwrap()),
        Err(error) => Err(error.as_response_error().status_code().as_u16()),
    };
    let mark = test::TestRequest::get().uri("/mark").to_request();
    test::call_service(&app, mark).await;
    let next = || told.recv_timeout(PATIENCE).ok();
    let told = iter::from_fn(next).take_while(|kind| *kind != SessionEventKind::Created);
    (answer, lines.count(Level::ERROR), told.collect())
}

/// Which entry names somebody, and whom it names, nobody knew when the closure ran first.
#[actix_web::test]
async fn a_closure_on_the_principal_logs_in_or_out_once_it_is_known_who_is_there() {
    for is_lazy in [false, true] {
        let (answer, _, told) = visit("/lowers", is_lazy).await;
        assert_eq!(answer.unwrap(), r#"Some("ada") None"#);
        assert_eq!(
            told[1..],
            [SessionEventKind::LoggedOut, SessionEventKind::LoggedIn]
        );
        let (answer, _, told) = visit("/locks", is_lazy).await;
        assert_eq!(answer.unwrap(), "None None");
        assert_eq!(told[1..], [SessionEventKind::LoggedOut]);
    }
}

#[actix_web::test]
async fn if_a_session_cannot_be_taken_over_the_log_says_why_and_nobody_waits() {
    for is_lazy in [false, true] {
        let (answer, errors, _) = visit("/fails", is_lazy).await;
        assert_eq!((answer, errors), (Err(500), 1));
    }
}
