//! A real Redis that holds commands back, or allows a user some commands and not others.

use std::time::Duration;

use actix_session::{
    Session, SessionMiddleware,
    config::{PersistentSession, TtlExtensionPolicy},
    storage::{RedisSessionStore, SessionKey, SessionStore},
};
use actix_web::{
    cookie::Key,
    http::StatusCode,
    rt::{self, task::JoinHandle, time::sleep},
};
use deadpool_redis::{Config, PoolConfig, Runtime};
use futures_util::future::{join, join_all, join3};
use redis::{AsyncCommands as _, aio::MultiplexedConnection};
use servers::{RedisCluster, RedisServer};

use crate::support::{Answer, Browser, PATIENCE, Site, connect, count, soon};

async fn ask(redis: &mut MultiplexedConnection, command: &str) {
    let mut words = command.split(' ');
    let mut built = redis::cmd(words.next().unwrap());
    for word in words {
        built.arg(word);
    }
    built.exec_async(redis).await.unwrap();
}

/// A visitor whose requests all extend the session.
async fn extending(store: impl SessionStore + 'static) -> Browser {
    let every = TtlExtensionPolicy::OnEveryRequest;
    let every = PersistentSession::default().session_ttl_extension_policy(every);
    let builder = SessionMiddleware::builder(store, Key::generate()).session_lifecycle(every);
    Browser::new(Site::new(builder.build()).await)
}

/// Reads that extend nothing, for which the server is asked all the same.
async fn reads(here: &Browser) {
    let visits = (0..6).map(|_| async {
        let mut n = None;
        let answer = here.fork().visit(|s| n = s.get("n").unwrap()).await;
        answer.assert_ok().assert_no_cookie();
        assert_eq!(n, Some(1));
    });
    soon(join_all(visits)).await;
}

async fn a_pause_of_writes(server: &RedisServer, store: impl SessionStore + Clone + 'static) {
    let mut redis = connect(&server.url()).await;
    let here = extending(store.clone()).await;
    here.visit(count).await.assert_sets_cookie();
    // The server blocks a connection on which it holds a write back.
    let other = Browser::with(store).await;
    other.visit(count).await.assert_ok();
    let writes = other.begin().await;
    ask(&mut redis, "CLIENT PAUSE 60000 WRITE").await;
    count(&writes);
    let reads = async {
        reads(&here).await;
        assert_eq!(soon(other.number("n")).await, Some(1));
    };
    let (written, ()) = join(soon(writes.finish()), reads).await;
    written.assert_opaque();
    ask(&mut redis, "CLIENT UNPAUSE").await;
    // It is not looked for at once.
    let extends = async || while here.visit(|_| ()).await.cookie().is_none() {};
    soon(extends()).await;
}

#[actix_web::test]
async fn a_pause_of_writes_holds_up_no_read() {
    let server = RedisServer::start().unwrap();
    let store = RedisSessionStore::new(server.url()).await.unwrap();
    a_pause_of_writes(&server, store).await;
}

#[actix_web::test]
async fn a_pause_of_writes_holds_up_no_read_through_a_pool() {
    let server = RedisServer::start().unwrap();
    let mut pool = Config::from_url(server.url());
    pool.pool = Some(PoolConfig::new(2));
    let pool = pool.create_pool(Some(Runtime::Tokio1)).unwrap();
    let store = RedisSessionStore::new_pooled(pool).await.unwrap();
    a_pause_of_writes(&server, store).await;
}

/// A visitor with a session, of a store whose user may then no longer do some things.
async fn without(server: &RedisServer, commands: &str) -> Browser {
    let mut redis = connect(&server.url()).await;
    ask(&mut redis, "ACL SETUSER app reset on >secret ~* +@all").await;
    let builder = RedisSessionStore::builder(server.url());
    let builder = builder.username("app").password("secret");
    let here = extending(builder.build().await.unwrap()).await;
    here.visit(count).await.assert_sets_cookie();
    ask(&mut redis, &format!("ACL SETUSER app {commands}")).await;
    here
}

#[actix_web::test]
async fn whoever_may_not_extend_reads() {
    let server = RedisServer::start().unwrap();
    for commands in ["-pexpire", "-pttl", "-evalsha -eval", "-@scripting"] {
        let here = without(&server, commands).await;
        reads(&here).await;
    }
}

/// A comparison within the server only saves work.
#[actix_web::test]
async fn whoever_may_not_compare_within_the_server_commits() {
    let server = RedisServer::start().unwrap();
    let here = without(&server, "-getrange").await;
    here.visit(count).await.assert_ok();
    let mut n = None;
    here.visit(|s| n = s.get("n").unwrap()).await.assert_ok();
    assert_eq!(n, Some(2));
}

/// It would be a logout, as far as the handler sees.
#[actix_web::test]
async fn whoever_may_not_read_has_an_error_and_not_no_session() {
    let server = RedisServer::start().unwrap();
    let here = without(&server, "-get").await;
    let mut ran = false;
    here.visit(|_| ran = true).await.assert_opaque();
    assert!(!ran);
}

/// Such a user was enough before records of servers with the setting for old ones were there.
#[actix_web::test]
async fn whoever_may_not_read_epochs_works_with_records_for_old_servers() {
    let server = RedisServer::start().unwrap();
    let here = without(&server, "resetkeys ~[a-zA-Z0-9]* ~{*}:moved").await;
    let mut redis = connect(&server.url()).await;
    let names: Vec<String> = redis.keys("*").await.unwrap();
    for name in names.iter().filter(|name| !name.starts_with('{')) {
        let () = redis.set_ex(name, r#"{"n":"1"}"#, 3600).await.unwrap();
    }
    here.visit(count).await.assert_ok();
    assert_eq!(here.number("n").await, Some(2));
    here.visit(Session::renew).await.assert_sets_cookie();
    assert_eq!(here.number("n").await, Some(2));
}

#[actix_web::test]
async fn a_renewal_by_whoever_may_not_delete_changes_nothing() {
    let server = RedisServer::start().unwrap();
    let mut redis = connect(&server.url()).await;
    let here = without(&server, "-del").await;
    let answer = here.visit(Session::renew).await;
    answer.assert_opaque();
    assert_eq!(here.number("n").await, Some(1));
    let only = async |redis: &mut MultiplexedConnection| {
        let names: Vec<String> = redis.keys("*").await.unwrap();
        names.len() == 1
    };
    let mut goes = async || while !only(&mut redis).await {};
    soon(goes()).await;
    here.visit(count).await.assert_ok();
    // Nor can a session be ended, and whoever asks is told.
    here.visit(Session::purge).await.assert_opaque();
    assert_eq!(here.number("n").await, Some(2));
}

#[actix_web::test]
async fn whoever_may_only_delete_ends_sessions() {
    let server = RedisServer::start().unwrap();
    let here = without(&server, "-set").await;
    here.visit(count).await.assert_opaque();
    let answer = here.visit(Session::purge).await;
    answer.assert_ok().assert_removes_cookie();
    assert!(here.is_nobody().await);
}

/// A script keeps the server busy until it is killed. Returns once that is so.
async fn keep_busy(server: &RedisServer) -> JoinHandle<()> {
    let mut other = connect(&server.url()).await;
    let script = rt::spawn(async move {
        let mut endless = redis::cmd("EVAL");
        endless.arg("while true do end").arg(0);
        endless.exec_async(&mut other).await.unwrap_err();
    });
    let mut redis = connect(&server.url()).await;
    let is_busy = async |redis: &mut MultiplexedConnection| {
        let got: redis::RedisResult<Option<String>> = redis.get("x").await;
        got.is_err_and(|error| error.code() == Some("BUSY"))
    };
    let mut begins = async || while !is_busy(&mut redis).await {};
    soon(begins()).await;
    script
}

/// A visitor whose requests wait for a while, and one whose requests wait for as long as it takes.
async fn hurried_and_patient(store: impl SessionStore + Clone + 'static) -> (Browser, Browser) {
    let begin = async |budget: Duration| {
        let builder = SessionMiddleware::builder(store.clone(), Key::generate());
        let builder = builder.load_budget(budget).commit_budget(budget);
        let here = Browser::new(Site::new(builder.build()).await);
        here.visit(count).await.assert_sets_cookie();
        here
    };
    join(begin(Duration::from_secs(2)), begin(PATIENCE)).await
}

fn assert_not_now(refused: &Answer) {
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    refused.assert_no_cookie();
}

#[actix_web::test]
async fn what_a_busy_server_refuses_is_done_later_or_is_a_503() {
    let server = RedisServer::start_with(&[("lua-time-limit", "1")]).unwrap();
    let command = Duration::from_millis(500);
    let builder = RedisSessionStore::builder(server.url()).command_timeout(command);
    let store = builder.build().await.unwrap();
    let (hurried, patient) = hurried_and_patient(store).await;
    let writing = hurried.begin().await;
    let late = patient.begin().await;
    let busy = keep_busy(&server).await;
    count(&writing);
    count(&late);
    for refused in [hurried.visit(|_| ()).await, writing.finish().await] {
        assert_not_now(&refused);
    }
    let end = async {
        sleep(2 * command).await;
        let mut redis = connect(&server.url()).await;
        ask(&mut redis, "SCRIPT KILL").await;
    };
    let (seen, written, ()) = join3(patient.number("n"), late.finish(), end).await;
    assert!(seen.is_some());
    busy.await.unwrap();
    written.assert_ok();
    assert_eq!(patient.number("n").await, Some(2));
    assert_eq!(hurried.number("n").await, Some(1));
}

/// Its time is that of the middleware, which knows when it is over.
#[actix_web::test]
async fn a_logout_in_a_hurry_tells_that_the_server_is_busy() {
    let server = RedisServer::start_with(&[("lua-time-limit", "1")]).unwrap();
    let store = RedisSessionStore::new(server.url()).await.unwrap();
    let mut logouts = Vec::new();
    for budget in [500, 700, 1_000].map(Duration::from_millis) {
        let builder = SessionMiddleware::builder(store.clone(), Key::generate());
        let here = Browser::new(Site::new(builder.commit_budget(budget).build()).await);
        // It takes as long as it takes on a busy machine.
        while here.visit(count).await.cookie().is_none() {}
        logouts.push(here.begin().await);
    }
    let busy = keep_busy(&server).await;
    for logout in logouts {
        logout.purge();
        assert_not_now(&logout.finish().await);
    }
    let mut redis = connect(&server.url()).await;
    ask(&mut redis, "SCRIPT KILL").await;
    busy.await.unwrap();
}

/// Servers that have as many clients as they allow, after all but the test's own were closed.
async fn turned_away(urls: &[String], store: impl SessionStore + Clone + 'static) {
    let (hurried, patient) = hurried_and_patient(store).await;
    let writing = hurried.begin().await;
    let ending = hurried.fork().begin().await;
    count(&writing);
    ending.purge();
    let mut own = join_all(urls.iter().map(|url| connect(url))).await;
    for redis in &mut own {
        ask(redis, "CONFIG SET maxclients 1").await;
        ask(redis, "CLIENT KILL TYPE normal SKIPME yes").await;
    }
    // The first of these finds its connection closed. All of them wait together.
    let reads = join_all((0..6).map(|_| hurried.visit(|_| ()))).await;
    reads.iter().for_each(assert_not_now);
    let (written, ended) = join(writing.finish(), ending.finish()).await;
    assert_not_now(&written);
    assert_not_now(&ended);
    let allow = async {
        sleep(Duration::from_millis(1500)).await;
        for redis in &mut own {
            ask(redis, "CONFIG SET maxclients 100").await;
        }
    };
    let (seen, ()) = join(patient.number("n"), allow).await;
    assert_eq!(seen, Some(1));
    assert_eq!(hurried.number("n").await, Some(1));
}

#[actix_web::test]
async fn whoever_is_turned_away_comes_again_or_has_a_503() {
    let server = RedisServer::start().unwrap();
    let store = RedisSessionStore::new(server.url()).await.unwrap();
    turned_away(&[server.url()], store).await;
    let named = RedisSessionStore::builder(format!("{}/3", server.url()));
    turned_away(&[server.url()], named.build().await.unwrap()).await;
}

#[actix_web::test]
async fn whoever_is_turned_away_comes_again_through_a_pool() {
    let server = RedisServer::start().unwrap();
    let mut pool = Config::from_url(server.url());
    pool.pool = Some(PoolConfig::new(2));
    let pool = pool.create_pool(Some(Runtime::Tokio1)).unwrap();
    let store = RedisSessionStore::new_pooled(pool).await.unwrap();
    turned_away(&[server.url()], store).await;
}

#[actix_web::test]
async fn whoever_is_turned_away_comes_again_to_a_cluster() {
    let cluster = RedisCluster::start().unwrap();
    let builder = RedisSessionStore::builder_cluster(cluster.urls());
    let store = builder.build().await.unwrap();
    turned_away(&cluster.urls(), store).await;
}

/// A server repeats a command that it does not know, and the name of a record is a key that opens a
/// session.
#[actix_web::test]
async fn no_error_shows_the_name_of_a_record() {
    for unknown in ["EVALSHA", "GET"] {
        let renamed = format!("{unknown} \"\"");
        let server = RedisServer::start_with(&[("rename-command", &renamed)]).unwrap();
        for prefix in ["", "shop:"] {
            let builder = RedisSessionStore::builder(server.url()).key_prefix(prefix);
            let store = builder.build().await.unwrap();
            let key = "OHyDpdrVTfW3d5ILprFskuDzCGUGIYLHqMpN4lBvkE4HL2Hk0ZJhIPkTDZ0mmyxM";
            let at = SessionKey::try_from(key.to_owned()).unwrap();
            let error = match unknown {
                "GET" => anyhow::Error::from(store.load(&at).await.unwrap_err()),
                _ => store.delete(&at).await.unwrap_err(),
            };
            let told = format!("{error:#} {error:?}");
            assert!(told.contains("unknown command"), "{told}");
            assert!(!told.contains(&key[..20]), "{told}");
        }
    }
}
