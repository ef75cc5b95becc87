//! What requests with many entries cost: eight times the entries should cost little more than eight
//! times as much.
//!
//! `cargo bench --manifest-path actix-session/Cargo.toml --bench many_entries --features
//! memory-session`
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures are for the person who asked")]

use std::time::{Duration, Instant};

use actix_session::{Session, SessionMiddleware, storage::MemorySessionStore};
use actix_web::{
    App, HttpResponse,
    cookie::Key,
    dev::{Service, ServiceResponse},
    http::header::{COOKIE, SET_COOKIE},
    test::{TestRequest, init_service},
    web,
};

fn insert(session: &Session, count: usize) {
    (0..count).for_each(|n| session.insert(format!("entry-{n}"), n).unwrap());
}

fn get(session: &Session, count: usize) {
    (0..count).for_each(|n| {
        assert!(
            session
                .get::<usize>(&format!("entry-{n}"))
                .unwrap()
                .is_some()
        )
    });
}

fn modify(session: &Session, count: usize) {
    let add = |n: Option<usize>| n.map(|n| n + 1);
    (0..count).for_each(|n| session.modify(format!("entry-{n}"), add).unwrap());
}

fn modify_one(session: &Session, count: usize) {
    let add = |n: Option<usize>| n.map(|n| n + 1);
    (0..count).for_each(|_| session.modify("entry-0", add).unwrap());
}

fn remove(session: &Session, count: usize) {
    (0..count).for_each(|n| assert!(session.remove(&format!("entry-{n}")).is_some()));
}

type Act = fn(&Session, usize);

const ACTS: [(&str, Act); 5] = [
    ("insert", insert),
    ("get", get),
    ("modify", modify),
    ("modify one entry", modify_one),
    ("remove", remove),
];

async fn serve(session: Session, path: web::Path<(usize, usize)>) -> HttpResponse {
    let (act, count) = path.into_inner();
    ACTS[act].1(&session, count);
    HttpResponse::Ok().finish()
}

/// The time of each act, in requests of their own.
async fn times<S>(app: &S, count: usize) -> [Duration; 5]
where
    S: Service<actix_http::Request, Response = ServiceResponse, Error = actix_web::Error>,
{
    let mut cookie = String::new();
    let mut times = [Duration::ZERO; 5];
    for (act, time) in times.iter_mut().enumerate() {
        let request = TestRequest::with_uri(&format!("/{act}/{count}"));
        let request = request
            .insert_header((COOKIE, cookie.as_str()))
            .to_request();
        let start = Instant::now();
        let response = app.call(request).await.unwrap();
        *time = start.elapsed();
        if let Some(set) = response.headers().get(SET_COOKIE) {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            pair.clone_into(&mut cookie);
        }
    }
    times
}

#[actix_web::main]
async fn main() {
    let middleware = SessionMiddleware::new(MemorySessionStore::new(), Key::generate());
    let app = App::new()
        .wrap(middleware)
        .route("/{act}/{count}", web::get().to(serve));
    let app = init_service(app).await;
    for count in [100, 800, 6_400] {
        let mut best = [Duration::MAX; 5];
        for _ in 0..20 {
            let now = times(&app, count).await;
            best = std::array::from_fn(|act| best[act].min(now[act]));
        }
        for ((name, _), time) in ACTS.iter().zip(best) {
            println!(
                "{count:>5} entries, {name:<16} {:>10.1} µs",
                time.as_nanos() as f64 / 1e3
            );
        }
    }
}
