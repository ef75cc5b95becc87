//! The session cookie: its attributes, the names it is read under, its seal, and its form in headers.

pub(crate) mod attributes;
pub(crate) mod jar;
pub(crate) mod read;
pub(crate) mod seal;
pub(crate) mod write;
