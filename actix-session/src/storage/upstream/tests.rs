//! Notices against logins in flight, in any order of their steps.

mod disturbed;
mod entries;
mod moving;
mod repeated;

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::*;
use crate::{
    clock::SharedClock,
    contract::Rotated,
    protocol::{NotBefore, Reply, Step},
    random,
    storage::{
        MemorySessionStore, backend,
        index::{Door as _, Listed, Live, Page},
        upkeep::Upkeep,
        walk::BATCH,
    },
};

const PRINCIPAL: &str = "user-42";

/// A store that lets others go first before and after each step. As in SQL, a read that extends is two
/// steps, and the second one looks at no end.
#[derive(Clone)]
struct Slow(MemorySessionStore);

/// Two more polls than the work takes.
async fn slowly<T>(work: impl Future<Output = T>) -> T {
    step_aside().await;
    let done = work.await;
    step_aside().await;
    done
}

async fn step_aside() {
    let mut is_back = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_back, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Backend for Slow {
    const REMOTE: bool = false;
    const WAITS: bool = true;

    async fn run(&self, step: &Step, terms: &Terms) -> anyhow::Result<Reply> {
        slowly(self.0.run(step, terms)).await
    }

    async fn look(&self, at: &str, terms: &Terms) -> anyhow::Result<Stored> {
        let found = slowly(self.0.look(at, &terms.quiet())).await?;
        match found {
            Stored::Record(record) if terms.extends_at(&record, record.end().unwrap()) => {
                self.set_ttl(at, terms.ttl).await?;
                Ok(self.0.look(at, &terms.quiet()).await?.extended())
            }
            found => Ok(found),
        }
    }

    async fn set_ttl(&self, at: &str, ttl: Millis) -> anyhow::Result<()> {
        slowly(self.0.set_ttl(at, ttl)).await
    }

    fn name(&self, key: &SessionKey) -> Name {
        self.0.name(key)
    }

    fn clock(&self) -> &SharedClock {
        Backend::clock(&self.0)
    }
}

impl Upkeep for Slow {
    async fn forget(&self, principal: &str, mark: &NotBefore, terms: &Terms) -> anyhow::Result<()> {
        slowly(self.0.forget(principal, mark, terms)).await
    }
}

impl Index for Slow {
    async fn sessions(
        &self,
        principal: &str,
        page: Page,
        terms: &Terms,
    ) -> anyhow::Result<Vec<Listed>> {
        slowly(self.0.sessions(principal, page, terms)).await
    }

    async fn mark(
        &self,
        principal: &str,
        mark: &NotBefore,
        by: Option<(u128, Millis)>,
        terms: &Terms,
    ) -> anyhow::Result<bool> {
        slowly(self.0.mark(principal, mark, by, terms)).await
    }

    async fn end_marked(
        &self,
        principal: &str,
        mark: &NotBefore,
        terms: &Terms,
    ) -> anyhow::Result<u64> {
        slowly(self.0.end_marked(principal, mark, terms)).await
    }
}

fn at_upstream(at: i64, sid: Option<&str>) -> UpstreamLogin {
    UpstreamLogin {
        at: Millis::secs(at),
        user: UpstreamLogin::user("op", "ferris"),
        session: sid.map(|sid| UpstreamLogin::session("op", sid)),
    }
}

fn login(origin: Option<UpstreamLogin>) -> Changes {
    let now = MemorySessionStore::new();
    let login = crate::changes::LoginChange {
        principal: PRINCIPAL.to_owned(),
        at: Backend::clock(&now).login_time(PRINCIPAL).at,
        proven: None,
        device: None,
        id: random::u128().unwrap(),
        span: None,
        keep_times: false,
        level: Default::default(),
        demand: String::new(),
        origin: origin.map(|upstream| {
            let origin = crate::record::Origin {
                upstream: Some(upstream),
                ..Default::default()
            };
            origin.into()
        }),
        by_entry: false,
    };
    Changes {
        login: Some(login.into()),
        ..Changes::default()
    }
}

fn notice(at: i64, user: bool, sid: Option<&str>) -> Notice {
    let of = at_upstream(at, sid);
    Notice {
        ended: Ended {
            at: of.at,
            user: user.then_some(of.user),
            session: of.session,
        },
        token: None,
    }
}

/// All that a user has, and whether it is live.
async fn live(store: &Slow, terms: &Terms) -> Vec<Live> {
    let page = Page {
        after: None,
        limit: BATCH,
    };
    store.0.list(PRINCIPAL, page, terms).await.unwrap().0
}

/// Does both in an order that the seed says. `None`: it was dropped halfway.
struct Both<'a, L, N> {
    login: Pin<Box<dyn Future<Output = L> + 'a>>,
    notice: Pin<Box<dyn Future<Output = N> + 'a>>,
}

impl<L, N> Both<'_, L, N> {
    /// Returns what both have answered.
    fn run(mut self, mut seed: u64, drop_after: Option<u32>) -> (Option<L>, N) {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut logged_in, mut noticed, mut polls) = (None, None, 0);
        loop {
            // Knuth's multiplier; the upper bits are the random ones.
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let is_dropped = drop_after.is_some_and(|most| polls >= most);
            let has_ended = logged_in.is_some() || is_dropped;
            if !has_ended && (seed >> 63 == 0 || noticed.is_some()) {
                polls += 1;
                if let Poll::Ready(done) = self.login.as_mut().poll(&mut cx) {
                    logged_in = Some(done);
                }
            } else if noticed.is_none() {
                if let Poll::Ready(done) = self.notice.as_mut().poll(&mut cx) {
                    noticed = Some(done);
                }
            } else if has_ended && let Some(noticed) = noticed {
                return (logged_in, noticed);
            }
        }
    }
}

/// How many orders each kind of login is tried in. `UPSTREAM_RACES=10000` tries so many.
fn races() -> u64 {
    let races = std::env::var("UPSTREAM_RACES");
    races.map_or(400, |races| races.parse().unwrap())
}

#[actix_web::test]
async fn no_login_outlives_a_notice_and_a_later_one_passes() {
    let (mut overtaken, mut ended, mut passed) = (0, 0, 0);
    for seed in 0..races() {
        for (kind, on) in [(0, "nothing"), (1, "a guest"), (2, "an older login")] {
            let store = Slow(MemorySessionStore::new());
            let terms = Terms::of_store(Backend::clock(&store).now());
            let base = match kind {
                0 => None,
                1 => Some(Changes {
                    effects: [("a".to_owned(), crate::changes::Effect::Set("1".into()))]
                        .into_iter()
                        .collect(),
                    ..Changes::default()
                }),
                _ => Some(login(Some(at_upstream(50, Some("first"))))),
            };
            let base = match &base {
                None => None,
                Some(changes) => {
                    let (key, _) = backend::create(&store.0, changes, &terms).await.unwrap();
                    let Stored::Record(record) = store.0.look(key.as_ref(), &terms).await.unwrap()
                    else {
                        panic!("it has just been made");
                    };
                    Some((key, record))
                }
            };
            let at = if seed % 2 == 0 { 99 } else { 101 };
            let sid = (seed % 3 > 0).then_some("second");
            let notice = match seed % 5 {
                0..3 => notice(100, true, None),
                3 => notice(100, true, Some("second")),
                _ if sid.is_some() => notice(100, false, Some("second")),
                _ => notice(100, true, None),
            };
            let changes = login(Some(at_upstream(at, sid)));
            let logging_in = async {
                match &base {
                    None => {
                        let made = backend::create(&store, &changes, &terms).await;
                        made.map(|(key, _)| key)
                    }
                    Some((key, base)) => {
                        match backend::rotate(&store, key, Some(base), &changes, &terms).await? {
                            Rotated::Rotated(key, ..) => Ok(key),
                            Rotated::Moved | Rotated::Gone => Err(CommitError::gone()),
                        }
                    }
                }
            };
            let both = Both {
                login: Box::pin(logging_in),
                notice: Box::pin(end(&store, &notice, &terms)),
            };
            let drop_after = (seed % 7 == 0).then_some(u32::try_from(seed % 11).unwrap());
            let (logged_in, noticed) = both.run(seed, drop_after);
            let noticed = noticed.unwrap().ended;
            let live = live(&store, &terms).await;
            let case = format!("seed {seed}, on {on}: {logged_in:?} {noticed} {live:?}");
            let is_left = |it: &&Live| notice.ended.names_record(&it.record);
            match (at, logged_in) {
                (99, Some(Ok(key))) => {
                    // It was there when the notice came. Its answer may still be on the way once the
                    // notice has ended it: its last look came before.
                    assert!(noticed > 0, "{case}");
                    let found = store.0.look(key.as_ref(), &terms).await.unwrap();
                    assert!(matches!(found, Stored::Nothing), "{case}");
                    ended += 1;
                }
                (99, Some(Err(error))) => {
                    assert!(error.into_anyhow().is::<crate::error::Gone>(), "{case}");
                    overtaken += 1;
                }
                (_, Some(Ok(key))) => {
                    let found = store.0.look(key.as_ref(), &terms).await.unwrap();
                    assert!(matches!(found, Stored::Record(_)), "{case}");
                    passed += 1;
                }
                (_, Some(Err(error))) => panic!("{case}: {error}"),
                // Nobody has its key.
                (_, None) => continue,
            }
            assert_eq!(live.iter().find(is_left).map(|it| it.id), None, "{case}");
        }
    }
    assert!(overtaken > 0 && ended > 0 && passed > 0);
}
