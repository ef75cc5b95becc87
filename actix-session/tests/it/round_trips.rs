//! What a request costs in round trips, on a cluster and on database servers. (`redis_round_trips` has a single
//! Redis.)

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpStream},
};

use actix_session::{Session, SessionMiddleware, storage::RedisSessionStore};
use servers::{RedisCluster, resp::lines_of};

use crate::support::{
    Browser, MySql, PATIENCE, Postgres, Proxy, SqlTestStore as _, TestStore as _, count,
};

fn log_in(session: &Session) {
    session.login("user-42").unwrap();
}

/// What the masters are asked for sessions, but not what scripts ask in turn.
struct Monitor(Vec<(u16, BufReader<TcpStream>)>);

impl Monitor {
    fn of(cluster: &mut RedisCluster) -> Self {
        let ports = cluster.nodes()[..3].iter().map(|node| node.port());
        let watched = ports.map(|port| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"MONITOR\r\n").unwrap();
            let mut reader = BufReader::new(stream);
            let mut answer = String::new();
            reader.read_line(&mut answer).unwrap();
            assert_eq!(answer, "+OK\r\n");
            (port, reader)
        });
        Self(watched.collect())
    }

    /// The commands since this was asked last: each is one round trip. A script that a node does not know is
    /// sent again, once.
    fn commands(&mut self) -> Vec<String> {
        const LAST: &str = "that-is-all";
        const OF_STORE: [&str; 5] = ["GET", "SET", "EVALSHA", "HGETALL", "EXISTS"];

        let mut commands = Vec::new();
        for (port, reader) in &mut self.0 {
            lines_of(*port, &format!("ECHO {LAST}")).unwrap();
            let lines = reader.lines().map(Result::unwrap);
            let lines = lines.take_while(|line| !line.contains(LAST));
            let asked = lines.filter(|line| !line.contains(" lua] "));
            let names = asked.filter_map(|line| Some(line.split('"').nth(1)?.to_uppercase()));
            commands.extend(names.filter(|name| OF_STORE.contains(&name.as_str())));
        }
        commands.sort_unstable();
        commands
    }
}

#[actix_web::test]
async fn on_a_cluster() {
    let mut cluster = RedisCluster::start().unwrap();
    let mut monitor = Monitor::of(&mut cluster);
    let builder = || RedisSessionStore::builder_cluster(cluster.urls());
    for builder in [builder(), builder().hashed_keys().key_prefix("hashed:")] {
        let browser = Browser::with(builder.build().await.unwrap()).await;
        takes_no_more_on_a_cluster(&mut monitor, &browser).await;
    }
}

async fn takes_no_more_on_a_cluster(monitor: &mut Monitor, browser: &Browser) {
    // The store has asked whether there are slots.
    monitor.commands();
    let mut trips = async |act: &dyn Fn(&Session)| {
        browser.visit(|s| act(s)).await.assert_ok();
        monitor.commands()
    };
    let [one, two] = [vec!["EVALSHA"], vec!["EVALSHA", "GET"]];
    assert_eq!(trips(&|_| ()).await, [""; 0], "anonymous");
    assert_eq!(trips(&count).await, one, "a new session");
    assert_eq!(trips(&|_| ()).await, ["GET"], "a read");
    assert_eq!(trips(&count).await, two, "a write");
    assert_eq!(trips(&|s| s.renew()).await, two, "a renewal");
    // The guest's record lies anywhere: two more.
    let more = ["EVALSHA", "EVALSHA", "EVALSHA", "GET"];
    assert_eq!(trips(&log_in).await, more, "a guest's login");
    assert_eq!(trips(&|_| ()).await, ["GET"], "a read of somebody's");
    assert_eq!(trips(&count).await, two, "a write");
    assert_eq!(trips(&|s| s.renew()).await, two, "a renewal of somebody's");
    assert_eq!(trips(&log_in).await, two, "another login");
    assert_eq!(
        trips(&|s| s.clear()).await,
        two,
        "a logout that keeps the key"
    );
    assert_eq!(trips(&log_in).await, two, "a login where it was");
    assert_eq!(trips(&|s| s.purge()).await, two, "a logout");
    assert_eq!(trips(&log_in).await, one, "a login without an older record");
}

/// A request's cost, by the proxy before the database.
async fn trips(proxy: &Proxy, browser: &Browser, act: impl FnOnce(&Session)) -> usize {
    proxy.messages();
    browser.visit(act).await.assert_ok();
    proxy.messages()
}

/// What a request does, and how many round trips that takes.
type Priced = (&'static str, fn(&Session), usize);

/// `renewal`: of what one takes besides the load.
async fn on_a_database(proxy: &Proxy, browser: &Browser, renewal: usize) {
    // From the second time on the statements are prepared.
    for is_counted in [false, true] {
        let acts: [Priced; 12] = [
            ("anonymous", |_| (), 0),
            ("a new session", count, 1),
            ("a read", |_| (), 1),
            ("a write", count, 2),
            ("a renewal", |s| s.renew(), 1 + renewal),
            ("a guest's login", log_in, 1 + renewal),
            ("a read of somebody's", |_| (), 1),
            ("a write", count, 2),
            ("a renewal of somebody's", |s| s.renew(), 1 + renewal),
            ("another login", log_in, 1 + renewal),
            ("a logout", |s| s.purge(), 2),
            ("a login without an older record", log_in, 1),
        ];
        for (what, act, wanted) in acts {
            let trips = trips(proxy, browser, act).await;
            assert!(!is_counted || trips == wanted, "{what}: {trips}");
        }
        browser.forget();
    }
}

macro_rules! on_database {
    ($store:ident, $renewal:literal) => {{
        let tested = $store::start().await;
        let (before, rest) = tested.url().rsplit_once(':').unwrap();
        let (port, rest) = rest.split_once('/').unwrap();
        let proxy = Proxy::before_database(port.parse().unwrap());
        let url = format!("{before}:{}/{rest}", proxy.port());
        let store = tested.builder(&url).max_connections(1).build().await;
        let middleware = SessionMiddleware::builder(store.unwrap(), tested.key().clone())
            .clock(tested.clock().clone());
        let browser = tested.browser_of(middleware).await;
        on_a_database(&proxy, &browser, $renewal).await;
    }};
}

#[actix_web::test]
async fn on_postgres() {
    on_database!(Postgres, 1);
}

#[actix_web::test]
async fn on_mysql() {
    on_database!(MySql, 4);
}
