//! Tests of the machines: single cases by hand, and a model that takes every order. And tests of
//! what the machines build on: the atomic steps of every back end.

mod batches;
mod driving;
mod lost_answers;
pub(super) mod model;
#[cfg(feature = "memory-session")]
mod owners;
#[cfg(all(
    feature = "memory-session",
    feature = "key-value-session",
    feature = "redis-session",
    feature = "sqlite-session",
    feature = "postgres-session",
    feature = "mysql-session",
    feature = "testing"
))]
mod steps;

use super::*;

#[test]
fn redirects_survive_the_round_trip() {
    for flag in [Flag::Plain, Flag::Login, Flag::Ended] {
        let redirect = Redirect {
            target: "a|b".into(),
            flag,
            made_at: Millis(-5),
        };
        assert_eq!(Redirect::decode(&redirect.encode()), Some(redirect));
    }
    for text in ["", "p", "p|x|k", "q|1|k"] {
        assert_eq!(Redirect::decode(text), None, "{text}");
    }
}
