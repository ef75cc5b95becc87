//! A master that Sentinel names.

use std::time::Duration;

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, Value,
    aio::MultiplexedConnection,
};
use tokio::time::timeout;

use super::{Limits, question};

/// All sentinels are asked at once, and whoever leads to a master first is followed: one of them may
/// be frozen, cut off, or behind the times.
pub(super) struct Sentinel {
    nodes: Vec<Client>,
    master: String,
    /// Everything about the master but its address.
    data: ConnectionInfo,
    limit: Duration,
}

impl Sentinel {
    pub(super) fn new(
        nodes: &[ConnectionInfo],
        master: String,
        data: ConnectionInfo,
        limits: Limits,
    ) -> Result<Self, RedisError> {
        let nodes = nodes.iter().cloned().map(Client::open);
        Ok(Self {
            nodes: nodes.collect::<Result<_, _>>()?,
            master,
            data,
            limit: limits.connect,
        })
    }

    /// A connection to the present master.
    pub(super) async fn connect(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        timeout(self.limit, self.search(config))
            .await
            .unwrap_or_else(|_| {
                Err((ErrorKind::Io, "no sentinel has led to a master in time").into())
            })
    }

    async fn search(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let ways = self.nodes.iter().map(|node| self.through(node, config));
        let mut ways: FuturesUnordered<_> = ways.collect();
        let mut last = RedisError::from((ErrorKind::EmptySentinelList, "no sentinel is named"));
        while let Some(way) = ways.next().await {
            match way {
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
            let told = "a sentinel knows no master of this name";
            RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, told))
        })?;
        let client = Client::open(at(&self.data, host, port))?;
        let mut master = client
            .get_multiplexed_async_connection_with_config(config)
            .await?;
        // A sentinel that was cut off names the old one.
        match question(&mut master, &redis::cmd("ROLE")).await {
            Ok(Value::Array(role)) if text(role.first()) == Some("slave") => Err((
                ErrorKind::Io,
                "a sentinel has named a replica as the master",
            )
                .into()),
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

/// The same way to connect, to another address.
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
