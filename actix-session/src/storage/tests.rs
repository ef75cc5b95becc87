//! The atomic steps by themselves, on every back end.

use servers::{MariaDbServer, PostgresServer, RedisCluster, RedisServer, resp::lines_of};

use super::*;
use crate::{
    clock::Millis,
    protocol::{Backend, Flag, Name, Redirect, Reply, Step, Stored, Until},
    record::{Metadata, WireFormat},
};

const COMMIT: u64 = 7;

fn record() -> Record {
    let metadata = Metadata::new(1, Millis(0));
    Record::written(WireFormat::V1, COMMIT, metadata, &[])
}

/// A back end with names that nobody else has.
struct Steps<B> {
    store: B,
    terms: Terms,
}

impl<B: Backend> Steps<B> {
    fn on(store: B) -> Self {
        let terms = Terms {
            ttl: Millis::secs(600),
            ..store.own_terms()
        };
        Self { store, terms }
    }

    fn name(&self) -> Name {
        self.beside(None)
    }

    /// A name in the slot of another one, where that can be had.
    fn beside(&self, name: Option<&str>) -> Name {
        self.store.draw_key(name).unwrap().1
    }

    fn names_in_one_slot(&self, count: usize) -> Vec<Name> {
        let first = self.name();
        let others = (1..count).map(|_| self.beside(Some(&first)));
        std::iter::once(first.clone()).chain(others).collect()
    }

    fn until(&self) -> Millis {
        self.terms.now + self.terms.ttl
    }

    async fn run(&self, step: Step) -> Reply {
        self.store.run(&step, &self.terms).await.unwrap()
    }

    async fn insert(&self, at: &Name) -> Reply {
        let step = Step::Insert {
            at: at.clone(),
            new: record(),
            until: self.until(),
        };
        self.run(step).await
    }

    async fn end(&self, at: &Name) -> Reply {
        self.run(Step::End { at: at.clone() }).await
    }

    async fn rotate(&self, at: &Name, target: &Name) -> Reply {
        let redirect = Redirect {
            target: target.clone(),
            flag: Flag::Plain,
            made_at: self.terms.now,
        };
        let step = Step::Rotate {
            at: at.clone(),
            expect: record().version(),
            new: record(),
            until: self.until(),
            redirect,
        };
        self.run(step).await
    }

    async fn read(&self, at: &Name) -> Stored {
        match self.run(Step::Read { at: at.clone() }).await {
            Reply::Found(found) => found,
            reply => panic!("{reply:?}"),
        }
    }

    async fn commit(&self, at: &Name) -> Reply {
        let step = Step::Cas {
            at: at.clone(),
            expect: record().version(),
            new: record(),
            until: Until::Same,
        };
        self.run(step).await
    }

    #[track_caller]
    fn assert_nothing(found: &Stored) {
        assert!(matches!(found, Stored::Nothing), "{found:?}");
    }
}

macro_rules! assert_reply {
    ($reply:expr, $wanted:pat) => {
        let reply = $reply;
        assert!(matches!(reply, $wanted), "{reply:?}");
    };
}

/// What was given up for lost, and runs once its session has been used and ended, makes nothing.
async fn a_late_creation_makes_nothing<B: Backend>(store: B) {
    let steps = Steps::on(store);
    let name = steps.name();
    assert_reply!(steps.insert(&name).await, Reply::Done);
    assert_reply!(steps.insert(&name).await, Reply::Taken);
    assert_reply!(steps.end(&name).await, Reply::Done);
    assert_reply!(steps.insert(&name).await, Reply::Taken);

    // To all other steps a tombstone is nothing.
    Steps::<B>::assert_nothing(&steps.read(&name).await);
    let extending = steps.terms.touching();
    for terms in [&steps.terms, &extending] {
        Steps::<B>::assert_nothing(&steps.store.look(&name, terms).await.unwrap());
    }
    steps.store.set_ttl(&name, Millis::secs(5)).await.unwrap();
    for reply in [
        steps.end(&name).await,
        steps.commit(&name).await,
        steps.rotate(&name, &steps.beside(Some(&name))).await,
    ] {
        assert_reply!(reply, Reply::Found(Stored::Nothing));
    }
    assert_reply!(steps.insert(&name).await, Reply::Taken);
}

/// A renewal does not take a name that an ending or another renewal has left.
async fn a_renewal_takes_no_name_that_was_left<B: Backend>(store: B) {
    let steps = Steps::on(store);
    let live = steps.name();
    assert_reply!(steps.insert(&live).await, Reply::Done);
    let ended = steps.beside(Some(&live));
    assert_reply!(steps.insert(&ended).await, Reply::Done);
    assert_reply!(steps.end(&ended).await, Reply::Done);
    assert_reply!(steps.rotate(&live, &ended).await, Reply::Taken);
    assert!(matches!(steps.read(&live).await, Stored::Record(_)));

    let renewed = steps.beside(Some(&live));
    assert_reply!(steps.rotate(&live, &renewed).await, Reply::Done);
    assert_reply!(steps.insert(&live).await, Reply::Taken);
    assert_reply!(steps.rotate(&renewed, &live).await, Reply::Taken);
    assert!(matches!(steps.read(&renewed).await, Stored::Record(_)));
    // It still leads on, and ends there.
    let redirected = |reply: Reply| match reply {
        Reply::Found(Stored::Redirect(redirect)) => redirect.target == renewed,
        _ => false,
    };
    assert!(redirected(steps.end(&live).await));
    assert_reply!(steps.end(&renewed).await, Reply::Done);
    assert!(redirected(steps.end(&live).await));
    assert_reply!(steps.end(&renewed).await, Reply::Found(Stored::Nothing));
}

/// After the grace a name is as if it had never been used.
async fn a_tombstone_ends<B: Backend>(store: B) {
    let mut steps = Steps::on(store);
    let name = steps.name();
    assert_reply!(steps.insert(&name).await, Reply::Done);
    assert_reply!(steps.end(&name).await, Reply::Done);
    steps.terms.now = steps.terms.now + steps.terms.grace - Millis(1);
    assert_reply!(steps.insert(&name).await, Reply::Taken);
    steps.terms.now = steps.terms.now + Millis(1);
    assert_reply!(steps.insert(&name).await, Reply::Done);
}

/// Instantiates generic tests for stores that are made by these expressions.
macro_rules! on_stores {
    ([$($test:ident),+] $stores:tt) => {
        $(mod $test {
            use super::*;

            on_stores!(@ $test $stores);
        })+
    };
    (@ $test:ident { $($name:ident: $start:expr,)+ }) => {
        $(#[actix_web::test]
        async fn $name() {
            let (store, _keep) = $start;
            super::$test(store).await;
        })+
    };
}

on_stores! {
    [a_late_creation_makes_nothing, a_renewal_takes_no_name_that_was_left] {
        on_redis: (RedisSessionStore::new(redis_url()).await.unwrap(), ()),
        on_the_redis_actor: (RedisActorSessionStore::new(redis_url()), ()),
        on_a_cluster: clustered(|builder| builder).await,
        on_a_cluster_with_two_steps: clustered(RedisSessionStoreBuilder::hashed_keys).await,
        in_memory: (MemorySessionStore::new(), ()),
        on_sqlite: sqlite().await,
        on_postgres: (postgres().await, ()),
        on_mariadb: (mariadb().await, ()),
    }
}

on_stores! {
    [a_tombstone_ends] {
        in_memory: (MemorySessionStore::new(), ()),
        on_sqlite: sqlite().await,
        on_postgres: (postgres().await, ()),
        on_mariadb: (mariadb().await, ()),
    }
}

fn redis_url() -> String {
    RedisServer::shared_url().unwrap()
}

async fn clustered(
    name: impl FnOnce(RedisSessionStoreBuilder) -> RedisSessionStoreBuilder,
) -> (RedisSessionStore, RedisCluster) {
    let cluster = RedisCluster::start().unwrap();
    let builder = RedisSessionStore::builder_cluster(cluster.urls());
    (name(builder).build().await.unwrap(), cluster)
}

async fn sqlite() -> (SqliteSessionStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.sqlite3");
    let url = format!("sqlite://{}", file.display());
    (SqliteSessionStore::new(url).await.unwrap(), folder)
}

async fn postgres() -> PostgresSessionStore {
    let url = PostgresServer::shared_url().unwrap();
    PostgresSessionStore::new(url).await.unwrap()
}

async fn mariadb() -> MySqlSessionStore {
    let url = MariaDbServer::shared_url().unwrap();
    MySqlSessionStore::new(url).await.unwrap()
}

#[actix_web::test]
async fn redis_keeps_a_tombstone_for_the_grace() {
    let url = redis_url();
    let steps = Steps::on(RedisSessionStore::new(&url).await.unwrap());
    let name = steps.name();
    steps.insert(&name).await;
    steps.end(&name).await;
    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    let told = lines_of(port, &format!("PTTL {{{}}}:moved", name.as_str())).unwrap();
    let left: i64 = told[0][1..].parse().unwrap();
    assert!((1..=steps.terms.grace.0).contains(&left), "{left} ms");
}

/// A script with two names is put off in a slot that is being moved, wherever its keys are.
#[actix_web::test]
async fn a_slot_on_the_move_holds_up_no_ending_and_no_new_session() {
    let (store, cluster) = clustered(|builder| builder).await;
    let steps = Steps::on(store);
    let names: Vec<Name> = steps.names_in_one_slot(7);
    let [live, ahead, behind, old, renewed, new, note] = &names[..] else {
        panic!("{} names", names.len());
    };
    for name in [live, ahead, behind, old] {
        assert_reply!(steps.insert(name).await, Reply::Done);
    }
    assert_reply!(steps.rotate(old, renewed).await, Reply::Done);

    let slot = redis::slot(live);
    let from = cluster.owner(slot, 0).unwrap();
    let to = (from + 1) % 3;
    cluster.begin_moving(slot, from, to).unwrap();
    assert_reply!(steps.insert(new).await, Reply::Taken);
    assert_reply!(steps.end(behind).await, Reply::Done);
    assert_reply!(steps.end(old).await, Reply::Found(Stored::Redirect(_)));
    cluster.move_keys(slot, from, to).unwrap();
    assert_reply!(steps.insert(new).await, Reply::Taken);
    assert_reply!(steps.end(ahead).await, Reply::Done);
    assert_reply!(steps.end(old).await, Reply::Found(Stored::Redirect(_)));
    assert!(matches!(steps.read(live).await, Stored::Record(_)));

    // A note has one name alone.
    let (store, terms) = (&steps.store, &steps.terms);
    let insert = || store.insert_note(note, record(), steps.until(), terms);
    assert_reply!(insert().await.unwrap(), Reply::Done);
    assert_reply!(insert().await.unwrap(), Reply::Taken);
    cluster.end_moving(slot, from, to).unwrap();
    assert_reply!(steps.insert(new).await, Reply::Done);
}
