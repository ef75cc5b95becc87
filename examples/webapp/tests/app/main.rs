//! The application as its visitors see it: over HTTP, on a free port, with a cookie jar.

#![expect(
    clippy::unwrap_used,
    reason = "a visit that cannot go on is a failed test"
)]

mod accounts;
mod admin;
mod confirm;
mod devices;
mod forms;
mod guesses;
mod guests;
mod journey;
mod live;
mod process;
mod sessions;
mod site;
