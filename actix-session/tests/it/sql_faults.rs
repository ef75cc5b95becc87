//! Database servers that die, freeze, or lose answers.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_session::{Session, SessionMiddleware};
use actix_web::rt;
use servers::{MariaDbServer, PostgresServer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use crate::support::{Browser, MySql, Postgres, SqlTestStore, TestStore, count, expected};

/// Against a test that hangs; nothing is measured.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, work)
        .await
        .expect("an answer within bounds")
}

async fn guest(tested: &impl TestStore) -> Browser {
    let browser = tested.browser().await;
    let answer = browser.visit(|s| s.insert("a", 1).unwrap()).await;
    answer.assert_ok().assert_sets_cookie();
    browser
}

macro_rules! on_servers {
    ($name:ident, $body:ident) => {
        mod $name {
            use super::*;

            #[actix_web::test]
            async fn on_postgres() {
                $body!(PostgresServer, Postgres);
            }

            #[actix_web::test]
            async fn on_mariadb() {
                $body!(MariaDbServer, MySql);
            }
        }
    };
}

/// While the server dies and comes back again and again, clients count. What was answered with 200
/// has happened once; what was not, at most once.
macro_rules! killed_under_load {
    ($server:ident, $tested:ident) => {
        let mut server = $server::start().unwrap();
        let tested = $tested::at(&server.url()).await;
        let browser = guest(&tested).await;
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let browser = browser.clone();
                rt::spawn(async move {
                    let (mut sure, mut unsure) = (0, 0);
                    while sure < 25 {
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
                })
            })
            .collect();
        let killer = std::thread::spawn(move || {
            for _ in 0..3 {
                std::thread::sleep(Duration::from_millis(100));
                server.restart().unwrap();
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
        assert!(
            (sure..=sure + unsure).contains(&n),
            "{sure} + {unsure}, not {n}"
        );
        assert_eq!(browser.number("a").await, Some(1));
    };
}
on_servers!(
    a_server_that_is_killed_under_load_loses_and_doubles_nothing,
    killed_under_load
);

macro_rules! killed_between {
    ($server:ident, $tested:ident) => {
        let mut server = $server::start().unwrap();
        let tested = $tested::at(&server.url()).await;
        let browser = guest(&tested).await;
        // Whatever the first statement on the dead connections is, a reader is served.
        server.restart().unwrap();
        assert_eq!(browser.number("a").await, Some(1));
        server.kill();
        let answer = soon(browser.visit(|s| s.insert("b", 2).unwrap())).await;
        answer.assert_opaque();
        server.restart().unwrap();
        browser
            .visit(|s| s.insert("b", 3).unwrap())
            .await
            .assert_ok();
        assert_eq!(
            tested.dump().await.only(),
            expected(&[("a", "1"), ("b", "3")])
        );
    };
}
on_servers!(a_server_that_is_down_is_a_500_and_no_longer, killed_between);

macro_rules! frozen {
    ($server:ident, $tested:ident) => {
        let mut server = $server::start().unwrap();
        let tested = $tested::at(&server.url()).await;
        let limit = Duration::from_secs(1);
        let builder = tested.builder(tested.url());
        let store = builder
            .command_timeout(limit)
            .connect_timeout(limit)
            .build()
            .await
            .unwrap();
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
        server.pause().unwrap();
        soon(browser.visit(|_| {})).await.assert_opaque();
        // What is not known may have happened, so nothing is told as done.
        soon(flight.finish()).await.assert_opaque();
        server.resume().unwrap();
        assert_eq!(soon(browser.number("a")).await, Some(1));
        soon(browser.visit(|s| s.insert("c", 3).unwrap()))
            .await
            .assert_ok();
        assert_eq!(browser.number("c").await, Some(3));
    };
}
on_servers!(a_frozen_server_is_an_error_in_time, frozen);

/// A way to a server on which one answer gets lost, with the connection.
struct Cut {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// The answer to the first message that holds this is lost.
    needle: Mutex<Option<&'static str>>,
    lost: Notify,
}

impl Cut {
    async fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, port, Arc::clone(&shared)));
            }
        });
        Self { address, state }
    }

    fn lose_answer_to(&self, needle: &'static str) {
        *self.state.needle.lock().unwrap() = Some(needle);
    }

    fn has_lost(&self) -> bool {
        self.state.needle.lock().unwrap().is_none()
    }
}

async fn pass(mut client: TcpStream, port: u16, state: Arc<State>) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut losing = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                losing |= state.needle.lock().unwrap().is_some_and(|needle| {
                    asked[..length].windows(needle.len()).any(|part| part == needle.as_bytes())
                });
                server.write_all(&asked[..length]).await?;
            }
            read = server.read(&mut answered) => {
                let length = read?;
                if losing {
                    // Answered means carried out. The client learns that it will not know.
                    *state.needle.lock().unwrap() = None;
                    state.lost.notify_waiters();
                    return Ok(());
                }
                if length == 0 {
                    return Ok(());
                }
                client.write_all(&answered[..length]).await?;
            }
        }
    }
}

macro_rules! cut {
    ($server:ident, $tested:ident) => {
        let url = $server::shared_url().unwrap();
        let port = url.rsplit_once(':').unwrap().1.split('/').next().unwrap();
        let cut = Cut::before(port.parse().unwrap()).await;
        let through = url.replace(port, &cut.address.port().to_string());
        let tested = $tested::at(&url).await;
        let store = tested.builder(&through).build().await.unwrap();
        let middleware =
            SessionMiddleware::builder(store, tested.key().clone()).clock(tested.clock().clone());
        let browser = tested.browser_of(middleware).await;

        cut.lose_answer_to("needle-0");
        let answer = soon(browser.visit(|s| s.insert("x", "needle-0").unwrap())).await;
        answer.assert_ok().assert_sets_cookie();
        assert!(cut.has_lost());
        assert_eq!(tested.dump().await.0.len(), 1, "made once");

        // Its repeat finds its own id, and counts once.
        cut.lose_answer_to("needle-1");
        let twice = |s: &Session| {
            s.insert("x", "needle-1").unwrap();
            count(s);
        };
        soon(browser.visit(twice))
            .await
            .assert_ok()
            .assert_no_cookie();
        assert!(cut.has_lost());
        assert_eq!(
            tested.dump().await.only(),
            expected(&[("n", "1"), ("x", "\"needle-1\"")])
        );

        // In a transaction the answer is lost before it ends: nothing has happened yet.
        cut.lose_answer_to("needle-2");
        let renew = |s: &Session| {
            s.insert("x", "needle-2").unwrap();
            count(s);
            s.renew();
        };
        soon(browser.visit(renew))
            .await
            .assert_ok()
            .assert_sets_cookie();
        assert!(cut.has_lost());
        let dump = tested.dump().await;
        assert_eq!(dump.only(), expected(&[("n", "2"), ("x", "\"needle-2\"")]));
        assert_eq!(dump.marks(), 1);
        assert_eq!(browser.number("n").await, Some(2));

        let flight = browser.begin().await;
        let other = browser.begin().await;
        cut.lose_answer_to("needle-3");
        flight.insert("x", "needle-3").unwrap();
        flight.clear();
        soon(flight.finish()).await.assert_ok();
        other.insert("late", 1).unwrap();
        soon(other.finish()).await.assert_ok();
        assert_eq!(tested.dump().await.only(), expected(&[]));
    };
}
on_servers!(a_connection_that_is_cut_mid_commit_doubles_nothing, cut);
