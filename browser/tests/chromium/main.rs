//! Our cookies in a real Chromium: what it takes, returns and drops.
//!
//! Whatever the builder builds is carried through a session's life in the browser, and whatever it
//! refuses is shown to the browser all the same. The browser is the judge: what is expected here is
//! what the documentation of the builder says, and what the browser does comes from its own jar.

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
mod server;
mod setup;
mod visit;
mod webapp;
