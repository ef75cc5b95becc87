//! Servers that are demoted while they run, and keep their clients: whoever only reads finds the new one
//! too.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    pin::pin,
};

use actix_session::{
    SessionMiddleware,
    config::{PersistentSession, TtlExtensionPolicy},
    storage::RedisSessionStore,
};
use actix_web::{
    cookie::{Key, time::Duration},
    rt,
};
use deadpool_redis::{Config, Hook, HookError, PoolConfig, Runtime};
use futures_util::future::{Either, join, join_all, select};
use redis::aio::MultiplexedConnection;
use servers::{MariaDbServer, PostgresServer, RedisServer, resp::lines_of};
use sqlx::{Connection as _, Executor as _, MySqlConnection, PgConnection};

use crate::support::{
    Browser, MySql, Postgres, Site, SqlTestStore as _, TestStore as _, Way, aside, count, guest,
    soon,
};

/// Servers at which there is the same session, and a way to the one that is the master.
struct Pair {
    old: RedisServer,
    new: RedisServer,
    way: Way,
}

impl Pair {
    async fn start() -> Self {
        aside(|| {
            let (old, new) = (RedisServer::start().unwrap(), RedisServer::start().unwrap());
            let way = Way::to(old.port());
            Self { old, new, way }
        })
        .await
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.way.port())
    }

    /// The old one becomes a replica that knows of nothing which comes after. At the new one, nobody has a
    /// session.
    fn demote(&self) {
        self.demote_and_lead_to(self.new.port());
    }

    fn demote_and_lead_to(&self, port: u16) {
        let answer = lines_of(self.old.port(), "REPLICAOF 127.0.0.1 1").unwrap();
        assert_eq!(answer, ["+OK"]);
        self.way.lead_to(port);
    }

    async fn browser_under(&self, policy: TtlExtensionPolicy) -> Browser {
        let store = RedisSessionStore::new(self.url()).await.unwrap();
        let lifecycle = PersistentSession::default().session_ttl_extension_policy(policy);
        let middleware = SessionMiddleware::builder(store, Key::generate());
        Browser::new(Site::new(middleware.session_lifecycle(lifecycle).build()).await)
    }
}

/// Reads until they come from the server where there is no session. Each of them is served.
async fn becomes_nobody(here: &Browser) {
    let reading = async {
        while !here.is_nobody().await {
            rt::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon(reading).await;
}

#[actix_web::test]
async fn what_only_reads_leaves_a_former_master_on_redis() {
    let pair = Pair::start().await;
    let store = RedisSessionStore::new(pair.url()).await.unwrap();
    let here = Browser::with(store).await;
    here.visit(count).await.assert_sets_cookie();
    pair.demote();
    becomes_nobody(&here).await;
}

/// Within the interval, a load that may extend writes nothing.
#[actix_web::test]
async fn what_extends_seldom_leaves_a_former_master_on_redis() {
    let pair = Pair::start().await;
    let seldom = TtlExtensionPolicy::AtMostEvery(Duration::minutes(10));
    let here = pair.browser_under(seldom).await;
    here.visit(count).await.assert_sets_cookie();
    pair.demote();
    becomes_nobody(&here).await;
}

fn pool(url: &str) -> deadpool_redis::Pool {
    let mut config = Config::from_url(url);
    config.pool = Some(PoolConfig::new(4));
    config.create_pool(Some(Runtime::Tokio1)).unwrap()
}

/// Whoever visits a store over a pool of the application's.
async fn pooled() -> (Pair, deadpool_redis::Pool, Browser) {
    let pair = Pair::start().await;
    let pool = pool(&pair.url());
    let store = RedisSessionStore::new_pooled(pool.clone()).await.unwrap();
    (pair, pool, Browser::with(store).await)
}

/// Opens all of a pool's connections.
async fn fill(pool: &deadpool_redis::Pool) {
    let all = join_all((0..4).map(|_| pool.get())).await;
    assert!(all.iter().all(Result::is_ok));
    drop(all);
    assert_eq!(pool.status().available, 4);
}

#[actix_web::test]
async fn what_only_reads_leaves_a_former_master_in_a_pool() {
    let (pair, pool, here) = pooled().await;
    here.visit(count).await.assert_sets_cookie();
    fill(&pool).await;
    pair.demote();
    becomes_nobody(&here).await;
}

/// Hooks of the pool choose the database: elsewhere there is no session.
#[actix_web::test]
async fn no_read_goes_past_the_hooks_of_a_pool() {
    let pair = Pair::start().await;
    let config = Config::from_url(pair.url());
    let select = Hook::async_fn(|connection: &mut MultiplexedConnection, _| {
        let mut connection = connection.clone();
        Box::pin(async move {
            let mut select = redis::cmd("SELECT");
            let selected = select.arg(3).exec_async(&mut connection).await;
            selected.map_err(HookError::Backend)
        })
    });
    let builder = config.builder().unwrap().runtime(Runtime::Tokio1);
    let pool = builder.post_create(select).build().unwrap();
    let store = RedisSessionStore::new_pooled(pool).await.unwrap();
    let here = Browser::with(store).await;
    here.visit(count).await.assert_sets_cookie();
    let ask = |command: &str| lines_of(pair.new.port(), command).unwrap();
    ask(&format!("REPLICAOF 127.0.0.1 {}", pair.old.port()));
    while !ask("ROLE").iter().any(|line| line == "connected") {
        rt::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(ask("REPLICAOF NO ONE"), ["+OK"]);
    pair.demote();
    let until = std::time::Instant::now() + std::time::Duration::from_millis(2_500);
    while std::time::Instant::now() < until {
        assert_eq!(here.number("n").await, Some(1));
    }
}

/// Reads for longer than it takes to ask again, beside changes: all reads are served, and no change is.
async fn only_reads_are_served(here: &Browser) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(7);
    while std::time::Instant::now() < until {
        let other = Browser::new(here.site.clone());
        let reads = join_all((0..8).map(|_| here.number("n")));
        let (seen, refused) = join(reads, other.visit(count)).await;
        assert!(seen.into_iter().all(|n| n == Some(1)));
        assert!(refused.status.is_server_error());
        rt::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Where nobody listens, and where somebody does who never speaks.
fn nowhere() -> [(u16, Option<TcpListener>); 2] {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    [(1, None), (port, Some(silent))]
}

#[actix_web::test]
async fn a_former_master_whose_address_leads_nowhere_serves_reads_from_a_pool() {
    for (port, _silent) in nowhere() {
        let (pair, pool, here) = pooled().await;
        here.visit(count).await.assert_sets_cookie();
        fill(&pool).await;
        pair.demote_and_lead_to(port);
        only_reads_are_served(&here).await;
        pair.way.lead_to(pair.new.port());
        becomes_nobody(&here).await;
    }
}

/// Reads that extend are writes to it.
#[actix_web::test]
async fn a_former_master_whose_address_leads_nowhere_serves_reads() {
    for (port, _silent) in nowhere() {
        for policy in [
            TtlExtensionPolicy::OnStateChanges,
            TtlExtensionPolicy::OnEveryRequest,
        ] {
            let pair = Pair::start().await;
            let here = pair.browser_under(policy).await;
            here.visit(count).await.assert_sets_cookie();
            pair.demote_and_lead_to(port);
            only_reads_are_served(&here).await;
            pair.way.lead_to(pair.new.port());
            becomes_nobody(&here).await;
        }
    }
}

/// Proxies without a server say so, and so do servers that load their data.
#[actix_web::test]
async fn a_former_master_is_not_left_for_what_refuses_everything() {
    for words in [
        "ERR no backend",
        "LOADING Redis is loading the dataset in memory",
    ] {
        let pair = Pair::start().await;
        let here = pair.browser_under(TtlExtensionPolicy::OnStateChanges).await;
        here.visit(count).await.assert_sets_cookie();
        pair.demote_and_lead_to(refusing(words));
        only_reads_are_served(&here).await;
    }
}

/// A server that answers each command with this error.
fn refusing(words: &'static str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut read = [0; 4096];
                while stream.read(&mut read).is_ok_and(|count| count > 0) {
                    // A command for each array that begins; what sets a connection up comes together.
                    let commands = read.iter().filter(|&&byte| byte == b'*').count();
                    let answer = format!("-{words}\r\n").repeat(commands);
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                    read.fill(0);
                }
            });
        }
    });
    port
}

/// What the application has in use then goes back to the pool, and is not lent to the store.
#[actix_web::test]
async fn what_the_application_had_lent_serves_no_read_of_a_former_master() {
    let (pair, pool, here) = pooled().await;
    here.visit(count).await.assert_sets_cookie();
    fill(&pool).await;
    let (again, own) = (here.fork(), pool.get().await.unwrap());
    pair.demote();
    becomes_nobody(&here).await;
    drop(own);
    for _ in 0..8 {
        assert!(again.fork().is_nobody().await);
    }
}

/// Connections that are in use then do not come back: somebody always waits for one.
#[actix_web::test]
async fn a_write_leaves_a_former_master_in_a_busy_pool() {
    let (pair, pool, here) = pooled().await;
    here.visit(count).await.assert_sets_cookie();
    fill(&pool).await;
    let read = async || loop {
        here.fork().number("n").await;
    };
    let reads = join_all((0..12).map(|_| read()));
    let writing = async {
        while pool.status().waiting == 0 {
            rt::task::yield_now().await;
        }
        pair.demote();
        for _ in 0..20 {
            let other = Browser::new(here.site.clone());
            other.visit(count).await.assert_ok().assert_sets_cookie();
        }
        assert!(here.is_nobody().await);
    };
    match select(pin!(reads), pin!(writing)).await {
        Either::Left(_) => unreachable!("they read all the time"),
        Either::Right(((), _)) => {}
    }
}

/// One connection shows where all that are as old lead.
#[actix_web::test]
async fn a_write_leaves_a_former_master_with_all_connections_of_a_pool() {
    let (pair, pool, here) = pooled().await;
    fill(&pool).await;
    pair.demote();
    here.visit(count).await.assert_ok().assert_sets_cookie();
    here.visit(count).await.assert_ok();
    assert_eq!(here.number("n").await, Some(2));
}

/// Two database servers, a way to the first, and whoever has a session there. `$user` lets `reader` in.
macro_rules! sql_pair {
    ($kind:ident, $server:ident, $connection:ident, $user:expr) => {{
        let (old, new) = aside(|| ($server::start().unwrap(), $server::start().unwrap())).await;
        for server in [&old, &new] {
            run!($connection, server, $user);
        }
        let way = Way::to(old.port());
        let to = |port: u16| {
            let url = old.url().replace("tester@", "reader@");
            url.replace(&old.port().to_string(), &port.to_string())
        };
        let tested = $kind::at(&to(way.port())).await;
        let here = guest(&tested).await;
        // The table is there, and the session is not.
        tested.builder(&to(new.port())).build().await.unwrap();
        (old, new, way, (tested, here))
    }};
}

/// Runs statements as the administrator.
macro_rules! run {
    ($connection:ident, $server:expr, $statements:expr) => {
        let mut admin = $connection::connect(&$server.url()).await.unwrap();
        for statement in $statements {
            admin.execute(statement).await.unwrap();
        }
    };
}

const READ_ONLY_POSTGRES: [&str; 2] = [
    "ALTER SYSTEM SET default_transaction_read_only = on",
    "SELECT pg_reload_conf()",
];

/// Users that may write all the same are not kept from a server that is read-only to others.
const USER_OF_MYSQL: [&str; 2] = [
    "CREATE USER reader@'127.0.0.1'",
    "GRANT ALL ON sessions.* TO reader@'127.0.0.1'",
];

const READ_ONLY_MYSQL: [&str; 1] = ["SET GLOBAL read_only = 1"];

macro_rules! on_postgres {
    ($test:ident) => {
        let nobody_else = [""; 0];
        $test!(
            Postgres,
            PostgresServer,
            PgConnection,
            nobody_else,
            READ_ONLY_POSTGRES
        );
    };
}

macro_rules! on_mysql {
    ($test:ident) => {
        $test!(
            MySql,
            MariaDbServer,
            MySqlConnection,
            USER_OF_MYSQL,
            READ_ONLY_MYSQL
        );
    };
}

macro_rules! demoted {
    ($kind:ident, $server:ident, $connection:ident, $user:expr, $demote:expr) => {
        let (old, new, way, (_tested, here)) = sql_pair!($kind, $server, $connection, $user);
        run!($connection, old, $demote);
        way.lead_to(new.port());
        becomes_nobody(&here).await;
    };
}

#[actix_web::test]
async fn what_only_reads_leaves_a_former_primary_on_postgres() {
    on_postgres!(demoted);
}

#[actix_web::test]
async fn what_only_reads_leaves_a_former_primary_on_mysql() {
    on_mysql!(demoted);
}

macro_rules! demoted_and_left_alone {
    ($kind:ident, $server:ident, $connection:ident, $user:expr, $demote:expr) => {
        let (old, new, way, (_tested, here)) = sql_pair!($kind, $server, $connection, $user);
        here.visit(count).await.assert_ok();
        run!($connection, old, $demote);
        for (port, _silent) in nowhere() {
            way.lead_to(port);
            only_reads_are_served(&here).await;
        }
        way.lead_to(new.port());
        becomes_nobody(&here).await;
    };
}

#[actix_web::test]
async fn a_former_primary_whose_address_leads_nowhere_serves_reads_on_postgres() {
    on_postgres!(demoted_and_left_alone);
}

#[actix_web::test]
async fn a_former_primary_whose_address_leads_nowhere_serves_reads_on_mysql() {
    on_mysql!(demoted_and_left_alone);
}

/// Whoever is silent goes on being so.
macro_rules! silent_at_first {
    ($kind:ident, $server:ident, $connection:ident, $user:expr, $demote:expr) => {
        let (old, new, way, (tested, here)) = sql_pair!($kind, $server, $connection, $user);
        let patient = std::time::Duration::from_secs(600);
        let store = tested.store_through(tested.url(), patient).await;
        let middleware = SessionMiddleware::builder(store, tested.key().clone());
        let middleware = middleware.clock(tested.clock().clone());
        let there = here.at(tested.browser_of(middleware).await.site.clone());
        there.visit(count).await.assert_ok();
        run!($connection, old, $demote);
        let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        way.lead_to(silent.local_addr().unwrap().port());
        let asked = aside(move || silent.accept().map(|asked| (asked, silent)));
        let reading = async {
            loop {
                assert_eq!(there.number("n").await, Some(1));
                rt::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let _silent = match select(pin!(soon(asked)), pin!(reading)).await {
            Either::Left((asked, _)) => asked.unwrap(),
            Either::Right((never, _)) => never,
        };
        way.lead_to(new.port());
        becomes_nobody(&there).await;
    };
}

#[actix_web::test]
async fn a_look_for_a_primary_does_not_wait_for_whoever_is_silent_on_postgres() {
    on_postgres!(silent_at_first);
}

#[actix_web::test]
async fn a_look_for_a_primary_does_not_wait_for_whoever_is_silent_on_mysql() {
    on_mysql!(silent_at_first);
}
