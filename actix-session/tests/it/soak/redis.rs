//! One Redis that is killed, frozen, cut off, paused and filled.

use std::time::Duration;

use actix_session::storage::RedisSessionStore;
use servers::{RedisServer, resp::lines_of};

use super::{Plan, Victim, endure};
use crate::support::{aside, load::Load};

#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    Killed,
    Frozen,
    Disconnected,
    Paused,
    Full,
}

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

impl Victim for RedisServer {
    type Fault = Fault;

    const FAULTS: &'static [Fault] = &[
        Fault::Killed,
        Fault::Frozen,
        Fault::Disconnected,
        Fault::Paused,
        Fault::Full,
    ];
    const SHORT: usize = Self::FAULTS.len();

    async fn suffer(mut self, fault: Fault, _load: &Load) -> Self {
        let inject = move || {
            fault.inject(&mut self);
            self
        };
        aside(inject).await
    }
}

#[actix_web::test]
async fn a_redis_that_fails_keeps_its_word() {
    let plan = Plan::read(Duration::ZERO);
    let server = RedisServer::start_with(&[
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("maxmemory-policy", "noeviction"),
    ])
    .unwrap();
    let store = RedisSessionStore::new(server.url()).await.unwrap();
    let load = Load::start_with(store, plan.seed).await;
    endure(server, load, &plan).await;
}
