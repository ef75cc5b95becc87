//! Cookie-stored sessions with a list of ended ones on the server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::SystemTime,
};

use actix_session::{
    Login, Session, SessionMiddleware, SystemClock,
    config::{PersistentSession, TtlExtensionPolicy},
    storage::{
        CookieSessionStore, MemorySessionStore, RevocationFuture, RevocationStore, SessionStore,
    },
    testing::ManualClock,
};
use actix_web::{
    App, HttpResponse,
    body::MessageBody,
    cookie::{Cookie, Key, time::Duration},
    dev::{Service, ServiceResponse},
    http::StatusCode,
    test, web,
};

use crate::support::Browser;

async fn login(session: Session, name: web::Path<String>) -> actix_web::Result<HttpResponse> {
    let name = name.into_inner();
    let login = match name.strip_suffix("-since-an-hour") {
        None => Login::new(name),
        Some(name) => {
            let proven = SystemTime::now() - std::time::Duration::from_secs(3_600);
            Login::new(name).authenticated_at(proven)
        }
    };
    session.login_with(login)?;
    Ok(HttpResponse::Ok().finish())
}

async fn who(session: Session) -> String {
    session.principal().unwrap_or_default()
}

async fn with(session: Session, what: web::Path<String>) -> HttpResponse {
    match what.as_str() {
        "logout" => session.logout(),
        "renew" => session.renew(),
        "clear" => session.clear(),
        "guest" => session.insert("guest", 1).unwrap(),
        "step" => {
            session.insert("step", 1).unwrap();
            session.renew();
        }
        other => panic!("no such act: {other}"),
    }
    HttpResponse::Ok().finish()
}

async fn entries(session: Session) -> String {
    let entries = session.entries();
    let mut names: Vec<&str> = entries.keys().map(String::as_str).collect();
    names.sort_unstable();
    names.join(" ")
}

struct Client<S>(S);

impl<S, B> Client<S>
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody,
{
    /// The body, and the cookie that was set, if any.
    async fn get(
        &self,
        path: &str,
        cookie: Option<&Cookie<'static>>,
    ) -> (String, Option<Cookie<'static>>) {
        let mut request = test::TestRequest::with_uri(path);
        if let Some(cookie) = cookie {
            request = request.cookie(cookie.clone());
        }
        let response = self.0.call(request.to_request()).await.unwrap();
        let set = response.response().cookies().next().map(Cookie::into_owned);
        let body = test::read_body(response).await;
        (String::from_utf8(body.to_vec()).unwrap(), set)
    }

    async fn who(&self, cookie: &Cookie<'static>) -> String {
        self.get("/who", Some(cookie)).await.0
    }

    async fn login(&self, name: &str) -> Cookie<'static> {
        self.get(&format!("/login/{name}"), None).await.1.unwrap()
    }
}

macro_rules! client {
    ($store:expr, $clock:expr) => {{
        let lifecycle = PersistentSession::default()
            .session_ttl(Duration::hours(1))
            .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
        let middleware = SessionMiddleware::builder($store, Key::from(&[7; 64]))
            .session_lifecycle(lifecycle)
            .clock($clock.clone())
            .build();
        Client(
            test::init_service(
                App::new()
                    .wrap(middleware)
                    .route("/login/{name}", web::get().to(login))
                    .route("/who", web::get().to(who))
                    .route("/entries", web::get().to(entries))
                    .route("/{what}", web::get().to(with)),
            )
            .await,
        )
    }};
}

fn revocable(clock: &ManualClock) -> CookieSessionStore {
    let list = MemorySessionStore::builder().clock(clock.clone()).build();
    CookieSessionStore::default()
        .clock(clock.clone())
        .with_revocation(list)
}

#[actix_web::test]
async fn without_a_list_a_copy_opens_until_its_own_end() {
    let clock = ManualClock::new();
    let client = client!(CookieSessionStore::default(), clock);
    let copy = client.login("alice").await;
    client.get("/logout", Some(&copy)).await;
    assert_eq!(client.who(&copy).await, "alice");
    clock.advance(std::time::Duration::from_secs(3599));
    assert_eq!(client.who(&copy).await, "alice");
    clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(client.who(&copy).await, "");
}

#[actix_web::test]
async fn with_one_a_logout_is_final_for_every_copy() {
    let clock = ManualClock::new();
    let client = client!(revocable(&clock), clock);
    let first = client.login("alice").await;
    clock.advance(std::time::Duration::from_secs(1800));
    let (_, extended) = client.get("/who", Some(&first)).await;
    let extended = extended.unwrap();
    assert_eq!(client.who(&extended).await, "alice");
    // Ended by the older of two copies, while the newer one lives for longer.
    client.get("/logout", Some(&first)).await;
    for _ in 0..60 {
        assert_eq!(client.who(&first).await, "");
        assert_eq!(client.who(&extended).await, "");
        clock.advance(std::time::Duration::from_secs(61));
    }
}

#[actix_web::test]
async fn what_came_before_a_renewal_or_a_clear_opens_nothing() {
    let clock = ManualClock::new();
    let client = client!(revocable(&clock), clock);
    let old = client.login("alice").await;
    let (_, new) = client.get("/renew", Some(&old)).await;
    assert_eq!(client.who(&old).await, "");
    let new = new.unwrap();
    assert_eq!(client.who(&new).await, "alice");
    let (_, cleared) = client.get("/clear", Some(&new)).await;
    assert_eq!(client.who(&new).await, "");
    assert_eq!(client.who(&cleared.unwrap()).await, "");
}

#[actix_web::test]
async fn a_principal_can_be_signed_out_everywhere() {
    let clock = ManualClock::new();
    let store = revocable(&clock);
    let client = client!(store.clone(), clock);
    let (alice, bob) = (client.login("alice").await, client.login("bob").await);
    let elsewhere = client.login("alice").await;
    store.revoke_principal("alice").await.unwrap();
    for cookie in [&alice, &elsewhere] {
        assert_eq!(client.who(cookie).await, "");
    }
    assert_eq!(client.who(&bob).await, "bob");
    // A login of the same instant counts as ended, one that this process makes later does not.
    assert_eq!(client.who(&client.login("alice").await).await, "alice");
    // It is the login that counts, and not when an identity provider saw the proof.
    assert_eq!(
        client.who(&client.login("alice-since-an-hour").await).await,
        "alice"
    );
}

/// A list that cannot be asked.
struct Down;

impl RevocationStore for Down {
    fn revoke<'a>(
        &'a self,
        _name: &'a str,
        _at: SystemTime,
        _until: SystemTime,
    ) -> RevocationFuture<'a, bool> {
        Box::pin(async { anyhow::bail!("down") })
    }

    fn revoked_at<'a>(&'a self, _name: &'a str) -> RevocationFuture<'a, Option<SystemTime>> {
        Box::pin(async { anyhow::bail!("down") })
    }
}

#[actix_web::test]
async fn where_the_list_cannot_be_asked_nobody_is_let_in() {
    let clock = ManualClock::new();
    let cookie = client!(CookieSessionStore::default(), clock)
        .login("alice")
        .await;
    let store = CookieSessionStore::default()
        .clock(clock.clone())
        .with_revocation(Down);
    let client = client!(store, clock);
    let request = test::TestRequest::with_uri("/who")
        .cookie(cookie)
        .to_request();
    let error = client.0.call(request).await.err().unwrap();
    assert_eq!(
        error.error_response().status(),
        StatusCode::INTERNAL_SERVER_ERROR
    );
}

/// A list to which, once it is armed, a logout comes just after somebody has looked.
#[derive(Clone)]
struct Overtaken {
    list: MemorySessionStore,
    /// How many more looks at sessions until then.
    armed: Arc<AtomicU32>,
}

impl RevocationStore for Overtaken {
    fn revoke<'a>(
        &'a self,
        name: &'a str,
        at: SystemTime,
        until: SystemTime,
    ) -> RevocationFuture<'a, bool> {
        self.list.revoke(name, at, until)
    }

    fn revoked_at<'a>(&'a self, name: &'a str) -> RevocationFuture<'a, Option<SystemTime>> {
        Box::pin(async move {
            let found = self.list.revoked_at(name).await;
            if self.armed.fetch_sub(1, Ordering::Relaxed) == 1 {
                let now = SystemTime::now();
                let until = now + std::time::Duration::from_secs(3_600);
                self.list.revoke(name, now, until).await?;
            }
            found
        })
    }
}

/// A list, and a counter that arms it.
fn overtaken() -> (Overtaken, Arc<AtomicU32>) {
    let armed = Arc::new(AtomicU32::new(u32::MAX));
    let list = Overtaken {
        list: MemorySessionStore::new(),
        armed: Arc::clone(&armed),
    };
    (list, armed)
}

/// The renewal has looked at the list the last time, then the logout comes, then it answers.
async fn a_logout_in_the_midst_of_a_renewal<S: SessionStore + 'static>(
    wrap: impl FnOnce(CookieSessionStore) -> S,
) {
    let (list, armed) = overtaken();
    let store = wrap(CookieSessionStore::default().with_revocation(list));
    let client = client!(store, SystemClock);
    for path in ["/renew", "/clear"] {
        let old = client.login("alice").await;
        // On the way in for the session and for the principal, and on the way out for the session.
        armed.store(3, Ordering::Relaxed);
        let (_, new) = client.get(path, Some(&old)).await;
        assert!(
            armed.load(Ordering::Relaxed) > u32::MAX - 3,
            "the logout came"
        );
        assert!(new.is_none(), "{path} hands out what has ended");
        assert_eq!(client.who(&old).await, "");
    }
    let old = client.login("alice").await;
    armed.store(3, Ordering::Relaxed);
    let (_, new) = client.get("/login/bob", Some(&old)).await;
    assert_eq!(client.who(&new.unwrap()).await, "bob");
    assert_eq!(client.who(&old).await, "");
}

#[actix_web::test]
async fn a_logout_in_the_midst_of_a_renewal_is_final() {
    a_logout_in_the_midst_of_a_renewal(|store| store).await;
}

#[actix_web::test]
async fn a_logout_in_the_midst_of_a_renewal_is_final_behind_a_wrapper() {
    a_logout_in_the_midst_of_a_renewal(Wrapper).await;
}

/// Forwards the nine methods that the trait documents.
struct Wrapper<S>(S);

impl<S: SessionStore> SessionStore for Wrapper<S> {
    actix_session::forward_store_methods!(self => self.0);
}

/// Of a guest's session that has ended, a renewal leaves what its own request has done.
#[actix_web::test]
async fn a_renewal_after_the_end_makes_a_session_of_its_own_changes() {
    let (list, armed) = overtaken();
    let store = CookieSessionStore::default().with_revocation(list);
    let client = client!(store, SystemClock);
    // On the way in for the session (a guest has no principal), and on the way out.
    for looks in [1, 2] {
        let (_, old) = client.get("/guest", None).await;
        let old = old.unwrap();
        armed.store(looks, Ordering::Relaxed);
        let (_, new) = client.get("/step", Some(&old)).await;
        assert_eq!(client.get("/entries", Some(&old)).await.0, "", "{looks}");
        let new = new.unwrap();
        assert_eq!(
            client.get("/entries", Some(&new)).await.0,
            "step",
            "{looks}"
        );
    }
}

/// The logout came with a value that another request has renewed in the meantime, by a login that
/// moved the absolute end.
#[actix_web::test]
async fn a_logout_is_final_past_the_end_that_its_own_cookie_had() {
    let clock = ManualClock::new();
    let middleware = SessionMiddleware::builder(revocable(&clock), Key::from(&[7; 64]))
        .absolute_timeout(Duration::hours(1))
        .clock(clock.clone())
        .build();
    let app = App::new()
        .wrap(middleware)
        .route("/login/{name}", web::get().to(login))
        .route("/who", web::get().to(who))
        .route("/{what}", web::get().to(with));
    let client = Client(test::init_service(app).await);
    let minutes = |n: u64| std::time::Duration::from_secs(n * 60);
    let old = client.login("alice").await;
    clock.advance(minutes(55));
    let (_, renewed) = client.get("/login/alice", Some(&old)).await;
    let renewed = renewed.unwrap();
    client.get("/logout", Some(&old)).await;
    for _ in 0..6 {
        assert_eq!(client.who(&renewed).await, "");
        clock.advance(minutes(10));
    }
}

/// Nobody is logged in after a `clear`, whoever renewed the session in the meantime.
#[actix_web::test]
async fn a_clear_follows_a_renewal_that_was_faster() {
    let renewals: [fn(&Session); 3] = [
        Session::renew,
        |s| s.login("alice").unwrap(),
        |s| s.reauthenticated().unwrap(),
    ];
    let clears: [fn(&Session); 3] = [
        Session::clear,
        |s| {
            s.clear();
            s.insert("a", 1).unwrap();
        },
        |s| {
            s.clear();
            s.renew();
        },
    ];
    for renew in renewals {
        for clear in clears {
            let list = MemorySessionStore::new();
            let store = CookieSessionStore::default().with_revocation(list);
            let browser = Browser::with(store).await;
            let login = |s: &Session| s.login("alice").unwrap();
            browser.visit(login).await.assert_sets_cookie();
            let late = browser.begin().await;
            browser.visit(renew).await.assert_sets_cookie();
            clear(&late);
            late.finish().await.assert_ok();
            assert_eq!(browser.principal().await, None);
        }
    }
}

/// A thief renews a session over and over again; the owner has the first cookie still.
#[actix_web::test]
async fn a_logout_follows_any_number_of_renewals() {
    let clock = ManualClock::new();
    let client = client!(revocable(&clock), clock);
    let first = client.login("alice").await;
    let mut newest = first.clone();
    for _ in 0..200 {
        newest = client.get("/renew", Some(&newest)).await.1.unwrap();
    }
    assert_eq!(client.who(&newest).await, "alice");
    client.get("/logout", Some(&first)).await;
    assert_eq!(client.who(&newest).await, "");
}

/// The logout came with a value that another request has renewed, once or twice, in the meantime.
#[actix_web::test]
async fn a_logout_follows_a_renewal_that_was_faster() {
    let clock = ManualClock::new();
    let client = client!(revocable(&clock), clock);
    for renewals in 1..=3 {
        let old = client.login("alice").await;
        let mut newest = old.clone();
        for path in ["/renew", "/login/alice", "/clear"].iter().take(renewals) {
            newest = client.get(path, Some(&newest)).await.1.unwrap();
        }
        assert_eq!(client.who(&newest).await.is_empty(), renewals == 3);
        for _ in 0..2 {
            client.get("/logout", Some(&old)).await;
        }
        let (_, set) = client.get("/renew", Some(&newest)).await;
        assert!(set.is_none(), "after {renewals}: there is nothing to renew");
        assert_eq!(client.who(&newest).await, "");
    }
    // Whoever kept an old value for longer ends nobody's session with it.
    let old = client.login("alice").await;
    let (_, renewed) = client.get("/renew", Some(&old)).await;
    clock.advance(std::time::Duration::from_secs(61));
    client.get("/logout", Some(&old)).await;
    assert_eq!(client.who(&renewed.unwrap()).await, "alice");
}
