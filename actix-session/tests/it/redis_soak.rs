//! Mixed load on one Redis with a fault every few seconds: nothing acknowledged is lost, nothing ended comes
//! back. `cargo xtask soak` runs it for a minute and shows the figures.

use std::{
    env,
    time::{Duration, Instant},
};

use actix_session::storage::RedisSessionStore;
use actix_web::rt;
use servers::{RedisServer, resp::lines_of};

use crate::support::load::Load;

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
    let mut worst = Duration::ZERO;
    let mut injected = 0;
    for fault in FAULTS.into_iter().cycle() {
        if started.elapsed() >= run && injected >= FAULTS.len() {
            break;
        }
        rt::time::sleep(gap).await;
        server = rt::task::spawn_blocking(move || {
            fault.inject(&mut server);
            server
        })
        .await
        .unwrap();
        let back = Instant::now();
        injected += 1;
        load.works_for(1).await;
        let first = back.elapsed();
        load.works_for(50).await;
        rt::time::sleep(gap).await;
        let last = load.failed_after(back);
        worst = worst.max(first).max(last);
        println!(
            "{fault:?}: after the server was back, the first answer took {first:?}, the last failure came after {last:?}"
        );
    }
    let report = load.stop().await;
    println!(
        "{injected} faults in {:?}: {} requests answered, {} failed, {} panics, {} of {} ended keys \
         opened something, {} acknowledged entries lost, the longest recovery took {worst:?}",
        started.elapsed(),
        report.answers,
        report.failures,
        report.panics,
        report.resurrected,
        report.ended,
        report.lost.len(),
    );
    report.assert_whole();
}
