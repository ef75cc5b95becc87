//! Servers of every version that do what a request's body says, and a browser that keeps one cookie.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary compiles this module and uses a part of it; it is a test's"
)]

use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, rc::Rc};

use actix_http::Request;
use actix_session::{
    SessionMiddleware,
    config::{CookieContentSecurity, SessionMiddlewareBuilder, WireFormat},
    storage::{CookieSessionStore, RedisSessionStore, SessionStore},
};
use actix_web::{
    App, HttpResponse,
    body::MessageBody,
    cookie::Key,
    dev::{Service, ServiceResponse},
    http::{StatusCode, header},
    test, web,
};
use serde_json::{Value, json};
use servers::RedisServer;

/// Where sessions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Cookie,
    Redis,
}

/// How the cookie is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    Private,
    Signed,
}

pub(crate) const MATRIX: [(Place, Seal); 4] = [
    (Place::Cookie, Seal::Private),
    (Place::Cookie, Seal::Signed),
    (Place::Redis, Seal::Private),
    (Place::Redis, Seal::Signed),
];

/// The secret key that all servers share.
pub(crate) fn key() -> Key {
    Key::from(&[7; 64])
}

pub(crate) type Entries = BTreeMap<String, Value>;

/// Entries as a handler sees them: names, and values parsed from their JSON texts.
pub(crate) fn entries(value: Value) -> Entries {
    match value {
        Value::Object(map) => map.into_iter().collect(),
        other => panic!("entries are an object, not {other}"),
    }
}

/// Values of every kind, under names that could be mistaken for something else.
pub(crate) fn values() -> Entries {
    entries(json!({
        "v": 1,
        "state": {"n": 1},
        "f": "not the facts",
        "id": "x",
        "": "no name",
        "na\"me\\\n\u{1}": "escapes: \" \\ / \u{8}\u{c}\n\r\t\u{0} </script>",
        "größe €😀": "Żółć 漢字 😀 \u{2028}",
        "json": "{\"v\":1,\"state\":{}}",
        "quoted": "\"\\\"\"",
        "null": null,
        "yes": true,
        "big": u64::MAX,
        "small": i64::MIN,
        "float": -1.5e-7,
        "empty": "",
        "nothing": {},
        "list": [1, [2, {"a": []}], "", null],
        "nested": {"a": {"b\"": {"c": "\\\"d\\\""}}, "k": 2},
    }))
}

/// What a server did.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The entries before the request changed any.
    pub(crate) before: Entries,
    pub(crate) principal: Option<String>,
    /// The `Set-Cookie` of the session, as sent.
    pub(crate) set_cookie: Option<String>,
}

type Call = Box<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Answer>>>>;

/// A server of some version, whose handler does what the body of a request says.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    call: Call,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Server {
    pub(crate) fn new<S, B>(name: &'static str, service: S) -> Self
    where
        S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
        B: MessageBody + 'static,
    {
        let service = Rc::new(service);
        let call: Call = Box::new(move |request| {
            let service = Rc::clone(&service);
            Box::pin(async move { answer(service.call(request).await).await })
        });
        Self { name, call }
    }
}

async fn answer<B: MessageBody>(result: Result<ServiceResponse<B>, actix_web::Error>) -> Answer {
    let response = match result {
        Ok(response) => response,
        Err(error) => panic!("the service failed: {error}"),
    };
    let status = response.status();
    let mut cookies = response.headers().get_all(header::SET_COOKIE);
    let set_cookie = cookies
        .next()
        .map(|value| value.to_str().unwrap().to_owned());
    assert!(cookies.next().is_none(), "two Set-Cookie in one response");
    drop(cookies);
    let body = test::read_body(response).await;
    let body: Value =
        serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{status} {error}: {body:?}"));
    Answer {
        status,
        before: entries(body["before"].clone()),
        principal: body["principal"].as_str().map(str::to_owned),
        set_cookie,
    }
}

/// A browser that keeps the cookie `id`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Client {
    pub(crate) cookie: Option<String>,
}

impl Client {
    pub(crate) fn with(cookie: impl Into<String>) -> Self {
        Self {
            cookie: Some(cookie.into()),
        }
    }

    /// Sends operations, such as `[["insert", "n", 1], ["renew"]]`.
    pub(crate) async fn send(&mut self, server: &Server, operations: Value) -> Answer {
        let mut request = test::TestRequest::post().uri("/").set_json(operations);
        if let Some(cookie) = &self.cookie {
            request = request.insert_header((header::COOKIE, format!("id={cookie}")));
        }
        let answer = (server.call)(request.to_request()).await;
        assert_eq!(answer.status, StatusCode::OK, "{server:?}");
        if let Some(set) = &answer.set_cookie {
            let pair = set.split(';').next().unwrap();
            let value = pair.strip_prefix("id=").expect("a cookie named id");
            self.cookie = (!set.contains("Max-Age=0")).then(|| value.to_owned());
        }
        answer
    }

    /// The entries that the server sees in the session.
    pub(crate) async fn read(&mut self, server: &Server) -> Entries {
        self.send(server, json!([])).await.before
    }
}

/// Inserts all entries.
pub(crate) fn insert(entries: &Entries) -> Value {
    let insert = |(name, value)| json!(["insert", name, value]);
    entries.iter().map(insert).collect()
}

/// A handler that does what the body says, as source code for any version.
macro_rules! handler {
    ($name:ident, $krate:ident, |$session:ident, $other:ident| $more:expr, $principal:expr) => {
        async fn $name(
            $session: $krate::Session,
            operations: web::Json<Vec<Vec<Value>>>,
        ) -> actix_web::Result<HttpResponse> {
            let mut before = serde_json::Map::new();
            for (name, text) in $session.entries().iter() {
                before.insert(name.clone(), serde_json::from_str(text)?);
            }
            let principal: Option<String> = $principal;
            for operation in operations.into_inner() {
                let text = |i: usize| operation[i].as_str().unwrap_or_default();
                match text(0) {
                    "insert" => $session.insert(text(1), &operation[2])?,
                    "remove" => drop($session.remove(text(1))),
                    "clear" => $session.clear(),
                    "renew" => $session.renew(),
                    "purge" => $session.purge(),
                    _ => {
                        let $other = (text(0), text(1));
                        $more;
                    }
                }
            }
            let body = json!({"before": before, "principal": principal});
            Ok(HttpResponse::Ok().json(body))
        }
    };
}

handler!(
    ours_handler,
    actix_session,
    |session, operation| match operation {
        ("login", who) => session.login(who)?,
        ("count", name) => session.modify(name, |n: Option<u64>| Some(n.unwrap_or(0) + 1))?,
        other => panic!("{other:?}"),
    },
    session.principal()
);

/// One of our servers, with the shared secret key.
pub(crate) async fn ours<S: SessionStore + 'static>(
    store: S,
    configure: impl FnOnce(SessionMiddlewareBuilder<S>) -> SessionMiddlewareBuilder<S>,
) -> Server {
    let middleware = configure(SessionMiddleware::builder(store, key())).build();
    let app = App::new()
        .wrap(middleware)
        .route("/", web::post().to(ours_handler));
    Server::new("ours", test::init_service(app).await)
}

/// One of our servers, over the usual store of a place.
pub(crate) async fn ours_at(place: Place, seal: Seal, format: WireFormat) -> Server {
    match place {
        Place::Cookie => {
            let store = CookieSessionStore::default();
            ours(store, |builder| settings(builder, seal, format)).await
        }
        Place::Redis => ours(redis().await, |builder| settings(builder, seal, format)).await,
    }
}

pub(crate) fn settings<S: SessionStore>(
    builder: SessionMiddlewareBuilder<S>,
    seal: Seal,
    format: WireFormat,
) -> SessionMiddlewareBuilder<S> {
    builder
        .wire_format(format)
        .cookie_content_security(match seal {
            Seal::Private => CookieContentSecurity::Private,
            Seal::Signed => CookieContentSecurity::Signed,
        })
}

/// Our store, over the Redis that all servers share.
pub(crate) async fn redis() -> RedisSessionStore {
    RedisSessionStore::new(redis_url()).await.unwrap()
}

pub(crate) fn redis_url() -> String {
    RedisServer::shared_url().unwrap()
}

pub(crate) async fn redis_connection() -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(redis_url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// A server of a published version.
macro_rules! published {
    ($module:ident, $krate:ident) => {
        mod $module {
            use $krate::{
                SessionMiddleware,
                config::CookieContentSecurity,
                storage::{CookieSessionStore, RedisSessionStore, SessionStore},
            };

            use super::*;

            handler!(
                handle,
                $krate,
                |session, operation| panic!("{operation:?}"),
                None
            );

            async fn over<S: SessionStore + 'static>(store: S, seal: Seal) -> Server {
                let security = match seal {
                    Seal::Private => CookieContentSecurity::Private,
                    Seal::Signed => CookieContentSecurity::Signed,
                };
                let middleware = SessionMiddleware::builder(store, key())
                    .cookie_content_security(security)
                    .build();
                let app = App::new()
                    .wrap(middleware)
                    .route("/", web::post().to(handle));
                Server::new(stringify!($krate), test::init_service(app).await)
            }

            pub(crate) async fn server(place: Place, seal: Seal) -> Server {
                match place {
                    Place::Cookie => over(CookieSessionStore::default(), seal).await,
                    Place::Redis => {
                        let store = RedisSessionStore::new(redis_url()).await.unwrap();
                        over(store, seal).await
                    }
                }
            }
        }
    };
}

published!(v0_9, published_0_9);
published!(v0_10, published_0_10);
published!(v0_11, published_0_11);

/// A server of each published version.
pub(crate) async fn published(place: Place, seal: Seal) -> [Server; 3] {
    [
        v0_9::server(place, seal).await,
        v0_10::server(place, seal).await,
        v0_11::server(place, seal).await,
    ]
}
