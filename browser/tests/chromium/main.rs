//! Our cookies in a real Chromium: what it takes, returns and drops.
//!
//! Each configuration that the builder accepts goes through a session's life in the browser. Each that
//! it refuses is sent to the browser all the same. The browser is the judge: expectations come from the
//! builder's documentation, results from the browser's own cookie jar.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod combination;
mod devtools;
mod jar;
mod lifecycle;
mod limits;
mod matrix;
mod navigation;
mod pages;
mod partitions;
mod refusals;
mod renaming;
mod returning;
mod server;
mod setup;
mod visit;
mod webapp;
