//! The epoch of a `clear`, beside a record whose text does not keep it.

use redis::{RedisError, Value};

use super::{
    super::{answer, conn::Job, naming::epoch_name},
    Executor,
    read::get,
};
use crate::{
    contract::Terms,
    protocol::{Reply, Stored},
    record::{Record, WireFormat},
};

/// Whether the records of this middleware do not keep their epochs.
pub(super) fn keeps_epochs_beside(terms: &Terms) -> bool {
    terms.format == WireFormat::V0_11
}

/// An epoch as what lies beside a record, if it does.
pub(super) fn epoch_text(epoch: Option<u64>) -> String {
    epoch.map_or_else(String::new, |epoch| format!("{epoch:016x}"))
}

/// Whether an answer has a record that another middleware may have cleared, which keeps epochs beside
/// records: while that setting is removed, servers with it and servers without it run side by side.
fn may_be_cleared_beside(answer: &Value) -> bool {
    let text = match answer {
        Value::Array(parts) => parts.get(1),
        answer => Some(answer),
    };
    matches!(text, Some(Value::BulkString(text)) if is_for_old_servers(text))
}

/// Whether a text is in the format of old servers.
fn is_for_old_servers(text: &[u8]) -> bool {
    text.starts_with(b"{") && !text.starts_with(br#"{"v":1,"#)
}

fn is_record_for_old_servers(record: &Record) -> bool {
    let text = record.as_text();
    text.is_some_and(|text| is_for_old_servers(text.as_bytes()))
}

impl Executor {
    /// Does a job at a record, and reads first which epoch lies beside it, in one round trip: a
    /// record without a `clear` is never taken for one that has come after it.
    pub(super) async fn after_epoch(
        &self,
        job: &Job<'_>,
        terms: &Terms,
    ) -> Result<(Option<u64>, Value), RedisError> {
        if !keeps_epochs_beside(terms) {
            let value = self.connections.repeat_or_read(job).await?;
            if !may_be_cleared_beside(&value) || !Box::pin(self.has_epoch(job.at())).await? {
                return Ok((None, value));
            }
        }
        Box::pin(self.both(job)).await
    }

    /// Whether a middleware that keeps epochs beside records has cleared this one a moment ago. It
    /// has not if this user may not read such names.
    async fn has_epoch(&self, at: &str) -> Result<bool, RedisError> {
        match self.get(&epoch_name(at)).await {
            Ok(epoch) => Ok(answer::epoch(Some(epoch)).is_some()),
            Err(error) if error.code().is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn both(&self, job: &Job<'_>) -> Result<(Option<u64>, Value), RedisError> {
        let name = epoch_name(job.at());
        let get = get(&name);
        let (epoch, value) = match self.connections.repeatable_after(&get, *job).await? {
            (Some(epoch), value) => (epoch, value),
            // The slot is being moved, and the two may lie on two nodes.
            (None, _) => {
                let epoch = Box::pin(self.get(&name)).await?;
                (epoch, Box::pin(self.connections.repeat_or_read(job)).await?)
            }
        };
        Ok((answer::epoch(Some(epoch)), value))
    }

    /// Reads the record again if a step that was not done has found one, and its text does not keep
    /// the epoch, or may not.
    pub(super) async fn or_epoch(
        &self,
        reply: Reply,
        at: &str,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        match reply {
            Reply::Found(Stored::Record(found))
                if keeps_epochs_beside(terms) || is_record_for_old_servers(&found) =>
            {
                // What is rare is on the heap.
                let found = Box::pin(self.look_again(at, terms)).await?;
                Ok(Reply::Found(found))
            }
            reply => Ok(reply),
        }
    }
}
