//! Entries last as long as the sessions that they stand for.

use futures_util::future::join;

use super::*;
use crate::storage::{StoreIndex, index::EndAll};

const HOURS: Millis = Millis::secs(12 * 3_600);
const DAYS: Millis = Millis::secs(30 * 86_400);

/// A store that takes no extensions at present, and cannot tell when something ends.
struct HeldBack(MemorySessionStore);

impl Backend for HeldBack {
    const REMOTE: bool = false;

    async fn run(&self, step: &Step, terms: &Terms) -> anyhow::Result<Reply> {
        self.0.run(step, terms).await
    }

    async fn look(&self, at: &str, terms: &Terms) -> anyhow::Result<Stored> {
        Ok(match self.0.look(at, &terms.quiet()).await? {
            Stored::Record(record) => Stored::Record(record.with_end(None).not_extended()),
            found => found,
        })
    }

    async fn set_ttl(&self, _: &str, _: Millis) -> anyhow::Result<()> {
        anyhow::bail!("nobody asks for this here")
    }

    fn name(&self, key: &SessionKey) -> Name {
        self.0.name(key)
    }

    fn clock(&self) -> &SharedClock {
        Backend::clock(&self.0)
    }
}

/// Of a process that has logged nobody in.
struct NoLogins;

impl crate::Clock for NoLogins {
    fn now(&self) -> std::time::SystemTime {
        std::time::SystemTime::now()
    }
}

fn entering(principal: &str, span: Millis) -> Entering<'_> {
    Entering {
        principal,
        origin: at_upstream(1, Some("s1")),
        span,
        is_login: false,
    }
}

/// When the entries of the user and of the session end.
async fn ends(store: &MemorySessionStore, terms: &Terms) -> [Millis; 2] {
    let origin = at_upstream(1, Some("s1"));
    let names = [user(origin.user), session(origin.session.unwrap())];
    let mut ends = [Millis::ZERO; 2];
    for (end, what) in ends.iter_mut().zip(names) {
        let at = name_of(store, ENTRY, &what);
        match store.look(&at, &terms.quiet()).await.unwrap() {
            Stored::Record(record) => *end = record.end().unwrap(),
            found => panic!("{found:?}"),
        }
    }
    ends
}

fn now(store: &MemorySessionStore) -> Terms {
    Terms::of_store(Backend::clock(store).now())
}

#[actix_web::test]
async fn an_entry_is_written_anew_if_no_read_can_extend_it() {
    let store = HeldBack(MemorySessionStore::new());
    let terms = now(&store.0);
    for principal in [PRINCIPAL, "user-43"] {
        entering(principal, DAYS)
            .enter(&store, &terms)
            .await
            .unwrap();
    }
    let later = Terms {
        now: terms.now + Millis(DAYS.0 / 2),
        ..terms
    };
    entering(PRINCIPAL, DAYS)
        .enter(&store, &later)
        .await
        .unwrap();
    for end in ends(&store.0, &later).await {
        assert!(end >= later.now + DAYS, "{end:?}");
    }
}

#[actix_web::test]
async fn a_second_principal_takes_nothing_from_the_first() {
    let store = HeldBack(MemorySessionStore::new());
    let terms = now(&store.0);
    entering(PRINCIPAL, DAYS)
        .enter(&store, &terms)
        .await
        .unwrap();
    entering("user-43", HOURS)
        .enter(&store, &terms)
        .await
        .unwrap();
    for end in ends(&store.0, &terms).await {
        assert!(end >= terms.now + DAYS, "{end:?}");
    }
}

#[actix_web::test]
async fn of_two_logins_at_once_the_longer_one_counts() {
    for seed in 0..races() {
        let store = Slow(MemorySessionStore::new());
        let terms = now(&store.0);
        let before = Terms {
            now: terms.now - HOURS,
            ..terms.clone()
        };
        let known = entering(PRINCIPAL, HOURS + HOURS);
        known.enter(&store.0, &before).await.unwrap();
        let (long, short) = (
            entering(PRINCIPAL, DAYS),
            entering(if seed % 2 == 0 { PRINCIPAL } else { "user-43" }, HOURS),
        );
        let both = Both {
            login: Box::pin(long.enter(&store, &terms)),
            notice: Box::pin(short.enter(&store, &terms)),
        };
        let (entered, other) = both.run(seed, None);
        entered.unwrap().unwrap();
        other.unwrap();
        for end in ends(&store.0, &terms).await {
            assert!(end >= terms.now + DAYS, "seed {seed}: {end:?}");
        }
    }
}

/// A login that a principal began after the erasure stays, and a notice finds it.
#[actix_web::test]
async fn an_erasure_hides_no_later_login_from_a_notice() {
    let (mut passed, mut ended) = (0, 0);
    for seed in 0..races() {
        let store = Slow(MemorySessionStore::new());
        let terms = now(&store.0);
        let older = |at: i64, span: i64| {
            let mut changes = login(Some(at_upstream(at, Some("s1"))));
            changes.login.as_mut().unwrap().at = terms.now - Millis(span);
            changes
        };
        let created = backend::create(&store.0, &older(50, 10), &terms).await;
        created.unwrap();
        let end_all = EndAll {
            mark: NotBefore {
                at: terms.now - Millis(5),
                spared: Vec::new(),
            },
            by: None,
            clock: SharedClock::new(NoLogins),
        };
        let changes = older(99, 0);
        let index = StoreIndex::new(store.clone());
        let notice = notice(100, true, None);
        let both = Both {
            login: Box::pin(backend::create(&store, &changes, &terms)),
            notice: Box::pin(async {
                let noticed = async {
                    for _ in 0..seed % 60 {
                        step_aside().await;
                    }
                    match seed % 2 {
                        0 => end(&store, &notice, &terms).await.map(drop),
                        _ => Ok(()),
                    }
                };
                join(index.erase(PRINCIPAL, end_all, &terms), noticed).await
            }),
        };
        let (logged_in, (erased, noticed)) = both.run(seed, None);
        erased.unwrap();
        noticed.unwrap();
        let case = format!("seed {seed}: {logged_in:?}");
        let is_in = !live(&store, &terms).await.is_empty();
        if seed % 2 == 0 {
            assert!(!is_in, "{case}");
            ended += 1;
        } else if is_in {
            // Otherwise it was there when the erasure came.
            end(&store, &notice, &terms).await.unwrap();
            assert!(live(&store, &terms).await.is_empty(), "{case}");
            passed += 1;
        }
    }
    assert!(passed > 0 && ended > 0);
}
