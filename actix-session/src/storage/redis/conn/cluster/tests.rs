use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use redis::IntoConnectionInfo as _;
use tokio::net::TcpListener;

use super::{super::super::fake, *};

/// Accepts connections, counts them, and says nothing.
async fn silent() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    actix_web::rt::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            held.push(connection);
        }
    });
    (url, count)
}

#[actix_web::test]
async fn a_look_that_fails_has_failed_for_everybody_who_waited_for_it() {
    let (url, asked) = silent().await;
    let timeouts = Timeouts {
        connect: Duration::from_millis(100),
        command: Duration::from_secs(10),
    };
    let seed = url.into_connection_info().unwrap();
    let cluster = Cluster::new(&[seed], timeouts).unwrap();
    let ping = redis::cmd("PING");
    let deadline = Instant::now() + timeouts.command;
    let jobs = (0..12).map(|_| cluster.run(Job::command("a", &ping), deadline));
    for outcome in join_all(jobs).await {
        assert!(outcome.is_err());
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // A later job asks again.
    let job = cluster.run(Job::command("a", &ping), deadline);
    assert!(job.await.is_err());
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// A failover may be why an answer was lost, and another node's answer says where to go.
#[actix_web::test]
async fn after_a_lost_answer_the_cluster_is_asked_who_has_what() {
    let (asked, port) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
    let (seen, own) = (Rc::clone(&asked), Rc::clone(&port));
    let node = fake::listen(move |command| {
        let first = !seen.borrow().iter().any(|name| name == "GET");
        seen.borrow_mut().push(command[0].clone());
        match command[0].as_str() {
            "CLUSTER" => Some(all_slots_at(own.get())),
            _ if first => None,
            _ => Some("$1\r\nx\r\n".to_owned()),
        }
    })
    .await;
    if let ConnectionAddr::Tcp(_, listens) = node.addr() {
        port.set(*listens);
    }
    let cluster = Cluster::new(&[node], fake::PATIENCE).unwrap();
    let get = redis::cmd("GET");
    let deadline = Instant::now() + fake::PATIENCE.command;
    let run = || cluster.run(Job::command("a", &get), deadline);
    assert!(matches!(run().await, Ok(Outcome::Lost(_))));
    for _ in 0..2 {
        assert!(matches!(run().await, Ok(Outcome::Value(_))));
    }
    assert_eq!(*asked.borrow(), ["CLUSTER", "GET", "CLUSTER", "GET", "GET"]);
}

/// The answer to `CLUSTER SLOTS` of a node that has them all.
fn all_slots_at(port: u16) -> String {
    format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:{port}\r\n")
}

/// A replica that has just begun to copy names the master alone, and so does a master that has a name
/// which does not lead to it.
#[actix_web::test]
async fn a_node_that_is_asked_is_the_only_one_if_its_id_says_so() {
    for (own, gets) in [("replica", [0, 1]), ("master", [1, 0])] {
        let counts: [Rc<Cell<usize>>; 2] = Default::default();
        let counted = Rc::clone(&counts[1]);
        let master = fake::listen(move |_| {
            counted.set(counted.get() + 1);
            Some("$1\r\nx\r\n".to_owned())
        })
        .await;
        let ConnectionAddr::Tcp(_, port) = *master.addr() else {
            panic!("it listens");
        };
        let counted = Rc::clone(&counts[0]);
        let asked = fake::listen(move |command| {
            Some(match command[1].as_str() {
                "SLOTS" => format!(
                    "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$6\r\nmaster\r\n"
                ),
                "MYID" => format!("${}\r\n{own}\r\n", own.len()),
                _ => {
                    counted.set(counted.get() + 1);
                    "$1\r\nx\r\n".to_owned()
                }
            })
        })
        .await;
        let cluster = Cluster::new(&[asked], fake::PATIENCE).unwrap();
        let mut get = redis::cmd("GET");
        get.arg("a");
        let deadline = Instant::now() + fake::PATIENCE.command;
        let got = cluster.run(Job::command("a", &get), deadline).await;
        assert!(matches!(got, Ok(Outcome::Value(_))));
        assert_eq!(counts.each_ref().map(|count| count.get()), gets, "{own}");
    }
}

/// Nodes that do not agree name each other over and over.
#[actix_web::test]
async fn redirections_without_an_end_are_followed_with_pauses() {
    let (ports, asked) = (Rc::new([Cell::new(0), Cell::new(0)]), Rc::new(Cell::new(0)));
    let mut nodes = Vec::new();
    for n in 0..2 {
        let (all, count) = (Rc::clone(&ports), Rc::clone(&asked));
        let node = fake::listen(move |command| {
            Some(match command[0].as_str() {
                "CLUSTER" => all_slots_at(all[n].get()),
                _ => {
                    count.set(count.get() + 1);
                    format!("-MOVED 1 127.0.0.1:{}\r\n", all[1 - n].get())
                }
            })
        })
        .await;
        ports[n].set(port_of(&node));
        nodes.push(node);
    }
    let cluster = Cluster::new(&nodes[..1], fake::PATIENCE).unwrap();
    let get = redis::cmd("GET");
    let deadline = Instant::now() + Duration::from_millis(500);
    assert!(
        cluster
            .run(Job::command("a", &get), deadline)
            .await
            .is_err()
    );
    // Without a pause there are thousands.
    assert!(asked.get() <= 60, "{}", asked.get());
}

#[actix_web::test]
async fn a_node_that_only_takes_slots_over_is_connected_once() {
    let (importing, accepted) = fake::listen_to(usize::MAX, |command| {
        Some(match command[0].as_str() {
            "ASKING" => "+OK\r\n".to_owned(),
            _ => "$1\r\nx\r\n".to_owned(),
        })
    })
    .await;
    let (there, own) = (port_of(&importing), Rc::new(Cell::new(0)));
    let port = Rc::clone(&own);
    let owner = fake::listen(move |command| {
        Some(match command[0].as_str() {
            "CLUSTER" => all_slots_at(port.get()),
            _ => format!("-ASK 1 127.0.0.1:{there}\r\n"),
        })
    })
    .await;
    own.set(port_of(&owner));
    let cluster = Cluster::new(&[owner], fake::PATIENCE).unwrap();
    let get = redis::cmd("GET");
    let deadline = Instant::now() + fake::PATIENCE.command;
    for _ in 0..5 {
        let got = cluster.run(Job::command("a", &get), deadline).await;
        assert!(matches!(got, Ok(Outcome::Value(_))));
    }
    assert_eq!(accepted.get(), 1);
}

fn port_of(node: &ConnectionInfo) -> u16 {
    match node.addr() {
        ConnectionAddr::Tcp(_, port) => *port,
        _ => panic!("it listens"),
    }
}
