//! Browsers with a jar, and requests that stand still between load and response.

use std::{cell::RefCell, collections::BTreeMap, ops::Deref, rc::Rc};

use actix_session::{Session, SessionMiddleware, storage::SessionStore};
use actix_web::{
    App, Error, HttpMessage as _, HttpRequest, HttpResponse,
    body::{BoxBody, MessageBody},
    cookie::Key,
    dev::{Service, ServiceRequest, ServiceResponse},
    http::header::{COOKIE, HeaderName, HeaderValue},
    middleware::{Next, from_fn},
    rt,
    test::{TestRequest, init_service},
    web::{self},
};
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use tokio::{
    sync::oneshot,
    task::{JoinError, JoinHandle},
};

use super::answer::{Answer, is_removal};

/// Tells the inner middleware to answer an error.
const FAIL: HeaderName = HeaderName::from_static("x-fail");

type Call = dyn Fn(actix_http::Request) -> LocalBoxFuture<'static, Result<ServiceResponse, Error>>;

/// An application in this thread.
#[derive(Clone)]
pub(crate) struct Site(Rc<Call>);

/// What a stopped handler hands to its test.
struct Stopped {
    session: Session,
    go: oneshot::Sender<End>,
}

struct Probe(oneshot::Sender<Stopped>);

enum End {
    Answer(HttpResponse),
    Panic,
}

/// The handler: gives its session away and waits for what to answer.
pub(crate) async fn stop(req: HttpRequest, session: Session) -> HttpResponse {
    let probe = req.extensions_mut().remove::<Probe>();
    let Some(Probe(probe)) = probe else {
        return HttpResponse::Ok().finish();
    };
    drop(req);
    let (go, end) = oneshot::channel();
    let stopped = Stopped { session, go };
    assert!(probe.send(stopped).is_ok(), "the test waits for this");
    match end.await.expect("the test says how it ends") {
        End::Answer(response) => response,
        End::Panic => panic!("a handler panics because its test says so"),
    }
}

/// The inner middleware: answers `Err` if the response says so.
pub(crate) async fn may_fail(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let response = next.call(req).await?.map_into_boxed_body();
    if response.headers().contains_key(FAIL) {
        return Err(actix_web::error::ErrorUnauthorized("an inner middleware"));
    }
    Ok(response)
}

impl Site {
    /// An application behind one session middleware.
    pub(crate) async fn new<S: SessionStore + 'static>(middleware: SessionMiddleware<S>) -> Self {
        let app = App::new()
            .wrap(from_fn(may_fail))
            .wrap(middleware)
            .default_service(web::to(stop));
        Self::of(init_service(app).await)
    }

    pub(crate) fn of<S, B>(service: S) -> Self
    where
        S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error> + 'static,
        S::Future: 'static,
        B: MessageBody + 'static,
    {
        let service = Rc::new(service);
        Self(Rc::new(move |req| {
            let service = Rc::clone(&service);
            let call = async move { service.call(req).await };
            call.map(|answer| answer.map(ServiceResponse::map_into_boxed_body))
                .boxed_local()
        }))
    }

    /// A request whose handler need not stop.
    pub(crate) async fn answer(&self, request: TestRequest) -> Answer {
        Answer::of((self.0)(request.to_request()).await).await
    }

    /// Starts a request, up to the point where its handler stands still; an answer that came
    /// without the handler is the error.
    async fn begin(&self, request: TestRequest) -> Result<(Stopped, JoinHandle<Answer>), Answer> {
        let (probe, stopped) = oneshot::channel();
        let request = request.to_request();
        request.extensions_mut().insert(Probe(probe));
        let call = (self.0)(request);
        let task = rt::spawn(async move { Answer::of(call.await).await });
        match stopped.await {
            Ok(stopped) => Ok((stopped, task)),
            Err(_) => Err(task.await.unwrap()),
        }
    }
}

/// A client that keeps cookies. Clones share the jar.
#[derive(Clone)]
pub(crate) struct Browser {
    pub(crate) site: Site,
    jar: Rc<RefCell<BTreeMap<String, String>>>,
}

impl Browser {
    pub(crate) fn new(site: Site) -> Self {
        Self {
            site,
            jar: Rc::default(),
        }
    }

    /// A visitor of an application with this store and settings of no interest.
    pub(crate) async fn with(store: impl SessionStore + 'static) -> Self {
        let middleware = SessionMiddleware::new(store, Key::generate());
        Self::new(Site::new(middleware).await)
    }

    /// Another browser that has the same cookies now: a thief, a second tab, an old answer.
    pub(crate) fn fork(&self) -> Self {
        Self {
            site: self.site.clone(),
            jar: Rc::new(RefCell::new(self.jar.borrow().clone())),
        }
    }

    /// The same browser at another site.
    pub(crate) fn at(&self, site: Site) -> Self {
        Self {
            site,
            jar: Rc::clone(&self.jar),
        }
    }

    /// The session cookie's value.
    pub(crate) fn value(&self) -> Option<String> {
        self.cookie("id")
    }

    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        self.jar.borrow().get(name).cloned()
    }

    pub(crate) fn set_cookie(&self, name: &str, value: impl Into<String>) {
        self.jar.borrow_mut().insert(name.to_owned(), value.into());
    }

    pub(crate) fn forget(&self) {
        self.jar.borrow_mut().clear();
    }

    fn request(&self, path: &str) -> TestRequest {
        let jar = self.jar.borrow();
        let request = TestRequest::with_uri(path);
        let pairs: Vec<String> = jar.iter().map(|(n, v)| format!("{n}={v}")).collect();
        if pairs.is_empty() {
            return request;
        }
        request.insert_header((COOKIE, pairs.join("; ")))
    }

    fn absorb(&self, answer: &Answer) {
        let mut jar = self.jar.borrow_mut();
        for cookie in answer.cookies() {
            if is_removal(&cookie) {
                jar.remove(cookie.name());
            } else {
                jar.insert(cookie.name().to_owned(), cookie.value().to_owned());
            }
        }
    }

    /// A request whose session is loaded and whose handler stands still.
    pub(crate) async fn begin(&self) -> Flight {
        self.begin_with(self.request("/")).await
    }

    pub(crate) async fn begin_at(&self, path: &str) -> Flight {
        self.begin_with(self.request(path)).await
    }

    pub(crate) async fn begin_with(&self, request: TestRequest) -> Flight {
        let begun = self.site.begin(request).await;
        let (Stopped { session, go }, task) = begun.expect("the request reaches the handler");
        Flight {
            session,
            go,
            task,
            browser: self.clone(),
        }
    }

    /// A request whose handler does this; the answer may come without the handler.
    pub(crate) async fn visit(&self, act: impl FnOnce(&Session)) -> Answer {
        self.visit_path("/", act).await
    }

    pub(crate) async fn visit_path(&self, path: &str, act: impl FnOnce(&Session)) -> Answer {
        self.visit_with(self.request(path), act).await
    }

    pub(crate) async fn visit_with(
        &self,
        request: TestRequest,
        act: impl FnOnce(&Session),
    ) -> Answer {
        match self.site.begin(request).await {
            Err(answer) => answer,
            Ok((Stopped { session, go }, task)) => {
                act(&session);
                let flight = Flight {
                    session,
                    go,
                    task,
                    browser: self.clone(),
                };
                flight.finish().await
            }
        }
    }

    /// A request whose handler is the application's own.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        let answer = self.site.answer(self.request(path)).await;
        self.absorb(&answer);
        answer
    }

    /// A request with these `Cookie` fields; the jar is neither asked nor changed.
    pub(crate) async fn visit_as(
        &self,
        cookies: &[impl AsRef<[u8]>],
        act: impl FnOnce(&Session),
    ) -> Answer {
        let mut request = TestRequest::get();
        for field in cookies {
            let field = HeaderValue::from_bytes(field.as_ref()).unwrap();
            request = request.append_header((COOKIE, field));
        }
        Self::new(self.site.clone()).visit_with(request, act).await
    }

    /// Reads an entry as a number in a request of its own.
    pub(crate) async fn number(&self, name: &str) -> Option<i64> {
        let mut value = None;
        let answer = self.visit(|s| value = s.get(name).unwrap()).await;
        answer.assert_ok();
        value
    }

    /// Who is logged in, asked in a request of its own.
    pub(crate) async fn principal(&self) -> Option<String> {
        let mut principal = None;
        let answer = self.visit(|s| principal = s.principal()).await;
        answer.assert_ok();
        principal
    }

    /// Whether there is anything in the session.
    pub(crate) async fn is_nobody(&self) -> bool {
        let mut nobody = false;
        let answer = self
            .visit(|s| nobody = s.is_empty() && s.principal().is_none())
            .await;
        answer.assert_ok();
        nobody
    }
}

/// A request in flight. Derefs to its session.
pub(crate) struct Flight {
    session: Session,
    go: oneshot::Sender<End>,
    task: JoinHandle<Answer>,
    browser: Browser,
}

impl Deref for Flight {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Flight {
    /// The handler answers 200.
    pub(crate) async fn finish(self) -> Answer {
        self.end(HttpResponse::Ok().finish()).await
    }

    /// The handler answers, and then an inner middleware makes it an error.
    pub(crate) async fn fail(self) -> Answer {
        let response = HttpResponse::Ok()
            .insert_header((FAIL, HeaderValue::from_static("1")))
            .finish();
        let answer = self.end(response).await;
        assert!(answer.failed, "{answer:?}");
        answer
    }

    async fn end(self, response: HttpResponse) -> Answer {
        assert!(
            self.go.send(End::Answer(response)).is_ok(),
            "the handler waits"
        );
        let answer = self.task.await.expect("nothing panics");
        self.browser.absorb(&answer);
        answer
    }

    /// The handler panics; what comes of it is what a server's worker would see.
    pub(crate) async fn panic(self) -> JoinError {
        assert!(self.go.send(End::Panic).is_ok(), "the handler waits");
        self.task.await.expect_err("the panic goes on")
    }

    /// The client is gone, and the server drops the request.
    pub(crate) async fn abort(self) {
        self.task.abort();
        let ended = self.task.await;
        assert!(ended.unwrap_err().is_cancelled());
    }

    /// The handle alone, which outlives the request.
    pub(crate) fn handle(&self) -> Session {
        self.session.clone()
    }
}
