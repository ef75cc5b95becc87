//! Ends of sessions that another process has told, or could not tell.

use std::time::Duration;

use actix_session::{
    EndReason, Session, SessionEnded, SessionManager, SessionMiddleware,
    storage::{RedisSessionStore, SessionIndex},
};
use actix_web::cookie::Key;
use servers::RedisServer;

use crate::{
    devices::{log_in, tick},
    support::{
        Browser, MySql, Postgres, Redis, Site, SqlTestStore as _, Sqlite, TestStore, Way, connect,
        on_store, soon,
    },
};

/// So long that whoever is not told does not find anything.
const NEVER: Duration = Duration::from_secs(3_600);
const OFTEN: Duration = Duration::from_millis(50);

on_store!(on_redis Redis:
    what_another_process_ends_is_told
    what_nobody_can_tell_is_found
);
on_store!(on_cluster Cluster: what_another_process_ends_is_told);
on_store!(on_postgres Postgres:
    what_another_process_ends_is_told
    what_nobody_can_tell_is_found
);
on_store!(on_mysql MySql: what_another_process_ends_is_found);
on_store!(on_sqlite Sqlite: what_another_process_ends_is_found);

/// A back end that two processes use.
trait Twice: TestStore {
    /// The store of another process.
    async fn again(&self) -> Self::Store;

    /// The same by a way that can be cut.
    async fn through(&self, way: &Way) -> Self::Store;

    fn port(&self) -> u16;
}

impl Twice for Redis {
    async fn again(&self) -> RedisSessionStore {
        if self.is_cluster() {
            return self.store_in_cluster().await;
        }
        self.store_through(&RedisServer::shared_url().unwrap())
            .await
    }

    async fn through(&self, way: &Way) -> RedisSessionStore {
        let url = format!("redis://127.0.0.1:{}", way.port());
        self.store_through(&url).await
    }

    fn port(&self) -> u16 {
        port_of(&RedisServer::shared_url().unwrap())
    }
}

macro_rules! twice {
    ($($database:ty),+) => {$(
        impl Twice for $database {
            async fn again(&self) -> Self::Store {
                self.builder(self.url()).build().await.unwrap()
            }

            async fn through(&self, way: &Way) -> Self::Store {
                let port = port_of(self.url()).to_string();
                let url = self.url().replace(&port, &way.port().to_string());
                self.builder(&url).build().await.unwrap()
            }

            fn port(&self) -> u16 {
                port_of(self.url())
            }
        }
    )+};
}
twice!(Postgres, MySql, Sqlite);

fn port_of(url: &str) -> u16 {
    let after = url.rsplit_once(':').unwrap().1;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// The same visitor at two processes, and what the first one waits for.
struct Two {
    here: Browser,
    there: Browser,
    sessions: SessionManager,
}

impl Two {
    async fn of<S: SessionIndex + 'static>(
        tested: &impl TestStore<Store = S>,
        here: S,
        there: S,
        lease: Duration,
    ) -> Self {
        let middleware = |store: S| {
            SessionMiddleware::builder(store, tested.key().clone())
                .clock(tested.clock().clone())
                .ended_lease(lease)
                .build()
        };
        let other = middleware(there);
        let sessions = other.manager();
        let here = Browser::new(Site::new(middleware(here)).await);
        let there = here.at(Site::new(other).await);
        Self {
            here,
            there,
            sessions,
        }
    }

    async fn wait(&self) -> SessionEnded {
        log_in(&self.here, "user-42", "phone").await;
        let mut ended = None;
        let ask = |s: &Session| ended = Some(s.ended().unwrap());
        self.here.visit(ask).await.assert_ok();
        ended.unwrap()
    }

    /// From then on this process is told.
    async fn open_line(&self) {
        let ended = self.wait().await;
        self.there.visit(Session::purge).await.assert_ok();
        soon(ended).await;
    }

    async fn expect(&self, act: impl FnOnce(&Session), reason: EndReason) {
        let ended = self.wait().await;
        self.there.visit(act).await.assert_ok();
        assert_eq!(soon(ended).await, reason);
    }
}

/// How a session ends there.
const ENDS: [fn(&Session); 4] = [
    Session::purge,
    Session::clear,
    |s| s.login("user-43").unwrap(),
    |s| {
        s.clear();
        s.renew();
    },
];

async fn what_another_process_ends_is_told(tested: impl Twice<Store: SessionIndex + Clone>) {
    let two = Two::of(&tested, tested.store(), tested.again().await, NEVER).await;
    two.open_line().await;
    for act in ENDS {
        two.expect(act, EndReason::LoggedOut).await;
    }
    // A renewal is followed.
    let ended = two.wait().await;
    for _ in 0..3 {
        two.there.visit(Session::renew).await.assert_sets_cookie();
    }
    let flight = two.there.begin().await;
    flight.finish().await.assert_ok();
    assert_eq!(ended.reason(), None);
    two.there.visit(Session::purge).await.assert_ok();
    assert_eq!(soon(ended).await, EndReason::LoggedOut);
    // And what a manager ends.
    let ended = two.wait().await;
    assert_eq!(two.sessions.revoke_all("user-42").await.unwrap(), 1);
    assert_eq!(soon(ended).await, EndReason::Revoked);
    // The clocks of two processes do not tell who came first.
    tick(&tested);
    let ended = two.wait().await;
    let handle = two.sessions.list("user-42").await.unwrap().next().unwrap();
    let one = two.sessions.revoke("user-42", &handle.handle()).await;
    assert!(one.unwrap());
    assert_eq!(soon(ended).await, EndReason::Revoked);
    // Somebody's session that has no name for a manager.
    let guest = |s: &Session| {
        s.purge();
        s.insert("n", 1).unwrap();
    };
    two.here.visit(guest).await.assert_sets_cookie();
    let mut ended = None;
    let ask = |s: &Session| ended = Some(s.ended().unwrap());
    two.here.visit(ask).await.assert_ok();
    two.there.visit(Session::clear).await.assert_ok();
    assert_eq!(soon(ended.unwrap()).await, EndReason::LoggedOut);
}

/// The line of whoever waits is cut off, and nothing says so.
async fn what_nobody_can_tell_is_found(tested: impl Twice<Store: SessionIndex + Clone>) {
    let way = Way::to(tested.port());
    let here = tested.through(&way).await;
    let two = Two::of(&tested, here, tested.again().await, OFTEN).await;
    two.open_line().await;
    let ended = two.wait().await;
    // Only connections that are made from now on work.
    way.forget();
    two.there.visit(Session::purge).await.assert_ok();
    soon(ended).await;
    // And it is told again.
    two.open_line().await;
}

async fn what_another_process_ends_is_found(tested: impl Twice<Store: SessionIndex + Clone>) {
    let two = Two::of(&tested, tested.store(), tested.again().await, OFTEN).await;
    for act in ENDS {
        two.expect(act, EndReason::Gone).await;
    }
    let ended = two.wait().await;
    two.there.visit(Session::renew).await.assert_sets_cookie();
    tokio::time::sleep(4 * OFTEN).await;
    assert_eq!(ended.reason(), None);
    assert_eq!(two.sessions.revoke_all("user-42").await.unwrap(), 1);
    assert_eq!(soon(ended).await, EndReason::Gone);
}

/// Logouts work all the same, and ends are found.
#[actix_web::test]
async fn a_redis_user_who_may_not_publish() {
    let server = RedisServer::start().unwrap();
    let mut redis = connect(&server.url()).await;
    let mut allow = redis::cmd("ACL");
    allow.arg(&[
        "SETUSER", "app", "on", ">pw", "~*", "+@all", "-publish", "&*",
    ]);
    allow.query_async::<()>(&mut redis).await.unwrap();
    let url = format!("redis://app:pw@127.0.0.1:{}", server.port());
    let [here, there] = [(); 2].map(|()| RedisSessionStore::new(url.clone()));
    let key = Key::generate();
    let site = async |store: RedisSessionStore| {
        let builder = SessionMiddleware::builder(store, key.clone());
        Site::new(builder.ended_lease(OFTEN).build()).await
    };
    let here = Browser::new(site(here.await.unwrap()).await);
    let there = here.at(site(there.await.unwrap()).await);
    log_in(&here, "user-42", "phone").await;
    let mut ended = None;
    let ask = |s: &Session| ended = Some(s.ended().unwrap());
    here.visit(ask).await.assert_ok();
    there.visit(Session::purge).await.assert_removes_cookie();
    assert_eq!(soon(ended.unwrap()).await, EndReason::Gone);
}
