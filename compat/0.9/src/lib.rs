//! `actix-session` 0.11 for dependants that ask for 0.9: the same types under that version.
//!
//! Use it through `[patch.crates-io]`; see the migration notes of `actix-session`.
#![forbid(unsafe_code)]

pub use actual::*;
