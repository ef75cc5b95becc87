//! Real sockets: a server with workers, a client, and a proxy before Redis.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use actix_session::{SessionMiddleware, storage::SessionStore};
use actix_web::{App, HttpServer, cookie::Cookie, dev::ServerHandle, web::ServiceConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// A server with workers on a loopback port.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    handle: ServerHandle,
}

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
        let make = move || App::new().wrap(middleware()).configure(routes.clone());
        let server = HttpServer::new(make)
            .workers(workers)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .unwrap();
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self { address, handle }
    }

    pub(crate) async fn stop(self) {
        self.handle.stop(true).await;
    }
}

/// One request on a connection of its own: the status and the cookie pair that is set.
pub(crate) async fn http_get(
    address: SocketAddr,
    path: &str,
    cookie: Option<&str>,
) -> (u16, Option<String>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let cookie = cookie.map_or_else(String::new, |pair| format!("cookie: {pair}\r\n"));
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{cookie}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let field = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("set-cookie").then_some(value)
    });
    let pair = field.map(|field| {
        let cookie = Cookie::parse(field).unwrap();
        format!("{}={}", cookie.name(), cookie.value())
    });
    (status, pair)
}

/// Lies between a store and its Redis: sees every command, and can swallow answers.
pub(crate) struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    events: Arc<Notify>,
}

#[derive(Default)]
struct Seen {
    commands: Vec<String>,
    /// The next command of this name is carried out, and its answer lost with the connection.
    lose: Option<&'static str>,
    /// No connection that is made after that gets through.
    held: bool,
}

impl Proxy {
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let events = Arc::new(Notify::new());
        let (shared, notify) = (Arc::clone(&seen), Arc::clone(&events));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (seen, events) = (Arc::clone(&shared), Arc::clone(&notify));
                tokio::spawn(serve(client, port, seen, events));
            }
        });
        Self {
            address,
            seen,
            events,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The commands since this was asked last: each is one round trip.
    pub(crate) fn commands(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap().commands)
    }

    /// The answer of the next such command gets lost, and whoever sent it cannot ask again before
    /// [`let_through`](Self::let_through).
    pub(crate) fn lose_answer_of(&self, command: &'static str) {
        let mut seen = self.seen.lock().unwrap();
        (seen.lose, seen.held) = (Some(command), true);
    }

    /// Waits until the answer is lost, hence the command carried out.
    pub(crate) async fn lost(&self) {
        until(&self.events, || self.seen.lock().unwrap().lose.is_none()).await;
    }

    pub(crate) fn let_through(&self) {
        self.seen.lock().unwrap().held = false;
        self.events.notify_waiters();
    }
}

async fn until(events: &Notify, done: impl Fn() -> bool) {
    loop {
        let notified = events.notified();
        if done() {
            return;
        }
        notified.await;
    }
}

async fn serve(
    mut client: TcpStream,
    port: u16,
    seen: Arc<Mutex<Seen>>,
    events: Arc<Notify>,
) -> io::Result<()> {
    until(&events, || {
        !seen.lock().unwrap().held || seen.lock().unwrap().lose.is_some()
    })
    .await;
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut asked, mut answered) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut pending = Vec::new();
    let mut losing = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                pending.extend_from_slice(&asked[..length]);
                while let Some((name, used)) = command(&pending) {
                    pending.drain(..used);
                    let mut seen = seen.lock().unwrap();
                    losing |= seen.lose == Some(name.as_str());
                    // What a client says about itself when it connects is not the store's.
                    if name != "CLIENT" && name != "HELLO" {
                        seen.commands.push(name);
                    }
                }
                server.write_all(&asked[..length]).await?;
            }
            read = server.read(&mut answered) => {
                let length = read?;
                if losing {
                    // Answered means carried out. The client learns that it will not know.
                    seen.lock().unwrap().lose = None;
                    events.notify_waiters();
                    return Ok(());
                }
                if length == 0 {
                    return Ok(());
                }
                client.write_all(&answered[..length]).await?;
            }
        }
    }
}

/// The name of the first command that is there as a whole, and its length.
fn command(bytes: &[u8]) -> Option<(String, usize)> {
    let (count, mut at) = number(bytes, 0, b'*')?;
    let mut name = None;
    for _ in 0..count {
        let (length, start) = number(bytes, at, b'$')?;
        let part = bytes.get(start..start + length)?;
        bytes.get(start + length..start + length + 2)?;
        name.get_or_insert_with(|| String::from_utf8_lossy(part).to_uppercase());
        at = start + length + 2;
    }
    Some((name?, at))
}

fn number(bytes: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let rest = bytes.get(at..)?;
    assert!(rest.is_empty() || rest[0] == kind, "not RESP");
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let text = std::str::from_utf8(&rest[1..end]).unwrap();
    Some((text.parse().unwrap(), at + end + 2))
}
