//! No store of this build has an index, so nothing limits a principal's sessions.

use std::convert::Infallible;

use crate::{changes::Changes, contract::Terms, error::CommitError, record::Record};

#[derive(Clone)]
pub(crate) struct Cap(Infallible);

pub(crate) struct Admitted;

impl Cap {
    pub(crate) fn most(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn has_lists(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn at_least_one(self) -> Self {
        self
    }

    pub(crate) async fn admit(
        &self,
        _: Option<&Record>,
        _: &Changes,
        _: &Terms,
    ) -> Result<Admitted, CommitError> {
        match self.0 {}
    }

    pub(crate) async fn look(
        &self,
        _: Option<&Record>,
        _: &Changes,
        _: &Terms,
    ) -> Result<(), CommitError> {
        match self.0 {}
    }

    pub(crate) async fn settle(
        &self,
        _: Admitted,
        _: Option<&Record>,
        _: &Changes,
        _: &Terms,
    ) -> Result<usize, CommitError> {
        match self.0 {}
    }

    pub(crate) async fn release(&self, _: Admitted, _: &Terms) -> Result<(), CommitError> {
        match self.0 {}
    }
}
