//! A connection on which messages come.

use redis::{Client, ErrorKind, RedisError, aio::PubSub};
use tokio::time::timeout;

use super::{Connections, Topology, too_late};

impl Connections {
    /// Opens one to a server that hears what all of them are told. In a cluster each node does.
    ///
    /// # Errors
    /// No server answers, or the connections are the application's, which are not for that.
    pub(crate) async fn line(&self) -> Result<PubSub, RedisError> {
        let mut last = (ErrorKind::Client, "no server is known to listen to").into();
        for client in self.topology.clients() {
            let opened = timeout(self.command_timeout * 2, client.get_async_pubsub()).await;
            match opened.unwrap_or_else(|_| Err(too_late())) {
                Ok(line) => return Ok(line),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Whether messages can come.
    pub(crate) fn has_line(&self) -> bool {
        !matches!(self.topology, Topology::Pool(_))
    }
}

impl Topology {
    fn clients(&self) -> Vec<Client> {
        match self {
            Self::Server(link) => link.client().into_iter().collect(),
            Self::Sentinel(watched) => watched.client().into_iter().collect(),
            Self::Cluster(cluster) => cluster.clients(),
            Self::Pool(_) => Vec::new(),
        }
    }
}
