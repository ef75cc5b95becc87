//! A Galera cluster: its nodes take writes alike, and apply what others have committed a moment later.

use std::path::Path;

use actix_session::storage::{MySqlSessionStore, SessionStore as _};
use servers::{MariaDbServer, port};
use sqlx::{Connection as _, Executor as _, MySqlConnection, mysql::MySqlPoolOptions};

use crate::support::fill_store;

/// Debian's package `mariadb-server` brings it along, with `rsync`; Fedora's is `mariadb-server-galera`.
const PROVIDERS: [&str; 2] = [
    "/usr/lib/galera/libgalera_smm.so",
    "/usr/lib64/galera/libgalera_smm.so",
];

/// A node that founds a cluster, or that joins the one with a node at this port.
fn node(provider: &str, own: u16, founder: Option<u16>) -> MariaDbServer {
    let at = |port: u16| format!("127.0.0.1:{port}");
    let free = || at(port::free().unwrap());
    let options = format!(
        "gmcast.listen_addr=tcp://{};ist.recv_addr={};gcache.size=8M",
        at(own),
        free()
    );
    let settings = [
        ("wsrep-on", "ON".to_owned()),
        ("wsrep-provider", provider.to_owned()),
        ("wsrep-provider-options", options),
        (
            "wsrep-cluster-address",
            format!("gcomm://{}", founder.map(at).unwrap_or_default()),
        ),
        ("wsrep-node-address", at(own)),
        ("wsrep-sst-method", "rsync".to_owned()),
        ("wsrep-sst-receive-address", free()),
        ("binlog-format", "ROW".to_owned()),
        ("innodb-autoinc-lock-mode", "2".to_owned()),
    ];
    let settings: Vec<_> = settings.iter().map(|(k, v)| (*k, v.as_str())).collect();
    MariaDbServer::start_with(&settings).unwrap()
}

/// While a node applies nothing, it knows nothing of the ending, and says so.
#[actix_web::test]
async fn what_has_ended_on_one_node_is_open_on_none() {
    let Some(provider) = PROVIDERS.iter().find(|file| Path::new(file).exists()) else {
        println!("there is no Galera on this machine");
        return;
    };
    let ports = [port::free().unwrap(), port::free().unwrap()];
    let one = node(provider, ports[0], None);
    let two = node(provider, ports[1], Some(ports[0]));
    let first = MySqlSessionStore::new(one.url()).await.unwrap();
    let second = MySqlSessionStore::new(two.url()).await.unwrap();

    let key = fill_store(&first, 0).await;
    let seen = second.load(&key).await.unwrap();
    assert!(seen.is_some(), "it is there at once");

    let pool = MySqlPoolOptions::new().max_connections(1);
    let pool = pool.connect(&two.url()).await.unwrap();
    let own = MySqlSessionStore::from_pool(pool);
    let mut operator = MySqlConnection::connect(&two.url()).await.unwrap();
    operator
        .execute("FLUSH TABLES WITH READ LOCK")
        .await
        .unwrap();
    first.delete(&key).await.unwrap();
    let seen = own.load(&key).await.unwrap();
    assert!(
        seen.is_some(),
        "a pool of the application's looks at the node alone"
    );
    let seen = second.load(&key).await;
    assert!(
        !matches!(seen, Ok(Some(_))),
        "it was ended before: {seen:?}"
    );
    operator.execute("UNLOCK TABLES").await.unwrap();
    assert_eq!(second.load(&key).await.unwrap(), None);
}
