//! Clients of a server over loopback.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// How long clients ask before anything is counted, and how long it is counted then.
const WARM_UP: Duration = Duration::from_millis(500);

/// What clients do.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Where the server listens on loopback.
    pub(crate) port: u16,
    /// What they ask for, each the same thing again.
    pub(crate) paths: Vec<String>,
    /// Their sessions' cookies, in turn. Without one, requests carry no cookie.
    pub(crate) cookies: Vec<String>,
    /// How many connections there are, each with one request at a time.
    pub(crate) clients: usize,
    /// How long.
    pub(crate) time: Duration,
}

/// What clients saw.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    /// Answered requests a second.
    pub(crate) a_second: f64,
    /// Answers that are no success.
    pub(crate) failures: usize,
    /// The answers that were counted.
    pub(crate) answers: usize,
    /// All that are a success, those before the counting among them.
    pub(crate) all: usize,
    /// The median.
    pub(crate) p50: Duration,
    /// What one in a hundred requests exceeds.
    pub(crate) p99: Duration,
    /// The answers to the client with the fewest, as a share of the median client's.
    pub(crate) slowest: f64,
}

impl Load {
    /// Runs the clients.
    pub(crate) fn run(&self) -> anyhow::Result<Seen> {
        let runtime = tokio::runtime::Builder::new_current_thread();
        runtime_of(runtime)?.block_on(async {
            let begin = Instant::now() + WARM_UP;
            let clients = (0..self.clients)
                .map(|number| tokio::spawn(Client::new(self.clone(), number).run(begin)));
            let mut logs = Vec::new();
            for client in clients.collect::<Vec<_>>() {
                logs.push(client.await??);
            }
            Seen::of(logs, self.time)
        })
    }
}

fn runtime_of(mut builder: tokio::runtime::Builder) -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(builder.enable_all().build()?)
}

/// Makes so many sessions, and returns their cookies.
pub(crate) fn seed(port: u16, count: usize) -> anyhow::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    runtime_of(runtime)?.block_on(async {
        let mut connection = Connection::open(port).await?;
        let mut cookies = Vec::new();
        for _ in 0..count {
            let answer = connection.ask(&request("/seed", None)).await?;
            cookies.push(answer.cookie.context("the new session has no cookie")?);
        }
        Ok(cookies)
    })
}

/// Asks for one page, and returns its text.
pub(crate) fn get(port: u16, path: &str, cookie: &str) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    runtime_of(runtime)?.block_on(async {
        let mut connection = Connection::open(port).await?;
        Ok(connection.ask(&request(path, Some(cookie))).await?.body)
    })
}

/// What one client saw: how long each answer took, and how many were no success.
#[derive(Debug, Default)]
struct Log {
    times: Vec<Duration>,
    failures: usize,
    all: usize,
}

struct Client {
    load: Load,
    number: usize,
}

impl Client {
    fn new(load: Load, number: usize) -> Self {
        Self { load, number }
    }

    async fn run(self, begin: Instant) -> anyhow::Result<Log> {
        let mut connection = Connection::open(self.load.port).await?;
        let requests = self.requests();
        let (mut log, end) = (Log::default(), begin + self.load.time);
        for request in requests.iter().cycle().skip(self.number) {
            let started = Instant::now();
            if started >= end {
                break;
            }
            let answer = connection.ask(request).await?;
            log.all += usize::from(answer.success);
            if started >= begin {
                log.times.push(started.elapsed());
                log.failures += usize::from(!answer.success);
            }
        }
        Ok(log)
    }

    fn requests(&self) -> Vec<String> {
        let path = &self.load.paths[self.number % self.load.paths.len()];
        if self.load.cookies.is_empty() {
            return vec![request(path, None)];
        }
        let cookies = self.load.cookies.iter();
        cookies.map(|cookie| request(path, Some(cookie))).collect()
    }
}

fn request(path: &str, cookie: Option<&str>) -> String {
    let cookie = cookie.map_or(String::new(), |pair| format!("cookie: {pair}\r\n"));
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{cookie}\r\n")
}

#[derive(Debug)]
struct Answer {
    success: bool,
    cookie: Option<String>,
    body: String,
}

struct Connection {
    stream: BufReader<TcpStream>,
    line: String,
}

impl Connection {
    async fn open(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            line: String::new(),
        })
    }

    async fn ask(&mut self, request: &str) -> anyhow::Result<Answer> {
        self.stream.write_all(request.as_bytes()).await?;
        let status = self.line().await?;
        let success = status.starts_with("HTTP/1.1 2");
        let (mut length, mut cookie) = (0, None);
        loop {
            let line = self.line().await?;
            match line.split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse()?;
                }
                Some((name, value)) if name.eq_ignore_ascii_case("set-cookie") => {
                    cookie = value.split(';').next().map(str::to_owned);
                }
                Some(_) => {}
                None if line.is_empty() => break,
                None => bail!("an answer has the line {line:?}"),
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        let body = String::from_utf8(body)?;
        Ok(Answer {
            success,
            cookie,
            body,
        })
    }

    async fn line(&mut self) -> anyhow::Result<&str> {
        self.line.clear();
        if self.stream.read_line(&mut self.line).await? == 0 {
            bail!("the server closed the connection");
        }
        Ok(self.line.trim_end())
    }
}

impl Seen {
    fn of(logs: Vec<Log>, time: Duration) -> anyhow::Result<Self> {
        let mut counts: Vec<usize> = logs.iter().map(|log| log.times.len()).collect();
        let failures = logs.iter().map(|log| log.failures).sum();
        let all = logs.iter().map(|log| log.all).sum();
        let mut times: Vec<Duration> = logs.into_iter().flat_map(|log| log.times).collect();
        times.sort_unstable();
        counts.sort_unstable();
        let last = times.len().checked_sub(1).context("nothing was answered")?;
        let median = counts[counts.len() / 2].max(1);
        Ok(Self {
            a_second: times.len() as f64 / time.as_secs_f64(),
            failures,
            answers: times.len(),
            all,
            p50: times[last / 2],
            p99: times[last * 99 / 100],
            slowest: counts[0] as f64 / median as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_saw_is_summed_up() {
        let log = |times: std::ops::Range<u64>| Log {
            times: times.map(Duration::from_millis).collect(),
            failures: 1,
            all: 60,
        };
        let seen = Seen::of(
            vec![log(0..50), log(50..150), log(150..200)],
            Duration::from_secs(2),
        );
        let expected = Seen {
            a_second: 100.0,
            failures: 3,
            answers: 200,
            all: 180,
            p50: Duration::from_millis(99),
            p99: Duration::from_millis(197),
            slowest: 1.0,
        };
        assert_eq!(seen.unwrap(), expected);
        assert!(Seen::of(vec![], Duration::from_secs(1)).is_err());
    }
}
