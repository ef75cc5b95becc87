//! Whose sessions there are, as a checked model: logins, renewals, revocations and limits in every order,
//! with a process that dies between any two steps.
//!
//! The code itself runs here: the middleware, the machines, the manager, and what goes through an index.
//! Only the store (`store`) is made up. It has the steps of the back ends that have an index: one for a
//! record with its entry (SQL, Redis), or several (a cluster). Each request belongs to a process of its own.
//! `schedule` starts it, lets it take a step, or kills it, in every order that there is. Then a minute
//! passes, and `promises` are judged.

mod index;
mod process;
mod promises;
mod run;
mod schedule;
mod steps;
mod store;

use self::{
    run::{Act, Scenario},
    store::{Fault, Mode},
};

/// What happens at once. Each run begins with two sessions of one user, `a` and `b`.
const SCENARIOS: [&[Act]; 12] = [
    &[Act::Login, Act::RevokeAll],
    &[Act::LoginOverA, Act::RevokeAll],
    &[Act::RenewA, Act::RevokeAll],
    &[Act::AnotherOverA, Act::RevokeAll],
    &[Act::ClearA, Act::RevokeAll],
    &[Act::PurgeA, Act::RenewA],
    &[Act::RenewA, Act::RenewA],
    &[Act::RevokeOthersA, Act::Login],
    &[Act::RevokeOthersA, Act::RenewB],
    &[Act::RevokeOthersA, Act::RevokeAll],
    &[Act::RevokeOthersA, Act::LoginOverA],
    &[Act::WriteA, Act::RenewA],
];

/// The same where a user may have two sessions, and so has as many as that.
const LIMITED: [&[Act]; 4] = [
    &[Act::Login, Act::Login],
    &[Act::Login, Act::RenewA],
    &[Act::Login, Act::LoginOverA],
    &[Act::Login, Act::RevokeAll],
];

/// Three at once, of which no process dies.
const THREES: [&[Act]; 2] = [
    &[Act::Login, Act::RenewA, Act::RevokeAll],
    &[Act::RevokeOthersA, Act::Login, Act::RenewB],
];

fn scenarios(mode: Mode) -> Vec<Scenario> {
    let of = |acts: &'static [Act], limit, crashes| {
        // Time stands still, or it passes with every step.
        [0, 1].map(|tick| Scenario {
            acts,
            mode,
            limit,
            crashes,
            tick,
            loses: false,
            fault: None,
        })
    };
    let plain = SCENARIOS.iter().flat_map(|acts| of(acts, None, 1));
    let limited = LIMITED.iter().flat_map(|acts| of(acts, Some(2), 1));
    let threes = THREES.iter().flat_map(|acts| of(acts, None, 0));
    plain.chain(limited).chain(threes).collect()
}

/// Logins of which each loses its first step, and nobody dies.
fn losses(mode: Mode) -> impl Iterator<Item = Scenario> {
    let acts: [&[Act]; 2] = [&[Act::Login, Act::Login], &[Act::Login, Act::RevokeAll]];
    acts.into_iter().map(move |acts| Scenario {
        acts,
        mode,
        limit: Some(2),
        crashes: 0,
        tick: 1,
        loses: true,
        fault: None,
    })
}

/// Runs each scenario in every order, or in so many orders at random if there are more.
fn check(mode: Mode, at_least: usize) {
    let mut runs = 0;
    for scenario in scenarios(mode).into_iter().chain(losses(mode)) {
        let (done, broken) = scenario.explore();
        assert_eq!(broken, None, "{scenario:?}");
        runs += done;
    }
    println!("{mode:?}: {runs} runs");
    assert!(runs >= at_least, "only {runs} runs");
}

#[test]
fn one_step_for_a_record_and_its_entry_and_loads_that_ask_for_the_mark() {
    check(Mode::Sql, 5_000);
}

#[test]
fn one_step_for_a_record_and_its_entry() {
    check(Mode::Redis, 5_000);
}

#[test]
fn three_steps_in_a_cluster() {
    check(Mode::Cluster, 6_000);
}

#[test]
fn four_steps_in_a_cluster_whose_names_hide_the_slot() {
    check(Mode::Hidden, 7_000);
}

/// A scenario finds a fault of the store.
#[track_caller]
fn finds(fault: Fault, mode: Mode) {
    let all = scenarios(mode).into_iter().chain(losses(mode));
    let found = all.into_iter().find_map(|scenario| {
        let scenario = Scenario {
            fault: Some(fault),
            ..scenario
        };
        let (_, broken) = scenario.explore();
        broken.map(|broken| format!("{scenario:?}: {broken}"))
    });
    println!("{fault:?}: {}", found.expect("the fault is found"));
}

#[test]
fn a_mark_that_spares_logins_of_its_own_time_is_found_out() {
    finds(Fault::EqualIsLater, Mode::Sql);
    finds(Fault::EqualIsLater, Mode::Cluster);
}

#[test]
fn an_entry_that_comes_before_the_compare_is_found_out() {
    finds(Fault::EntryFirst, Mode::Redis);
}

#[test]
fn a_renewal_under_another_id_is_found_out() {
    finds(Fault::AnotherId, Mode::Redis);
}

#[test]
fn a_first_step_that_outlives_the_grace_is_found_out() {
    finds(Fault::WholeLife, Mode::Cluster);
    finds(Fault::WholeLife, Mode::Hidden);
}

#[test]
fn a_revocation_that_spares_by_time_is_found_out() {
    finds(Fault::SparesByTime, Mode::Sql);
}

#[test]
fn a_last_step_that_does_not_compare_is_found_out() {
    finds(Fault::NoCompare, Mode::Cluster);
    finds(Fault::NoCompare, Mode::Redis);
}

#[test]
fn a_reservation_that_looks_like_an_entry_is_found_out() {
    finds(Fault::ReservesForGood, Mode::Hidden);
}
