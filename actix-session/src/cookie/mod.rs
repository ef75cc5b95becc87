//! The session cookie: its attributes, the names under which it is read, its seal, and its headers.

pub(crate) mod attributes;
mod base64;
pub(crate) mod header;
pub(crate) mod jar;
pub(crate) mod read;
pub(crate) mod seal;
pub(crate) mod write;
