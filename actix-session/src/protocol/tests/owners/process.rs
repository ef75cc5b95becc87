//! A process of the application, and its handler.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    dev::{Service as _, ServiceResponse},
    test::{TestRequest, init_service},
    web,
};
use futures_util::future::{FutureExt as _, LocalBoxFuture};

use super::{run::USER, store::Asked};
use crate::{Login, Session, SessionManager, SessionMiddleware};

/// A process of the application.
#[derive(Clone)]
pub(super) struct Process {
    pub(super) ask: Rc<dyn Fn(TestRequest) -> LocalBoxFuture<'static, Answer>>,
    pub(super) called: Called,
}

/// Whether a handler has run.
pub(super) type Called = Arc<AtomicBool>;

#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) is_ok: bool,
    pub(super) cookie: Option<String>,
    pub(super) body: String,
}

pub(super) fn request(path: &str, cookie: Option<&str>) -> TestRequest {
    let request = TestRequest::with_uri(path);
    match cookie {
        Some(cookie) => request.insert_header(("cookie", format!("id={cookie}"))),
        None => request,
    }
}

impl Process {
    pub(super) async fn new(middleware: SessionMiddleware<Asked>) -> Self {
        let called = Called::default();
        let app = App::new()
            .app_data(web::Data::new(middleware.manager()))
            .app_data(web::Data::new(Arc::clone(&called)))
            .wrap(middleware)
            .default_service(web::to(handle));
        let service = Rc::new(init_service(app).await);
        let ask = move |request: TestRequest| {
            let service = Rc::clone(&service);
            async move { Answer::of(service.call(request.to_request()).await).await }.boxed_local()
        };
        Self {
            ask: Rc::new(ask),
            called,
        }
    }
}

impl Answer {
    async fn of(result: Result<ServiceResponse, Error>) -> Self {
        let Ok(response) = result else {
            return Self {
                is_ok: false,
                cookie: None,
                body: String::new(),
            };
        };
        let set = response.response().cookies().next();
        let set = set.map(|cookie| cookie.value().to_owned());
        let is_ok = response.status().is_success();
        let body = actix_web::test::read_body(response).await;
        Self {
            is_ok,
            cookie: set.filter(|value| !value.is_empty()),
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }
}

async fn handle(
    request: HttpRequest,
    session: Session,
    (sessions, called): (web::Data<SessionManager>, web::Data<Called>),
) -> actix_web::Result<HttpResponse> {
    called.store(true, Ordering::SeqCst);
    let path: Vec<&str> = request.path().split('/').skip(1).collect();
    match path[..] {
        ["login", user, label] => {
            session.login_with(Login::new(user).device(label))?;
            session.insert("label", label)?;
        }
        ["renew"] => session.renew(),
        ["write"] => session.insert("n", 1)?,
        ["clear"] => session.clear(),
        ["purge"] => session.purge(),
        ["revoke-all"] => drop(sessions.revoke_all(USER).await?),
        ["revoke-others"] => drop(sessions.revoke_others(&session).await?),
        _ => {}
    }
    let label = match session.principal() {
        Some(_) => session.get::<String>("label")?.unwrap_or_default(),
        None => String::new(),
    };
    Ok(HttpResponse::Ok().body(label))
}
