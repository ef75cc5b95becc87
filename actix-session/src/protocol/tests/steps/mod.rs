//! The atomic steps, reading and extending, by themselves and on every back end.
//!
//! A test is written once, for any [`Place`], and [`on_each_place!`] instantiates it for every
//! store. Time is moved: see [`Steps::pass`].

mod changing;
mod ending;
mod extending;
mod five_methods;
mod locks;
mod places;
mod renewing;
mod sql;

use std::{cell::RefCell, sync::Arc, time::Instant};

use actix_web::cookie::Key;

pub(super) use self::places::Place;
use crate::{
    Clock as _,
    clock::Millis,
    contract::Terms,
    key::SessionKey,
    protocol::{Backend as _, Flag, Name, OwnerBefore, Redirect, Reply, Step, Stored, Until},
    record::{Metadata, MetadataKeys, Record, WireFormat},
    testing::ManualClock,
};

/// Instantiates generic tests for every back end. A test that is in no list is dead code.
macro_rules! on_each_place {
    ($($test:ident),+ $(,)?) => {
        on_each_place!(@ in_memory Memory: $($test)+);
        on_each_place!(@ on_key_value KeyValue: $($test)+);
        on_each_place!(@ on_redis Redis: $($test)+);
        on_each_place!(@ on_cluster Cluster: $($test)+);
        on_each_place!(@ on_hashed_cluster HashedCluster: $($test)+);
        on_each_place!(@ on_hiding_cluster HidingCluster: $($test)+);
        on_each_place!(@ on_sqlite Sqlite: $($test)+);
        on_each_place!(@ on_postgres Postgres: $($test)+);
        on_each_place!(@ on_mysql MySql: $($test)+);
    };
    (@ $module:ident $place:ident: $($test:ident)+) => {
        mod $module {
            $(#[actix_web::test]
            async fn $test() {
                use $crate::protocol::tests::steps::{Steps, places::$place};
                super::$test(Steps::<$place>::start().await).await;
            })+
        }
    };
}
use on_each_place;

const MINUTE: Millis = Millis::secs(60);
const TTL: Millis = Millis::secs(60 * 60);
const GRACE: Millis = Millis::secs(10 * 60);

const FORMATS: [WireFormat; 2] = [WireFormat::V1, WireFormat::V0_11];

fn minutes(count: i64) -> Millis {
    Millis(MINUTE.0 * count)
}

/// A middleware always has some: its sessions are known through five methods too.
fn keys() -> Arc<MetadataKeys> {
    Arc::new(MetadataKeys::new(&Key::from(&[7; 64]), &[]))
}

/// A back end with names that nobody else has.
struct Steps<P> {
    place: P,
    clock: ManualClock,
    terms: Terms,
    /// What time passes for.
    names: RefCell<Vec<Name>>,
    started: Instant,
}

impl<P: Place> Steps<P> {
    async fn start() -> Self {
        Self::on(P::start).await
    }

    async fn on(start: impl AsyncFnOnce(ManualClock) -> P) -> Self {
        let clock = ManualClock::new();
        Self {
            place: start(clock.clone()).await,
            clock,
            terms: Terms {
                ttl: TTL,
                grace: GRACE,
                keys: Some(keys()),
                ..Terms::default()
            },
            names: RefCell::default(),
            started: Instant::now(),
        }
    }

    fn store(&self) -> &P::Store {
        self.place.store()
    }

    fn now(&self) -> Millis {
        Millis::from(self.clock.now())
    }

    /// The terms of a call that is made now.
    fn terms(&self) -> Terms {
        Terms {
            now: self.now(),
            ..self.terms.clone()
        }
    }

    /// Lets time pass, for servers that have a clock of their own too.
    async fn pass(&self, span: Millis) {
        self.clock
            .advance(std::time::Duration::from_millis(span.0.unsigned_abs()));
        for name in self.names.take() {
            self.place.age(&name, span);
            self.names.borrow_mut().push(name);
        }
    }

    fn name(&self) -> Name {
        self.beside(None)
    }

    /// A new name, in the slot of another one if that can be had.
    fn beside(&self, name: Option<&str>) -> Name {
        let name = self.store().draw_key(name, None).unwrap().name;
        self.names.borrow_mut().push(name.clone());
        name
    }

    /// Time passes for the record of this key too.
    fn track(&self, key: &SessionKey) {
        let name = self.store().name(key);
        self.names.borrow_mut().push(name);
    }

    /// A record, told from others by its commit id.
    fn record(&self, format: WireFormat, commit: u64) -> Record {
        self.with_metadata(format, commit, |_| ())
    }

    fn with_metadata(
        &self,
        format: WireFormat,
        commit: u64,
        set: impl FnOnce(&mut Metadata),
    ) -> Record {
        let mut metadata = Metadata::new(1, self.now());
        set(&mut metadata);
        let entries = [("n".into(), commit.to_string().into())];
        Record::written(format, commit, metadata, &entries)
    }

    async fn run(&self, step: Step) -> Reply {
        self.store().run(&step, &self.terms()).await.unwrap()
    }

    async fn insert_at(&self, at: &str, new: &Record) -> Reply {
        let (at, new) = (at.into(), new.clone());
        let until = self.now() + TTL;
        self.run(Step::Insert { at, new, until }).await
    }

    /// Stores a record under a new name.
    async fn insert(&self, new: &Record) -> Name {
        let at = self.name();
        assert_done(&self.insert_at(&at, new).await);
        at
    }

    async fn cas(&self, at: &str, expect: &Record, new: &Record, until: Until) -> Reply {
        let step = Step::Cas {
            at: at.into(),
            expect: expect.version(),
            new: new.clone(),
            until,
            epoch: None,
            owner_before: OwnerBefore::Same,
        };
        self.run(step).await
    }

    /// Replaces a record and keeps its end.
    async fn replace(&self, at: &str, expect: &Record, new: &Record) -> Reply {
        self.cas(at, expect, new, Until::Same).await
    }

    fn redirect(&self, target: &str) -> Redirect {
        Redirect {
            target: target.into(),
            flag: Flag::Login,
            made_at: self.now(),
        }
    }

    async fn rotate(&self, at: &str, expect: &Record, new: &Record, target: &str) -> Reply {
        let until = self.now() + TTL;
        self.rotate_until(at, expect, (new, until), target).await
    }

    async fn rotate_until(
        &self,
        at: &str,
        expect: &Record,
        (new, until): (&Record, Millis),
        target: &str,
    ) -> Reply {
        let step = Step::Rotate {
            at: at.into(),
            expect: expect.version(),
            new: new.clone(),
            until,
            redirect: self.redirect(target),
            epoch: None,
            owner_before: OwnerBefore::Same,
        };
        self.run(step).await
    }

    async fn end(&self, at: &str) -> Reply {
        let at = at.into();
        self.run(Step::End { at, owner: None }).await
    }

    async fn read(&self, at: &str) -> Stored {
        match self.run(Step::Read { at: at.into() }).await {
            Reply::Found(found) => found,
            reply => panic!("{reply:?}"),
        }
    }

    async fn look(&self, at: &str, terms: &Terms) -> Stored {
        self.store().look(at, terms).await.unwrap()
    }

    async fn set_ttl(&self, at: &str, ttl: Millis) {
        self.store().set_ttl(at, ttl).await.unwrap();
    }

    #[track_caller]
    fn holds(&self, found: &Stored, record: &Record) {
        let text = match found {
            Stored::Record(found) => found.as_text(),
            _ => None,
        };
        assert_eq!(text, record.as_text(), "{found:?}");
    }

    /// What is there lives for exactly that long from now on.
    async fn lives_for(&self, at: &str, span: Millis) {
        let left = self.place.left(at, self.now()).await;
        if P::EXACT {
            assert_eq!(left, span);
            return;
        }
        // As long less what the test itself has taken, by the server's clock.
        let took = Millis::from(self.started.elapsed()) + Millis(1);
        assert!(
            left <= span && span <= left + took,
            "{left:?}, not {span:?}"
        );
    }
}

#[track_caller]
fn assert_done(reply: &Reply) {
    assert!(matches!(reply, Reply::Done), "{reply:?}");
}

#[track_caller]
fn assert_taken(reply: &Reply) {
    assert!(matches!(reply, Reply::Taken), "{reply:?}");
}

#[track_caller]
fn assert_nothing(found: &Stored) {
    assert!(matches!(found, Stored::Nothing), "{found:?}");
}

#[track_caller]
fn assert_unreadable(found: &Stored) {
    assert!(matches!(found, Stored::Unreadable), "{found:?}");
}

#[track_caller]
fn assert_redirect(found: &Stored, redirect: &Redirect) {
    let same = matches!(found, Stored::Redirect(found) if found == redirect);
    assert!(same, "{found:?}");
}

/// What a step found that was not done.
#[track_caller]
fn found(reply: Reply) -> Stored {
    match reply {
        Reply::Found(found) => found,
        reply => panic!("{reply:?}"),
    }
}
