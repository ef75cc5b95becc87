//! What is asked of the database, and what that allows.

use crate::{
    clock::Millis,
    protocol::{Name, Step},
};

/// What is asked of the database.
#[derive(Debug)]
pub(crate) enum Query {
    Run(Step),
    Read(Name),
    /// Reads and extends.
    Touch(Name),
    SetEnd(Name, Millis),
}

impl Query {
    pub(crate) fn writes(&self) -> bool {
        !matches!(self, Self::Read(_) | Self::Run(Step::Read { .. }))
    }

    /// Whether it may be done twice, even if the first time succeeded.
    pub(crate) fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Run(step) if !matches!(step, Step::Read { .. }))
    }
}
