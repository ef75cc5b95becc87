//! A server that answers what a test wants.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use redis::{ConnectionInfo, IntoConnectionInfo as _};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::conn::{Connections, Replicas, Target, Timeouts};

/// No answer takes as long.
pub(super) const PATIENCE: Timeouts = Timeouts {
    connect: Duration::from_secs(30),
    command: Duration::from_secs(30),
};

/// Connections to a server that answers each command with RESP, or closes the connection.
pub(super) async fn connections(
    replicas: Option<Replicas>,
    answer: impl FnMut(&[String]) -> Option<String> + 'static,
) -> Connections {
    let server = Target::Server(listen(answer).await);
    Connections::new(&server, PATIENCE, replicas).unwrap()
}

/// Such a server. If it answers nothing at all, it is silent.
pub(super) async fn listen(
    answer: impl FnMut(&[String]) -> Option<String> + 'static,
) -> ConnectionInfo {
    listen_to(usize::MAX, answer).await.0
}

/// Such a server, and how many connections it has accepted. It speaks on the first ones only; the
/// others get no answer at all, not even to what sets them up.
pub(super) async fn listen_to(
    most: usize,
    answer: impl FnMut(&[String]) -> Option<String> + 'static,
) -> (ConnectionInfo, Rc<Cell<usize>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let accepted = Rc::new(Cell::new(0));
    actix_web::rt::spawn(serve(listener, Rc::clone(&accepted), most, answer));
    (url.into_connection_info().unwrap(), accepted)
}

async fn serve<A>(listener: TcpListener, accepted: Rc<Cell<usize>>, most: usize, answer: A)
where
    A: FnMut(&[String]) -> Option<String> + 'static,
{
    let answer = Rc::new(RefCell::new(answer));
    let mut unheard = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        accepted.set(accepted.get() + 1);
        if accepted.get() > most {
            unheard.push(stream);
            continue;
        }
        actix_web::rt::spawn(speak(BufReader::new(stream), Rc::clone(&answer)));
    }
}

async fn speak<A>(mut stream: BufReader<TcpStream>, answer: Rc<RefCell<A>>)
where
    A: FnMut(&[String]) -> Option<String>,
{
    while let Some(command) = read(&mut stream).await {
        let told = match command[0].as_str() {
            "CLIENT" => Some("+OK\r\n".to_owned()),
            _ => (answer.borrow_mut())(&command),
        };
        let Some(told) = told else { return };
        stream.write_all(told.as_bytes()).await.unwrap();
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut command = Vec::new();
    for _ in 0..number(stream).await? {
        let mut part = vec![0; number(stream).await? + 2];
        stream.read_exact(&mut part).await.ok()?;
        part.truncate(part.len() - 2);
        command.push(String::from_utf8(part).unwrap());
    }
    Some(command)
}

/// A length, after the letter that says of what.
async fn number(stream: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim().parse().ok()
}
