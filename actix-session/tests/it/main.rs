//! The integration tests: one program, a module a topic.
//!
//! A function that no test calls is dead code, hence an error of the lints: this is how a generic
//! test that no list names is found.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and what it prints is for whoever looks"
)]

mod attacks;
mod backchannel_logout;
mod caps;
#[path = "../../examples/compare_and_set_store.rs"]
#[allow(dead_code, reason = "its server does not run here")]
mod compare_and_set_store;
mod compatibility;
mod concurrency;
mod cookies;
mod cookies_left_by_entry;
mod cross_site;
mod demoted;
mod devices;
mod ended;
mod ended_cookies;
mod ended_early;
mod ended_elsewhere;
mod ended_without_ids;
mod expiry;
mod extended;
mod five_methods;
mod forwarding;
mod header_transport;
mod headers;
mod histories;
mod lazy;
mod levels;
mod logout;
mod logout_by_entry;
mod measured;
mod observer;
mod opens_nothing;
mod other_languages;
mod outer_middlewares;
mod own_handle;
mod own_stores;
mod own_times;
mod personal;
mod principal_entry;
mod purge;
mod purge_now;
mod redis_actor;
mod redis_cluster;
mod redis_conn;
mod redis_expiry;
mod redis_faults;
mod redis_index;
mod redis_long_sessions;
mod redis_lost_answers;
mod redis_pool;
mod redis_refusals;
mod redis_round_trips;
mod redis_sentinel;
mod remaining;
mod renewals;
mod revocation;
mod revocation_edges;
mod round_trips;
mod save;
mod send;
mod session_handle;
mod session_threads;
mod several_middlewares;
mod soak;
mod sql_connections;
mod sql_contention;
mod sql_faults;
mod sql_galera;
mod sql_index;
mod sql_left_behind;
mod sql_poolers;
mod sql_refusals;
mod sql_stores;
mod sql_sweeps;
mod sql_tables;
mod support;
mod typed;
mod upstream;
mod wire_format;
mod without_response;
mod written_back;
