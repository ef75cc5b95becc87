//! What applications and stores written for the published crate rely on.

use actix_session::{
    Session, SessionExt as _, SessionMiddleware, SessionStatus,
    config::{
        BrowserSession, CookieContentSecurity, PersistentSession, SessionMiddlewareBuilder,
        TtlExtensionPolicy,
    },
    storage::{CookieSessionStore, LoadError, SessionStore, generate_session_key},
};
use actix_web::{
    App, HttpResponse,
    cookie::{Key, SameSite, time::Duration},
    guard,
    test::{TestRequest, init_service},
    web,
};
use redis::AsyncCommands as _;

use crate::{
    five_methods::{FiveMethods, Wrapper, custom},
    support::{Answer, Browser, DETAIL, Memory, Redis, Site, Spy, TestStore, stop},
};

const MODES: [CookieContentSecurity; 2] = [
    CookieContentSecurity::Private,
    CookieContentSecurity::Signed,
];

type Builder<S> = SessionMiddlewareBuilder<S>;

/// Runs a test with every store and content security. The flag says whether what ended is known to
/// have ended: a cookie is all that a cookie store has.
macro_rules! with_every_store {
    ($test:ident) => {
        #[actix_web::test]
        async fn $test() {
            for security in MODES {
                let cookie = || {
                    SessionMiddleware::builder(CookieSessionStore::default(), Key::from(&[7; 64]))
                        .cookie_content_security(security)
                };
                workflows::$test(cookie, false).await;
                let memory = Memory::start().await;
                let builder = || memory.middleware().cookie_content_security(security);
                workflows::$test(builder, true).await;
                let redis = Redis::start().await;
                let builder = || redis.middleware().cookie_content_security(security);
                workflows::$test(builder, true).await;
                let custom = FiveMethods::default();
                let builder = || {
                    SessionMiddleware::builder(custom.clone(), Key::from(&[7; 64]))
                        .cookie_content_security(security)
                };
                workflows::$test(builder, true).await;
            }
        }
    };
}

with_every_store!(a_cookie_has_the_configured_attributes);
with_every_store!(a_max_age_is_refreshed_by_changes);
with_every_store!(a_max_age_is_refreshed_by_every_request);
with_every_store!(a_user_comes_shops_logs_in_and_leaves);
with_every_store!(a_guard_sees_the_session);

mod workflows {
    use super::*;

    async fn browser<S: SessionStore + 'static>(builder: Builder<S>) -> Browser {
        Browser::new(Site::new(builder.build()).await)
    }

    fn write(session: &Session) {
        session.update_or("n", 1, |n: u32| n + 1).unwrap();
    }

    pub(super) async fn a_cookie_has_the_configured_attributes<S: SessionStore + 'static>(
        builder: impl Fn() -> Builder<S>,
        _: bool,
    ) {
        let visitor = browser(builder()).await;
        let set = visitor.visit(write).await;
        let removal = visitor.visit(Session::purge).await;
        for (answer, max_age) in [(&set, None), (&removal, Some(Duration::ZERO))] {
            let cookie = answer.cookie().unwrap();
            assert_eq!((cookie.name(), cookie.path()), ("id", Some("/")));
            assert_eq!((cookie.domain(), cookie.max_age()), (None, max_age));
            assert_eq!(
                (cookie.secure(), cookie.http_only()),
                (Some(true), Some(true))
            );
            assert_eq!(cookie.same_site(), Some(SameSite::Lax));
        }
        let own = builder()
            .cookie_name("shop session".to_owned())
            .cookie_path("/shop".to_owned())
            .cookie_domain(Some("localhost".to_owned()))
            .cookie_secure(false)
            .cookie_http_only(false)
            .cookie_same_site(SameSite::None);
        let visitor = browser(own).await;
        let set = visitor.visit(write).await;
        assert_eq!(visitor.number("n").await, Some(1));
        let removal = visitor.visit(Session::purge).await;
        removal.assert_removes_cookie();
        for answer in [&set, &removal] {
            let cookie = answer.cookie().unwrap();
            assert_eq!(
                (cookie.name(), cookie.path()),
                ("shop%20session", Some("/shop"))
            );
            assert_eq!(cookie.domain(), Some("localhost"));
            assert_eq!((cookie.secure(), cookie.http_only()), (None, None));
            assert_eq!(cookie.same_site(), Some(SameSite::None));
        }
        assert_eq!(visitor.cookie("shop%20session"), None);
    }

    fn minute(policy: TtlExtensionPolicy) -> PersistentSession {
        PersistentSession::default()
            .session_ttl(Duration::seconds(60))
            .session_ttl_extension_policy(policy)
    }

    pub(super) async fn a_max_age_is_refreshed_by_changes<S: SessionStore + 'static>(
        builder: impl Fn() -> Builder<S>,
        _: bool,
    ) {
        let lifecycle = minute(TtlExtensionPolicy::OnStateChanges);
        let visitor = browser(builder().session_lifecycle(lifecycle)).await;
        assert_eq!(visitor.visit(write).await.max_age(), Some(60));
        visitor.visit(|_| ()).await.assert_ok().assert_no_cookie();
        assert_eq!(visitor.visit(write).await.max_age(), Some(60));
        assert_eq!(visitor.visit(Session::renew).await.max_age(), Some(60));
    }

    pub(super) async fn a_max_age_is_refreshed_by_every_request<S: SessionStore + 'static>(
        builder: impl Fn() -> Builder<S>,
        _: bool,
    ) {
        let lifecycle = minute(TtlExtensionPolicy::OnEveryRequest);
        let visitor = browser(builder().session_lifecycle(lifecycle)).await;
        visitor.visit(|_| ()).await.assert_ok().assert_no_cookie();
        assert_eq!(visitor.visit(write).await.max_age(), Some(60));
        assert_eq!(visitor.visit(|_| ()).await.max_age(), Some(60));
        let browser_session = BrowserSession::default()
            .state_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
        let visitor = browser(builder().session_lifecycle(browser_session)).await;
        assert_eq!(visitor.visit(write).await.max_age(), None);
        visitor.visit(|_| ()).await.assert_ok();
        assert_eq!(visitor.number("n").await, Some(1));
    }

    pub(super) async fn a_user_comes_shops_logs_in_and_leaves<S: SessionStore + 'static>(
        builder: impl Fn() -> Builder<S>,
        ends_are_known: bool,
    ) {
        let week = PersistentSession::default().session_ttl(Duration::days(7));
        let visitor = browser(builder().session_lifecycle(week)).await;
        let user = async |browser: &Browser| {
            let mut user = None;
            let read = |s: &Session| user = s.get::<String>("user_id").unwrap();
            browser.visit(read).await.assert_ok();
            user
        };
        visitor.visit(|_| ()).await.assert_ok().assert_no_cookie();
        let first = visitor.visit(write).await;
        assert_eq!(first.max_age(), Some(7 * 86_400));
        visitor.visit(|_| ()).await.assert_ok().assert_no_cookie();
        assert_eq!(visitor.visit(write).await.max_age(), first.max_age());
        assert_eq!(visitor.number("n").await, Some(2));

        let guest = visitor.fork();
        let login = |s: &Session| {
            s.insert("user_id", "ferris").unwrap();
            s.renew();
            assert_eq!(s.get::<u32>("n").unwrap(), Some(2));
        };
        visitor.visit(login).await.assert_ok().assert_sets_cookie();
        assert_ne!(visitor.value(), guest.value());
        assert_eq!(user(&visitor).await.as_deref(), Some("ferris"));
        visitor.visit(write).await.assert_ok();
        assert_eq!(visitor.number("n").await, Some(3));

        let read = guest.visit(|_| ()).await;
        read.assert_ok().assert_no_cookie();
        assert_eq!(user(&guest).await, None);
        let old = (!ends_are_known).then_some(2);
        assert_eq!(guest.number("n").await, old);

        let logged_in = visitor.fork();
        let removal = visitor.visit(Session::purge).await;
        removal.assert_ok().assert_removes_cookie();
        assert_eq!(removal.cookie().unwrap().path(), Some("/"));
        visitor.visit(|_| ()).await.assert_ok().assert_no_cookie();
        assert!(visitor.is_nobody().await);
        assert_eq!(logged_in.is_nobody().await, ends_are_known);
    }

    pub(super) async fn a_guard_sees_the_session<S: SessionStore + 'static>(
        builder: impl Fn() -> Builder<S>,
        _: bool,
    ) {
        let members = guard::fn_guard(|ctx| {
            let user = ctx.get_session().get::<String>("user_id");
            user.unwrap().is_some()
        });
        let app = App::new()
            .wrap(builder().build())
            .service(
                web::scope("/members")
                    .guard(members)
                    .default_service(web::to(stop)),
            )
            .route("/login", web::to(stop));
        let visitor = Browser::new(Site::of(init_service(app).await));
        let mut inside = false;
        let answer = visitor.visit_path("/members/", |_| inside = true).await;
        assert_eq!((answer.status.as_u16(), inside), (404, false));
        let login = |s: &Session| s.insert("user_id", "ferris").unwrap();
        visitor
            .visit_path("/login", login)
            .await
            .assert_sets_cookie();
        let answer = visitor.visit_path("/members/", |_| inside = true).await;
        answer.assert_ok();
        assert!(inside);
    }
}

async fn opaque(answer: Answer) {
    answer.assert_opaque();
    assert!(answer.failed, "an error of the service, as published");
    let shown = format!("{:?}{:?}", answer.headers, answer.body);
    assert!(!shown.contains(DETAIL));
}

#[actix_web::test]
async fn what_a_store_says_when_it_fails_is_for_the_log() {
    let spy = Spy::new(FiveMethods::default());
    // The wrapper leaves the other methods to their bodies, which call these.
    let browser = custom(Wrapper(spy.clone())).await;
    let write = |s: &Session| s.update_or("n", 1, |n: u32| n + 1).unwrap();
    spy.refuse(&["save"]);
    opaque(browser.visit(write).await).await;
    spy.refuse(&[]);
    browser.visit(write).await.assert_sets_cookie();
    type Act = fn(&Session);
    let acts: [(&'static str, Act); 4] = [
        ("load", |_| ()),
        ("update", write),
        ("delete", Session::purge),
        ("delete", Session::renew),
    ];
    for (method, act) in acts {
        spy.refuse(&[method]);
        opaque(browser.visit(act).await).await;
        spy.refuse(&[]);
        assert_eq!(browser.number("n").await, Some(1), "{method}");
    }
}

#[actix_web::test]
async fn what_cannot_be_decoded_is_told_by_load() {
    let tested = Redis::start().await;
    let store = tested.store();
    let key = generate_session_key();
    let mut connection = tested.connection.clone();
    let name = format!("{}{}", tested.prefix, key.as_ref());
    let _: () = connection.set(&name, "random-thing").await.unwrap();
    let loaded = store.load(&key).await;
    assert!(matches!(loaded, Err(LoadError::Deserialization(_))));
    let _: () = connection.del(&name).await.unwrap();
}

#[actix_web::test]
async fn a_session_of_a_bare_request() {
    let req = TestRequest::default().to_srv_request();
    let session = req.get_session();
    assert_eq!(session.status(), SessionStatus::Unchanged);
    session.insert("a", "value").unwrap();
    assert_eq!(session.status(), SessionStatus::Changed);
    assert_eq!(
        session.get::<String>("a").unwrap().as_deref(),
        Some("value")
    );
    session.insert("b", 1).unwrap();
    assert_eq!(
        session.remove_as::<String>("a"),
        Some(Ok("value".to_owned()))
    );
    session.insert("c", "text").unwrap();
    assert_eq!(
        session.remove_as::<u8>("c"),
        Some(Err("\"text\"".to_owned()))
    );
    session.renew();
    session.insert("d", 1).unwrap();
    session.remove("d");
    session.clear();
    assert_eq!(session.status(), SessionStatus::Renewed);
    session.insert("b", 2).unwrap();
    let res = req.into_response(HttpResponse::Ok().finish());
    let entries: Vec<_> = res.get_session().entries().clone().into_iter().collect();
    assert_eq!(entries, [("b".to_owned(), "2".to_owned())]);
    session.purge();
    assert_eq!(session.status(), SessionStatus::Purged);
    session.renew();
    assert_eq!(session.status(), SessionStatus::Purged);
}

#[actix_web::test]
async fn what_a_bare_session_updates() {
    let session = TestRequest::default().to_srv_request().get_session();
    session.update("n", |n: u32| n + 1).unwrap();
    assert_eq!(session.status(), SessionStatus::Unchanged);
    session.update_or("n", 1, |n: u32| n + 1).unwrap();
    assert_eq!(session.status(), SessionStatus::Changed);
    session.update_or("n", 1, |n: u32| n + 1).unwrap();
    session.update("n", |n: u32| n * 10).unwrap();
    assert_eq!(session.get("n").unwrap(), Some(20));
    assert!(session.update("n", |text: String| text).is_err());
    assert_eq!(session.get("n").unwrap(), Some(20));
}
