//! PostgreSQL and MariaDB that are started, killed, restarted and paused.
#![allow(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use servers::{
    Error, MariaDbServer, PgBouncer, PostgresServer, install, mariadb, pgbouncer, postgres, wait,
};

/// How many servers of a kind start at the same moment.
const AT_ONCE: usize = 4;

fn runs(process: u32) -> bool {
    let pid = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    test_kill_process(pid).is_ok()
}

/// A connection to a server.
fn connected(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(wait::LIMIT)).unwrap();
    stream
}

macro_rules! life {
    ($module:ident, $server:ident, $software:expr) => {
        mod $module {
            use super::*;

            #[test]
            fn it_is_killed_restarted_paused_and_dropped() {
                install::ensure(&$software).unwrap();
                let mut server = $server::start().unwrap();
                server.ping().unwrap();
                let (port, process) = (server.port(), server.process_id().unwrap());
                assert!(server.url().contains(&port.to_string()));

                server.kill();
                assert!(server.ping().is_err() && !runs(process));
                assert!(matches!(server.pause(), Err(Error::Io { .. })));

                server.restart().unwrap();
                server.ping().unwrap();
                assert_eq!(server.port(), port);
                assert_ne!(server.process_id(), Some(process));

                server.pause().unwrap();
                assert!(server.ping().is_err());
                server.resume().unwrap();
                server.ping().unwrap();

                let (process, folder) = (server.process_id().unwrap(), server.folder().to_owned());
                drop(server);
                assert!(!runs(process) && !folder.exists());
            }

            #[test]
            fn a_refused_setting_is_shown_with_the_log() {
                install::ensure(&$software).unwrap();
                let error = $server::start_with(&[("no_such_setting", "1")]).unwrap_err();
                assert!(matches!(error, Error::Ended { .. }), "{error}");
                assert!(error.to_string().contains("no_such_setting"), "{error}");
            }

            #[test]
            fn servers_that_start_at_once_do_not_disturb_each_other() {
                install::ensure(&$software).unwrap();
                let starts = [(); AT_ONCE].map(|()| thread::spawn($server::start));
                let servers = starts.map(|start| start.join().unwrap().unwrap());
                for server in &servers {
                    server.ping().unwrap();
                }
            }

            #[test]
            fn files_of_others_in_the_shared_temporary_folder_stay() {
                install::ensure(&$software).unwrap();
                let before = $server::start().unwrap();
                let owner = before.folder().metadata().unwrap();
                // Named like a temporary table of MariaDB, and owned by the servers' user.
                let table = tempfile::Builder::new()
                    .prefix("#sql-temptable-")
                    .tempfile()
                    .unwrap();
                chown(table.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
                let _server = $server::start().unwrap();
                assert!(table.path().exists(), "a server removed another's table");
            }

            #[test]
            fn tests_that_share_a_server_get_the_same_one() {
                install::ensure(&$software).unwrap();
                let url = $server::shared_url().unwrap();
                assert_eq!($server::shared_url().unwrap(), url);
            }
        }
    };
}

life!(on_postgres, PostgresServer, postgres::SOFTWARE);
life!(on_mariadb, MariaDbServer, mariadb::SOFTWARE);

#[test]
fn connections_to_postgres_pause_and_end_with_it() {
    install::ensure(&postgres::SOFTWARE).unwrap();
    let mut server = PostgresServer::start().unwrap();
    let mut stream = connected(server.port());
    stream
        .write_all(b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0")
        .unwrap();
    let mut greeting = Vec::new();
    let mut buffer = [0; 1024];
    // "Ready for query" ends the greeting.
    while !greeting.ends_with(b"Z\0\0\0\x05I") {
        let length = stream.read(&mut buffer).unwrap();
        assert_ne!(length, 0);
        greeting.extend_from_slice(&buffer[..length]);
    }
    server.pause().unwrap();
    stream.write_all(b"Q\0\0\0\x0dSELECT 1\0").unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(
        stream.read(&mut buffer).is_err(),
        "it answered while paused"
    );
    server.kill();
    stream.set_read_timeout(Some(wait::LIMIT)).unwrap();
    match stream.read(&mut buffer) {
        Ok(length) => assert_eq!(length, 0, "it answered after its end"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn a_pooler_answers_for_its_server_alone() {
    install::ensure(&postgres::SOFTWARE).unwrap();
    install::ensure(&pgbouncer::SOFTWARE).unwrap();
    let mut server = PostgresServer::start().unwrap();
    let mut pooler = PgBouncer::before(&server.url()).unwrap();
    pooler.ping().unwrap();
    pooler.restart().unwrap();
    pooler.ping().unwrap();
    server.kill();
    pooler.kill();
    assert!(pooler.ping().is_err());
    assert!(PgBouncer::before("postgres://nowhere").is_err());
}

#[test]
fn a_replica_outlives_its_primary() {
    install::ensure(&postgres::SOFTWARE).unwrap();
    let primary = PostgresServer::start().unwrap();
    let mut replica = primary
        .start_replica(&[("max_connections", "200")])
        .unwrap();
    assert_ne!(replica.port(), primary.port());
    assert!(replica.folder().join("data/standby.signal").exists());
    drop(primary);
    replica.ping().unwrap();
    replica.restart().unwrap();
    replica.ping().unwrap();
}
