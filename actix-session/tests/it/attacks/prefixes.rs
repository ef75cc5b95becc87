//! T-40 to T-44, T-51 to T-53: the names and attributes of the cookie.

use actix_session::{
    Session, SessionMiddleware,
    config::{ConfigError, SessionMiddlewareBuilder},
    storage::CookieSessionStore,
};
use actix_web::{
    cookie::{Key, SameSite},
    http::header::{HeaderMap, SET_COOKIE},
};

use super::{
    arena::{Arena, nobody},
    attacks, capture,
    jar::{Jar, taken},
};
use crate::support::Browser;

attacks! {
    every: [t41_to_43_forged_prefix, t44_nameless],
    lasting: [],
    server: [],
    timed: [],
    cookie: [],
    alone: [t40_contradictory_prefixes, t51_removal, t52_t53_partitioned_and_none],
}

pub(super) type Builder = SessionMiddlewareBuilder<CookieSessionStore>;

pub(super) fn builder() -> Builder {
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

    /// `Partitioned` without `SameSite=None` is of no use; nothing else is refused.
    fn is_useless(&self) -> bool {
        self.partitioned && self.same_site != SameSite::None
    }
}

pub(super) fn line(headers: &HeaderMap) -> String {
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
