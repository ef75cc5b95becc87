//! T-40 to T-56: the cookie on the wire, as browsers see it.

use actix_session::{
    Session, SessionMiddleware,
    config::{ConfigError, CookieContentSecurity, OldCookie, SessionMiddlewareBuilder},
    storage::CookieSessionStore,
};
use actix_web::{
    App, HttpRequest, HttpResponse,
    cookie::{Cookie, Key, SameSite},
    http::header::{CACHE_CONTROL, HeaderMap, SET_COOKIE, VARY},
    test::{TestRequest, init_service},
    web,
};

use super::{
    arena::{Arena, fingerprint, key_of, secret, somebody},
    attacks, capture,
    jar::{Jar, taken},
};
use crate::support::{Answer, Browser, Site};

attacks! {
    every: [
        t41_to_43_forged_prefix,
        t44_nameless,
        t45_tossing,
        t45_tossing_the_old_name,
        t46_split_fields,
        t50_double_set_cookie,
        t55_huge_header,
        t56_caching,
    ],
    lasting: [],
    server: [],
    timed: [],
    cookie: [t47_oversize, t48_oversize_signed, t47_oversize_renewal],
    alone: [
        t40_contradictory_prefixes,
        t49_long_attributes,
        t51_removal,
        t52_t53_partitioned_and_none,
        t54_injected_attributes,
    ],
}

type Builder = SessionMiddlewareBuilder<CookieSessionStore>;

fn builder() -> Builder {
    SessionMiddleware::builder(CookieSessionStore::default(), Key::from(&[7; 64]))
}

/// One combination of all that a browser looks at, made twice: to try it and to use it.
#[derive(Debug, Clone)]
struct Combination {
    name: &'static str,
    secure: bool,
    http_only: bool,
    path: &'static str,
    domain: Option<&'static str>,
    same_site: SameSite,
    partitioned: bool,
}

const NAMES: [&str; 10] = [
    "id",
    "__Secure-id",
    "__Host-id",
    "__Http-id",
    "__Host-Http-id",
    "__secure-id",
    "__HOST-id",
    "__hTTp-id",
    "__host-http-id",
    "Host-id",
];

fn combinations() -> Vec<Combination> {
    let mut all = Vec::new();
    for name in NAMES {
        for bits in 0..16_u8 {
            let [secure, http_only, root, host] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
            for same_site in [SameSite::Strict, SameSite::Lax, SameSite::None] {
                for partitioned in [false, true] {
                    all.push(Combination {
                        name,
                        secure,
                        http_only,
                        path: if root { "/" } else { "/app" },
                        domain: (!host).then_some("shop.example"),
                        same_site,
                        partitioned,
                    });
                }
            }
        }
    }
    all
}

impl Combination {
    fn builder(&self) -> Builder {
        builder()
            .cookie_name(self.name.to_owned())
            .cookie_secure(self.secure)
            .cookie_http_only(self.http_only)
            .cookie_path(self.path.to_owned())
            .cookie_domain(self.domain.map(str::to_owned))
            .cookie_same_site(self.same_site)
            .cookie_partitioned(self.partitioned)
    }

    async fn browser(&self) -> Browser {
        let key = Key::from(&[7; 64]);
        Browser::new(crate::attacks::arena::site(self.builder().build(), &key).await)
    }

    /// `Partitioned` without `SameSite=None` is of no use, and only that is refused besides.
    fn is_useless(&self) -> bool {
        self.partitioned && self.same_site != SameSite::None
    }
}

fn line(headers: &HeaderMap) -> String {
    let field = headers.get(SET_COOKIE).unwrap();
    field.to_str().unwrap().to_owned()
}

/// What builds is what a browser takes, and nothing else.
async fn t40_contradictory_prefixes() {
    capture::install();
    for combination in combinations() {
        let builds = combination.builder().try_build();
        let browser = combination.browser().await;
        let answer = browser.visit(|s| s.insert("a", 1).unwrap()).await;
        let line = line(&answer.headers);
        let valid = taken(&line).is_some() && !combination.is_useless();
        assert_eq!(builds.is_ok(), valid, "{combination:?} {:?}", builds.err());
        if let Err(error) = builds {
            let text = error.to_string();
            assert!(
                text.contains("set") || text.contains("use"),
                "no remedy: {text}"
            );
        }
    }
}

/// Our cookie's value under names that a lax parser takes for ours.
async fn t41_to_43_forged_prefix(arena: impl Arena) {
    let browser = arena.visitor_of(arena.middleware().strict()).await;
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_sets_cookie();
    let value = browser.cookie("__Host-id").unwrap();
    let good = [format!("__Host-id={value}")];
    assert!(!nobody(&browser, &good).await);
    let mut forged: Vec<String> = [
        "__host-id",
        "__HOST-ID",
        "__Host-Id",
        "__Host-id2",
        "_Host-id",
    ]
    .map(str::to_owned)
    .into();
    for (place, symbol) in "__Host-id".char_indices() {
        let (before, after) = ("__Host-id".split_at(place).0, &"__Host-id"[place + 1..]);
        forged.push(format!("{before}%{:02X}{after}", u32::from(symbol)));
        forged.push(format!("{before}%{:02x}{after}", u32::from(symbol)));
    }
    let blanks = ('\u{2000}'..='\u{200a}').chain([
        '\u{85}', '\u{a0}', '\u{1680}', '\u{2028}', '\u{2029}', '\u{202f}', '\u{205f}', '\u{3000}',
        '\u{feff}',
    ]);
    for blank in blanks {
        forged.push(format!("{blank}__Host-id"));
        forged.push(format!("__Host-id{blank}"));
    }
    for name in forged {
        let fields = [format!("{name}={value}")];
        assert!(nobody(&browser, &fields).await, "{name:?}");
        let answer = browser.visit_as(&fields, Session::purge).await;
        answer.assert_ok().assert_no_cookie();
    }
    for byte in [0x85_u8, 0xa0, 0xff] {
        let fields = [[&[byte], good[0].as_bytes()].concat()];
        assert!(nobody(&browser, &fields).await, "{byte:x}");
    }
    assert!(!nobody(&browser, &good).await);
    arena.assert_sessions(1).await;
}

async fn nobody(browser: &Browser, fields: &[impl AsRef<[u8]>]) -> bool {
    let mut nobody = false;
    let see = |s: &Session| nobody = s.is_empty() && s.principal().is_none();
    browser.visit_as(fields, see).await.assert_ok();
    nobody
}

/// Pairs without a name, or without a value, mimic nothing.
async fn t44_nameless(arena: impl Arena) {
    let browser = arena.visitor_of(arena.middleware().strict()).await;
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_sets_cookie();
    let value = browser.cookie("__Host-id").unwrap();
    for field in [
        format!("=__Host-id={value}"),
        format!("= __Host-id={value}"),
        format!("==__Host-id={value}"),
        format!("a=b __Host-id={value}"),
        format!("\"__Host-id\"={value}"),
        "__Host-id".to_owned(),
        "__Host-id;=".to_owned(),
        ";;".to_owned(),
        "=".to_owned(),
        value.clone(),
    ] {
        assert!(nobody(&browser, &[&field]).await, "{field}");
        let beside = [format!("{field}; __Host-id={value}")];
        assert!(!nobody(&browser, &beside).await, "{field}");
    }
    arena.assert_sessions(1).await;
}

/// A neighbour plants a cookie of the old name: where a live one of the present name came, nobody
/// looks at it, and what removes it says the path and the domain that it had.
async fn t45_tossing_the_old_name(arena: impl Arena) {
    let old = OldCookie::named("id").domain("example.com").path("/app");
    let browser = arena
        .visitor_of(arena.middleware().strict().read_also(old))
        .await;
    let (victim, attacker) = (somebody(), somebody());
    browser
        .visit(|s| s.login(&victim).unwrap())
        .await
        .assert_sets_cookie();
    let neighbour = arena.visitor().await;
    neighbour
        .visit(|s| s.login(&attacker).unwrap())
        .await
        .assert_sets_cookie();
    let own = format!("__Host-id={}", browser.cookie("__Host-id").unwrap());
    let planted = format!("id={}", neighbour.value().unwrap());
    for field in [format!("{planted}; {own}"), format!("{own}; {planted}")] {
        let seen = principal(&browser, &[&field]).await;
        assert_eq!(seen.as_deref(), Some(&*victim), "{field}");
    }
    let field = format!("{planted}; {own}");
    let answer = browser.visit_as(&[&field], Session::purge).await;
    let lines: Vec<&str> = answer
        .assert_ok()
        .headers
        .get_all(SET_COOKIE)
        .map(|line| line.to_str().unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let gone = lines.iter().find(|line| line.starts_with("id=;")).unwrap();
    for part in ["Path=/app", "Domain=example.com", "Max-Age=0", "Secure"] {
        assert!(
            gone.split("; ").any(|attribute| attribute == part),
            "{gone}"
        );
    }
    arena.assert_sessions(0).await;
}

/// Junk beside the good one; the attacker's good one beside the victim's; five.
async fn t45_tossing(arena: impl Arena) {
    let strict = arena
        .visitor_of(arena.middleware().cookie_name("id".into()).strict())
        .await;
    let (mut values, mut names) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let (browser, name) = (Browser::new(strict.site.clone()), somebody());
        browser
            .visit(|s| s.login(&name).unwrap())
            .await
            .assert_sets_cookie();
        values.push(browser.cookie("__Host-id").unwrap());
        names.push(name);
    }
    let pair = |n: usize| format!("__Host-id={}", values[n]);
    let before = arena.dump().await.sorted();
    for field in [
        format!("__Host-id=junk; {}", pair(0)),
        format!("{}; __Host-id=junk", pair(0)),
        format!("{}; {}", pair(0), pair(0)),
        format!("{}; {}", ["__Host-id=junk"; 5].join("; "), pair(0)),
        // What does not verify is not counted, however much of it there is.
        format!("{}; {}", junk(40), pair(0)),
        format!("{}; {}", junk(1_000), pair(0)),
    ] {
        assert_eq!(
            principal(&strict, &[&field]).await.as_deref(),
            Some(&*names[0]),
            "{field}"
        );
    }
    for field in [
        format!("{}; {}", pair(0), pair(1)),
        format!("{}; {}", pair(1), pair(0)),
        (0..5).map(pair).collect::<Vec<_>>().join("; "),
    ] {
        assert_eq!(principal(&strict, &[&field]).await, None);
        assert!(nobody(&strict, &[&field]).await);
        // Nothing is written into any of them either.
        let answer = strict
            .visit_as(&[&field], |s| s.insert("card", 1).unwrap())
            .await;
        answer.assert_ok();
        assert!(!arena.dump().await.0.iter().any(|(_, text)| {
            text.contains("card") && names.iter().any(|name| text.contains(name.as_str()))
        }));
    }
    assert!(capture::told(&[
        "WARN",
        "reason=duplicate-cookie",
        "session="
    ]));
    let kept = arena.dump().await;
    assert!(before.0.iter().all(|record| kept.0.contains(record)));
    // By default the first one is used, and an event says so.
    let lax = arena.visitor().await;
    let (first, second) = (lax.fork(), lax.fork());
    for (browser, name) in [(&first, &names[0]), (&second, &names[1])] {
        browser
            .visit(|s| s.login(name).unwrap())
            .await
            .assert_sets_cookie();
    }
    let [a, b] = [&first, &second].map(|browser| format!("id={}", browser.value().unwrap()));
    for (field, at) in [(format!("{a}; {b}"), 0), (format!("{b}; {a}"), 1)] {
        assert_eq!(
            principal(&lax, &[field]).await.as_deref(),
            Some(&*names[at])
        );
        let other = [&second, &first][at];
        let event = [
            "reason=duplicate-cookie",
            &fingerprint(&key_of(&arena, other)),
        ];
        assert!(capture::told(&event));
    }
}

fn junk(count: usize) -> String {
    let pairs: Vec<String> = (0..count).map(|n| format!("__Host-id=junk{n}")).collect();
    pairs.join("; ")
}

async fn principal(browser: &Browser, fields: &[impl AsRef<[u8]>]) -> Option<String> {
    let mut principal = None;
    let answer = browser
        .visit_as(fields, |s| principal = s.principal())
        .await;
    answer.assert_ok();
    principal
}

/// HTTP/2 may split the field.
async fn t46_split_fields(arena: impl Arena) {
    let strict = arena.visitor_of(arena.middleware().strict()).await;
    let other = Browser::new(strict.site.clone());
    for browser in [&strict, &other] {
        browser
            .visit(|s| s.insert("a", 1).unwrap())
            .await
            .assert_sets_cookie();
    }
    let [a, b] = [&strict, &other]
        .map(|browser| format!("__Host-id={}", browser.cookie("__Host-id").unwrap()));
    assert!(!nobody(&strict, &["x=1", &a]).await);
    assert!(!nobody(&strict, &[&a, "x=1"]).await);
    assert!(!nobody(&strict, &["__Host-id=junk", &a]).await);
    assert!(!nobody(&strict, &[&a, &a]).await);
    assert!(nobody(&strict, &[&a, &b]).await);
    assert!(nobody(&strict, &[&b, &a]).await);
    arena.assert_sessions(2).await;
}

/// A state that makes name and value this long. Each state byte counts 4/3, so a pair's length
/// is hit exactly by the right length of the name.
async fn sized(
    arena: &impl Arena,
    mode: CookieContentSecurity,
    name: &str,
    state: usize,
) -> Answer {
    let builder = arena
        .middleware()
        .cookie_name(name.to_owned())
        .cookie_content_security(mode);
    let browser = arena.visitor_of(builder).await;
    let text = "a".repeat(state);
    browser.visit(|s| s.insert("t", &text).unwrap()).await
}

fn pair_length(answer: &Answer) -> Option<usize> {
    let line = answer.headers.get(SET_COOKIE)?.to_str().unwrap();
    Some(line.split(';').next().unwrap().len())
}

async fn t47_oversize(arena: impl Arena) {
    oversize(&arena, CookieContentSecurity::Private).await;
}

async fn t48_oversize_signed(arena: impl Arena) {
    oversize(&arena, CookieContentSecurity::Signed).await;
}

/// 4,096 octets pass and are what the browser keeps; 4,097 are an error, and nothing has changed.
async fn oversize(arena: &impl Arena, mode: CookieContentSecurity) {
    let mut state = 0;
    let mut name = String::new();
    // The longest state, and then the name, that reach the limit.
    for length in (2_600..4_000).rev() {
        let answer = sized(arena, mode, "n", length).await;
        if let Some(pair) = pair_length(&answer) {
            state = length;
            name = "n".repeat(1 + 4096 - pair);
            break;
        }
    }
    let at_limit = sized(arena, mode, &name, state).await;
    assert_eq!(pair_length(&at_limit), Some(4096));
    assert!(taken(&line(&at_limit.headers)).is_some());
    let over = sized(arena, mode, &format!("{name}n"), state).await;
    over.assert_opaque();
    let error = "4097 octets, and browsers drop those of more than 4096";
    assert!(capture::told(&["ERROR", error]));

    let browser = arena
        .visitor_of(arena.middleware().cookie_content_security(mode))
        .await;
    let text = secret("a state value");
    browser
        .visit(|s| s.insert("text", &text).unwrap())
        .await
        .assert_ok();
    let (before, stored) = (browser.value(), arena.dump().await.sorted());
    let fat = |s: &Session| s.insert("fat", "a".repeat(5_000)).unwrap();
    browser.visit(fat).await.assert_opaque();
    assert_eq!(browser.value(), before);
    assert_eq!(arena.dump().await.sorted(), stored);
    let mut kept = None;
    browser
        .visit(|s| kept = s.get::<String>("text").unwrap())
        .await
        .assert_ok();
    assert_eq!(kept, Some(text));
}

/// A login or a renewal that does not fit leaves the session before it as it was.
async fn t47_oversize_renewal(arena: impl Arena) {
    let steps: [fn(&Session); 3] = [
        Session::renew,
        |s| s.login("principal-of-a-fat-session").unwrap(),
        Session::clear,
    ];
    for step in steps {
        let browser = arena.visitor().await;
        browser
            .visit(|s| s.insert("a", 1).unwrap())
            .await
            .assert_ok();
        let stored = arena.dump().await.sorted();
        let answer = browser
            .visit(|s| {
                step(s);
                s.insert("fat", "a".repeat(5_000)).unwrap();
            })
            .await;
        answer.assert_opaque();
        assert_eq!(arena.dump().await.sorted(), stored);
        assert_eq!(browser.number("a").await, Some(1));
    }
}

async fn t49_long_attributes() {
    capture::install();
    let path = |length: usize| builder().cookie_path(format!("/{}", "a".repeat(length - 1)));
    assert!(path(1024).try_build().is_ok());
    assert_eq!(path(1025).try_build().err(), Some(ConfigError::Path));
    let domain = builder().cookie_domain(Some("a".repeat(1025)));
    assert_eq!(domain.try_build().err(), Some(ConfigError::Domain));
}

async fn set_too(req: HttpRequest, session: Session) -> HttpResponse {
    let act = req.match_info().query("act");
    match act {
        "write" => session.insert("a", 1).unwrap(),
        "renew" => session.renew(),
        "purge" => session.purge(),
        _ => {}
    }
    HttpResponse::Ok()
        .cookie(Cookie::new("id", "theirs"))
        .append_header((SET_COOKIE, "id = theirs-too; Path=/"))
        .cookie(Cookie::new("idx", "stays"))
        .finish()
}

/// A handler sets a cookie of our name: one line leaves, ours.
async fn t50_double_set_cookie(arena: impl Arena) {
    let app = App::new()
        .wrap(arena.middleware().build())
        .route("/{act}", web::get().to(set_too));
    let site = Site::of(init_service(app).await);
    let browser = arena.visitor().await;
    for act in ["write", "renew", "purge"] {
        browser
            .visit(|s| s.insert("a", 0).unwrap())
            .await
            .assert_ok();
        let pair = format!("id={}", browser.value().unwrap());
        let uri = format!("/{act}");
        let request = TestRequest::with_uri(&uri).insert_header(("cookie", pair));
        let answer = site.answer(request).await;
        let lines: Vec<_> = answer.headers.get_all(SET_COOKIE).collect();
        let ours = lines.iter().filter(|l| !l.as_bytes().starts_with(b"idx="));
        let ours: Vec<_> = ours.map(|line| line.to_str().unwrap()).collect();
        // A write of a session on the server changes no cookie, so there the handler's stand.
        if ours.len() > 1 {
            assert!(act == "write" && ours.iter().all(|line| line.contains("theirs")));
        } else {
            assert_eq!(ours.len(), 1, "{act} {lines:?}");
            assert!(!ours[0].contains("theirs"), "{act} {ours:?}");
        }
        assert_eq!(lines.len() - ours.len(), 1);
        browser.forget();
    }
    assert!(capture::told(&[
        "WARN",
        "cookie of the session cookie's name"
    ]));
}

/// Set, then removed: nothing is left, whatever builds.
async fn t51_removal() {
    capture::install();
    let mut tried = 0;
    for combination in combinations() {
        if combination.builder().try_build().is_err() {
            continue;
        }
        let browser = combination.browser().await;
        let mut jar = Jar::default();
        let set = browser.visit(|s| s.insert("a", 1).unwrap()).await;
        jar.absorb(&set.headers);
        assert!(!jar.is_empty(), "{combination:?}");
        let mut seen = None;
        browser
            .visit_as(&[jar.field()], |s| seen = s.get("a").unwrap())
            .await
            .assert_ok();
        assert_eq!(seen, Some(1), "{combination:?}");
        let removal = browser.visit_as(&[jar.field()], Session::purge).await;
        jar.absorb(&removal.headers);
        assert!(jar.is_empty(), "{combination:?} {jar:?}");
        tried += 1;
    }
    assert!(tried > 50, "{tried}");
}

async fn t52_t53_partitioned_and_none() {
    capture::install();
    for combination in combinations() {
        let error = combination.builder().try_build().err();
        let none = combination.same_site == SameSite::None;
        if none && !combination.secure {
            assert!(error.is_some(), "{combination:?}");
        }
        if combination.partitioned && !(none && combination.secure) {
            assert!(error.is_some(), "{combination:?}");
        }
    }
    let plain = || builder().cookie_same_site(SameSite::None);
    let insecure = plain().cookie_secure(false).try_build();
    assert_eq!(insecure.err(), Some(ConfigError::SameSiteNone));
    let lax = builder().cookie_partitioned(true).try_build();
    assert_eq!(lax.err(), Some(ConfigError::Partitioned));
    assert!(plain().cookie_partitioned(true).try_build().is_ok());
}

/// Refused; and what `build` makes of it all the same carries no second line or attribute.
async fn t54_injected_attributes() {
    capture::install();
    for bad in [
        "\r",
        "\n",
        "\r\nX-Evil: 1",
        ";",
        "; Domain=evil.example",
        ",",
        "\0",
    ] {
        let text = format!("a{bad}b");
        let name = || builder().cookie_name(text.clone());
        let path = || builder().cookie_path(format!("/{text}"));
        let domain = || builder().cookie_domain(Some(text.clone()));
        assert_eq!(name().try_build().err(), Some(ConfigError::Name), "{bad:?}");
        assert_eq!(path().try_build().err(), Some(ConfigError::Path), "{bad:?}");
        assert_eq!(
            domain().try_build().err(),
            Some(ConfigError::Domain),
            "{bad:?}"
        );
        assert!(
            builder().read_also(text.clone()).try_build().is_err(),
            "{bad:?}"
        );
        for built in [name(), path(), domain()] {
            let app = App::new()
                .wrap(built.build())
                .route("/{act}", web::get().to(cached));
            let site = Site::of(init_service(app).await);
            let answer = site.answer(TestRequest::with_uri("/write")).await;
            assert!(!answer.headers.contains_key("x-evil"), "{bad:?}");
            for field in answer.headers.get_all(SET_COOKIE) {
                assert!(
                    !field.as_bytes().iter().any(u8::is_ascii_control),
                    "{bad:?}"
                );
            }
        }
    }
}

/// 64 KiB and 10,000 pairs: ours is found among them. (No time is asserted; the reader passes
/// over the bytes once.)
async fn t55_huge_header(arena: impl Arena) {
    let browser = arena.visitor().await;
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_sets_cookie();
    let ours = format!("id={}", browser.value().unwrap());
    let pairs = vec!["a=b"; 10_000].join(";");
    let nonsense = "x".repeat(64 * 1024);
    let equals = "=;".repeat(32 * 1024);
    for huge in [&pairs, &nonsense, &equals] {
        for field in [format!("{ours};{huge}"), format!("{huge};{ours}")] {
            assert!(!nobody(&browser, &[field]).await);
        }
    }
    let junk: Vec<String> = (0..10_000).map(|n| format!("id={n}")).collect();
    let junk = junk.join(";");
    assert!(!nobody(&browser, &[format!("{junk};{ours}")]).await);
    browser
        .visit_as(&[&junk], |s| s.insert("b", 1).unwrap())
        .await
        .assert_sets_cookie();
    arena.assert_sessions(2).await;
}

async fn cached(session: Session, act: web::Path<String>) -> HttpResponse {
    match act.as_str() {
        "write" => session.insert("a", 1).unwrap(),
        "renew" => session.renew(),
        "purge" => session.purge(),
        _ => {}
    }
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "public, s-maxage=600, max-age=60"))
        .append_header((VARY, "Accept"))
        .finish()
}

type Step = (&'static str, fn(&Session));

/// Whatever sets, refreshes or removes the cookie is for nobody else.
async fn t56_caching(arena: impl Arena) {
    let browser = arena.visitor_of(arena.rolling()).await;
    let steps: [Step; 4] = [
        ("set", |s| s.insert("a", 1).unwrap()),
        ("refresh", |_| ()),
        ("renew", Session::renew),
        ("remove", Session::purge),
    ];
    for (what, step) in steps {
        let answer = browser.visit(step).await;
        assert!(answer.assert_ok().cookie().is_some(), "{what}");
        assert_eq!(values(&answer, "cache-control"), ["no-store"], "{what}");
        assert_eq!(values(&answer, "vary"), ["Cookie"], "{what}");
    }
    // Read and not changed: another visitor's answer differs all the same.
    let plain = arena.visitor().await.visit(|s| drop(s.entries())).await;
    assert_eq!(values(&plain, "vary"), ["Cookie"]);

    let app = App::new()
        .wrap(arena.rolling().build())
        .route("/{act}", web::get().to(cached));
    let site = Site::of(init_service(app).await);
    browser
        .visit(|s| s.insert("a", 0).unwrap())
        .await
        .assert_ok();
    for act in ["write", "refresh", "renew", "purge"] {
        let pair = format!("id={}", browser.value().unwrap());
        let uri = format!("/{act}");
        let request = TestRequest::with_uri(&uri).insert_header(("cookie", pair));
        let answer = site.answer(request).await;
        let cookie = answer.cookie();
        assert!(cookie.is_some(), "{act}");
        let control = values(&answer, "cache-control").join(", ");
        assert!(
            control.contains("private") && !control.contains("public"),
            "{control}"
        );
        assert!(
            !control.contains("s-maxage") && control.contains("max-age=60"),
            "{control}"
        );
        assert_eq!(values(&answer, "vary"), ["Accept", "Cookie"], "{act}");
        if let Some(cookie) = cookie.filter(|cookie| !cookie.value().is_empty()) {
            browser.set_cookie("id", cookie.value());
        }
    }
    arena.assert_sessions(0).await;
}

fn values<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let fields = answer.headers.get_all(name);
    fields.map(|field| field.to_str().unwrap()).collect()
}
