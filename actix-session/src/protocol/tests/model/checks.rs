//! Runs of the checker.
//!
//! All sets of three requests of all kinds with two lost answers have more than 13 million states and
//! take minutes, so they do not run every time. The subsets here take less than a minute of one
//! processor.
//! Each test requires about as many states as it had when it was written, so that no run becomes
//! empty unnoticed.

use std::time::Duration;

use stateright::{Checker, Model as _};

use super::{
    kind::Kind,
    mutant::Mutant,
    promises::{self, Promise},
    world::{KEPT, Runs, Set},
};

/// The kinds that the contract says most about.
const CORE: [Kind; 12] = [
    Kind::InsertX,
    Kind::InsertY,
    Kind::InsertXY,
    Kind::RemoveOld,
    Kind::Modify,
    Kind::Clear,
    Kind::ClearInsertY,
    Kind::Renew,
    Kind::RenewInsertX,
    Kind::Login,
    Kind::LoginInsertX,
    Kind::Purge,
];

/// Those that repeats find hardest to tell apart, one of each sort.
const HARD: [Kind; 6] = [
    Kind::InsertX,
    Kind::Modify,
    Kind::ClearInsertY,
    Kind::RenewInsertX,
    Kind::LoginInsertX,
    Kind::Purge,
];

/// All combinations of so many of these kinds, on a session with and without a login.
fn sets(kinds: &[Kind], many: usize) -> Vec<Set> {
    let mut chosen = vec![vec![]];
    for _ in 0..many {
        let longer = |set: &Vec<Kind>| {
            let set = set.clone();
            let last = set.last().copied();
            let next = kinds
                .iter()
                .filter(move |kind| last.is_none_or(|last| **kind >= last));
            next.map(move |kind| [&set[..], &[*kind]].concat())
                .collect::<Vec<_>>()
        };
        chosen = chosen.iter().flat_map(longer).collect();
    }
    let both = |kinds: Vec<Kind>| {
        [false, true].map(|logged_in| Set {
            kinds: kinds.clone(),
            logged_in,
        })
    };
    chosen.into_iter().flat_map(both).collect()
}

/// Visits every state, and requires about as many as there were when the test was written.
#[track_caller]
fn check(runs: Runs, at_least: usize) {
    let (sets, losses) = (runs.sets.len(), runs.losses);
    let checker = runs.checker().spawn_dfs().join();
    let states = checker.unique_state_count();
    println!("{sets} sets of requests, {losses} answers lost: {states} states");
    checker.assert_properties();
    assert!(states >= at_least, "only {states} states");
}

/// 3,872 sets of requests, 585,247 states.
#[test]
fn every_three_requests() {
    let mut sets = sets(Kind::in_threes(), 3);
    // The next test has those of the core, with a lost answer.
    sets.retain(|set| !set.kinds.iter().all(|kind| CORE.contains(kind)));
    check(Runs::of(sets, 0), 500_000);
}

/// 728 sets of requests, 617,686 states.
#[test]
fn every_three_requests_of_the_core_and_a_lost_answer() {
    check(Runs::of(sets(&CORE, 3), 1), 500_000);
}

/// 112 sets of requests, 295,032 states.
#[test]
fn three_requests_and_two_lost_answers() {
    check(Runs::of(sets(&HARD, 3), 2), 250_000);
}

/// 930 sets of requests, 213,725 states.
#[test]
fn every_two_requests_and_three_lost_answers() {
    check(Runs::of(sets(&Kind::ALL, 2), 3), 180_000);
}

/// 930 sets of requests, 57,581 states.
#[test]
fn every_two_requests_of_which_one_comes_long_after_a_renewal() {
    let runs = Runs {
        age: Duration::from_secs(30),
        ..Runs::of(sets(&Kind::ALL, 2), 1)
    };
    check(runs, 40_000);
}

/// Those that a demand meets.
const DEMANDING: [Kind; 7] = [
    Kind::InsertX,
    Kind::Renew,
    Kind::RenewInsertX,
    Kind::Login,
    Kind::Reauthenticate,
    Kind::Demand,
    Kind::DemandRenew,
];

/// 49 sets of requests, 47,519 states.
#[test]
fn three_requests_of_which_some_demand_an_authentication() {
    let mut sets = sets(&DEMANDING, 3);
    sets.retain(|set| set.logged_in && set.kinds.iter().any(|kind| kind.demands()));
    check(Runs::of(sets, 1), 40_000);
}

/// The checker finds the fault of a broken variant, by the shortest path.
#[track_caller]
fn finds(mutant: Mutant, promises: &'static [Promise]) {
    finds_in(Runs::of(sets(&CORE, 2), 0), mutant, promises);
}

#[track_caller]
fn finds_in(runs: Runs, mutant: Mutant, promises: &'static [Promise]) {
    let runs = Runs {
        mutant: Some(mutant),
        promises,
        ..runs
    };
    let checker = runs.checker().spawn_bfs().join();
    let path = checker.assert_any_discovery(KEPT);
    println!("{mutant:?}: {path}{:?}", path.last_state());
}

#[test]
fn a_commit_of_whole_states_is_found_out() {
    finds(Mutant::WholeState, promises::no_change_is_lost());
}

#[test]
fn a_commit_that_lets_the_first_win_is_found_out() {
    finds(Mutant::FirstWins, promises::no_change_is_lost());
}

#[test]
fn a_commit_that_saves_what_is_gone_is_found_out() {
    finds(Mutant::GoneSaves, promises::ended_stays_ended());
}

#[test]
fn a_purge_that_stops_at_a_redirect_is_found_out() {
    finds(Mutant::PurgeStops, promises::ended_stays_ended());
}

#[test]
fn a_purge_that_leaves_no_tombstone_is_found_out() {
    let runs = Runs::of(sets(&[Kind::Purge, Kind::PurgeInsertX], 2), 1);
    finds_in(runs, Mutant::NoTombstone, promises::ended_stays_ended());
}
