//! The atomic steps by themselves, on every back end.

use servers::{MariaDbServer, PostgresServer, RedisCluster, RedisServer, resp::lines_of};

#[allow(
    clippy::duplicate_mod,
    reason = "the tests of the steps have it too, out of reach"
)]
#[path = "../../tests/it/support/in_memory.rs"]
mod in_memory;

use self::in_memory::InMemory;
use super::*;
use crate::{
    Level,
    changes::{Changes, Effect, LoginChange},
    clock::Millis,
    contract::{Committed, Opened, Rotated},
    error::PutOff,
    key::SessionKey,
    protocol::{Backend, Flag, Name, OwnerBefore, Redirect, Reply, Step, Stored, Until},
    record::{Metadata, WireFormat},
};

fn record() -> Record {
    let metadata = Metadata::new(1, Millis(0));
    Record::written(WireFormat::V1, 7, metadata, &[])
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
        self.store.draw_key(name, None).unwrap().name
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
        self.run(self.insertion(at)).await
    }

    fn insertion(&self, at: &Name) -> Step {
        Step::Insert {
            at: at.clone(),
            new: record(),
            until: self.until(),
        }
    }

    async fn end(&self, at: &Name) -> Reply {
        let at = at.clone();
        self.run(Step::End { at, owner: None }).await
    }

    fn redirect(&self, target: &Name) -> Redirect {
        Redirect {
            target: target.clone(),
            flag: Flag::Plain,
            made_at: self.terms.now,
        }
    }

    /// The epoch of a record, as each kind of read shows it.
    async fn epochs(&self, at: &Name) -> [u64; 3] {
        let extending = self.terms.touching();
        let epoch = |found| match found {
            Stored::Record(record) => Record::epoch(&record),
            found => panic!("{found:?}"),
        };
        [
            epoch(self.read(at).await),
            epoch(self.store.look(at, &self.terms).await.unwrap()),
            epoch(self.store.look(at, &extending).await.unwrap()),
        ]
    }

    async fn rotate(&self, at: &Name, target: &Name) -> Reply {
        let step = Step::Rotate {
            at: at.clone(),
            expect: record().version(),
            new: record(),
            until: self.until(),
            redirect: self.redirect(target),
            epoch: None,
            owner_before: OwnerBefore::Same,
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
            epoch: None,
            owner_before: OwnerBefore::Same,
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

/// The older format does not keep the epoch of a `clear`.
async fn an_epoch_lies_beside_a_record_that_does_not_keep_it<B: Backend>(store: B) {
    let mut steps = Steps::on(store);
    steps.terms.format = WireFormat::V0_11;
    let names = steps.names_in_one_slot(3);
    let flat = |n: u8, epoch| {
        let text = format!(r#"{{"n":"{n}"}}"#);
        Record::decode(text).unwrap().with_epoch_beside(epoch)
    };
    let insert = Step::Insert {
        at: names[0].clone(),
        new: flat(0, None),
        until: steps.until(),
    };
    assert_reply!(steps.run(insert).await, Reply::Done);
    assert_eq!(steps.epochs(&names[0]).await, [0; 3]);

    let commit = |n, epoch, made| Step::Cas {
        at: names[0].clone(),
        expect: flat(n - 1, None).version(),
        new: flat(n, epoch),
        until: Until::Same,
        epoch: made,
        owner_before: OwnerBefore::Same,
    };
    assert_reply!(steps.run(commit(1, Some(7), Some(7))).await, Reply::Done);
    assert_eq!(steps.epochs(&names[0]).await, [7; 3]);
    // Whoever does not clear moves no epoch.
    assert_reply!(steps.run(commit(2, Some(7), None)).await, Reply::Done);
    assert_eq!(steps.epochs(&names[0]).await, [7; 3]);
    match steps.run(commit(2, None, None)).await {
        Reply::Found(Stored::Record(record)) => assert_eq!(record.epoch(), 7),
        reply => panic!("{reply:?}"),
    }

    let renewal = |from: usize, epoch, made| Step::Rotate {
        at: names[from].clone(),
        expect: flat(2, None).version(),
        new: flat(2, Some(epoch)),
        until: steps.until(),
        redirect: steps.redirect(&names[from + 1]),
        epoch: made,
        owner_before: OwnerBefore::Same,
    };
    assert_reply!(steps.run(renewal(0, 7, None)).await, Reply::Done);
    assert_eq!(steps.epochs(&names[1]).await, [7; 3]);
    assert_reply!(steps.run(renewal(1, 9, Some(9))).await, Reply::Done);
    assert_eq!(steps.epochs(&names[2]).await, [9; 3]);
}

/// What a later version knows of a session stands behind all that this one knows.
const LATER: &str = "x-later";

fn as_later_version(record: &Record) -> Record {
    let text = record.as_text().unwrap();
    let start = text.find("\"f\":\"").unwrap() + 5;
    let end = start + text[start..].find('"').unwrap();
    let known = &text[start..end];
    let all = "1.7.5...0..............x".matches('.').count();
    let fill = ".".repeat(all - known.matches('.').count());
    let text = format!("{}{fill}{LATER}{}", &text[..end], &text[end..]);
    Record::decode(text).unwrap()
}

fn set(name: &str, json: &str) -> Changes {
    Changes {
        effects: [(name.to_owned(), Effect::Set(json.to_owned()))].into(),
        ..Changes::default()
    }
}

fn login(principal: &str, id: u128, at: Millis) -> Changes {
    let login = LoginChange {
        principal: principal.to_owned(),
        at,
        proven: None,
        device: None,
        id,
        span: None,
        keep_times: false,
        level: Level::One,
        demand: String::new(),
        origin: None,
        by_entry: false,
    };
    Changes {
        login: Some(Box::new(login)),
        renew: true,
        ..Changes::default()
    }
}

/// While servers of two versions run side by side, each write of this one keeps what the later one knows of
/// the session, as long as it is the same session.
async fn what_a_later_version_knows_is_kept<B: Backend>(store: B) {
    let steps = Steps::on(store);
    let (store, terms) = (&steps.store, &steps.terms);
    let opened = async |key: &SessionKey, terms: &Terms| match backend::open(store, key, terms)
        .await
        .unwrap()
    {
        Opened::Live(record) => record,
        other => panic!("{other:?}"),
    };
    let is_kept = async |key: &SessionKey| {
        let record = opened(key, terms).await;
        record.as_text().unwrap().contains(LATER)
    };
    let renewed = async |key: &SessionKey, changes: &Changes| {
        let base = opened(key, terms).await;
        match backend::rotate(store, key, Some(&base), changes, terms).await {
            Ok(Rotated::Rotated(key, ..)) => key,
            other => panic!("{other:?}"),
        }
    };
    let first = login("user-42", 1, terms.now);
    for ends_by_clear in [true, false] {
        let (key, _) = backend::create(store, &first, terms).await.unwrap();
        let before = opened(&key, terms).await;
        let step = Step::Cas {
            at: store.name(&key),
            expect: before.version(),
            new: as_later_version(&before),
            until: Until::Same,
            epoch: None,
            owner_before: OwnerBefore::Same,
        };
        assert_reply!(steps.run(step).await, Reply::Done);
        assert!(is_kept(&key).await);
        opened(&key, &terms.touching()).await;
        assert!(is_kept(&key).await, "a touch");
        let base = opened(&key, terms).await;
        for n in ["1", "2"] {
            // The second one finds that another has written.
            let changes = set(n, n);
            let committed = backend::commit(store, &key, Some(&base), &changes, terms).await;
            assert!(matches!(committed.unwrap(), Committed::Saved(_)));
            assert!(is_kept(&key).await, "commit {n}");
        }
        let renewal = Changes {
            renew: true,
            ..Changes::default()
        };
        let new = renewed(&key, &renewal).await;
        assert!(is_kept(&new).await, "a renewal");
        let late = backend::commit(store, &key, Some(&base), &set("3", "3"), terms).await;
        assert!(matches!(late.unwrap(), Committed::Forwarded));
        assert!(is_kept(&new).await, "a commit behind it");
        let new = renewed(&new, &login("user-42", 2, terms.now + Millis(1))).await;
        assert!(is_kept(&new).await, "the same user's login");
        // What was known of the one is nothing that the next may have.
        let new = if ends_by_clear {
            let changes = Changes {
                cleared: Some(9),
                ..Changes::default()
            };
            let base = opened(&new, terms).await;
            let committed = backend::commit(store, &new, Some(&base), &changes, terms).await;
            assert!(matches!(committed.unwrap(), Committed::Saved(_)));
            new
        } else {
            renewed(&new, &login("user-43", 3, terms.now + Millis(2))).await
        };
        assert!(!is_kept(&new).await, "another session");
    }
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
    [
        a_late_creation_makes_nothing,
        a_renewal_takes_no_name_that_was_left,
        an_epoch_lies_beside_a_record_that_does_not_keep_it,
        what_a_later_version_knows_is_kept
    ] {
        on_redis: (RedisSessionStore::new(redis_url()).await.unwrap(), ()),
        on_the_redis_actor: (RedisActorSessionStore::new(redis_url()), ()),
        on_a_cluster: clustered(|builder| builder).await,
        on_a_cluster_with_digests: clustered(RedisSessionStoreBuilder::hashed_keys).await,
        on_a_cluster_with_two_steps: clustered(|builder| builder.cache_keygen(crate::digest::hex)).await,
        in_memory: (MemorySessionStore::new(), ()),
        in_a_database_of_ones_own: (key_value(), ()),
        on_sqlite: sqlite().await,
        on_postgres: (postgres().await, ()),
        on_mariadb: (mariadb().await, ()),
    }
}

on_stores! {
    [a_tombstone_ends] {
        in_memory: (MemorySessionStore::new(), ()),
        in_a_database_of_ones_own: (key_value(), ()),
        on_sqlite: sqlite().await,
        on_postgres: (postgres().await, ()),
        on_mariadb: (mariadb().await, ()),
    }
}

fn key_value() -> KeyValueSessionStore<InMemory> {
    KeyValueSessionStore::builder(InMemory::default()).build()
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

#[actix_web::test]
async fn redis_keeps_an_epoch_for_the_grace_under_the_older_format_alone() {
    let url = redis_url();
    let mut steps = Steps::on(RedisSessionStore::new(&url).await.unwrap());
    let name = steps.name();
    steps.insert(&name).await;
    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    let left = || -> i64 {
        let ask = format!("PTTL {{{}}}:cleared", name.as_str());
        lines_of(port, &ask).unwrap()[0][1..].parse().unwrap()
    };
    let clear = Step::Cas {
        at: name.clone(),
        expect: record().version(),
        new: record(),
        until: Until::Same,
        epoch: Some(7),
        owner_before: OwnerBefore::Same,
    };
    assert_reply!(steps.run(clear.clone()).await, Reply::Done);
    assert_eq!(left(), -2, "there is none");
    steps.terms.format = WireFormat::V0_11;
    assert_reply!(steps.run(clear).await, Reply::Done);
    assert!((1..=steps.terms.grace.0).contains(&left()), "{} ms", left());
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
    let insertion = steps.insertion(new);
    let inserted = async || steps.store.run(&insertion, &steps.terms).await;
    assert!(inserted().await.unwrap_err().is::<PutOff>());
    assert_reply!(steps.end(behind).await, Reply::Done);
    assert_reply!(steps.end(old).await, Reply::Found(Stored::Redirect(_)));
    cluster.move_keys(slot, from, to).unwrap();
    assert!(inserted().await.unwrap_err().is::<PutOff>());
    assert_reply!(steps.end(ahead).await, Reply::Done);
    assert_reply!(steps.end(old).await, Reply::Found(Stored::Redirect(_)));
    assert!(matches!(steps.read(live).await, Stored::Record(_)));

    // So does an epoch where there may be one.
    let mut terms = steps.terms.clone();
    terms.format = WireFormat::V0_11;
    for terms in [terms.touching(), terms] {
        let found = steps.store.look(live, &terms).await.unwrap();
        assert!(matches!(found, Stored::Record(_)), "{found:?}");
    }

    // A note has one name alone.
    let (store, terms) = (&steps.store, &steps.terms);
    let insert = || store.insert_note(note, record(), steps.until(), terms);
    assert_reply!(insert().await.unwrap(), Reply::Done);
    assert_reply!(insert().await.unwrap(), Reply::Taken);
    cluster.end_moving(slot, from, to).unwrap();
    assert_reply!(steps.insert(new).await, Reply::Done);
}
