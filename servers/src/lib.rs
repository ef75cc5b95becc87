//! Real servers for tests.
//!
//! A server here is a child process with a free loopback port and a temporary folder of its own. It
//! is ready when the function that starts it returns. It is gone, folder included, when its value
//! is dropped, or when the process that started it dies for any reason, `kill -9` included.
//!
//! ```
//! let redis = servers::RedisServer::start()?;
//! redis.ping()?;
//! println!("{}", redis.url());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Each kind of server has a file of its own. [`server`] has what all kinds share, on top of
//! [`software`] (finding the program), [`install`], [`port`], [`process`] and [`wait`].

#[cfg(not(unix))]
compile_error!("these tests start Unix servers: run them on Linux, on macOS, or in WSL on Windows");

pub mod chromium;
pub mod cluster;
mod error;
mod family;
pub mod install;
pub mod mariadb;
pub mod pgbouncer;
pub mod port;
pub mod postgres;
pub mod process;
pub mod python;
pub mod redis;
pub mod redis_tls;
pub mod resp;
pub mod sentinel;
pub mod server;
pub mod software;
mod user;
pub mod wait;

pub use chromium::Chromium;
pub use cluster::RedisCluster;
pub use error::Error;
pub use mariadb::MariaDbServer;
pub use pgbouncer::PgBouncer;
pub use postgres::PostgresServer;
pub use redis::RedisServer;
pub use redis_tls::TlsRedis;
pub use sentinel::RedisSentinel;
pub use server::Server;
