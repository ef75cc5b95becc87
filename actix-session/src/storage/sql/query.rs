//! What is asked of the database, and what that allows.

use crate::{
    clock::Millis,
    protocol::{Name, NotBefore, Reply, Step},
    storage::{
        index::{Listed, Page},
        upkeep::Counts,
    },
};

/// What is asked of the database.
#[derive(Debug)]
pub(crate) enum Query {
    Run(Step),
    Read(Name),
    /// Reads and extends.
    Touch(Name),
    SetEnd(Name, Millis),
    /// Lists a page of a principal's sessions.
    List(String, Page),
    /// Ends a principal's sessions together, unless the mark before has ended that of whoever asks.
    Mark(String, NotBefore, Option<(u128, Millis)>),
    /// Deletes what a mark has ended.
    EndMarked(String, NotBefore),
    /// Tells nothing on a channel.
    #[cfg_attr(
        not(feature = "postgres-session"),
        allow(dead_code, reason = "others cannot tell")
    )]
    Tell(String),
    /// Takes away what names a principal whose sessions have ended by a mark of this time.
    Forget(String, Millis),
    /// Counts the rows.
    Count,
    /// Finds out whether the server takes writes.
    Prove,
}

/// What the database answered.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(Reply),
    Listed(Vec<Listed>),
    Marked(bool),
    Ended(u64),
    Counts(Counts),
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl Query {
    pub(crate) fn writes(&self) -> bool {
        !matches!(
            self,
            Self::Read(_)
                | Self::Run(Step::Read { .. })
                | Self::List(..)
                | Self::Count
                | Self::Tell(_)
        )
    }

    /// Whether a server that takes no writes would answer it, and perhaps with what is old.
    pub(crate) fn needs_proof(&self) -> bool {
        !self.writes() && !self.is_message()
    }

    /// Whether it only tells something.
    pub(crate) fn is_message(&self) -> bool {
        matches!(self, Self::Tell(_))
    }

    /// Whether it may be done twice, even if the first time succeeded.
    pub(crate) fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Run(step) if !matches!(step, Step::Read { .. }))
    }
}
