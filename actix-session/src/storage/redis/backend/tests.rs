use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use redis::IntoConnectionInfo as _;
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use super::{
    super::{
        conn, fake,
        script::{PREPARE_SCRIPT, Script, TAKE_BACK_SCRIPT, TOUCH_SCRIPT},
    },
    *,
};
use crate::{
    changes::Changes,
    clock::SharedClock,
    contract::Committed,
    error::Contended,
    key::SessionKey,
    protocol::{Flag, OwnerBefore},
    storage::{RedisSessionStore, backend},
};

mod across;

#[test]
fn a_server_that_evicts_is_known() {
    let info = |limit: u32, policy: &str| {
        format!("# Memory\r\nmaxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\nx:y\r\n")
    };
    let warned = |limit, policy| evicting_policy(&info(limit, policy)).map(str::to_owned);
    assert_eq!(warned(1, "allkeys-lru").as_deref(), Some("allkeys-lru"));
    assert_eq!(warned(1, "volatile-ttl").as_deref(), Some("volatile-ttl"));
    assert_eq!(warned(0, "allkeys-lru"), None);
    assert_eq!(warned(1, "noeviction"), None);
    assert_eq!(evicting_policy(""), None);
}

#[test]
fn a_server_of_a_cluster_says_so() {
    let says =
        |enabled: &str| is_in_cluster(&format!("# Cluster\r\ncluster_enabled:{enabled}\r\n"));
    assert!(says("1"));
    assert!(!says("0"));
    assert!(!is_in_cluster(""));
}

const DONE: &str = "*1\r\n:3\r\n";

/// A server's bulk string.
fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn own_redirect() -> Redirect {
    Redirect {
        target: "{b}".into(),
        flag: Flag::Plain,
        made_at: Millis(1),
    }
}

#[test]
fn an_index_lives_as_long_as_a_session_may() {
    assert_eq!(index::SPAN, crate::config::LONGEST.0.to_string());
}

#[actix_web::test]
async fn a_repeated_ending_waits_for_replicas_too() {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&calls);
    let replicas = conn::Replicas {
        count: 1,
        timeout: Duration::from_millis(1),
    };
    let connections = fake::connections(Some(replicas), move |command| {
        seen.borrow_mut().push(command[0].clone());
        match (command[0].as_str(), seen.borrow().len()) {
            ("WAIT", 2) => None,
            ("WAIT", _) => Some(":1\r\n".to_owned()),
            (_, 1) => Some(DONE.to_owned()),
            _ => Some("*1\r\n:0\r\n".to_owned()),
        }
    })
    .await;
    let key = SessionKey::generated("a".repeat(64));
    backend::delete(&store(connections), &key).await.unwrap();
    assert_eq!(*calls.borrow(), ["EVALSHA", "WAIT", "EVALSHA", "WAIT"]);
}

/// A hop found nothing to end, so that replicas have nothing to confirm.
#[actix_web::test]
async fn an_ending_waits_for_replicas_once() {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&calls);
    let replicas = conn::Replicas {
        count: 1,
        timeout: Duration::from_secs(86_400),
    };
    let connections = fake::connections(Some(replicas), move |command| {
        seen.borrow_mut().push(command[0].clone());
        Some(match (command[0].as_str(), seen.borrow().len()) {
            ("WAIT", _) => {
                let limit: u64 = command[2].parse().unwrap();
                let budget = Terms::default().budget().as_millis();
                assert!(limit > 0 && u128::from(limit) < budget, "{limit} ms");
                ":0\r\n".to_owned()
            }
            (_, hop @ 1..3) => format!("*2\r\n:2\r\n{}", bulk(&format!("p|1|{{{hop}}}"))),
            _ => DONE.to_owned(),
        })
    })
    .await;
    let key = SessionKey::generated("a".repeat(64));
    backend::delete(&store(connections), &key).await.unwrap();
    assert_eq!(*calls.borrow(), ["EVALSHA", "EVALSHA", "EVALSHA", "WAIT"]);
}

fn store(connections: Connections) -> RedisSessionStore {
    RedisSessionStore {
        executor: Executor::new(connections),
        keygen: Arc::new(str::to_owned),
        clock: SharedClock::default(),
        hub: Arc::default(),
    }
}

/// What Redis 6.2 says if a script writes to a server that takes no writes.
fn refusal(inner: &str) -> String {
    format!(
        "-ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -{inner}\r\n"
    )
}

/// A store that extends on every read, on a server that refuses to. The second part is what it was
/// asked for.
async fn refusing(how: &str) -> (RedisSessionStore, Rc<RefCell<Vec<&'static str>>>) {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let (seen, refused) = (Rc::clone(&calls), refusal(how));
    let connections = fake::connections(None, move |command| {
        let touches = command[1] == *TOUCH_SCRIPT.hash();
        seen.borrow_mut()
            .push(if touches { "touch" } else { "get" });
        assert!(touches || command[0] == "GET");
        Some(match touches {
            true => refused.clone(),
            false => bulk(r#"{"v":1,"state":{}}"#),
        })
    })
    .await;
    (store(connections), calls)
}

fn extending() -> Terms {
    Terms::default().with_extension(true)
}

async fn looks_and_keeps_its_end(store: &RedisSessionStore) {
    match store.executor.look("a", &extending()).await.unwrap() {
        Stored::Record(record) => assert!(record.has_kept_end()),
        other => panic!("{other:?}"),
    }
}

#[actix_web::test]
async fn a_read_that_cannot_extend_is_a_read() {
    for how in ["NOREPLICAS no", "MISCONF no", "OOM no", "NOPERM no"] {
        let (store, calls) = refusing(how).await;
        looks_and_keeps_its_end(&store).await;
        looks_and_keeps_its_end(&store).await;
        assert_eq!(*calls.borrow(), ["touch", "get", "touch", "get"]);
        // Whoever asks for an extension alone is told.
        let set = store.executor.set_ttl("a", Millis(1), &extending()).await;
        assert!(set.is_err());
    }
}

#[actix_web::test]
async fn a_read_on_a_replica_looks_for_the_master_once_in_a_while() {
    let (store, calls) = refusing("READONLY no").await;
    looks_and_keeps_its_end(&store).await;
    assert_eq!(*calls.borrow(), ["touch", "touch", "get"]);
    looks_and_keeps_its_end(&store).await;
    assert_eq!(*calls.borrow(), ["touch", "touch", "get", "get"]);
}

#[actix_web::test]
async fn a_touch_at_response_time_that_is_refused_refreshes_nothing() {
    for how in ["NOREPLICAS no", "READONLY no"] {
        let (store, _) = refusing(how).await;
        let key = SessionKey::generated("a".repeat(64));
        let unchanged = Changes::default();
        let checked = backend::commit(&store, &key, None, &unchanged, &extending()).await;
        assert!(matches!(checked, Ok(Committed::NotExtended)), "{checked:?}");
    }
}

/// A store on a server that holds some commands back for ever, and what it was asked.
async fn held_back(
    is_held: impl Fn(&str) -> bool + 'static,
) -> (RedisSessionStore, Rc<RefCell<Vec<String>>>) {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&asked);
    let server = fake::listen(move |command| {
        seen.borrow_mut().push(command[0].clone());
        Some(match is_held(&command[0]) {
            true => String::new(),
            false => bulk(r#"{"v":1,"state":{}}"#),
        })
    })
    .await;
    let timeouts = conn::Timeouts {
        command: Duration::from_millis(200),
        ..fake::PATIENCE
    };
    let connections = Connections::new(&conn::Target::Server(server), timeouts, None).unwrap();
    (store(connections), asked)
}

/// In the same time, on another connection, whose answer may come.
#[actix_web::test]
async fn a_load_whose_answer_is_late_is_asked_once_more() {
    let (store, asked) = held_back(|_| true).await;
    assert!(store.executor.look("a", &Terms::default()).await.is_err());
    assert_eq!(*asked.borrow(), ["GET", "GET"]);
    assert!(store.executor.look("a", &extending()).await.is_err());
    assert_eq!(asked.borrow()[2..4], ["EVALSHA", "GET"]);
}

#[actix_web::test]
async fn a_read_whose_extension_is_held_back_is_a_read() {
    let (store, asked) = held_back(|command| command != "GET").await;
    looks_and_keeps_its_end(&store).await;
    looks_and_keeps_its_end(&store).await;
    // It is known for a moment.
    assert_eq!(*asked.borrow(), ["EVALSHA", "GET", "GET"]);
}

#[actix_web::test]
async fn a_read_is_repeated_however_often_its_connection_breaks() {
    let mut left = 5;
    let connections = fake::connections(None, move |_| {
        left -= 1;
        (left == 0).then(|| bulk(r#"{"v":1,"state":{}}"#))
    })
    .await;
    let found = store(connections)
        .executor
        .look("a", &Terms::default())
        .await;
    assert!(matches!(found, Ok(Stored::Record(_))), "{found:?}");
}

#[actix_web::test]
async fn a_connection_that_breaks_while_it_is_made_is_made_again() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let refused = Rc::new(RefCell::new(0));
    let seen = Rc::clone(&refused);
    actix_web::rt::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read_u8().await;
            *seen.borrow_mut() += 1;
        }
    });
    let timeouts = conn::Timeouts {
        command: Duration::from_millis(200),
        ..fake::PATIENCE
    };
    let target = conn::Target::Server(url.into_connection_info().unwrap());
    let connections = Connections::new(&target, timeouts, None).unwrap();
    let executor = store(connections).executor;
    assert!(executor.look("a", &Terms::default()).await.is_err());
    let tries = *refused.borrow();
    assert!(tries > 1, "{tries}");
}

/// A store on a server that refuses this many commands for a reason that passes, and then has a record.
async fn refuses(why: &'static str, mut times: u32, command: Duration) -> RedisSessionStore {
    let server = fake::listen(move |_| {
        let refused = times > 0;
        times = times.saturating_sub(1);
        Some(match refused {
            true => format!("-{why}\r\n"),
            false => bulk(r#"{"v":1,"state":{}}"#),
        })
    })
    .await;
    let timeouts = conn::Timeouts {
        command,
        ..fake::PATIENCE
    };
    store(Connections::new(&conn::Target::Server(server), timeouts, None).unwrap())
}

const LATER: [&str; 3] = ["LOADING x", "BUSY x", "TRYAGAIN x"];

fn within(budget: Duration, terms: Terms) -> Terms {
    Terms { budget, ..terms }
}

/// For longer than a command may take.
#[actix_web::test]
async fn what_the_server_will_do_later_is_asked_again_within_the_budget() {
    let (command, budget) = (Duration::from_millis(500), Duration::from_secs(60));
    for why in LATER {
        let store = refuses(why, 30, command).await;
        let terms = within(budget, Terms::default());
        let found = store.executor.look("a", &terms).await;
        assert!(matches!(found, Ok(Stored::Record(_))), "{found:?}");
    }
}

#[actix_web::test]
async fn what_the_server_does_not_do_within_the_budget_is_contended() {
    let budget = Duration::from_millis(100);
    let name = "x".repeat(64);
    for why in LATER {
        let store = refuses(why, u32::MAX, fake::PATIENCE.command).await;
        let terms = within(budget, Terms::default());
        let error = store.executor.look(&name, &terms).await.unwrap_err();
        assert!(error.is::<Contended>(), "{error:?}");
        let step = Step::End {
            at: name.as_str().into(),
            owner: None,
        };
        let error = store
            .executor
            .run(&step, &Indexing::default(), &terms)
            .await
            .unwrap_err();
        assert!(error.is::<Contended>(), "{error:?}");
        // An extension that is refused leaves time for a read.
        let store = refuses(why, u32::MAX, budget).await;
        let terms = within(3 * budget, extending());
        let error = store.executor.look(&name, &terms).await.unwrap_err();
        assert!(error.is::<Contended>(), "{error:?}");
    }
}

/// The two scripts for the new record of a renewal across slots, on a real server.
struct Half {
    executor: Executor,
    name: String,
}

impl Half {
    async fn on_a_server() -> Self {
        let url = servers::RedisServer::shared_url().unwrap();
        let server = conn::Target::Server(url.into_connection_info().unwrap());
        let connections = Connections::new(&server, fake::PATIENCE, None).unwrap();
        let key = crate::random::session_key().unwrap();
        Self {
            executor: Executor::new(connections),
            name: key.as_ref().to_owned(),
        }
    }

    async fn prepare(&self, text: &str) -> Reply {
        let beside = redirect_name(&self.name);
        let keys = [self.name.as_str(), &beside];
        self.run(&PREPARE_SCRIPT, &keys, &[text, "60000"]).await
    }

    async fn take_back(&self, text: &str) -> Reply {
        self.run(&TAKE_BACK_SCRIPT, &[&self.name], &[text]).await
    }

    async fn run(&self, script: &Script, keys: &[&str], args: &[&str]) -> Reply {
        let call = script.call(keys, args);
        let (job, terms) = (Job::script(&call), Terms::default());
        self.executor.step(&job, &terms).await.unwrap()
    }

    async fn text(&self) -> Option<String> {
        match self
            .executor
            .read(&self.name, &Terms::default())
            .await
            .unwrap()
        {
            Stored::Record(record) => record.as_text().map(str::to_owned),
            _ => None,
        }
    }
}

/// A renewal across slots by a user who may not delete is refused as a whole.
#[actix_web::test]
async fn a_renewal_that_may_not_delete_leaves_everything_as_it_is() {
    let server = servers::RedisServer::start().unwrap();
    let executor = |user: &str| {
        let url = format!("redis://{user}127.0.0.1:{}", server.port());
        let target = conn::Target::Server(url.into_connection_info().unwrap());
        let connections = Connections::new(&target, fake::PATIENCE, None).unwrap();
        Executor {
            has_slots: true,
            ..Executor::new(connections)
        }
    };
    let all = executor("");
    let mut allow = redis::cmd("ACL");
    for word in ["SETUSER", "app", "on", ">x", "~*", "+@all", "-del"] {
        allow.arg(word);
    }
    all.connections
        .repeatable(&Job::command("", &allow))
        .await
        .unwrap();
    let terms = Terms::default();
    let (old, new) = (
        Record::decode(FIRST.to_owned()).unwrap(),
        Record::decode(OTHER.to_owned()).unwrap(),
    );
    let until = terms.now + Millis::secs(60);
    let none = Indexing::default();
    all.insert("{a}", &old, until, &none, &terms).await.unwrap();
    for target in ["{b}", "{a}2"] {
        let redirect = Redirect {
            target: target.into(),
            ..own_redirect()
        };
        let expected = old.version();
        let write = Write::new(("{a}", &expected, &new), None, &OwnerBefore::Same, &terms);
        let user = executor("app:x@");
        let rotated = user.rotate(write, &redirect, until, &none, &terms).await;
        assert!(rotated.is_err());
        let read = async |at| all.read(at, &terms).await.unwrap();
        assert!(matches!(read("{a}").await, Stored::Record(_)), "{target}");
        while !matches!(read(target).await, Stored::Nothing) {}
        while all.get("{a}:moved").await.unwrap() != Value::Nil {}
    }
}

const FIRST: &str = r#"{"v":1,"state":{"n":1}}"#;
const OTHER: &str = r#"{"v":1,"state":{"n":2}}"#;

#[actix_web::test]
async fn a_first_half_is_written_once_and_over_nothing() {
    let half = Half::on_a_server().await;
    for _ in 0..2 {
        assert!(matches!(half.prepare(FIRST).await, Reply::Done));
    }
    assert!(matches!(half.prepare(OTHER).await, Reply::Taken));
    assert_eq!(half.text().await.as_deref(), Some(FIRST));
}

#[actix_web::test]
async fn what_others_have_written_since_is_not_taken_back() {
    let half = Half::on_a_server().await;
    half.prepare(OTHER).await;
    half.take_back(FIRST).await;
    assert_eq!(half.text().await.as_deref(), Some(OTHER));
    half.take_back(OTHER).await;
    assert_eq!(half.text().await, None);
    half.take_back(FIRST).await;
}
