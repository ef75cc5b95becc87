//! Sessions in a header field, for clients without a cookie jar.

use std::cell::RefCell;

use actix_session::{
    NamedSession, Session, SessionExt as _, SessionMiddleware, SessionName,
    config::{ConfigError, CookieContentSecurity, SessionMiddlewareBuilder, WireFormat},
    storage::{MemorySessionStore, SessionStore},
};
use actix_web::{
    App, HttpRequest, HttpResponse,
    cookie::Key,
    error::ErrorInternalServerError,
    http::header::{CACHE_CONTROL, COOKIE, HeaderValue, VARY},
    test::{TestRequest, init_service},
    web,
};

use crate::support::{
    Answer, Browser, Dump, InCookie, Memory, Site, TestStore, expected,
    on_each_store_and_in_cookies, stop,
};

const NAME: &str = "X-Session";

on_each_store_and_in_cookies! {
    a_client_without_cookies_has_a_session,
    a_client_without_cookies_is_served_lazily,
    a_value_of_a_cookie_is_refused_in_the_header_and_the_other_way_round,
    the_header_counts_beside_a_cookie,
    several_values_count_as_several_cookies_do,
    under_strict_no_value_of_several_is_used,
    no_value_that_was_not_sealed_opens_anything,
    an_older_key_opens_a_value_and_it_is_sealed_anew,
    a_renamed_cookie_keeps_the_clients_with_a_header,
    two_nested_middlewares_never_mix,
    a_session_in_a_header_can_be_had_by_its_name,
    a_failed_request_varies_too,
}

/// Keeps the last value of the field, as the documentation tells clients.
struct Client {
    browser: Browser,
    value: RefCell<String>,
}

impl Client {
    async fn of<S: SessionStore + 'static>(builder: SessionMiddlewareBuilder<S>) -> Self {
        Self::at(Site::new(builder.header(NAME).try_build().unwrap()).await)
    }

    fn at(site: Site) -> Self {
        Self {
            browser: Browser::new(site),
            value: RefCell::default(),
        }
    }

    /// Somebody with an entry `name`.
    async fn named<S: SessionStore + 'static>(
        builder: SessionMiddlewareBuilder<S>,
        name: &str,
    ) -> Self {
        let client = Self::of(builder).await;
        client.visit(|s| s.insert("name", name).unwrap()).await;
        assert!(!client.value().is_empty());
        client
    }

    fn value(&self) -> String {
        self.value.borrow().clone()
    }

    async fn visit(&self, act: impl FnOnce(&Session)) -> Answer {
        let request = TestRequest::get().insert_header((NAME, self.value()));
        let answer = self.browser.visit_with(request, act).await;
        answer.assert_no_cookie();
        if let Some(value) = field(&answer) {
            self.value.replace(value);
        }
        answer
    }

    /// With these fields; what comes back is not kept.
    async fn visit_as(&self, values: &[impl AsRef<[u8]>], act: impl FnOnce(&Session)) -> Answer {
        let mut request = TestRequest::get();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_ref()).unwrap();
            request = request.append_header((NAME, value));
        }
        let answer = self.browser.visit_with(request, act).await;
        answer.assert_ok().assert_no_cookie();
        answer
    }

    /// The entry `name` of the session that these fields open.
    async fn seen(&self, values: &[impl AsRef<[u8]>]) -> Option<String> {
        let mut name = None;
        self.visit_as(values, |s| name = s.get("name").unwrap())
            .await;
        name
    }

    async fn name(&self) -> Option<String> {
        self.seen(&[self.value()]).await
    }

    /// A browser at the same site.
    fn browser(&self) -> Browser {
        Browser::new(self.browser.site.clone())
    }
}

/// The field of a response, of which there is at most one.
fn field(answer: &Answer) -> Option<String> {
    let mut fields = answer.headers.get_all(NAME);
    let field = fields.next()?;
    assert!(
        fields.next().is_none() && field.is_sensitive(),
        "{answer:?}"
    );
    Some(field.to_str().unwrap().to_owned())
}

fn varies(answer: &Answer) -> Vec<String> {
    let mut fields = answer.headers.get_all(VARY);
    let field = fields.next().map(|field| field.to_str().unwrap());
    assert!(fields.next().is_none(), "CORS keeps the first: {answer:?}");
    let names = field.into_iter().flat_map(|field| field.split(", "));
    names.map(str::to_ascii_lowercase).collect()
}

async fn a_client_without_cookies_has_a_session(tested: impl TestStore) {
    lives(tested.middleware()).await;
}

async fn a_client_without_cookies_is_served_lazily(tested: impl TestStore) {
    lives(tested.middleware().lazy()).await;
}

async fn lives<S: SessionStore + 'static>(builder: SessionMiddlewareBuilder<S>) {
    let client = Client::of(builder).await;
    let answer = client.visit(|s| assert!(s.is_empty())).await;
    assert_eq!(field(answer.assert_ok()), None);
    assert_eq!(varies(&answer), ["cookie", "x-session"]);

    let answer = client.visit(|s| s.insert("name", "a").unwrap()).await;
    assert!(field(answer.assert_ok()).is_some_and(|value| !value.is_empty()));
    assert_eq!(answer.headers.get(CACHE_CONTROL).unwrap(), "no-store");
    assert_eq!(varies(&answer), ["cookie", "x-session"]);
    assert_eq!(client.name().await.as_deref(), Some("a"));

    client.visit(|s| s.insert("name", "b").unwrap()).await;
    assert_eq!(client.name().await.as_deref(), Some("b"));
    let before = client.value();
    client.visit(Session::renew).await.assert_ok();
    assert_ne!(client.value(), before);
    client.visit(|s| s.login("user-42").unwrap()).await;
    let mut principal = None;
    client.visit(|s| principal = s.principal()).await;
    assert_eq!(principal.as_deref(), Some("user-42"));

    let answer = client.visit(Session::purge).await;
    assert_eq!(field(answer.assert_ok()).as_deref(), Some(""));
    assert_eq!(answer.headers.get(CACHE_CONTROL).unwrap(), "no-store");
    assert_eq!(client.name().await, None);
    let answer = client.visit(Session::purge).await;
    assert_eq!(field(answer.assert_ok()), None, "there was nothing to end");

    // Whoever brings no field has a cookie, and none of it in the field.
    let browser = client.browser();
    let answer = browser.visit(|s| s.insert("name", "c").unwrap()).await;
    assert_eq!(field(answer.assert_sets_cookie()), None);
    assert_eq!(varies(&answer), ["cookie", "x-session"]);
    let answer = browser.visit(Session::purge).await;
    assert_eq!(field(answer.assert_removes_cookie()), None);
}

const MODES: [CookieContentSecurity; 2] = [
    CookieContentSecurity::Private,
    CookieContentSecurity::Signed,
];

async fn a_value_of_a_cookie_is_refused_in_the_header_and_the_other_way_round(
    tested: impl TestStore,
) {
    for mode in MODES {
        for format in [WireFormat::V1, WireFormat::V0_11] {
            let builder = tested.middleware().cookie_content_security(mode);
            let builder = builder.wire_format(format).accept_unbound_signatures(true);
            let client = Client::named(builder, "header").await;
            let browser = client.browser();
            browser.visit(|s| s.insert("name", "cookie").unwrap()).await;
            let cookie = browser.value().unwrap();
            assert_eq!(client.seen(&[&cookie]).await, None);
            client.visit_as(&[&cookie], Session::purge).await;
            let fields = [format!("id={}", client.value())];
            let nobody = |s: &Session| assert!(s.is_empty());
            browser.visit_as(&fields, nobody).await.assert_ok();
            browser.visit_as(&fields, Session::purge).await.assert_ok();
            assert!(!browser.is_nobody().await);
            assert_eq!(client.name().await.as_deref(), Some("header"));
        }
    }
}

async fn the_header_counts_beside_a_cookie(tested: impl TestStore) {
    let client = Client::named(tested.middleware(), "header").await;
    let browser = client.browser();
    browser.visit(|s| s.insert("name", "cookie").unwrap()).await;
    let cookie = format!("id={}", browser.value().unwrap());
    let both = |value: String| {
        TestRequest::get()
            .insert_header((NAME, value))
            .insert_header((COOKIE, cookie.as_str()))
    };
    let mut seen = None::<String>;
    let other = client.browser();
    let answer = other.visit_with(both(client.value()), |s| {
        seen = s.get("name").unwrap();
        s.insert("n", 1).unwrap();
        s.renew();
    });
    let answer = answer.await;
    client
        .value
        .replace(field(answer.assert_ok().assert_no_cookie()).unwrap());
    assert_eq!(seen.as_deref(), Some("header"));
    assert_eq!(browser.number("n").await, None);

    // An empty value is a choice too: it makes nothing of the cookie's session.
    let mut seen = None::<String>;
    let answer = other.visit_with(both(String::new()), |s| {
        seen = s.get("name").unwrap();
        s.insert("name", "new").unwrap();
    });
    let answer = answer.await;
    let new = field(answer.assert_ok().assert_no_cookie()).unwrap();
    assert_eq!(seen, None);
    assert_eq!(client.seen(&[new]).await.as_deref(), Some("new"));

    let answer = other.visit_with(both(client.value()), Session::purge).await;
    assert_eq!(field(answer.assert_no_cookie()).as_deref(), Some(""));
    assert_eq!(client.seen(&[""]).await, None);
    let mut seen = None::<String>;
    browser.visit(|s| seen = s.get("name").unwrap()).await;
    assert_eq!(seen.as_deref(), Some("cookie"));
}

async fn several_values_count_as_several_cookies_do(tested: impl TestStore) {
    let (a, b) = (
        Client::named(tested.middleware(), "a").await,
        Client::named(tested.middleware(), "b").await,
    );
    let (first, second) = (a.value(), b.value());
    for (values, expected) in [
        ([&first, &second], "a"),
        ([&second, &first], "b"),
        ([&"junk".to_owned(), &second], "b"),
    ] {
        assert_eq!(a.seen(&values).await.as_deref(), Some(expected));
        let [one, other] = values;
        let joined = [format!("{one},{other}")];
        assert_eq!(a.seen(&joined).await.as_deref(), Some(expected));
        let joined = [format!(" {one} , ,\t{other},")];
        assert_eq!(a.seen(&joined).await.as_deref(), Some(expected));
    }
    let mut all = vec!["junk"; 10];
    all.push(&first);
    assert_eq!(a.seen(&all).await.as_deref(), Some("a"));
    // A logout ends all that came.
    let answer = a.visit_as(&[&first, &second], Session::purge).await;
    assert_eq!(field(&answer).as_deref(), Some(""));
    if !tested.is_in_cookies() {
        assert_eq!((a.name().await, b.name().await), (None, None));
    }
}

async fn under_strict_no_value_of_several_is_used(tested: impl TestStore) {
    let strict = || tested.middleware().strict();
    let (a, b) = (
        Client::named(strict(), "a").await,
        Client::named(strict(), "b").await,
    );
    assert_eq!(a.seen(&[a.value(), b.value()]).await, None);
    assert_eq!(a.name().await.as_deref(), Some("a"));
    assert_eq!(a.seen(&[a.value(), a.value()]).await.as_deref(), Some("a"));
}

async fn no_value_that_was_not_sealed_opens_anything(tested: impl TestStore) {
    for mode in MODES {
        let builder = tested.middleware().cookie_content_security(mode);
        let client = Client::named(builder, "a").await;
        let value = client.value();
        let half = value.len() / 2;
        let mut hostile: Vec<Vec<u8>> = [
            "junk",
            "=",
            "\"\"",
            "%",
            "%ff%fe",
            "%00",
            "; a=b",
            "X-Session: a",
            &value[1..],
            &value[..half],
            &value.repeat(2),
            &value.to_ascii_lowercase(),
            &format!("\"{value}\""),
            &format!("{}, {}", &value[..half], &value[half..]),
        ]
        .map(|it| it.as_bytes().to_vec())
        .into();
        hostile.push(vec![0xff; 100]);
        hostile.push(vec![b'A'; 60_000]);
        hostile.push(vec![b','; 20_000]);
        let mut changed = value.clone().into_bytes();
        changed[half] = if changed[half] == b'A' { b'B' } else { b'A' };
        hostile.push(changed);
        for value in hostile {
            assert_eq!(client.seen(&[&value]).await, None, "{value:?}");
            let beside = [&value[..], client.value().as_bytes()].map(<[u8]>::to_vec);
            assert_eq!(client.seen(&beside).await.as_deref(), Some("a"));
            client.visit_as(&[&value], Session::purge).await;
        }
        assert_eq!(client.name().await.as_deref(), Some("a"));
        // What opens nothing is never adopted.
        let answer = client.visit_as(&["junk"], |s| s.insert("n", 1).unwrap());
        assert!(field(&answer.await).is_some_and(|new| new != value && new != "junk"));
    }
}

async fn an_older_key_opens_a_value_and_it_is_sealed_anew(tested: impl TestStore) {
    for mode in MODES {
        let builder = tested.middleware().cookie_content_security(mode);
        let old = Client::named(builder, "a").await;
        let with = |previous: Vec<Key>| {
            let builder = SessionMiddleware::builder(tested.store(), Key::from(&[9; 64]));
            let builder = builder
                .cookie_content_security(mode)
                .previous_keys(previous);
            builder.clock(tested.clock().clone())
        };
        let new = Client::of(with(vec![tested.key().clone()])).await;
        new.value.replace(old.value());
        new.visit(|s| assert!(!s.is_empty())).await.assert_ok();
        assert_ne!(new.value(), old.value());
        let newest = Client::of(with(Vec::new())).await;
        newest.value.replace(new.value());
        assert_eq!(newest.name().await.as_deref(), Some("a"));
        assert_eq!(newest.seen(&[old.value()]).await, None);
    }
}

async fn a_renamed_cookie_keeps_the_clients_with_a_header(tested: impl TestStore) {
    let old = Client::named(tested.middleware(), "a").await;
    let renamed = || tested.middleware().cookie_name("new".to_owned());
    let new = Client::of(renamed().read_also("id")).await;
    new.value.replace(old.value());
    new.visit(|s| assert!(!s.is_empty())).await.assert_ok();
    assert_ne!(new.value(), old.value(), "it is sealed for the new name");
    let newest = Client::of(renamed()).await;
    assert_eq!(newest.seen(&[new.value()]).await.as_deref(), Some("a"));
    assert_eq!(newest.seen(&[old.value()]).await, None);
}

async fn two_nested_middlewares_never_mix(tested: impl TestStore) {
    let outer = MemorySessionStore::new();
    let nested = async |header: &str| {
        let builder = SessionMiddleware::builder(outer.clone(), tested.key().clone());
        let outer = builder.cookie_name("outer".to_owned()).header(header);
        let inner = tested.middleware().cookie_name("inner".to_owned());
        let app = App::new()
            .wrap(inner.header(NAME).build())
            .wrap(outer.build())
            .default_service(web::to(stop));
        Client::at(Site::of(init_service(app).await))
    };
    // With one name for both, the inner one's value is sent, and the outer one opens nothing.
    for header in [NAME, "X-Outer"] {
        let client = nested(header).await;
        client.visit(|s| s.insert("name", "a").unwrap()).await;
        client.visit(|s| s.insert("n", 1).unwrap()).await;
        assert_eq!(client.name().await.as_deref(), Some("a"));
        Dump(outer.dump()).assert_no_record();
    }
    // A value of one never opens as the other's.
    let alone = SessionMiddleware::builder(outer.clone(), tested.key().clone());
    let alone = Client::named(alone.cookie_name("outer".to_owned()), "outer").await;
    assert_eq!(nested(NAME).await.seen(&[alone.value()]).await, None);
}

struct Inner;

impl SessionName for Inner {
    const COOKIE: &'static str = "inner";
}

/// Counts in both sessions, by the names of their cookies.
async fn count(inner: NamedSession<Inner>, req: HttpRequest) -> actix_web::Result<String> {
    let outer = req.get_session_named("outer");
    let outer = outer.ok_or_else(|| ErrorInternalServerError("no outer session"))?;
    for session in [&*inner, &outer] {
        session.modify("n", |n: Option<u64>| Some(n.unwrap_or(0) + 1))?;
    }
    Ok(format!(
        "{:?} {:?}",
        inner.get::<u64>("n")?,
        outer.get::<u64>("n")?
    ))
}

async fn a_session_in_a_header_can_be_had_by_its_name(tested: impl TestStore) {
    let inner = tested.middleware().cookie_name("inner".to_owned());
    let builder = SessionMiddleware::builder(MemorySessionStore::new(), tested.key().clone());
    let outer = builder.cookie_name("outer".to_owned());
    let app = App::new()
        .wrap(inner.header(NAME).build())
        .wrap(outer.header("X-Outer").build())
        .default_service(web::to(count));
    let site = Site::of(init_service(app).await);
    let (mut own, mut others) = (String::new(), String::new());
    for seen in ["Some(1) Some(1)", "Some(2) Some(2)"] {
        let request = TestRequest::get().insert_header((NAME, own.as_str()));
        let request = request.insert_header(("X-Outer", others.as_str()));
        let answer = site.answer(request).await;
        answer.assert_ok().assert_no_cookie();
        assert_eq!(answer.body, seen);
        own = field(&answer).unwrap_or(own);
        if let Some(value) = answer.headers.get("X-Outer") {
            others = value.to_str().unwrap().to_owned();
        }
    }
}

async fn a_failed_request_varies_too(tested: impl TestStore) {
    let client = Client::named(tested.middleware(), "a").await;
    let request = TestRequest::get().insert_header((NAME, client.value()));
    let flight = client.browser.begin_with(request).await;
    flight.insert("name", "b").unwrap();
    let answer = flight.fail().await;
    assert_eq!(varies(&answer), ["cookie", "x-session"]);
    assert_eq!(field(&answer), None);
}

#[actix_web::test]
async fn a_value_that_is_too_long_is_an_error_and_the_one_before_stays() {
    for mode in MODES {
        let tested = InCookie::start().await;
        let builder = tested.middleware().cookie_content_security(mode);
        let client = Client::of(builder).await;
        let put = |size: usize| move |s: &Session| s.insert("text", "\"".repeat(size)).unwrap();
        client.visit(put(1)).await.assert_ok();
        let (mut fits, mut too_long) = (0, 0);
        for size in (100..2_100).step_by(20) {
            let before = client.value();
            let answer = client.visit(put(size)).await;
            if answer.status.is_success() {
                assert_eq!(too_long, 0, "what is longer does not fit again");
                fits = NAME.len() + 1 + client.value().len();
            } else {
                answer.assert_opaque();
                assert_eq!((field(&answer), client.value()), (None, before));
                too_long += 1;
            }
        }
        assert!((4_096 - 160..=4_096).contains(&fits) && too_long > 1);
        let mut kept = 0;
        let read = |s: &Session| kept = s.get::<String>("text").unwrap().unwrap().len();
        client.visit(read).await.assert_ok();
        assert!(kept > 1);
    }
}

#[actix_web::test]
async fn a_handlers_own_field_is_replaced() {
    let tested = Memory::start().await;
    let handler = |session: Session| async move {
        session.insert("a", 1)?;
        let response = HttpResponse::Ok().insert_header((NAME, "own")).finish();
        Ok::<_, actix_web::Error>(response)
    };
    let app = App::new()
        .wrap(tested.middleware().header(NAME).build())
        .default_service(web::to(handler));
    let site = Site::of(init_service(app).await);
    let request = TestRequest::get().insert_header((NAME, ""));
    let answer = site.answer(request).await;
    assert!(field(&answer).is_some_and(|value| value != "own" && !value.is_empty()));
}

/// `build` is infallible, and leaves out what it cannot use.
#[actix_web::test]
async fn an_invalid_name_is_refused_or_left_out() {
    let tested = Memory::start().await;
    for name in ["", "X Session", "Set-Cookie", "Authorization", "X-Séance"] {
        let refused = tested.middleware().header(name).try_build().unwrap_err();
        assert_eq!(refused, ConfigError::Header);
        let browser = tested.browser_of(tested.middleware().header(name)).await;
        let answer = browser.visit(|s| s.insert("a", 1).unwrap()).await;
        answer.assert_ok().assert_sets_cookie();
        assert_eq!(varies(&answer), ["cookie"]);
        assert_eq!(tested.dump().await.only(), expected(&[("a", "1")]));
        browser.visit(Session::purge).await.assert_removes_cookie();
    }
}
