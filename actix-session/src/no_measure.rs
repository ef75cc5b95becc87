//! Without the feature `metrics`, nothing is measured.

use std::future::Future;

use crate::{SessionEventKind, contract::Committed};

pub(crate) fn told(_: SessionEventKind) {}

pub(crate) fn merged() {}

pub(crate) fn loaded() {}

pub(crate) fn committed(_: &Committed) {}

pub(crate) fn swept(_: u64) {}

pub(crate) fn gave_way() {}

pub(crate) fn timed<F: Future>(_: &'static str, call: F) -> F {
    call
}

#[cfg_attr(not(any(feature = "_sql", feature = "redis-pool")), expect(dead_code))]
pub(crate) fn waited<F: Future>(_: &'static str, call: F) -> F {
    call
}
