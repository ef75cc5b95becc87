//! How soon a thousand streams of two processes end, and what subscriptions leave behind.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use servers::{PostgresServer, RedisServer};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::Part;
use crate::peers::{Served, finish};
use crate::proxy::{Line, Proxy};
use crate::select::Selection;
use crate::table::Table;

/// In each of the two processes.
const STREAMS: usize = 500;
/// By then the processes hear each other: a line is asked for a sign of life every 2.5 s.
const SETTLED: Duration = Duration::from_secs(4);
/// How long after the line is closed somebody revokes.
const CUT: Duration = Duration::from_secs(1);
/// No stream may take longer, whatever is cut.
const LIMIT: Duration = Duration::from_secs(60);

const SUBSCRIPTIONS: usize = 100_000;
const ROUNDS: usize = 10;

/// The servers, each behind the proxies of the two processes.
struct Place {
    name: &'static str,
    word: &'static str,
    variable: &'static str,
    url: String,
    port: u16,
}

pub(super) fn measure(_: &Selection) -> anyhow::Result<Part> {
    servers::install::ensure(&servers::redis::SOFTWARE)?;
    servers::install::ensure(&servers::postgres::SOFTWARE)?;
    let (redis, postgres) = (RedisServer::start()?, PostgresServer::start()?);
    let places = [
        Place {
            name: "Redis",
            word: "redis",
            variable: "REDIS_URL",
            url: redis.url(),
            port: redis.port(),
        },
        Place {
            name: "PostgreSQL",
            word: "postgres",
            variable: "POSTGRES_URL",
            url: postgres.url(),
            port: postgres.port(),
        },
    ];
    let mut part = Part::default();
    part.table(
        "1,000 streams of two processes, from the request that revokes until each has ended",
        &streams(&places)?,
    );
    let title = format!(
        "Resident memory over rounds of {SUBSCRIPTIONS} subscriptions, of which a tenth ends and the \
         rest is dropped"
    );
    part.table(&title, &subscriptions(&places[0])?);
    Ok(part)
}

fn streams(places: &[Place]) -> anyhow::Result<Table> {
    // Starting a process waits for its port, and the proxies must go on meanwhile.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let head = [
        "store",
        "users",
        "line",
        "streams",
        "p50",
        "p99",
        "last",
        "`revoke_all`",
    ];
    let mut table = Table::new(head);
    for place in places {
        for (users, line) in [
            (1, Line::Whole),
            (20, Line::Whole),
            (1, Line::Closed),
            (1, Line::Silent),
        ] {
            for row in once(&runtime, place, users, line)? {
                eprintln!("{}", row.join(" | "));
                table.push(row);
            }
        }
    }
    Ok(table)
}

/// A row for the process that revokes, and one for the other.
fn once(
    runtime: &Runtime,
    place: &Place,
    users: usize,
    line: Line,
) -> anyhow::Result<[Vec<String>; 2]> {
    runtime.block_on(async {
        let proxies = [
            Proxy::before(place.port).await?,
            Proxy::before(place.port).await?,
        ];
        let served = [serve(place, &proxies[0])?, serve(place, &proxies[1])?];
        // Their names are new in each run.
        let user = |number: usize| format!("{users}-{line:?}-{number}");
        let mut streams = [Vec::new(), Vec::new()];
        for number in 0..STREAMS {
            for (served, streams) in served.iter().zip(&mut streams) {
                let cookie = login(served.port, &user(number % users)).await?;
                streams.push(Stream::open(served.port, &cookie).await?);
            }
        }
        tokio::time::sleep(SETTLED).await;
        proxies.iter().for_each(|proxy| proxy.set(line));
        if line == Line::Closed {
            tokio::time::sleep(CUT).await;
        }
        let began = Instant::now();
        let ends = streams.map(|streams| {
            let ends = streams
                .into_iter()
                .map(|stream| tokio::spawn(stream.end(began)));
            ends.collect::<Vec<_>>()
        });
        for number in 0..users {
            get(served[0].port, &format!("/revoke/{}", user(number)), None).await?;
        }
        let revoked = began.elapsed();
        let mut rows = Vec::new();
        for (ends, which) in ends.into_iter().zip(["own", "the other"]) {
            let mut times = Vec::new();
            for end in ends {
                let end = tokio::time::timeout(LIMIT, end).await;
                times.push(end.context("a stream does not end")???);
            }
            rows.push(row(place, users, line, which, times, revoked));
        }
        <[Vec<String>; 2]>::try_from(rows).map_err(|_| anyhow::anyhow!("two processes"))
    })
}

fn row(
    place: &Place,
    users: usize,
    line: Line,
    which: &str,
    mut times: Vec<Duration>,
    revoked: Duration,
) -> Vec<String> {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let ms = |time: Duration| format!("{:.0} ms", time.as_secs_f64() * 1e3);
    let line = match line {
        Line::Whole => "speaks",
        Line::Closed => "closed",
        Line::Silent => "silent",
    };
    vec![
        place.name.to_owned(),
        users.to_string(),
        line.to_owned(),
        format!("{} of {which} process", times.len()),
        ms(times[last / 2]),
        ms(times[last * 99 / 100]),
        ms(times[last]),
        ms(revoked),
    ]
}

fn program() -> anyhow::Result<Command> {
    let program = std::env::current_exe()?.with_file_name("live");
    ensure!(program.exists(), "{} is missing", program.display());
    Ok(Command::new(program))
}

fn serve(place: &Place, proxy: &Proxy) -> anyhow::Result<Served> {
    let mut command = program()?;
    let through = place
        .url
        .replace(&place.port.to_string(), &proxy.port.to_string());
    command
        .args(["serve", place.word])
        .env(place.variable, through);
    Served::start(command)
}

fn subscriptions(redis: &Place) -> anyhow::Result<Table> {
    let mut table = Table::new([
        "store",
        "held, first round",
        "held, last round",
        "let go, first round",
        "let go, last round",
        "growth",
    ]);
    for (name, word) in [("memory", "memory"), ("Redis", "redis")] {
        let mut command = program()?;
        command.env(redis.variable, &redis.url).stdin(Stdio::null());
        command.args([
            "subscribe",
            word,
            &SUBSCRIPTIONS.to_string(),
            &ROUNDS.to_string(),
        ]);
        let seen = finish(command)?;
        eprintln!("{name}:\n{seen}");
        let rounds = seen.lines().map(|line| {
            let (held, left) = line.split_once(' ').context("two numbers a round")?;
            Ok([held.parse::<f64>()?, left.parse()?])
        });
        let rounds: Vec<[f64; 2]> = rounds.collect::<anyhow::Result<_>>()?;
        let ([first, .., last] | [first @ last]) = &rounds[..] else {
            bail!("nothing was measured");
        };
        let mib = |bytes: f64| format!("{:.1} MiB", bytes / 1_048_576.0);
        let growth = |at: usize| format!("{:+.1} %", 100.0 * (last[at] / first[at] - 1.0));
        table.push(vec![
            name.to_owned(),
            mib(first[0]),
            mib(last[0]),
            mib(first[1]),
            mib(last[1]),
            format!("{} held, {} let go", growth(0), growth(1)),
        ]);
    }
    Ok(table)
}

/// A response that goes on until the session has ended.
struct Stream(BufReader<TcpStream>);

impl Stream {
    async fn open(port: u16, cookie: &str) -> anyhow::Result<Self> {
        let stream = ask(port, "/stream", Some(cookie)).await?;
        Self(stream).until("open").await
    }

    /// How long after that it has ended.
    async fn end(self, began: Instant) -> anyhow::Result<Duration> {
        self.until("ended").await?;
        Ok(began.elapsed())
    }

    async fn until(mut self, word: &str) -> anyhow::Result<Self> {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            let length = self.0.read_line(&mut line).await?;
            ensure!(length > 0, "a stream closed before it said `{word}`");
        }
        Ok(self)
    }
}

async fn ask(port: u16, path: &str, cookie: Option<&str>) -> anyhow::Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let cookie = cookie.map_or_else(String::new, |cookie| format!("cookie: {cookie}\r\n"));
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n{cookie}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut stream = BufReader::new(stream);
    let mut status = String::new();
    stream.read_line(&mut status).await?;
    ensure!(status.starts_with("HTTP/1.1 2"), "{path}: {status}");
    Ok(stream)
}

/// Asks, and returns the cookie of the answer, if there is one.
async fn get(port: u16, path: &str, cookie: Option<&str>) -> anyhow::Result<Option<String>> {
    let mut stream = ask(port, path, cookie).await?;
    let mut set = None;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match line.trim_end().split_once(": ") {
            None => return Ok(set),
            Some((name, value)) if name.eq_ignore_ascii_case("set-cookie") => {
                set = value.split(';').next().map(str::to_owned);
            }
            Some(_) => {}
        }
    }
}

async fn login(port: u16, user: &str) -> anyhow::Result<String> {
    let cookie = get(port, &format!("/login/{user}"), None).await?;
    cookie.context("a login sets a cookie")
}
