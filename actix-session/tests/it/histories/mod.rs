//! Random clients on one session, and a check of what they did against what sessions promise.
//!
//! A round makes one session, hands its cookie to several clients and lets them run: they insert,
//! remove, modify, clear, renew, log in, purge and touch, with pauses between load and commit, and
//! before Redis sits a proxy that loses commands and answers. Everything is written down, and at
//! the end [`check`] compares the history with all that the store holds.
//!
//! Rounds are drawn from seeds; a failure names its seed. `HISTORIES_SEED=17 HISTORIES_ROUNDS=1`
//! repeats round 17, `HISTORIES_ROUNDS=10000` looks longer. A round of one thread on the memory
//! store goes the same way each time; the others depend on the scheduler too.

mod anomalies;
mod check;
mod history;
mod index;
mod places;
mod planted;
mod run;
mod script;
mod site;
mod sql;

use std::{env, panic, panic::AssertUnwindSafe, sync::Arc};

use self::{
    check::{Checked, check},
    places::{Memory, Place, Redis},
    run::round,
    script::Plan,
};
use crate::support::Proxy;

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// Runs rounds, and reports how much there was to check.
fn rounds(most: u64, losses: u32, place: impl Fn(&Plan) -> Arc<dyn Place>) -> Checked {
    let first = number("HISTORIES_SEED").unwrap_or(0);
    let rounds = number("HISTORIES_ROUNDS").unwrap_or(most);
    let mut all = Checked::default();
    for seed in first..first + rounds {
        let plan = Plan::draw(seed, losses);
        let checked = panic::catch_unwind(AssertUnwindSafe(|| {
            let history = round(&plan, &place(&plan));
            check(&plan, &history).unwrap_or_else(|broken| {
                panic!("{broken}\n\nin the history of\n{plan:?}\n{history}")
            })
        }));
        match checked {
            Ok(checked) => all.add(&checked),
            Err(panic) => {
                println!(
                    "round {seed} failed; HISTORIES_SEED={seed} HISTORIES_ROUNDS=1 repeats it"
                );
                panic::resume_unwind(panic);
            }
        }
    }
    println!("{all:?}");
    if number("HISTORIES_ROUNDS").is_none() {
        all.assert_enough();
    }
    all
}

#[test]
fn memory() {
    let checked = rounds(1_200, 0, |_| Arc::new(Memory::new()));
    assert_eq!(checked.failed, 0, "nothing gets lost in memory");
}

#[test]
fn redis() {
    let server = servers::RedisServer::start().unwrap();
    let checked = rounds(250, 0, |plan| {
        Arc::new(Redis::new(&server.url(), plan.seed))
    });
    assert_eq!(checked.failed, 0, "no answer was lost");
}

#[test]
fn redis_with_lost_answers() {
    let server = servers::RedisServer::start().unwrap();
    let proxy = Proxy::before_redis(server.port());
    let checked = rounds(350, 150, |plan| {
        Arc::new(Redis::through(&server.url(), &proxy, plan))
    });
    assert!(checked.failed > 0, "some outcomes stay unknown");
    assert!(proxy.lost_answers() > 50 && proxy.lost_commands() > 50);
}

mod sql_stores {
    use super::{Arc, rounds, sql};

    #[test]
    fn sqlite() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/sessions.sqlite3", folder.path().display());
        let checked = rounds(200, 0, |_| Arc::new(sql::Sqlite::new(&url)));
        assert_eq!(checked.failed, 0, "no answer was lost");
    }

    #[test]
    fn postgres() {
        let url = servers::PostgresServer::shared_url().unwrap();
        let checked = rounds(200, 0, |_| Arc::new(sql::Postgres::new(&url)));
        assert_eq!(checked.failed, 0, "no answer was lost");
    }

    #[test]
    fn mysql() {
        let url = servers::MariaDbServer::shared_url().unwrap();
        let checked = rounds(200, 0, |_| Arc::new(sql::MySql::new(&url)));
        assert_eq!(checked.failed, 0, "no answer was lost");
    }
}
