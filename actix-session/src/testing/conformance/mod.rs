//! Tests for whoever writes a session store: the promises, one function each.
//!
//! [`conformance!`](crate::conformance) makes a test of each that a kind of store can keep. A test
//! that fails says in words which promise is broken, and what to do.
//!
//! | a store | keeps | cannot promise |
//! | --- | --- | --- |
//! | of five methods | what it is asked for one at a time | that parallel requests lose nothing, that an end wins a race, and all below |
//! | that overrides `open`, `create`, `commit` and `rotate` with a compare-and-set | these too | that changes and ends follow a renewal, lists by principal, revocations |
//! | over a database of its own ([`KeyValueSessionStore`](crate::storage::KeyValueSessionStore)), and each of the library's | every promise | |

mod atomic;
#[cfg(feature = "key-value-session")]
mod database;
#[cfg(feature = "_backend")]
mod index;
mod kit;
mod lifecycle;
mod whole;

#[cfg(feature = "key-value-session")]
pub use self::database::the_database_does_what_it_is_told;
#[cfg(feature = "_backend")]
pub use self::index::{
    a_revocation_ends_every_earlier_login, a_sweep_ends_nothing, ends_are_told,
    parallel_logins_are_all_listed, sessions_are_listed_by_principal,
};
pub use self::{
    atomic::{
        a_renewal_undoes_no_logout, an_end_wins_every_race, one_renewal_counts,
        parallel_changes_are_all_kept, quiet_changes_move_no_end,
    },
    kit::{BrokenPromise, Kit},
    lifecycle::{
        any_state_comes_back, hostile_keys_open_nothing, late_requests_bring_nothing_back,
        sessions_end_in_time, sessions_live_and_end, the_five_methods_agree,
    },
    whole::{
        a_renewal_is_one_step, changes_and_ends_follow_a_renewal, dropped_calls_leave_no_half,
        threads_lose_nothing,
    },
};

/// What a store of five methods cannot promise, in words.
///
/// # Examples
/// ```
/// use actix_session::testing::conformance::not_promised_by_five_methods;
///
/// let missing = not_promised_by_five_methods();
/// assert!(missing.iter().any(|promise| promise.contains("lose nothing")));
/// ```
pub fn not_promised_by_five_methods() -> &'static [&'static str] {
    &[
        "parallel requests of one session lose nothing: the later commit may overwrite the earlier \
         one, also with `modify`",
        "an end wins every race: a session that ends between the read and the write of a commit may \
         come back",
        "a renewal is one step: if it fails halfway, the session may live under two keys for a moment, \
         and two renewals at once leave two sessions",
        "`take` gives a value to one request only",
        "the changes of requests in flight, and logouts with the old cookie, follow a renewal",
        "sessions can be listed and revoked by principal",
    ]
}

/// What a store cannot promise that overrides `open`, `create`, `commit` and `rotate` with a
/// compare-and-set, in words.
///
/// # Examples
/// ```
/// use actix_session::testing::conformance::not_promised_by_compare_and_set;
///
/// let missing = not_promised_by_compare_and_set();
/// assert!(missing.iter().any(|promise| promise.contains("follow a renewal")));
/// ```
pub fn not_promised_by_compare_and_set() -> &'static [&'static str] {
    not_promised_by_five_methods().split_at(4).1
}

/// Runs a test of [`conformance!`](crate::conformance).
///
/// # Panics
/// The promise is broken.
#[doc(hidden)]
pub fn run(kept: impl Future<Output = Result<(), BrokenPromise>>) {
    if let Err(broken) = actix_web::rt::System::new().block_on(kept) {
        panic!("{broken}");
    }
}

/// Says what a store cannot promise, to whoever runs the tests with `--nocapture`.
#[doc(hidden)]
#[allow(
    clippy::print_stdout,
    reason = "it is what the output of a test is for"
)]
pub fn say(missing: &[&str]) {
    if missing.is_empty() {
        return;
    }
    println!("this kind of store cannot promise that");
    for promise in missing {
        println!("- {promise}");
    }
}

/// Makes a module of tests that a session store must pass: one for each promise that it can keep.
///
/// It takes the module's name and an async closure that makes a store from a
/// [`ManualClock`](super::ManualClock), by which its sessions must expire. Each test makes a store of its
/// own. What follows says which kind of store it is:
///
/// | | the store |
/// | --- | --- |
/// | nothing | keeps every promise, has an index ([`SessionIndex`](crate::storage::SessionIndex)), and is `Clone` and `Send` |
/// | `key_value` | is a [`KeyValueSessionStore`](crate::storage::KeyValueSessionStore): what its database must do is tested too, and said in words of its three methods |
/// | `compare_and_set` | overrides `open`, `create`, `commit` and `rotate`, and is `Clone` (an `Arc` around it will do). The kit cannot see a new record that a `rotate` leaves behind when it finds the old one gone: read what [`SessionStore`](crate::storage::SessionStore) says of it |
/// | `five_methods` | has the five published methods |
/// | `, without a clock` after any of these | cannot be given a clock: its test of expiry is left out |
///
/// [`conformance`](crate::testing::conformance) has the promises, and what is missing from a store of
/// each kind.
///
/// # Examples
/// ```
/// # #[cfg(all(feature = "memory-session", feature = "_backend"))]
/// mod tests {
///     use actix_session::storage::MemorySessionStore;
///
///     actix_session::conformance!(memory, async |clock| {
///         MemorySessionStore::builder().clock(clock).build()
///     });
/// }
/// ```
#[macro_export]
macro_rules! conformance {
    ($module:ident, $make:expr $(,)?) => {
        $crate::__conformance_tests! { whole $module $make, [
            sessions_end_in_time quiet_changes_move_no_end
        ] }
    };
    ($module:ident, $make:expr, without a clock $(,)?) => {
        $crate::__conformance_tests! { whole $module $make, [] }
    };
    ($module:ident, $make:expr, key_value $(,)?) => {
        $crate::__conformance_tests! { whole $module $make, [
            the_database_does_what_it_is_told sessions_end_in_time quiet_changes_move_no_end
        ] }
    };
    ($module:ident, $make:expr, key_value, without a clock $(,)?) => {
        $crate::__conformance_tests! { whole $module $make, [the_database_does_what_it_is_told] }
    };
    ($module:ident, $make:expr, compare_and_set $(,)?) => {
        $crate::__conformance_tests! { compare_and_set $module $make, [
            sessions_end_in_time quiet_changes_move_no_end
        ] }
    };
    ($module:ident, $make:expr, compare_and_set, without a clock $(,)?) => {
        $crate::__conformance_tests! { compare_and_set $module $make, [] }
    };
    ($module:ident, $make:expr, five_methods $(,)?) => {
        $crate::__conformance_tests! { five_methods $module $make, [sessions_end_in_time] }
    };
    ($module:ident, $make:expr, five_methods, without a clock $(,)?) => {
        $crate::__conformance_tests! { five_methods $module $make, [] }
    };
}

/// The tests of [`conformance!`], by kind of store.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    (whole $module:ident $make:expr, [$($more:ident)*]) => {
        $crate::__conformance_tests! { all $module $make, [
            $($more)*
            parallel_changes_are_all_kept an_end_wins_every_race
            one_renewal_counts a_renewal_undoes_no_logout
            threads_lose_nothing a_renewal_is_one_step changes_and_ends_follow_a_renewal
            dropped_calls_leave_no_half sessions_are_listed_by_principal
            parallel_logins_are_all_listed
            a_revocation_ends_every_earlier_login a_sweep_ends_nothing ends_are_told
        ], &[] }
    };
    (compare_and_set $module:ident $make:expr, [$($more:ident)*]) => {
        $crate::__conformance_tests! { all $module $make, [
            $($more)* parallel_changes_are_all_kept an_end_wins_every_race
            one_renewal_counts a_renewal_undoes_no_logout
        ], $crate::testing::conformance::not_promised_by_compare_and_set() }
    };
    (five_methods $module:ident $make:expr, [$($more:ident)*]) => {
        $crate::__conformance_tests! { all $module $make, [$($more)*],
            $crate::testing::conformance::not_promised_by_five_methods() }
    };
    (all $module:ident $make:expr, [$($more:ident)*], $missing:expr) => {
        $crate::__conformance_tests! { each $module $make, [
            sessions_live_and_end the_five_methods_agree hostile_keys_open_nothing
            any_state_comes_back late_requests_bring_nothing_back $($more)*
        ], $missing }
    };
    (each $module:ident $make:expr, [$($promise:ident)*], $missing:expr) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;

            $(#[test]
            fn $promise() {
                $crate::testing::conformance::run(async {
                    let kit = $crate::testing::conformance::Kit::new($make).await;
                    $crate::testing::conformance::$promise(&kit).await
                });
            })*

            #[test]
            fn what_is_not_promised() {
                $crate::testing::conformance::say($missing);
            }
        }
    };
}
