//! What is asked of the database, and what that allows.

use crate::{clock::Millis, protocol::Step};

/// What is asked of the database.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Query<'a> {
    Run(&'a Step),
    Read(&'a str),
    /// Reads and extends.
    Touch(&'a str),
    SetEnd(&'a str, Millis),
}

impl Query<'_> {
    pub(crate) fn writes(self) -> bool {
        !matches!(self, Self::Read(_) | Self::Run(Step::Read { .. }))
    }

    /// Whether it may be done twice, even if the first time succeeded.
    pub(crate) fn is_repeatable(self) -> bool {
        !matches!(self, Self::Run(step) if !matches!(step, Step::Read { .. }))
    }
}
