//! Ends of sessions, as servers tell them.

use anyhow::Context as _;
use futures_util::StreamExt as _;
use redis::aio::PubSub;

use super::{backend::Executor, conn::refused};
use crate::live::line::{Line, Refused, Said};

/// The channel of all processes, and that on which this one asks for a sign of life.
pub(super) struct RedisLine<'a> {
    executor: &'a Executor,
    own: String,
}

impl<'a> RedisLine<'a> {
    /// `None` if connections are the application's, and no messages come there.
    pub(super) fn new(executor: &'a Executor) -> Option<Self> {
        let nonce = crate::random::u64().unwrap_or_default();
        let own = format!("{}:{nonce:016x}", executor.channel());
        executor.has_line().then_some(Self { executor, own })
    }
}

impl Line for RedisLine<'_> {
    type Open = PubSub;

    async fn open(&self) -> anyhow::Result<PubSub> {
        // The way of all commands knows which server is the one.
        self.executor.ping().await?;
        let mut line = self.executor.line().await?;
        let channels = [self.executor.channel(), &self.own];
        line.subscribe(&channels).await.map_err(or_refused)?;
        Ok(line)
    }

    async fn next(&self, open: &mut PubSub) -> anyhow::Result<Said> {
        let message = open.on_message().next().await;
        let message = message.context("the server has closed the connection")?;
        if message.get_channel_name() == self.own {
            return Ok(Said::Alive);
        }
        let text = std::str::from_utf8(message.get_payload_bytes());
        Ok(text.map_or(Said::Nothing, Said::read))
    }

    async fn ask(&self) -> anyhow::Result<()> {
        self.executor.publish(&self.own).await.map_err(or_refused)
    }
}

const RIGHTS: &str = "to tell ends at once, the user needs the right to publish and to listen on the \
     channel that the documentation of the store names";

/// A server that answers that it does not do that will not do so a moment later either.
fn or_refused(error: redis::RedisError) -> anyhow::Error {
    let is_refused = error.code() == Some("NOPERM");
    let error = anyhow::Error::from(error);
    if is_refused && refused(&error).is_some() {
        return error.context(Refused(RIGHTS));
    }
    error
}
