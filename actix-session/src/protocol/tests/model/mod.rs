//! The protocol as a checked model.
//!
//! A store of atomic steps, requests of one session in every interleaving, answers lost on the
//! way, and the sentences of the contract as properties. What runs here is the code itself: the
//! machines, the `Session` handle that records changes, and `decide`. Made up are the store
//! (`store`) and the network (`world`).
//!
//! The properties are of two kinds. Those of `promises` are said of states: what was acknowledged
//! is there, what ended is not. Those of `steps` are said of single writes and answers: a merge
//! changes what it names, a forward is write-only, nobody is told *gone* without cause.
//!
//! A request may stop at any moment, since no promise waits for it: that covers definite refusals,
//! budgets that are used up and clients that go away. Time stands still, so that nothing expires,
//! marks included; and all records can be read. Where this matters, `lost_answers` has a test.

mod checks;
mod kind;
mod mutant;
mod promises;
mod request;
mod scenarios;
mod sketch;
mod steps;
mod store;
mod world;

pub(in crate::protocol) use self::sketch::Sketch;
