//! What settings are refused, and what is made of the others.

use actix_web::cookie::{SameSite, time::Duration};

use super::*;

fn refused(change: impl FnOnce(&mut Configuration)) -> Option<ConfigError> {
    let mut configuration = Configuration::new(Key::generate());
    change(&mut configuration);
    configuration.check().err()
}

/// Of all combinations of prefix and attributes, exactly those build that browsers accept.
#[test]
fn contradictions_with_a_prefix_are_refused() {
    for name in [
        "id",
        "__Secure-id",
        "__Host-id",
        "__host-id",
        "__Http-id",
        "__Host-Http-id",
    ] {
        for bits in 0..16_u8 {
            let [secure, root, host_only, http_only] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
            let lower = name.to_ascii_lowercase();
            let valid = (!lower.starts_with("__") || secure)
                && (!lower.starts_with("__host-") || (root && host_only))
                && (!lower.contains("http-") || http_only);
            let error = refused(|configuration| {
                let cookie = &mut configuration.cookie;
                cookie.name = name.to_owned();
                cookie.secure = secure;
                cookie.http_only = http_only;
                cookie.path = if root { "/" } else { "/app" }.to_owned();
                cookie.domain = (!host_only).then(|| "example.org".to_owned());
            });
            assert_eq!(error.is_none(), valid, "{name} {bits:04b} {error:?}");
        }
    }
}

/// Whatever the present cookie is like, browsers take the removal of an old one.
#[test]
fn the_removal_of_a_prefixed_cookie_keeps_what_its_name_promises() {
    let present = CookieAttributes {
        path: "/app".to_owned(),
        domain: Some("example.org".to_owned()),
        secure: false,
        http_only: false,
        ..CookieAttributes::default()
    };
    for name in [
        "id",
        "__Secure-id",
        "__Host-id",
        "__Http-id",
        "__Host-Http-id",
        "__host-http-id",
    ] {
        let old = OldCookie::named(name).attributes(&present);
        assert_eq!(old.check(), Ok(()), "{old:?}");
        assert_eq!(old.name, name);
    }
}

#[test]
fn a_strict_name_keeps_its_promise() {
    for (given, strict) in [
        ("id", "__Host-id"),
        ("__Secure-id", "__Host-id"),
        ("__Host-id", "__Host-id"),
        ("__Http-id", "__Host-Http-id"),
        ("__Host-Http-id", "__Host-Http-id"),
    ] {
        let builder = crate::SessionMiddleware::builder(
            crate::storage::CookieSessionStore::default(),
            Key::generate(),
        );
        let builder = builder.cookie_name(given.to_owned()).strict();
        let built = format!("{:?}", builder.try_build());
        assert!(built.contains(&format!("{strict:?}")), "{built}");
    }
}

#[test]
fn what_browsers_refuse_is_refused_with_its_remedy() {
    let none = |configuration: &mut Configuration| {
        configuration.cookie.same_site = SameSite::None;
    };
    assert_eq!(refused(none), None);
    let insecure = refused(|c| {
        none(c);
        c.cookie.secure = false;
    });
    assert_eq!(insecure, Some(ConfigError::SameSiteNone));
    let partitioned = |c: &mut Configuration| c.cookie.partitioned = true;
    assert_eq!(refused(partitioned), Some(ConfigError::Partitioned));
    assert_eq!(
        refused(|c| {
            none(c);
            partitioned(c)
        }),
        None
    );
    for path in [
        "", "app", "/a;b", "/a\r\nb", "/\u{e9}", "/a b", "/a?b", "/a#b", "/a/../b", "/a\\b",
    ] {
        assert_eq!(
            refused(|c| c.cookie.path = path.into()),
            Some(ConfigError::Path)
        );
    }
    let long = format!("/{}", "a".repeat(1024));
    assert_eq!(refused(|c| c.cookie.path = long), Some(ConfigError::Path));
    let long = ["a".repeat(64), vec!["a"; 127].join(".") + ".aa"];
    for domain in [
        "",
        ".",
        "a;b",
        "a,b",
        "a\0",
        "a b",
        " a",
        "example.com:8080",
        "https://example.com",
        "example.com/app",
        "*.example.com",
        "a..b",
        "example.com.",
        "..example.com",
        "-a.b",
        "[::1]",
        "me@example.com",
        &long[0],
        &long[1],
    ] {
        let error = refused(|c| c.cookie.domain = Some(domain.into()));
        assert_eq!(error, Some(ConfigError::Domain), "{domain}");
        let old = OldCookie::named("old").domain(domain);
        let error = refused(|c| c.read_also.push(old));
        assert_eq!(error, Some(ConfigError::Domain), "{domain}");
    }
    for domain in [
        "example.com",
        ".example.com",
        "localhost",
        "127.0.0.1",
        "a_b.xn--e1a.c-d",
    ] {
        assert_eq!(refused(|c| c.cookie.domain = Some(domain.into())), None);
    }
    for name in ["", "a b", "a;b", "a=b", "a,b", "a\r\nb", "\u{e9}"] {
        assert_eq!(
            refused(|c| c.cookie.name = name.into()),
            Some(ConfigError::Name)
        );
    }
}

#[test]
fn invalid_times_and_formats_are_refused() {
    assert_eq!(refused(|c| c.terms.ttl = Millis(0)), Some(ConfigError::Ttl));
    let long = |c: &mut Configuration| c.terms.ttl = LONGEST + Millis(1);
    assert_eq!(refused(long), None);
    assert_eq!(
        refused(|c| {
            long(c);
            c.persistent = true
        }),
        Some(ConfigError::Ttl)
    );
    let absolute = |c: &mut Configuration| c.terms.absolute = Some(Millis(1));
    assert_eq!(
        refused(|c| c.terms.absolute = Some(Millis(0))),
        Some(ConfigError::AbsoluteTimeout)
    );
    let too_long = |c: &mut Configuration| c.terms.ttl = LONGEST_STATE + Millis(1);
    assert_eq!(refused(too_long), Some(ConfigError::Ttl));
    // It names both limits.
    assert!(ConfigError::Ttl.to_string().contains("100 years"));
    let old = |c: &mut Configuration| {
        absolute(c);
        c.terms.format = WireFormat::V0_11
    };
    assert_eq!(refused(old), Some(ConfigError::MixedFleet));
    assert_eq!(
        refused(|c| {
            old(c);
            c.mixed_fleet = true
        }),
        None
    );
}

#[test]
fn what_cannot_do_what_it_says_is_refused() {
    let extend = |interval: i64| {
        move |c: &mut Configuration| {
            c.terms.extend = ExtendOnRead::AtMostEvery(Millis::secs(interval));
        }
    };
    let day = 86_400;
    for (interval, error) in [
        (-1, Some(ConfigError::Interval)),
        (0, None),
        (day - 1, None),
        (day, Some(ConfigError::Interval)),
        (2 * day, Some(ConfigError::Interval)),
    ] {
        assert_eq!(refused(extend(interval)), error, "{interval}");
    }
    // Less than a millisecond is negative, too.
    for nanoseconds in [-1, -999_999] {
        let interval = Duration::nanoseconds(nanoseconds).into();
        let extend = |c: &mut Configuration| c.terms.extend = ExtendOnRead::AtMostEvery(interval);
        assert_eq!(refused(extend), Some(ConfigError::Interval));
    }
    for (grace, valid) in [(-1, false), (0, false), (1, true), (401 * day, false)] {
        let error = (!valid).then_some(ConfigError::RenewalGrace);
        assert_eq!(refused(|c| c.terms.grace = Millis::secs(grace)), error);
    }
    for (budget, valid) in [(0, false), (1, true), (86_401, false), (u64::MAX, false)] {
        let error = (!valid).then_some(ConfigError::CommitBudget);
        let budget = std::time::Duration::from_secs(budget);
        assert_eq!(refused(|c| c.terms.budget = budget), error);
        let error = (!valid).then_some(ConfigError::LoadBudget);
        assert_eq!(refused(|c| c.load_budget = budget), error);
    }
    for (millis, valid) in [(0, false), (9, false), (10, true), (86_400_001, false)] {
        let lease = std::time::Duration::from_millis(millis);
        let error = (!valid).then_some(ConfigError::EndedLease);
        assert_eq!(refused(|c| c.ended_lease = lease), error);
    }
    let names = |entry: &str| refused(|c| c.terms.principal_entry = Some(entry.into()));
    assert_eq!(names("__actix_session"), Some(ConfigError::PrincipalEntry));
    assert_eq!(names("user"), None);
    let size = |octets| refused(|c| c.terms.max_state = octets);
    assert_eq!(size(255), Some(ConfigError::MaxStateSize));
    assert_eq!(size(256), None);
}

#[test]
fn an_old_cookie_must_not_be_the_present_one() {
    let with = |domain: Option<&str>, old: OldCookie| {
        refused(|c| {
            c.cookie.domain = domain.map(str::to_owned);
            c.read_also.push(old);
        })
    };
    let same = Some(ConfigError::OldCookie);
    let id = || OldCookie::named("id");
    assert_eq!(with(None, id()), same);
    assert_eq!(with(None, id().host_only().path("/")), same);
    assert_eq!(with(Some("a.b"), id()), same);
    assert_eq!(with(Some("a.b"), id().domain(".A.b")), same);
    assert_eq!(with(Some("a.b"), id().host_only()), None);
    assert_eq!(with(None, id().domain("a.b")), None);
    assert_eq!(with(None, id().path("/app")), None);
    assert_eq!(with(None, id().partitioned(true)), None);
    assert_eq!(with(None, OldCookie::named("ID")), None);
}

#[test]
fn absurd_times_are_clamped() {
    let with = |persistent, ttl: Duration| {
        let mut configuration = Configuration::new(Key::generate());
        configuration.persistent = persistent;
        configuration.terms.ttl = ttl.into();
        configuration.clamped().terms.ttl
    };
    assert_eq!(with(true, Duration::ZERO), SHORTEST);
    assert_eq!(with(true, Duration::seconds(-5)), SHORTEST);
    assert_eq!(with(true, Duration::days(4_000)), LONGEST);
    assert_eq!(with(true, Duration::MAX), LONGEST);
    assert_eq!(with(false, Duration::milliseconds(1_500)), Millis(1_500));
    assert!(with(false, Duration::MAX).0 > 0);
}

#[test]
fn what_would_break_every_request_is_clamped() {
    let clamped = |set: fn(&mut Configuration)| {
        let mut configuration = Configuration::new(Key::generate());
        set(&mut configuration);
        let configuration = configuration.clamped();
        assert_eq!(configuration.check(), Ok(()));
        configuration.terms
    };
    for set in [
        |c: &mut Configuration| c.terms.max_state = 0,
        |c: &mut Configuration| c.terms.max_state = 255,
    ] {
        assert_eq!(clamped(set).max_state, SMALLEST);
    }
    assert_eq!(clamped(|c| c.terms.max_state = 300).max_state, 300);
    assert_eq!(clamped(|c| c.terms.grace = Millis(999)).grace, SHORTEST);
    let kept = clamped(|c| c.terms.grace = Millis(1_001)).grace;
    assert_eq!(kept, Millis(1_001));
    let interval = |interval: i64| {
        let mut configuration = Configuration::new(Key::generate());
        configuration.terms.ttl = Millis(1_000);
        configuration.terms.extend = ExtendOnRead::AtMostEvery(Millis(interval));
        configuration.clamped().terms.extend
    };
    assert_eq!(interval(999), ExtendOnRead::AtMostEvery(Millis(999)));
    assert_eq!(interval(1_000), ExtendOnRead::AtMostEvery(Millis(500)));
}

/// In either order.
#[test]
fn a_lifecycle_leaves_the_times_of_a_policy_alone() {
    use crate::{
        config::{PersistentSession, SessionPolicy, TtlExtensionPolicy},
        storage::CookieSessionStore,
    };

    let policy = SessionPolicy::aal2();
    let lifecycle = |extension: Option<TtlExtensionPolicy>| {
        let lifecycle = PersistentSession::default().session_ttl(Duration::weeks(9));
        match extension {
            Some(extension) => lifecycle.session_ttl_extension_policy(extension),
            None => lifecycle,
        }
    };
    let seldom = TtlExtensionPolicy::AtMostEvery(Duration::minutes(5));
    for (extension, extends) in [
        (None, ExtendOnRead::Always),
        (
            Some(TtlExtensionPolicy::OnStateChanges),
            ExtendOnRead::Always,
        ),
        (Some(seldom), ExtendOnRead::AtMostEvery(Millis(300_000))),
    ] {
        let builder =
            || SessionMiddlewareBuilder::new(CookieSessionStore::default(), Key::generate());
        let first = builder()
            .policy(&policy)
            .session_lifecycle(lifecycle(extension.clone()));
        let last = builder()
            .session_lifecycle(lifecycle(extension))
            .policy(&policy);
        for builder in [first, last] {
            let Configuration {
                persistent, terms, ..
            } = builder.configuration;
            assert!(persistent);
            assert_eq!(terms.ttl, policy.idle().unwrap().into());
            assert_eq!(terms.absolute, Some(policy.absolute().into()));
            assert_eq!(terms.extend, extends);
        }
    }
}
