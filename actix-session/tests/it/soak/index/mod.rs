//! The index under crashes: sites make, renew, extend, end and lose sessions at random, and are killed,
//! often in the middle of a login or a renewal. After the grace, the index says of each principal exactly
//! what lives, and nothing is left that has no end.
//!
//! A long run makes 10,000 sessions in each store, however many seconds that takes; `SOAK_SESSIONS`
//! says another number.

mod acts;
mod child;
mod journal;
mod judge;
mod redis;
mod sql;

use std::{
    collections::BTreeSet,
    env, fs,
    path::Path,
    process::{Child, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use actix_session::{
    Clock,
    storage::{SessionIndex, SessionStore},
};
use actix_web::cookie::Key;

use self::{
    child::{Death, Order},
    judge::judge,
};
use super::{Plan, number};
use crate::support::{MySql, Postgres, Random, Sqlite, TestStore as _, alone, aside};

const GOAL: usize = 10_000;
const SHORT_GOAL: usize = 120;
const SESSIONS: &str = "SOAK_SESSIONS";
/// What a site is to do, for this program's own child.
const ORDER: &str = "SOAK_INDEX_ORDER";
const CHILD: &str = "soak::index::a_site_serves_until_it_is_killed";

/// Longer than the grace of sites.
const GRACE: Duration = Duration::from_secs(61);

/// A record as it lies in a back end.
struct Lying {
    text: String,
    /// Its end, if it has one.
    left: Option<Duration>,
}

/// A back end, and a look at all of it.
trait Place {
    type Store: SessionStore + SessionIndex + Clone + 'static;

    fn kind(&self) -> &'static str;

    fn urls(&self) -> Vec<String>;

    /// The prefix of names, or the table.
    fn name(&self) -> String;

    /// What the judge asks.
    fn store(&self) -> Self::Store;

    /// The judge's clock.
    fn clock(&self) -> Arc<dyn Clock>;

    /// Every record that a load would open.
    async fn records(&self) -> Vec<Lying>;

    /// The records of somebody that are in no index at the moment.
    async fn halves(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }

    /// Lets so much time pass, for the servers and for the judge. No site is up.
    async fn pass(&self, span: Duration);

    /// That no site has read everything.
    async fn assert_nobody_searched(&self) {}

    /// What is beside records and should not be; entries of indexes are not looked at before they
    /// were listed.
    async fn leftovers(&self) -> Vec<String>;
}

/// What became of the sites.
#[derive(Debug, Default)]
struct Deaths {
    /// Killed from outside.
    at_random: usize,
    /// In the middle of a login or a renewal.
    midway: usize,
    /// Neither: they had done enough.
    none: usize,
}

/// The child: a site, if it was ordered.
#[actix_web::test]
async fn a_site_serves_until_it_is_killed() {
    let Ok(order) = env::var(ORDER) else {
        return;
    };
    let order: Order = serde_json::from_str(&order).unwrap();
    match order.kind.as_str() {
        "sqlite" => child::serve(sql::sqlite(&order).await, order).await,
        "postgres" => child::serve(sql::postgres(&order).await, order).await,
        "mysql" => child::serve(sql::mysql(&order).await, order).await,
        _ => child::serve(redis::store(&order).await, order).await,
    }
}

#[actix_web::test]
async fn redis_lists_what_lives() {
    endure(redis::Servers::single().await).await;
}

#[actix_web::test]
async fn a_cluster_lists_what_lives() {
    endure(redis::Servers::cluster().await).await;
}

#[actix_web::test]
async fn a_cluster_whose_names_hide_keys_lists_what_lives() {
    endure(redis::Servers::hiding_cluster().await).await;
}

#[actix_web::test]
async fn sqlite_lists_what_lives() {
    endure(sql::Table::<Sqlite>::new(Sqlite::start().await).await).await;
}

#[actix_web::test]
async fn postgres_lists_what_lives() {
    endure(sql::Table::<Postgres>::new(Postgres::start().await).await).await;
}

#[actix_web::test]
async fn mysql_lists_what_lives() {
    endure(sql::Table::<MySql>::new(MySql::start().await).await).await;
}

async fn endure<P: Place>(place: P) {
    let plan = Plan::read(Duration::ZERO);
    let goal = if plan.is_short { SHORT_GOAL } else { GOAL };
    let goal = number(SESSIONS).map_or(goal, |goal| usize::try_from(goal).unwrap());
    let (folder, key) = (tempfile::tempdir().unwrap(), Key::generate());
    let journal = folder.path().join("journal");
    let started = Instant::now();
    let mut random = Random::new(plan.seed);
    let (mut deaths, mut halves) = (Deaths::default(), BTreeSet::new());
    while journal::tally(&journal)
        .get("made")
        .is_none_or(|made| *made < goal)
    {
        let order = order(&place, &journal, &key, &mut random);
        live_and_die(order, &mut random, &mut deaths).await;
        halves.extend(place.halves().await);
        assert!(started.elapsed() < Duration::from_secs(3_600), "{deaths:?}");
    }
    let (took, tally) = (started.elapsed(), journal::tally(&journal));
    println!(
        "{}: {tally:?}, {deaths:?}, {} records in no index when a site had died, in {took:.1?}, seed {}",
        place.kind(),
        halves.len(),
        plan.seed
    );
    place.assert_nobody_searched().await;
    place.pass(GRACE).await;
    judge(&place, &key, &journal::cookies(&journal, 2_000)).await;
}

fn order(place: &impl Place, journal: &Path, key: &Key, random: &mut Random) -> Order {
    let midway = !random.one_in(3);
    let dies = Death {
        after: 10 + random.index(80),
        polls: 1 + random.index(5),
        pause: if random.one_in(2) {
            0
        } else {
            random.index(4_000) as u64
        },
    };
    Order {
        kind: place.kind().to_owned(),
        urls: place.urls(),
        name: place.name(),
        key: key.master().to_owned(),
        journal: journal.to_owned(),
        seed: random.index(usize::MAX) as u64,
        dies: midway.then_some(dies),
    }
}

/// A child that does not outlive whoever waits for it.
struct Site(Child);

impl Drop for Site {
    fn drop(&mut self) {
        // It may be dead already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

async fn live_and_die(order: Order, random: &mut Random, deaths: &mut Deaths) {
    let written = |journal: &Path| fs::metadata(journal).map_or(0, |file| file.len());
    let before = written(&order.journal);
    let mut site = alone(CHILD);
    site.env(ORDER, serde_json::to_string(&order).unwrap());
    let mut site = Site(
        site.stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let span = Duration::from_millis(random.index(150) as u64);
    let is_killed = order.dies.is_none();
    let status: ExitStatus = aside(move || {
        if is_killed {
            // Not before it serves.
            let limit = Instant::now() + Duration::from_secs(30);
            while written(&order.journal) == before && Instant::now() < limit {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(span);
            site.0.kill().unwrap();
        }
        site.0.wait().unwrap()
    })
    .await;
    match (status.success(), is_killed) {
        (true, _) => deaths.none += 1,
        (false, true) => deaths.at_random += 1,
        (false, false) => deaths.midway += 1,
    }
}
