//! Real sockets: a server with workers, and a client.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use actix_session::{SessionMiddleware, storage::SessionStore};
use actix_web::{
    App, Error, HttpServer,
    body::BoxBody,
    cookie::Cookie,
    dev::{ServerHandle, ServiceRequest, ServiceResponse},
    middleware::{Next, from_fn},
    web::ServiceConfig,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A server with workers on a loopback port.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    handle: ServerHandle,
    dropped: Dropped,
}

/// Counts requests that are dropped before they are answered.
#[derive(Clone, Default)]
struct Dropped(Arc<AtomicU64>);

impl Server {
    pub(crate) fn start<S, M>(
        workers: usize,
        middleware: M,
        routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    ) -> Self
    where
        S: SessionStore + 'static,
        M: Fn() -> SessionMiddleware<S> + Clone + Send + 'static,
    {
        let dropped = Dropped::default();
        let counted = dropped.clone();
        let make = move || {
            let counted = counted.clone();
            App::new()
                .wrap(middleware())
                .wrap(from_fn(move |req, next| counted.clone().watch(req, next)))
                .configure(routes.clone())
        };
        let server = HttpServer::new(make)
            .workers(workers)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .unwrap();
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self {
            address,
            handle,
            dropped,
        }
    }

    /// How many requests were dropped, once nobody asks any more.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.0.load(Ordering::Relaxed)
    }

    pub(crate) async fn stop(self) {
        self.handle.stop(true).await;
    }
}

impl Dropped {
    async fn watch(
        self,
        request: ServiceRequest,
        next: Next<BoxBody>,
    ) -> Result<ServiceResponse<BoxBody>, Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let answer = next.call(request).await;
        self.0.fetch_sub(1, Ordering::Relaxed);
        answer
    }
}

/// One request on a connection of its own: the status and the cookie pair that is set.
pub(crate) async fn http_get(
    address: SocketAddr,
    path: &str,
    cookie: Option<&str>,
) -> (u16, Option<String>) {
    let fields: Vec<_> = cookie.into_iter().map(|pair| ("cookie", pair)).collect();
    let answer = HttpAnswer::get(address, path, &fields).await;
    (answer.status(), answer.cookie())
}

/// A response as it came over the wire.
pub(crate) struct HttpAnswer(String);

impl HttpAnswer {
    /// Asks with these header fields, on a connection of its own.
    pub(crate) async fn get(address: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let fields = fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let fields: String = fields.collect();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{fields}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        Self(answer)
    }

    pub(crate) fn status(&self) -> u16 {
        self.0.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn field(&self, wanted: &str) -> Option<&str> {
        self.0.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case(wanted).then_some(value)
        })
    }

    pub(crate) fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").unwrap().1
    }

    /// The cookie pair that is set.
    pub(crate) fn cookie(&self) -> Option<String> {
        let cookie = Cookie::parse(self.field("set-cookie")?).unwrap();
        Some(format!("{}={}", cookie.name(), cookie.value()))
    }
}
