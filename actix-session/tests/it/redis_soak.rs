//! Mixed load on one Redis with a fault every few seconds: nothing acknowledged is lost, nothing ended comes
//! back. `cargo xtask soak` runs it for a minute and shows the figures.

use std::{
    env,
    time::{Duration, Instant},
};

use actix_session::storage::RedisSessionStore;
use actix_web::rt;
use servers::{RedisServer, resp::lines_of};

use crate::support::{aside, load::Load};

const SECONDS: &str = "SOAK_SECONDS";

/// What is done to the server; it is back when that returns.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Killed,
    Frozen,
    Disconnected,
    Paused,
    Full,
}

const FAULTS: [Fault; 5] = [
    Fault::Killed,
    Fault::Frozen,
    Fault::Disconnected,
    Fault::Paused,
    Fault::Full,
];

impl Fault {
    fn inject(self, server: &mut RedisServer) {
        let ask = |command: &str| {
            lines_of(server.port(), command).unwrap();
        };
        match self {
            Self::Killed => server.restart().unwrap(),
            Self::Frozen => {
                server.pause().unwrap();
                std::thread::sleep(Duration::from_millis(1_500));
                server.resume().unwrap();
            }
            Self::Disconnected => ask("CLIENT KILL TYPE normal SKIPME yes"),
            Self::Paused => {
                ask("CLIENT PAUSE 700 ALL");
                std::thread::sleep(Duration::from_millis(700));
            }
            Self::Full => {
                ask("CONFIG SET maxmemory 1");
                std::thread::sleep(Duration::from_millis(300));
                ask("CONFIG SET maxmemory 0");
            }
        }
    }
}

#[actix_web::test]
async fn faults_every_few_seconds() {
    let seconds = env::var(SECONDS).ok().and_then(|text| text.parse().ok());
    // Each fault once, unless told otherwise.
    let run = Duration::from_secs(seconds.unwrap_or(8));
    let gap = Duration::from_millis(if seconds.is_some() { 2_500 } else { 500 });
    let mut server = RedisServer::start_with(&[
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("maxmemory-policy", "noeviction"),
    ])
    .unwrap();
    let load = Load::start(RedisSessionStore::new(server.url()).await.unwrap()).await;
    let started = Instant::now();
    let mut recoveries = Vec::new();
    for fault in FAULTS.into_iter().cycle() {
        if started.elapsed() >= run && recoveries.len() >= FAULTS.len() {
            break;
        }
        rt::time::sleep(gap).await;
        server = aside(move || {
            fault.inject(&mut server);
            server
        })
        .await;
        recoveries.push(recovery(fault, &load, gap).await);
    }
    let report = load.stop().await;
    let (faults, worst) = (recoveries.len(), recoveries.iter().max());
    let took = started.elapsed();
    println!("{faults} faults in {took:?}, the longest recovery took {worst:?}: {report:?}");
    report.assert_whole();
}

/// How long requests still failed once the server was back.
async fn recovery(fault: Fault, load: &Load, gap: Duration) -> Duration {
    let back = Instant::now();
    load.works_for(1).await;
    let first = back.elapsed();
    load.works_for(50).await;
    rt::time::sleep(gap).await;
    let last = load.failed_after(back);
    println!("{fault:?}: the first answer came after {first:?}, the last failure after {last:?}");
    first.max(last)
}
