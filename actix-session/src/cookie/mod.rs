//! Our cookie on the wire.

pub(crate) mod read;
pub(crate) mod write;
