//! `purge_now`: who waits for it, and what goes on meanwhile.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
};

use actix_session::{
    Session, SessionMiddleware, forward_store_methods,
    storage::{MemorySessionStore, SessionKey, SessionStore},
};
use actix_web::{
    App, HttpResponse,
    cookie::Key,
    dev::Service as _,
    http::StatusCode,
    rt,
    test::{TestRequest, init_service},
    web,
};
use tokio::sync::{Notify, Semaphore};

use crate::support::{Browser, Site, fill, soon, within_patience};

/// A store whose `delete` waits until its gate is open.
#[derive(Clone)]
struct Gated {
    inner: MemorySessionStore,
    gate: Arc<Gate>,
}

struct Gate {
    open: Semaphore,
    asked: Notify,
    deletes: AtomicUsize,
    refuses: AtomicBool,
}

impl Gated {
    fn new() -> Self {
        let gate = Gate {
            open: Semaphore::new(0),
            asked: Notify::new(),
            deletes: AtomicUsize::new(0),
            refuses: AtomicBool::new(false),
        };
        Self {
            inner: MemorySessionStore::new(),
            gate: Arc::new(gate),
        }
    }

    fn open(self) -> Self {
        self.gate.open.close();
        self
    }

    fn deletes(&self) -> usize {
        self.gate.deletes.load(Ordering::SeqCst)
    }

    fn refuse(&self, refuses: bool) {
        self.gate.refuses.store(refuses, Ordering::SeqCst);
    }
}

impl SessionStore for Gated {
    forward_store_methods!(self => self.inner; except delete);

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        let gate = &self.gate;
        gate.deletes.fetch_add(1, Ordering::SeqCst);
        gate.asked.notify_one();
        // Never granted, but refused once the gate is open.
        drop(gate.open.acquire().await);
        anyhow::ensure!(!gate.refuses.load(Ordering::SeqCst), "the store refuses");
        self.inner.delete(key).await
    }
}

async fn visitor(store: &Gated) -> Browser {
    let browser = Browser::with(store.clone()).await;
    fill(&browser).await;
    browser
}

#[actix_web::test]
async fn all_that_wait_learn_what_came_of_one_ending() {
    let store = Gated::new().open();
    let browser = visitor(&store).await;
    let flight = browser.begin().await;
    let (one, two) = tokio::join!(flight.purge_now(), flight.purge_now());
    one.unwrap();
    two.unwrap();
    assert_eq!(store.deletes(), 1);
    assert!(store.inner.is_empty());
    flight.finish().await.assert_ok().assert_removes_cookie();
    assert_eq!(store.deletes(), 1, "what has ended is not ended again");
}

#[actix_web::test]
async fn all_that_wait_learn_of_a_failure() {
    let store = Gated::new().open();
    let browser = visitor(&store).await;
    let flight = browser.begin().await;
    store.refuse(true);
    let answers = tokio::join!(flight.purge_now(), flight.purge_now());
    for answer in [answers.0, answers.1] {
        assert_eq!(answer.unwrap_err().to_string(), "the store refuses");
    }
    assert_eq!(store.deletes(), 1);
    store.refuse(false);
    flight.purge_now().await.unwrap();
    assert!(store.inner.is_empty());
    flight.finish().await.assert_ok().assert_removes_cookie();
}

#[actix_web::test]
async fn whoever_asks_while_the_handler_answers_learns_it_too() {
    let store = Gated::new().open();
    let browser = visitor(&store).await;
    let flight = browser.begin().await;
    let handle = flight.handle();
    let (asked, answer) = tokio::join!(handle.purge_now(), flight.finish());
    asked.unwrap();
    answer.assert_ok().assert_removes_cookie();
    assert!(store.inner.is_empty());
}

/// A handler with a time limit of its own.
async fn limited(session: Session, limit: web::Data<Limit>) -> HttpResponse {
    tokio::select! {
        ended = session.purge_now() => panic!("the store does not answer: {ended:?}"),
        () = limit.over.notified() => limit.noticed.notify_one(),
    }
    HttpResponse::Accepted().finish()
}

#[derive(Default)]
struct Limit {
    over: Notify,
    noticed: Notify,
}

#[actix_web::test]
async fn a_handler_goes_on_while_the_store_works() {
    let store = Gated::new();
    let key = Key::generate();
    let limit = web::Data::new(Limit::default());
    let app = App::new()
        .wrap(SessionMiddleware::new(store.clone(), key.clone()))
        .app_data(limit.clone())
        .default_service(web::to(limited));
    let app = Rc::new(init_service(app).await);
    let cookie = cookie_of(&store, key).await;
    let request = TestRequest::get().insert_header(cookie).to_request();
    let task = rt::spawn(async move { app.call(request).await.unwrap().status() });
    store.gate.asked.notified().await;
    limit.over.notify_one();
    soon(limit.noticed.notified()).await;
    // What the store was asked is waited for, and not asked again.
    store.gate.open.close();
    assert_eq!(task.await.unwrap(), StatusCode::ACCEPTED);
    assert!(store.inner.is_empty());
    assert_eq!(store.deletes(), 1);
}

/// The header of a visitor with a session.
async fn cookie_of(store: &Gated, key: Key) -> (&'static str, String) {
    let middleware = SessionMiddleware::new(store.clone(), key);
    let browser = Browser::new(Site::new(middleware).await);
    fill(&browser).await;
    ("cookie", format!("id={}", browser.value().unwrap()))
}

#[actix_web::test]
async fn a_dropped_request_finishes_what_the_store_was_asked() {
    let store = Gated::new();
    let browser = visitor(&store).await;
    let flight = browser.begin().await;
    let handle = flight.handle();
    let waits = rt::spawn(async move { handle.purge_now().await });
    store.gate.asked.notified().await;
    flight.abort().await;
    store.gate.open.close();
    waits.await.unwrap().unwrap();
    assert!(store.inner.is_empty());
    assert_eq!(store.deletes(), 1);
}

#[actix_web::test]
async fn after_a_dropped_request_nobody_waits_in_vain() {
    let browser = visitor(&Gated::new().open()).await;
    let flight = browser.begin().await;
    let handle = flight.handle();
    flight.abort().await;
    assert!(soon(handle.purge_now()).await.is_err());
    assert_eq!(handle.get("a").unwrap(), Some(1), "as it was left");
}

/// A waker that looks at the session, as an executor with a log of its own might.
struct Nosy {
    session: Mutex<Option<Session>>,
    inner: Waker,
}

impl Wake for Nosy {
    fn wake(self: Arc<Self>) {
        let session = self.session.lock().unwrap().clone();
        assert!(!session.is_some_and(|session| session.contains_key("no such entry")));
        self.inner.wake_by_ref();
    }
}

/// Polls a future with a waker that looks at whatever session it is given.
async fn watched<F: Future>(make: impl FnOnce(Arc<Nosy>) -> F) -> F::Output {
    let inner = poll_fn(|cx| std::task::Poll::Ready(cx.waker().clone())).await;
    let session = Mutex::default();
    let nosy = Arc::new(Nosy { session, inner });
    let waker = Waker::from(Arc::clone(&nosy));
    let mut future = pin!(make(nosy));
    poll_fn(|_| future.as_mut().poll(&mut Context::from_waker(&waker))).await
}

#[test]
fn wakers_may_look_at_the_session() {
    within_patience(|| {
        rt::System::new().block_on(async {
            let store = Gated::new().open();
            let middleware = SessionMiddleware::new(store, Key::generate());
            watched(async |nosy| {
                let show = move |session: Session| {
                    let nosy = Arc::clone(&nosy);
                    async move {
                        *nosy.session.lock().unwrap() = Some(session.clone());
                        let (one, two) = tokio::join!(session.purge_now(), session.purge_now());
                        (one.and(two).is_ok()).then(HttpResponse::Ok)
                    }
                };
                let app = App::new().wrap(middleware).default_service(web::to(show));
                let app = init_service(app).await;
                let answer = app.call(TestRequest::get().to_request()).await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK);
            })
            .await;
        });
    });
}
