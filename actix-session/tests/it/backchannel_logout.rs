//! OpenID Connect Back-Channel Logout 1.0.

use std::time::{Duration, SystemTime};

use actix_session::{
    BackChannelLogout, Clock as _, JwkSet, Login, SessionManager, Upstream, handlers,
};
use actix_web::{
    App,
    body::to_bytes,
    http::{StatusCode, header},
    test::{TestRequest, call_service, init_service},
    web,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use servers::RedisServer;

use crate::{
    attacks::capture,
    support::{Browser, Memory, Redis, TestStore},
};

const OP: &str = "https://op.example";
const CLIENT: &str = "client";
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// An OpenID Provider.
struct Provider(Ed25519KeyPair);

impl Provider {
    fn new() -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap())
    }

    fn keys(&self) -> JwkSet {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key());
        let key = json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": x});
        json!({"keys": [key]}).to_string().parse().unwrap()
    }

    fn sign(&self, header: &Value, claims: &str) -> String {
        let [header, claims] =
            [header.to_string(), claims.to_owned()].map(|part| URL_SAFE_NO_PAD.encode(part));
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// With the usual header.
    fn token(&self, claims: &Value) -> String {
        self.sign(&header(), &claims.to_string())
    }
}

fn header() -> Value {
    json!({"alg": "EdDSA", "typ": "logout+jwt", "kid": "a"})
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn claims(now: SystemTime) -> Value {
    json!({
        "iss": OP,
        "aud": CLIENT,
        "iat": seconds(now),
        "exp": seconds(now) + 120,
        "jti": format!("{:?}", now),
        "events": {EVENT: {}},
        "sub": "ferris",
        "sid": "s1",
    })
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn logout(sessions: SessionManager) -> BackChannelLogout {
    BackChannelLogout::new(sessions)
        .provider("https://broken.example", CLIENT, |_| async {
            anyhow::bail!("the provider does not answer")
        })
        .provider(OP, CLIENT, |kid| async move {
            assert!(kid.is_none_or(|kid| kid == "a"));
            Ok(Provider::new().keys())
        })
}

struct Answered {
    status: StatusCode,
    body: Value,
}

async fn post(logout: &BackChannelLogout, content_type: &str, body: String) -> Answered {
    let app = App::new()
        .app_data(web::Data::new(logout.clone()))
        .route("/logout", web::post().to(handlers::backchannel_logout));
    let app = init_service(app).await;
    let request = TestRequest::post()
        .uri("/logout")
        .insert_header((header::CONTENT_TYPE, content_type.to_owned()))
        .set_payload(body);
    let response = call_service(&app, request.to_request()).await;
    let no_store = response.headers().get(header::CACHE_CONTROL).unwrap();
    assert_eq!(no_store, "no-store");
    assert!(response.headers().get(header::SET_COOKIE).is_none());
    let status = response.status();
    let body = to_bytes(response.into_body()).await.unwrap();
    let body = match body.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&body).unwrap(),
    };
    Answered { status, body }
}

const FORM: &str = "application/x-www-form-urlencoded";

async fn tell(logout: &BackChannelLogout, token: &str) -> Answered {
    post(logout, FORM, format!("more=1&logout_token={token}")).await
}

async fn logged_in(tested: &impl TestStore) -> Browser {
    let browser = tested.browser().await;
    // As a token has it.
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds(tested.clock().now()));
    let upstream = Upstream::new(OP, "ferris", at).sid("s1");
    let login = Login::new("user-42").upstream(upstream);
    browser
        .visit(|s| s.login_with(login).unwrap())
        .await
        .assert_ok();
    browser
}

#[actix_web::test]
async fn what_a_valid_token_names_ends() {
    let tested = Memory::start().await;
    let logout = logout(tested.middleware().build().manager());
    let op = Provider::new();
    type Change = fn(Value) -> Value;
    let valid: [(Change, &[(&str, Value)]); 9] = [
        (|it| it, &[]),
        (|it| without(it, "sid"), &[]),
        (|it| without(it, "sub"), &[]),
        (|it| with(it, "aud", json!([CLIENT])), &[]),
        (|it| with(it, "more", json!({"a": [1]})), &[]),
        (
            |it| with(it, "events", json!({EVENT: {"a": 1}, "other": 1})),
            &[],
        ),
        (|it| with(it, "sid", Value::Null), &[("typ", json!("JWT"))]),
        (|it| it, &[("typ", json!("application/LOGOUT+JWT"))]),
        (|it| it, &[("typ", Value::Null), ("kid", Value::Null)]),
    ];
    for (n, (change, headers)) in valid.into_iter().enumerate() {
        let browser = logged_in(&tested).await;
        tested.clock().advance(Duration::from_secs(1));
        let mut header = header();
        for (name, value) in headers {
            header[*name] = value.clone();
        }
        let claims = change(claims(tested.clock().now()));
        let token = op.sign(&header, &claims.to_string());
        let told = tell(&logout, &token).await;
        assert_eq!(
            (told.status, told.body),
            (StatusCode::OK, Value::Null),
            "{n}"
        );
        assert!(browser.is_nobody().await, "{n}");
        // A repeat is answered in the same way, and ends no later login.
        tested.clock().advance(Duration::from_secs(1));
        let browser = logged_in(&tested).await;
        assert_eq!(tell(&logout, &token).await.status, StatusCode::OK);
        assert_eq!(logout.accept(&token).await.unwrap(), 1);
        assert!(!browser.is_nobody().await);
        browser.visit(|s| s.purge()).await.assert_ok();
    }
}

#[actix_web::test]
async fn whatever_is_invalid_is_refused_and_ends_nothing() {
    capture::install();
    let tested = Memory::start().await;
    let logout = logout(tested.middleware().build().manager());
    let op = Provider::new();
    let browser = logged_in(&tested).await;
    let now = tested.clock().now();
    let valid = claims(now);
    let at = seconds(now);
    let mut tokens = Vec::new();
    for name in ["iss", "aud", "iat", "exp", "jti", "events"] {
        tokens.push(op.token(&without(valid.clone(), name)));
        for value in [
            Value::Null,
            json!(""),
            json!([]),
            json!(-1),
            json!({}),
            json!(true),
        ] {
            tokens.push(op.token(&with(valid.clone(), name, value)));
        }
    }
    for (name, value) in [
        ("iss", json!("https://op.example/")),
        ("iss", json!("https://evil.example")),
        ("aud", json!("other")),
        ("aud", json!([CLIENT, "other"])),
        ("iat", json!(at + 100)),
        ("iat", json!(1e300)),
        ("exp", json!(at - 61)),
        ("exp", json!("9999999999")),
        ("events", json!({EVENT: true})),
        ("events", json!({EVENT: []})),
        (
            "events",
            json!({"http://schemas.openid.net/event/other": {}}),
        ),
        ("events", json!([EVENT])),
        ("nonce", json!("n")),
        ("nonce", Value::Null),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sid", json!("x".repeat(1025))),
        ("jti", json!("x".repeat(1025))),
    ] {
        tokens.push(op.token(&with(valid.clone(), name, value)));
    }
    tokens.push(op.token(&without(without(valid.clone(), "sub"), "sid")));
    let text = valid.to_string();
    // A member that comes twice.
    tokens.push(op.sign(&header(), &text.replacen('{', r#"{"sub":"corro","#, 1)));
    let twice = format!(r#"{{"{EVENT}":5,"#);
    let event = format!(r#"{{"{EVENT}""#);
    let events = text.replacen(&event, &format!(r#"{twice}"{EVENT}""#), 1);
    assert_ne!(events, text);
    tokens.push(op.sign(&header(), &events));
    tokens.push(op.sign(&header(), "[]"));
    // Lists, in the order in which members are read.
    let list = json!(["EdDSA", "logout+jwt", "a"]);
    tokens.push(op.sign(&list, &text));
    let list = json!([OP, CLIENT, at, at + 120, "list", {EVENT: {}}, "ferris", "s1"]);
    for list in [
        list.clone(),
        [list.as_array().unwrap().as_slice(), &[json!(false)]]
            .concat()
            .into(),
    ] {
        tokens.push(op.sign(&header(), &list.to_string()));
    }
    tokens.push(op.token(&with(valid.clone(), "events", json!([{}]))));
    for (name, value) in [
        ("typ", json!("at+jwt")),
        ("typ", json!("secevent+jwt")),
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("alg", json!("RS256")),
        ("alg", json!("ES256")),
        ("alg", Value::Null),
        ("crit", json!(["b64"])),
        ("crit", Value::Null),
    ] {
        tokens.push(op.sign(&with(header(), name, value), &text));
    }
    // A MAC with the public key, and no signature at all.
    let good = op.token(&valid);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for header in [json!({"alg": "none"}), json!({"alg": "HS256", "kid": "a"})] {
        let [header, claims] =
            [header.to_string(), text.clone()].map(|part| URL_SAFE_NO_PAD.encode(part));
        let mac = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, op.0.public_key().as_ref());
        let mac = ring::hmac::sign(&mac, format!("{header}.{claims}").as_bytes());
        tokens.push(format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(mac)));
        tokens.push(format!("{header}.{claims}."));
    }
    let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
    tokens.push(Provider(other).token(&valid));
    tokens.extend([
        String::new(),
        ".".into(),
        "..".into(),
        signed.into(),
        format!("{signed}."),
        format!("{signed}.{signature}="),
        format!("{good}.{signature}.x"),
        format!("{signed}.{}", &signature[2..]),
        format!("{}.{signature}", signed.replacen('.', ".A", 1)),
    ]);
    for token in tokens {
        let told = tell(&logout, &token).await;
        assert_eq!(told.status, StatusCode::BAD_REQUEST, "{token}");
        assert_eq!(told.body["error"], "invalid_request");
        assert!(
            told.body["error_description"]
                .as_str()
                .unwrap()
                .contains("logout")
        );
    }
    for (content_type, body) in [
        (FORM, String::new()),
        (FORM, format!("token={good}")),
        (FORM, format!("logout_token={good}&logout_token={good}")),
        (
            "application/json",
            json!({"logout_token": good}).to_string(),
        ),
        (FORM, format!("logout_token={}", "x".repeat(100_000))),
    ] {
        let told = post(&logout, content_type, body).await;
        assert_eq!(told.status, StatusCode::BAD_REQUEST, "{content_type}");
        assert_eq!(told.body["error"], "invalid_request");
    }
    assert!(logout.accept("x").await.unwrap_err().is_invalid());
    assert_eq!(browser.principal().await.as_deref(), Some("user-42"));
    // It was valid all the while.
    assert_eq!(tell(&logout, &good).await.status, StatusCode::OK);
    assert!(browser.is_nobody().await);
    assert!(capture::told(&["a logout token was refused"]));
}

/// As of an application for users and one for operators.
#[actix_web::test]
async fn one_application_may_be_several_clients() {
    let tested = Memory::start().await;
    let logout = logout(tested.middleware().build().manager());
    let logout = logout.provider(OP, "operators", |_| async { Ok(Provider::new().keys()) });
    let op = Provider::new();
    for client in ["operators", CLIENT] {
        let browser = logged_in(&tested).await;
        let now = tested.clock().now();
        let token = op.token(&with(claims(now), "aud", json!(client)));
        let told = tell(&logout, &token).await;
        assert_eq!(told.status, StatusCode::OK, "{client}");
        assert!(browser.is_nobody().await);
        tested.clock().advance(Duration::from_secs(1));
    }
    let other = with(claims(tested.clock().now()), "aud", json!("other"));
    let told = tell(&logout, &op.token(&other)).await;
    assert_eq!(told.status, StatusCode::BAD_REQUEST);
}

#[actix_web::test]
async fn where_it_cannot_be_done_the_provider_repeats_it() {
    let mut server = RedisServer::start().unwrap();
    let tested = Redis::at(&server.url()).await;
    let logout = logout(tested.middleware().build().manager());
    let op = Provider::new();
    let valid = claims(tested.clock().now());
    let broken = op.token(&with(valid.clone(), "iss", json!("https://broken.example")));
    let good = op.token(&valid);
    let browser = logged_in(&tested).await;
    assert_failed(&tell(&logout, &broken).await);
    assert!(!browser.is_nobody().await);
    server.kill();
    assert_failed(&tell(&logout, &good).await);
    server.restart().unwrap();
    assert_eq!(tell(&logout, &good).await.status, StatusCode::OK);
}

fn assert_failed(told: &Answered) {
    assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(told.body["error"], "temporarily_unavailable");
    let shown = told.body.to_string();
    assert!(!shown.contains("does not answer"), "{shown}");
}
