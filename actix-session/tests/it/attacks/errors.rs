//! T-68: what errors show.

use std::{
    error::Error as StdError,
    fmt::{Debug, Display},
};

use actix_session::{Session, SessionMiddleware, config::OnLoadError, storage::SessionStore};
use actix_web::{
    App,
    http::StatusCode,
    test::{TestRequest, init_service},
    web,
};
use redis::AsyncCommands as _;

use super::{
    arena::{Arena, Redis, secret, site},
    attacks, capture,
};
use crate::support::{Answer, Browser, Site, Spy};

attacks! {
    every: [t68_error_bodies],
    lasting: [],
    server: [t68_failed_modify],
    timed: [],
    cookie: [],
    alone: [t68_redis_says_no],
}

async fn wrong_type(session: Session) -> actix_web::Result<String> {
    let number: Option<u8> = session.get("text")?;
    Ok(format!("{number:?}"))
}

/// The method that is refused, and what asks for it.
type Step<'a> = (&'static str, &'a dyn Fn(&Session));

/// Whatever fails, the body is empty and the error names no value.
async fn t68_error_bodies(arena: impl Arena) {
    let text = secret("a state value");
    let spy = Spy::new(arena.store());
    let builder = || {
        SessionMiddleware::builder(spy.clone(), arena.key().clone()).clock(arena.clock().clone())
    };
    let browser = arena.visitor_of(builder()).await;
    browser
        .visit(|s| s.insert("text", &text).unwrap())
        .await
        .assert_ok();
    let (value, before) = (browser.value(), arena.dump().await.sorted());
    let again = |s: &Session| s.insert("again", &text).unwrap();
    let steps: [Step<'_>; 4] = [
        ("open", &again),
        ("commit", &again),
        ("rotate", &|s| s.login(&text).unwrap()),
        ("delete", &Session::purge),
    ];
    for (method, step) in steps {
        spy.refuse(&[method]);
        browser.visit(step).await.assert_opaque();
        assert_eq!(browser.value(), value, "{method}");
        assert_eq!(arena.dump().await.sorted(), before, "{method}");
    }
    spy.refuse(&["create"]);
    let fresh = Browser::new(browser.site.clone());
    fresh.visit(again).await.assert_opaque();
    spy.refuse(&["open"]);
    let degraded = browser.at(site(
        builder().on_load_error(OnLoadError::Anonymous).build(),
        arena.key(),
    )
    .await);
    let answer = degraded.visit(again).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.body.is_empty());
    answer.assert_no_cookie();
    spy.refuse(&[]);
    assert!(!browser.is_nobody().await);

    a_handlers_error_is_opaque(builder().build(), &browser).await;
    errors_name_no_value(&browser, &text).await;
    arena.assert_sessions(1).await;
}

async fn a_handlers_error_is_opaque<S: SessionStore + 'static>(
    middleware: SessionMiddleware<S>,
    browser: &Browser,
) {
    let app = App::new()
        .wrap(middleware)
        .route("/", web::get().to(wrong_type));
    let pair = format!("id={}", browser.value().unwrap());
    let request = TestRequest::get().insert_header(("cookie", pair));
    let answer: Answer = Site::of(init_service(app).await).answer(request).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.body.is_empty());
}

/// Of a session whose entry `text` is no number.
async fn errors_name_no_value(browser: &Browser, text: &str) {
    let mut errors: Vec<Box<dyn StdError>> = Vec::new();
    browser
        .visit(|s| {
            errors.push(Box::new(s.get::<u8>("text").unwrap_err()));
            errors.push(Box::new(s.update("text", |n: u8| n).unwrap_err()));
            errors.push(Box::new(s.update_or("text", 1, |n: u8| n).unwrap_err()));
            errors.push(Box::new(s.modify("text", |n: Option<u8>| n).unwrap_err()));
            errors.push(Box::new(s.insert("__actix_session", text).unwrap_err()));
            errors.push(Box::new(s.login("").unwrap_err()));
            errors.push(Box::new(s.login(text.repeat(40)).unwrap_err()));
        })
        .await
        .assert_ok();
    for error in errors {
        assert_no_value(&*error);
    }
}

fn assert_no_value(error: &dyn StdError) {
    let mut next = Some(error);
    while let Some(error) = next {
        let (display, debug): (&dyn Display, &dyn Debug) = (&error, &error);
        for shown in [
            format!("{display}"),
            format!("{debug:?}"),
            format!("{debug:#?}"),
        ] {
            assert!(capture::leaks_in(&shown).is_empty(), "{shown}");
        }
        next = error.source();
    }
}

/// A `modify` that meets another type when it merges: what it met is a value.
async fn t68_failed_modify(arena: impl Arena) {
    let browser = arena.visitor().await;
    browser
        .visit(|s| s.insert("n", 1).unwrap())
        .await
        .assert_ok();
    let flight = browser.begin().await;
    flight
        .modify("n", |n: Option<u8>| n.map(|n| n + 1))
        .unwrap();
    let text = secret("a state value");
    browser
        .visit(|s| s.insert("n", &text).unwrap())
        .await
        .assert_ok();
    flight.finish().await.assert_opaque();
    assert!(capture::told(&[
        "ERROR",
        "operation=commit",
        "attached to key `n`"
    ]));
    let stored = arena.dump().await.only();
    assert_eq!(stored["n"], format!("\"{text}\""));
}

/// If Redis refuses, its words go to the log and contain no value.
async fn t68_redis_says_no() {
    let arena: Redis = crate::attacks::arena::begin().await;
    let browser = arena.visitor().await;
    let text = secret("a state value");
    browser
        .visit(|s| s.insert("text", &text).unwrap())
        .await
        .assert_ok();
    let flight = browser.begin().await;
    let mut redis = arena.connection.clone();
    let name = arena.only_name().await;
    let _: () = redis.del(&name).await.unwrap();
    let _: () = redis.rpush(&name, &text).await.unwrap();
    flight.insert("text", format!("{text}{text}")).unwrap();
    flight.finish().await.assert_opaque();
    let list: Vec<String> = redis.lrange(&name, 0, -1).await.unwrap();
    assert_eq!(list, [text]);
}
