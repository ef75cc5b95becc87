//! A master that Sentinel names.

use std::time::Duration;

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, Value,
    aio::MultiplexedConnection,
};
use tokio::time::timeout;

use super::{Timeouts, question};

/// Asks all sentinels at once, and follows the first that leads to a master: one of them may be
/// frozen, cut off, or out of date.
pub(super) struct Sentinel {
    nodes: Vec<Client>,
    master: String,
    /// Everything about the master but its address.
    data: ConnectionInfo,
    connect_timeout: Duration,
}

impl Sentinel {
    pub(super) fn new(
        nodes: &[ConnectionInfo],
        master: String,
        data: ConnectionInfo,
        timeouts: Timeouts,
    ) -> Result<Self, RedisError> {
        let nodes = nodes.iter().cloned().map(Client::open);
        Ok(Self {
            nodes: nodes.collect::<Result<_, _>>()?,
            master,
            data,
            connect_timeout: timeouts.connect,
        })
    }

    /// Connects to the present master.
    pub(super) async fn connect(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let found = timeout(self.connect_timeout, self.search(config)).await;
        found.unwrap_or_else(|_| Err((ErrorKind::Io, "no sentinel led to a master in time").into()))
    }

    async fn search(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let searches = self.nodes.iter().map(|node| self.through(node, config));
        let mut searches: FuturesUnordered<_> = searches.collect();
        let mut last = RedisError::from((ErrorKind::EmptySentinelList, "no sentinel is named"));
        while let Some(found) = searches.next().await {
            match found {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn through(
        &self,
        node: &Client,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let mut sentinel = node
            .get_multiplexed_async_connection_with_config(config)
            .await?;
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let answer = question(&mut sentinel, &ask).await?;
        let (host, port) = address(answer).ok_or_else(|| {
            let message = "a sentinel knows no master of this name";
            RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, message))
        })?;
        let client = Client::open(at(&self.data, host, port))?;
        let mut master = client
            .get_multiplexed_async_connection_with_config(config)
            .await?;
        // A sentinel that was cut off names the former master.
        match question(&mut master, &redis::cmd("ROLE")).await {
            Ok(Value::Array(role)) if text(role.first()) == Some("slave") => {
                Err((ErrorKind::Io, "a sentinel named a replica as the master").into())
            }
            _ => Ok(master),
        }
    }
}

fn address(answer: Value) -> Option<(String, u16)> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let host = text(parts.first())?.to_owned();
    let port = text(parts.get(1))?.parse().ok()?;
    Some((host, port))
}

fn text(value: Option<&Value>) -> Option<&str> {
    match value? {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// How to connect to another address in the same way.
pub(super) fn at(like: &ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    let addr = match like.addr() {
        ConnectionAddr::TcpTls {
            insecure,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => ConnectionAddr::Tcp(host, port),
    };
    like.clone().set_addr(addr)
}
