//! Attacks on sessions, by the numbers of the attack suite: fixation, resurrection, expiry,
//! tampering, the cookie on the wire, and what logs and stores show.
//!
//! A test's name begins with its number. Each runs on every store that it applies to: the memory
//! store, Redis, Redis through actors, the SQL stores, cookies, and cookies with a list of ended
//! sessions; [`attacks!`] says which. If there is a store, a test ends with a look at what it holds.
//! Paths in the table are below this module unless they begin with `crate`.
//!
//! | number | test, or why there is none here |
//! | --- | --- |
//! | T-01 | `fixation::t01_fixation` |
//! | T-02 | `fixation::t02_adopted_id` |
//! | T-03 | `fixation::t03_left_over_id` |
//! | T-04 | `fixation::t04_privilege_change` |
//! | T-05 | `fixation::t05_rotation_as_extension` |
//! | T-06 | `fixation::t06_reauthentication`, `fixation::t06_upstream_authentication` |
//! | T-07 | none: there is no timed rotation |
//! | T-08 | `fixation::t08_weak_ids`; the system's generator cannot be made to fail from here: `random` answers its error |
//! | T-09 | `fixation::t09_odd_ids`, `fixation::t09_odd_ids_never_reach_redis` |
//! | T-10 | `logout::t10_replay_after_logout`; without a list: `crate::revocation::without_a_list_a_copy_opens_until_its_own_end` |
//! | T-11 | `logout::t11_resurrection`, `logout::t11_resurrection_by_renewal`; the ways of `crate::logout` |
//! | T-12 | `logout::t12_resurrection_by_rotation`, `logout::t12_resurrection_by_login`; the ways of `crate::renewals` |
//! | T-13 | `logout::t13_resurrection_by_touch`, `crate::logout::a_touch_in_flight_brings_nothing_back` |
//! | T-14 | `logout::t14_revocation_against_flight`, `crate::devices::all_sessions_end_with_all_that_is_in_flight` |
//! | T-15 | `logout::t15_late_set_cookie` |
//! | T-16 | `logout::t16_logout_in_a_failing_request`; the ways of `crate::without_response` |
//! | T-17 | `logout::t17_logout_without_a_session` |
//! | T-18 | `crate::devices::a_login_that_began_before_does_not_count`, `crate::devices::a_login_after_the_end_passes`, `crate::soak::index`; a list for cookies: `crate::revocation::a_principal_can_be_signed_out_everywhere` |
//! | T-19 | `crate::concurrency::distinct_entries_all_land`, `crate::concurrency::modifies_add_up` and on several workers; `crate::histories` |
//! | T-20 | `expiry::t20_idle`; Redis: `crate::redis_expiry::redis_keeps_milliseconds_and_extends_as_configured` |
//! | T-21 | `expiry::t21_absolute` |
//! | T-22 | `expiry::t22_replay_after_expiry` |
//! | T-23 | `expiry::t23_clock_jumps` |
//! | T-23b | `fixation::t23b_stale_authentication`; levels and demands: `crate::levels` |
//! | T-24b | none: a session past its idle end is over, and never locked |
//! | T-24 | `expiry::t24_throttled_touch` (on Redis time cannot be moved to the millisecond) |
//! | T-25 | `expiry::t25_tardy_eviction` |
//! | T-26, T-27 | `expiry::t26_absurd_ttls`, `expiry::t26_absurd_ttls_of_a_session` |
//! | T-28 | `expiry::t28_presets`, `expiry::t28_presets_hold` |
//! | T-30, T-31 | `tampering::t30_bit_flips` |
//! | T-32 | `tampering::t32_transplant`, `tampering::t32_transplant_between_our_own` |
//! | T-33 | `tampering::t33_other_app`; the audience is the cookie's name and the store, there is no other |
//! | T-34 | `tampering::t34_key_rotation` (all keys are tried, newest first) |
//! | T-35, T-36 | `tampering::t35_downgrade`, `tampering::t36_unknown_version` |
//! | T-37 | `cookie::seal::tests::nonces_do_not_repeat`; over requests `tampering::t37_nonces` |
//! | T-38 | `tampering::t38_source_check`; no test here asserts timing |
//! | T-39 | none: records are not encrypted at rest |
//! | T-40 | `prefixes::t40_contradictory_prefixes` |
//! | T-41 to T-43 | `prefixes::t41_to_43_forged_prefix` |
//! | T-44 | `prefixes::t44_nameless` |
//! | T-45 | `tossing::t45_tossing`, `tossing::t45_tossing_the_old_name` |
//! | T-46 | `tossing::t46_split_fields` |
//! | T-46b | none: cookies are not cut into chunks |
//! | T-47, T-48 | `cookie_layer::t47_oversize`, `cookie_layer::t47_oversize_renewal`, `cookie_layer::t48_oversize_signed` |
//! | T-49 | `cookie_layer::t49_long_attributes` |
//! | T-50 | `cookie_layer::t50_double_set_cookie` |
//! | T-51 | `prefixes::t51_removal` |
//! | T-52, T-53 | `prefixes::t52_t53_partitioned_and_none` |
//! | T-54 | `cookie_layer::t54_injected_attributes` |
//! | T-54b | none: the scheme is the proxy's knowledge; `Secure` is on by default, and keeps browsers from sending the cookie over plain HTTP |
//! | T-55 | `cookie_layer::t55_huge_header` (found among 10,000; no time is asserted) |
//! | T-56 | `cookie_layer::t56_caching` |
//! | T-57 | none: `Clear-Site-Data` is the application's header |
//! | T-58, T-59 | `crate::cross_site`, `csrf::verdict::tests::the_rules_hold_in_their_order` |
//! | T-60 | `logs::t60_digests_in_redis` (with `hashed_keys`; plain names by default, as published), `logs::t60_digests_in_the_list`; SQL stores hold digests: their own tests |
//! | T-65 | `logs::t65_log_injection` |
//! | T-65b | `logs::t65b_refusals`, `logs::t65b_life_cycle`, `logs::t65b_flood` |
//! | T-65c | `logs::t65c_headers`; the header in place of a cookie: `crate::header_transport` |
//! | T-66 | `logs::t66_secrets_in_logs`, which runs all others; `logs::t66_over_http` |
//! | T-67 | `debug::t67_debug`, `debug::t67_list_is_complete` |
//! | T-68 | `errors::t68_error_bodies`, `errors::t68_failed_modify`, `errors::t68_redis_says_no` |
//! | T-70 | `stores::t70_namespace`; keygens that collide: `crate::cookies::colliding_names_never_hand_out_somebodys_session` |
//! | T-71 | of the SQL stores: `storage::sql::table::tests::names_that_could_break_out_are_refused`; ids are bound, as digests |
//! | T-72 | `crate::redis_faults::something_else_under_our_name_is_no_session`, `crate::redis_faults::something_else_under_a_marks_name_leads_nowhere`, `crate::cookies::a_record_that_cannot_be_read_is_left_as_it_is` |
//! | T-73 | `stores::t73_hostile_records`, `stores::t73_hostile_records_in_redis` |
//! | T-74 | `crate::cookies::colliding_names_never_hand_out_somebodys_session` |
//! | T-80 | `stores::t80_anonymous_reads` |
//! | T-81 | `stores::t81_logouts_of_nobody` |
//! | T-82 | `stores::t82_unknown_and_garbage` |
//! | T-83 | `crate::caps::the_oldest_session_makes_room`, `crate::caps::a_login_too_many_is_refused_and_changes_nothing`; there is no limit unless one is set |
//! | T-84, T-85 | `stores::t84_failing_store`; `crate::redis_faults::a_dead_server_is_an_opaque_error_until_it_is_back`, `crate::redis_faults::a_frozen_server_is_an_opaque_error_in_bounded_time` and the lost answers there |
//! | T-86 | `stores::t86_fat_state`; in cookies also `cookie_layer::t47_oversize` |
//! | T-87 | `stores::t87_memory_bound`, `stores::t87_memory_sweep`, `storage::memory::tests` |
//! | T-90 to T-92 | `crate::devices` |
//! | T-93 | `crate::caps` |
//! | T-95 | `crate::devices::what_has_expired_is_not_listed`, `crate::redis_index`, `crate::sql_index`, `crate::soak::index` |
//! | T-96 | `crate::upstream`, `crate::backchannel_logout` |
//! | T-97 | `crate::personal::an_export_says_what_is_known_and_opens_nothing`; the command's own: `sessions/tests/command.rs` |
//! | T-98 | the cookbook's recipe, which runs as a test; `crate::levels::a_demand_reaches_a_renewed_session` |

pub(crate) mod arena;
pub(crate) mod capture;
mod cookie_layer;
mod debug;
mod errors;
mod expiry;
mod fixation;
mod jar;
mod logout;
mod logs;
mod prefixes;
mod stores;
mod tampering;
mod tossing;
mod types;

use futures_util::future::LocalBoxFuture;

/// An attack on one store, under its test's name.
type Attack = (&'static str, fn() -> LocalBoxFuture<'static, ()>);

/// Every attack on every store, for the one that listens to all the others.
fn all() -> Vec<Attack> {
    [
        fixation::all(),
        logout::all(),
        expiry::all(),
        tampering::all(),
        cookie_layer::all(),
        prefixes::all(),
        tossing::all(),
        logs::all(),
        debug::all(),
        errors::all(),
        stores::all(),
    ]
    .concat()
}

/// Instantiates attacks for the stores that they apply to: `every` store; the `lasting` ones, in which
/// an ending is final (all but cookies without a list); those with a record on the `server`; the
/// `timed` ones, whose idle end is by the injected clock (all but Redis); `cookie`s with and without
/// a list; and those that make their own (`alone`).
macro_rules! attacks {
    (
        every: [$($every:ident),* $(,)?],
        lasting: [$($lasting:ident),* $(,)?],
        server: [$($server:ident),* $(,)?],
        timed: [$($timed:ident),* $(,)?],
        cookie: [$($cookie:ident),* $(,)?],
        alone: [$($alone:ident),* $(,)?] $(,)?
    ) => {
        $crate::attacks::attacks_on!(on_memory Memory: $($every)* $($lasting)* $($server)* $($timed)*);
        $crate::attacks::attacks_on!(on_key_value KeyValue: $($every)* $($lasting)* $($server)* $($timed)*);
        $crate::attacks::attacks_on!(on_redis Redis: $($every)* $($lasting)* $($server)*);
        $crate::attacks::attacks_on!(on_redis_actor RedisActor: $($every)* $($lasting)* $($server)*);
        $crate::attacks::attacks_on!(on_sqlite Sqlite: $($every)* $($lasting)* $($server)* $($timed)*);
        $crate::attacks::attacks_on!(on_postgres Postgres: $($every)* $($lasting)* $($server)* $($timed)*);
        $crate::attacks::attacks_on!(on_mysql MySql: $($every)* $($lasting)* $($server)* $($timed)*);
        $crate::attacks::attacks_on!(on_cookies InCookie: $($every)* $($timed)* $($cookie)*);
        $crate::attacks::attacks_on!(on_revocable Revocable: $($every)* $($lasting)* $($timed)* $($cookie)*);

        mod alone {
            $(#[actix_web::test] async fn $alone() {
                $crate::attacks::capture::install();
                super::$alone().await;
            })*

            pub(super) fn all() -> Vec<crate::attacks::Attack> {
                vec![$((
                    concat!(module_path!(), "::", stringify!($alone)),
                    || Box::pin(super::$alone()),
                )),*]
            }
        }

        pub(crate) fn all() -> Vec<crate::attacks::Attack> {
            [
                on_memory::all(),
                on_key_value::all(),
                on_redis::all(),
                on_redis_actor::all(),
                on_sqlite::all(),
                on_postgres::all(),
                on_mysql::all(),
                on_cookies::all(),
                on_revocable::all(),
                alone::all(),
            ]
            .concat()
        }
    };
}
pub(crate) use attacks;

macro_rules! attacks_on {
    ($module:ident $arena:ident: $($test:ident)*) => {
        mod $module {
            $(#[actix_web::test] async fn $test() {
                super::$test($crate::attacks::arena::begin::<$crate::attacks::arena::$arena>().await).await;
            })*

            pub(super) fn all() -> Vec<crate::attacks::Attack> {
                vec![$((
                    concat!(module_path!(), "::", stringify!($test)),
                    || Box::pin(async {
                        super::$test($crate::attacks::arena::begin::<$crate::attacks::arena::$arena>().await).await;
                    }),
                )),*]
            }
        }
    };
}
pub(crate) use attacks_on;
