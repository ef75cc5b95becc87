//! Counters and histograms for whatever recorder the application has installed (`metrics`).

use std::{future::Future, time::Instant};

use metrics::{counter, histogram};

use crate::{EndReason, SessionEventKind, contract::Committed};

/// Counts what an observer is told.
pub(crate) fn told(kind: SessionEventKind) {
    match kind {
        SessionEventKind::Created => counter!("actix_session_created_total").increment(1),
        SessionEventKind::LoggedIn => counter!("actix_session_logins_total").increment(1),
        SessionEventKind::LoggedOut => ended("logged-out", 1),
        SessionEventKind::Renewed => counter!("actix_session_renewed_total").increment(1),
        SessionEventKind::Ended(EndReason::LoggedOut) => ended("logged-out", 1),
        SessionEventKind::Ended(EndReason::Revoked) => ended("revoked", 1),
        SessionEventKind::Ended(EndReason::OverLimit) => ended("too-many", 1),
        SessionEventKind::Ended(EndReason::Gone) => ended("gone", 1),
        SessionEventKind::Revoked(count) => ended("revoked", count),
        SessionEventKind::Evicted(count) => ended("too-many", count.try_into().unwrap_or(u64::MAX)),
        SessionEventKind::Dropped => counter!("actix_session_dropped_total").increment(1),
        SessionEventKind::Refused(reason) => {
            counter!("actix_session_refused_total", "reason" => reason.label()).increment(1);
        }
        SessionEventKind::KeyReused => counter!("actix_session_reused_keys_total").increment(1),
        SessionEventKind::TurnedAway(reason) => {
            counter!("actix_session_turned_away_total", "reason" => reason.label()).increment(1);
        }
        SessionEventKind::StoreFailed => counter!("actix_session_store_errors_total").increment(1),
    }
}

fn ended(reason: &'static str, count: u64) {
    counter!("actix_session_ended_total", "reason" => reason).increment(count);
}

/// Changes go on top of those of another request, which was faster.
pub(crate) fn merged() {
    counter!("actix_session_merged_total").increment(1);
}

/// A request has found its session.
pub(crate) fn loaded() {
    counter!("actix_session_loaded_total").increment(1);
}

/// What became of a request's changes.
pub(crate) fn committed(answer: &Committed) {
    let outcome = match answer {
        Committed::Gone => "gone",
        Committed::Forwarded => "forwarded",
        _ => "stored",
    };
    counter!("actix_session_committed_total", "outcome" => outcome).increment(1);
}

/// Expired sessions were deleted.
pub(crate) fn swept(count: u64) {
    counter!("actix_session_swept_total").increment(count);
}

/// A session gave way in a store that is full.
pub(crate) fn gave_way() {
    ended("full", 1);
}

/// Measures how long a store takes, in seconds. A call that is dropped is not counted.
pub(crate) async fn timed<F: Future>(operation: &'static str, call: F) -> F::Output {
    let (answer, seconds) = seconds(call).await;
    histogram!("actix_session_store_seconds", "operation" => operation).record(seconds);
    answer
}

/// Measures how long a store waits for a connection of its pool, in seconds.
#[cfg_attr(not(any(feature = "_sql", feature = "redis-pool")), expect(dead_code))]
pub(crate) async fn waited<F: Future>(pool: &'static str, call: F) -> F::Output {
    let (answer, seconds) = seconds(call).await;
    histogram!("actix_session_pool_wait_seconds", "pool" => pool).record(seconds);
    answer
}

async fn seconds<F: Future>(call: F) -> (F::Output, f64) {
    let begun = Instant::now();
    let answer = call.await;
    (answer, begun.elapsed().as_secs_f64())
}
