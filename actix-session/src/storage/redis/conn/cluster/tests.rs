use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use redis::IntoConnectionInfo as _;
use tokio::net::TcpListener;

use super::*;

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
