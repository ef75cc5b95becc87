//! The epoch of a `clear`, beside a record whose text does not keep it.

use redis::{RedisError, Value};

use super::{
    super::{answer, conn::Job, naming::epoch_name},
    Executor,
};
use crate::{
    contract::Terms,
    protocol::{Reply, Stored},
    record::WireFormat,
};

/// Whether the records of this middleware do not keep their epochs.
pub(super) fn keeps_epochs_beside(terms: &Terms) -> bool {
    terms.format == WireFormat::V0_11
}

/// An epoch as what lies beside a record.
pub(super) fn epoch_text(epoch: Option<u64>) -> String {
    format!("{:016x}", epoch.unwrap_or_default())
}

impl Executor {
    /// Does a job at a record, and reads first which epoch lies beside it, in one round trip: a
    /// record without a `clear` is never taken for one that has come after it.
    pub(super) async fn after_epoch(
        &self,
        job: Job<'_>,
        terms: &Terms,
    ) -> Result<(Option<u64>, Value), RedisError> {
        if !keeps_epochs_beside(terms) {
            return Ok((None, self.connections.repeat_or_read(job).await?));
        }
        let name = epoch_name(job.at());
        let mut get = redis::cmd("GET");
        get.arg(&name);
        let (epoch, value) = match self.connections.repeatable_after(&get, job).await? {
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
    /// the epoch.
    pub(super) async fn or_epoch(
        &self,
        reply: Reply,
        at: &str,
        terms: &Terms,
    ) -> anyhow::Result<Reply> {
        match reply {
            Reply::Found(Stored::Record(_)) if keeps_epochs_beside(terms) => {
                Ok(Reply::Found(self.look_again(at, terms).await?))
            }
            reply => Ok(reply),
        }
    }
}
