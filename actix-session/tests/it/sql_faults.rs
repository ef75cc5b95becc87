//! Database servers that die, freeze, or lose answers.

use std::time::Duration;

use actix_session::{Session, SessionMiddleware};
use actix_web::rt;
use servers::{MariaDbServer, PostgresServer};

use crate::support::{
    Answer, Browser, MySql, PATIENCE, Postgres, Proxy, SqlTestStore, TestStore, count, expected,
    guest, soon,
};

/// A kind of server, and the store that keeps sessions there.
trait Database: Send + Sized + 'static {
    type Store: SqlTestStore;

    fn start() -> Self;
    fn shared_url() -> String;
    fn url(&self) -> String;
    fn kill(&mut self);
    fn restart(&mut self);
    fn pause(&mut self);
    fn resume(&mut self);
}

macro_rules! database {
    ($server:ident, $store:ident) => {
        impl Database for $server {
            type Store = $store;

            fn start() -> Self {
                Self::start().unwrap()
            }

            fn shared_url() -> String {
                Self::shared_url().unwrap()
            }

            fn url(&self) -> String {
                self.url()
            }

            fn kill(&mut self) {
                self.kill();
            }

            fn restart(&mut self) {
                self.restart().unwrap();
            }

            fn pause(&mut self) {
                self.pause().unwrap();
            }

            fn resume(&mut self) {
                self.resume().unwrap();
            }
        }
    };
}
database!(PostgresServer, Postgres);
database!(MariaDbServer, MySql);

macro_rules! on_servers {
    ($($test:ident),+ $(,)?) => {
        $(mod $test {
            #[actix_web::test]
            async fn on_postgres() {
                super::$test::<servers::PostgresServer>().await;
            }

            #[actix_web::test]
            async fn on_mariadb() {
                super::$test::<servers::MariaDbServer>().await;
            }
        })+
    };
}

on_servers! {
    a_server_that_is_killed_under_load_loses_and_doubles_nothing,
    a_server_that_is_down_is_a_500_and_no_longer,
    a_frozen_server_is_an_error_in_time,
    a_connection_that_is_cut_mid_commit_doubles_nothing,
    a_creation_that_comes_after_the_logout_makes_no_session,
}

/// Clicks until this many clicks are acknowledged. Returns how many are, and how many more may have
/// happened.
async fn count_until(browser: Browser, acknowledged: u32) -> (u32, u32) {
    let (mut sure, mut unsure) = (0, 0);
    while sure < acknowledged {
        let answer = soon(browser.visit(count)).await;
        if answer.status.is_success() {
            sure += 1;
        } else {
            assert!(answer.status.is_server_error(), "{answer:?}");
            answer.assert_no_cookie();
            unsure += 1;
        }
        rt::time::sleep(Duration::from_millis(10)).await;
    }
    (sure, unsure)
}

/// While the server dies and comes back again and again, clients count. What was answered with 200
/// has happened once; what was not, at most once.
async fn a_server_that_is_killed_under_load_loses_and_doubles_nothing<D: Database>() {
    let mut server = D::start();
    let tested = D::Store::at(&server.url()).await;
    let browser = guest(&tested).await;
    let clients = [(); 4].map(|()| rt::spawn(count_until(browser.clone(), 25)));
    let killer = std::thread::spawn(move || {
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(100));
            server.restart();
        }
        server
    });
    let (mut sure, mut unsure) = (0, 0);
    for client in clients {
        let (s, u) = client.await.unwrap();
        (sure, unsure) = (sure + s, unsure + u);
    }
    let _server = killer.join().unwrap();
    let n = soon(browser.number("n")).await.unwrap();
    let possible = i64::from(sure)..=i64::from(sure + unsure);
    assert!(possible.contains(&n), "{sure} + {unsure}, not {n}");
    assert_eq!(browser.number("a").await, Some(1));
}

async fn a_server_that_is_down_is_a_500_and_no_longer<D: Database>() {
    let mut server = D::start();
    let tested = D::Store::at(&server.url()).await;
    let browser = guest(&tested).await;
    // Whatever the first statement on the dead connections is, a reader is served.
    server.restart();
    assert_eq!(browser.number("a").await, Some(1));
    server.kill();
    let answer = soon(browser.visit(|s| s.insert("b", 2).unwrap())).await;
    answer.assert_opaque();
    server.restart();
    let answer = browser.visit(|s| s.insert("b", 3).unwrap()).await;
    answer.assert_ok();
    assert_eq!(
        tested.dump().await.only(),
        expected(&[("a", "1"), ("b", "3")])
    );
}

async fn a_frozen_server_is_an_error_in_time<D: Database>() {
    let mut server = D::start();
    let tested = D::Store::at(&server.url()).await;
    let limit = Duration::from_secs(1);
    let store = tested.store_through(tested.url(), limit).await;
    let middleware = SessionMiddleware::builder(store, tested.key().clone())
        .commit_budget(Duration::from_secs(1))
        .clock(tested.clock().clone());
    let browser = tested.browser_of(middleware).await;
    browser
        .visit(|s| s.insert("a", 1).unwrap())
        .await
        .assert_ok();
    let flight = browser.begin().await;
    flight.insert("b", 2).unwrap();
    server.pause();
    soon(browser.visit(|_| {})).await.assert_opaque();
    // What is not known may have happened, so nothing is reported as done.
    soon(flight.finish()).await.assert_opaque();
    server.resume();
    assert_eq!(soon(browser.number("a")).await, Some(1));
    soon(browser.visit(|s| s.insert("c", 3).unwrap()))
        .await
        .assert_ok();
    assert_eq!(browser.number("c").await, Some(3));
}

/// A store behind a proxy.
struct Cut<S> {
    tested: S,
    proxy: Proxy,
    browser: Browser,
}

impl<S: SqlTestStore> Cut<S> {
    async fn before(url: &str) -> Self {
        let port = url.rsplit_once(':').unwrap().1.split('/').next().unwrap();
        let proxy = Proxy::before_database(port.parse().unwrap());
        let through = url.replace(port, &proxy.port().to_string());
        let tested = S::at(url).await;
        let store = tested.store_through(&through, PATIENCE).await;
        let middleware =
            SessionMiddleware::builder(store, tested.key().clone()).clock(tested.clock().clone());
        let browser = tested.browser_of(middleware).await;
        Self {
            tested,
            proxy,
            browser,
        }
    }

    /// A request that sets `x` to this text, whose answer is lost, and does something else.
    async fn visit(&self, text: &'static str, act: impl FnOnce(&Session)) -> Answer {
        self.proxy.lose_answer_to(text);
        let answer = soon(self.browser.visit(|s| {
            s.insert("x", text).unwrap();
            act(s);
        }))
        .await;
        assert!(self.proxy.has_lost());
        answer.assert_ok();
        answer
    }
}

/// The transaction has ended, and nobody says so. (PostgreSQL needs one statement for all of it.)
#[actix_web::test]
async fn a_renewal_whose_commit_is_not_answered_is_done_once() {
    let cut = Cut::<MySql>::before(&MariaDbServer::shared_url().unwrap()).await;
    soon(cut.browser.visit(count)).await.assert_sets_cookie();
    let renew = |s: &Session| {
        count(s);
        s.renew();
    };
    cut.proxy.lose_answer_to("COMMIT");
    let answer = soon(cut.browser.visit(renew)).await;
    assert!(cut.proxy.has_lost());
    answer.assert_ok().assert_sets_cookie();
    let dump = cut.tested.dump().await;
    assert_eq!(dump.only(), expected(&[("n", "2")]));
    assert_eq!(dump.redirects(), 1);
    assert_eq!(cut.browser.number("n").await, Some(2));

    // A login, and an ending of the session that it came with, in the meantime.
    let other = cut.browser.fork();
    cut.proxy.lose_answer_to("COMMIT");
    let login = |s: &Session| s.login("user-42").unwrap();
    soon(cut.browser.visit(login)).await.assert_sets_cookie();
    assert!(cut.proxy.has_lost());
    assert_eq!(cut.browser.principal().await.as_deref(), Some("user-42"));
    soon(other.visit(Session::purge)).await.assert_ok();
    cut.tested.dump().await.assert_no_record();
}

async fn a_connection_that_is_cut_mid_commit_doubles_nothing<D: Database>() {
    let cut = Cut::<D::Store>::before(&D::shared_url()).await;
    cut.visit("needle-0", |_| ()).await.assert_sets_cookie();
    assert_eq!(cut.tested.dump().await.0.len(), 1, "made once");

    // Its repeat finds its own id, and counts once.
    cut.visit("needle-1", count).await.assert_no_cookie();
    assert_eq!(
        cut.tested.dump().await.only(),
        expected(&[("n", "1"), ("x", "\"needle-1\"")])
    );

    // In a transaction the answer is lost before it ends: nothing has happened yet.
    let renew = |s: &Session| {
        count(s);
        s.renew();
    };
    cut.visit("needle-2", renew).await.assert_sets_cookie();
    let dump = cut.tested.dump().await;
    assert_eq!(dump.only(), expected(&[("n", "2"), ("x", "\"needle-2\"")]));
    assert_eq!(dump.redirects(), 1);
    assert_eq!(cut.browser.number("n").await, Some(2));

    let flight = cut.browser.begin().await;
    let other = cut.browser.begin().await;
    cut.proxy.lose_answer_to("needle-3");
    flight.clear();
    flight.insert("x", "needle-3").unwrap();
    soon(flight.finish()).await.assert_ok();
    assert!(cut.proxy.has_lost());
    other.insert("late", 1).unwrap();
    soon(other.finish()).await.assert_ok();
    assert_eq!(
        cut.tested.dump().await.only(),
        expected(&[("x", "\"needle-3\"")])
    );
}

/// What a server works off after its session was used and ended makes nothing.
async fn a_creation_that_comes_after_the_logout_makes_no_session<D: Database>() {
    let cut = Cut::<D::Store>::before(&D::shared_url()).await;
    cut.proxy.hold_back("late");
    let visit = cut.browser.visit(|s| s.insert("x", "late").unwrap());
    soon(visit).await.assert_ok().assert_sets_cookie();
    let thief = cut.browser.fork();
    assert!(!thief.is_nobody().await);
    soon(cut.browser.visit(Session::purge)).await.assert_ok();
    soon(cut.proxy.deliver()).await;
    cut.tested.dump().await.assert_no_record();
    assert!(thief.is_nobody().await);
}
