//! TLS to a real Redis, with certificates made here. The same for `rustls` and the system's library:
//! whichever is built in is tested.

#![cfg(any(feature = "redis-session-rustls", feature = "redis-session-native-tls"))]
#![allow(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails its test"
)]

use std::process::Command;

use actix_session::{
    Session, SessionMiddleware,
    storage::{RedisSessionStore, RedisSessionStoreBuilder, generate_session_key},
};
use actix_web::{
    App, HttpResponse,
    cookie::{Cookie, Key},
    test::{TestRequest, call_service, init_service, read_body},
    web,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use servers::{TlsRedis, redis_tls::Certificates};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // A name of its own: OpenSSL looks for an authority by that, and tries one of them.
        params.distinguished_name = named(&generate_session_key().as_ref()[..16]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key.
    fn sign(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // Like its authority's, it would be taken for one that signs itself.
        params.distinguished_name = named(name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn server(authority: &Authority, name: &str, ask_clients: bool) -> TlsRedis {
    let (certificate, key) = authority.sign(name, ExtendedKeyUsagePurpose::ServerAuth);
    let certificates = Certificates {
        certificate: &certificate,
        key: &key,
        ca: &authority.pem(),
    };
    TlsRedis::start(certificates, ask_clients).unwrap()
}

fn builder(server: &TlsRedis) -> RedisSessionStoreBuilder {
    RedisSessionStore::builder(server.url())
}

async fn fill(session: Session) -> HttpResponse {
    session.insert("a", 1).unwrap();
    HttpResponse::Ok().finish()
}

async fn renew(session: Session) -> HttpResponse {
    session.renew();
    HttpResponse::Ok().finish()
}

async fn read(session: Session) -> String {
    format!("{:?}", session.get::<u8>("a").unwrap())
}

/// Makes a session, renews and reads it.
async fn works(store: RedisSessionStore) {
    let app = App::new()
        .wrap(SessionMiddleware::new(store, Key::generate()))
        .route("/fill", web::get().to(fill))
        .route("/renew", web::get().to(renew))
        .route("/read", web::get().to(read));
    let app = init_service(app).await;
    let get = async |path: &str, cookie: Option<Cookie<'static>>| {
        let request = TestRequest::with_uri(path);
        let request = cookie.into_iter().fold(request, TestRequest::cookie);
        let answer = call_service(&app, request.to_request()).await;
        assert!(answer.status().is_success(), "{answer:?}");
        let set = answer.response().cookies().next().map(Cookie::into_owned);
        (read_body(answer).await, set)
    };
    let (_, first) = get("/fill", None).await;
    let (_, second) = get("/renew", first).await;
    assert!(second.is_some(), "a renewal sets a cookie");
    assert_eq!(get("/read", second).await.0, "Some(1)");
}

#[actix_web::test]
async fn a_server_is_trusted_for_an_authority_of_ones_own_and_for_no_other() {
    let (own, other) = (Authority::new(), Authority::new());
    let server = server(&own, "localhost", false);
    works(builder(&server).tls_ca(own.pem()).build().await.unwrap()).await;
    let both = format!("{}{}", other.pem(), own.pem());
    works(builder(&server).tls_ca(both).build().await.unwrap()).await;
    assert!(builder(&server).tls_ca(other.pem()).build().await.is_err());
    assert!(
        builder(&server).build().await.is_err(),
        "the system's roots"
    );
}

async fn told(builder: RedisSessionStoreBuilder) -> String {
    format!("{:#}", builder.build().await.unwrap_err())
}

#[actix_web::test]
async fn a_certificate_for_another_name_is_refused() {
    let own = Authority::new();
    let server = server(&own, "elsewhere.example", false);
    let told = told(builder(&server).tls_ca(own.pem())).await;
    assert!(told.contains("the address must have a name"), "{told}");
}

/// Some managed services have such certificates, and keep their authority to themselves.
#[actix_web::test]
async fn without_the_authority_the_error_says_what_is_left() {
    let server = server(&Authority::new(), "elsewhere.example", false);
    let refused = told(builder(&server)).await;
    assert!(refused.contains("`tls_ca`"), "{refused}");
    assert!(refused.contains("#insecure"), "{refused}");
    let insecure = RedisSessionStore::builder(format!("{}/#insecure", server.url()));
    if cfg!(feature = "redis-session-rustls") {
        let told = told(insecure).await;
        assert!(told.contains("`tls-rustls-insecure` of"), "{told}");
    } else {
        works(insecure.build().await.unwrap()).await;
    }
}

/// One that signs itself is its own authority, if it does not say that it signs others.
#[actix_web::test]
async fn a_certificate_that_signs_itself_is_trusted_as_its_own_authority() {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name = named("localhost");
    let key = KeyPair::generate().unwrap();
    let own = params.self_signed(&key).unwrap().pem();
    let certificates = Certificates {
        certificate: &own,
        key: &key.serialize_pem(),
        ca: &own,
    };
    let server = TlsRedis::start(certificates, false).unwrap();
    works(builder(&server).tls_ca(own).build().await.unwrap()).await;
}

#[actix_web::test]
async fn a_client_shows_its_certificate() {
    let own = Authority::new();
    let server = server(&own, "localhost", true);
    let with_ca = || builder(&server).tls_ca(own.pem());
    assert!(with_ca().build().await.is_err(), "without a certificate");
    let (certificate, key) = own.sign("app", ExtendedKeyUsagePurpose::ClientAuth);
    works(
        with_ca()
            .tls_client(certificate, key)
            .build()
            .await
            .unwrap(),
    )
    .await;
    let stranger = Authority::new().sign("app", ExtendedKeyUsagePurpose::ClientAuth);
    let (certificate, key) = stranger;
    assert!(
        with_ca()
            .tls_client(certificate, key)
            .build()
            .await
            .is_err()
    );
}

#[actix_web::test]
async fn connections_over_tls_heal_too() {
    let own = Authority::new();
    let mut server = server(&own, "localhost", false);
    let store = builder(&server).tls_ca(own.pem()).build().await.unwrap();
    works(store.clone()).await;
    server.server().restart().unwrap();
    works(store).await;
}

#[actix_web::test]
async fn mistakes_are_told_at_the_start() {
    let own = Authority::new();
    let server = server(&own, "localhost", false);
    let plain = RedisSessionStore::builder("redis://127.0.0.1:1").tls_ca(own.pem());
    assert!(told(plain).await.contains("rediss://"));
    let junk = builder(&server)
        .tls_ca(own.pem())
        .tls_client("junk", "junk");
    assert!(told(junk).await.contains("PEM"));
}

/// Runs in a process of its own, where the system's roots are these.
#[actix_web::test]
async fn the_systems_roots_are_trusted() {
    const URL: &str = "TEST_URL_OF_A_REDIS_WITH_TLS";
    if let Ok(url) = std::env::var(URL) {
        return works(RedisSessionStore::new(url).await.unwrap()).await;
    }
    let own = Authority::new();
    let server = server(&own, "localhost", false);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roots.pem");
    std::fs::write(&file, own.pem()).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_systems_roots_are_trusted"])
        .env("SSL_CERT_FILE", &file)
        .env("SSL_CERT_DIR", folder.path())
        .env(URL, server.url())
        .status()
        .unwrap();
    assert!(status.success());
}
