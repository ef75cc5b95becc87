//! The protocol as a checked model.
//!
//! A store of atomic steps, requests of one session in every interleaving, lost answers, and the
//! contract as properties. The code itself runs here: the machines, the `Session` handle that
//! records changes, and `decide`. Only the store (`store`) and the network (`world`) are made up.
//!
//! There are two kinds of properties. Those in `promises` hold for states: what was acknowledged is
//! there, and what ended is not. Those in `writes` hold for single writes and answers: a merge
//! changes only what it names, a forward is write-only, and no request is answered *gone* without
//! cause.
//!
//! A request may stop at any moment, since no promise waits for it. That covers refusals, exhausted
//! budgets and clients that go away. Time stands still, so nothing expires, not even redirects, and
//! all records can be read. `lost_answers` tests the cases for which that matters.

mod checks;
mod fingerprint;
mod kind;
mod mutant;
mod promises;
mod request;
mod scenarios;
mod store;
mod world;
mod writes;

pub(in crate::protocol) use self::fingerprint::Fingerprint;
