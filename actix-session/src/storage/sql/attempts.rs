//! Whether a failed statement is tried again, and when.

use std::{
    sync::{Mutex as StdMutex, MutexGuard as StdMutexGuard},
    time::Duration,
};

use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep, timeout_at},
};

use super::{database::Verdict, failure::Failure};
use crate::{clock, random, sync::lock};

/// How often a repeatable statement is run if the connection is lost each time.
const MAX_ATTEMPTS: u32 = 3;

/// How long changes fail at once after somebody looked in vain for another server. Then one of them
/// takes another look.
const REST: Duration = Duration::from_millis(500);

/// How long reads are not extended after that.
const DO_WITHOUT: Duration = Duration::from_secs(5);

/// The search for a server that takes writes: one request at a time looks, for all of them.
#[derive(Debug)]
pub(crate) struct Search {
    limit: Duration,
    turn: Mutex<()>,
    /// When the last search ended in vain, unless a server has been found since.
    failed_at: StdMutex<Option<Instant>>,
}

impl Search {
    /// Searches that take at most this long.
    pub(crate) fn within(limit: Duration) -> Self {
        Self {
            limit,
            turn: Mutex::new(()),
            failed_at: StdMutex::new(None),
        }
    }

    /// Whether a search in vain is so recent that nobody repeats it.
    pub(crate) fn rests(&self) -> bool {
        self.failed_within(REST)
    }

    /// Whether a search in vain is so recent that what can be done without is not tried.
    pub(crate) fn is_in_vain(&self) -> bool {
        self.failed_within(DO_WITHOUT)
    }

    pub(crate) fn ended_in_vain(&self, failure: &Failure) {
        if !self.is_in_vain() {
            tracing::warn!(
                error = %format_args!("{:#}", failure.error),
                "no connection leads to a database server that takes writes: sessions are read \
                 without being extended, and changes fail"
            );
        }
        *self.failed_at() = Some(Instant::now());
    }

    fn failed_within(&self, span: Duration) -> bool {
        self.failed_at().is_some_and(|at| at.elapsed() < span)
    }

    fn failed_at(&self) -> StdMutexGuard<'_, Option<Instant>> {
        lock(&self.failed_at)
    }
}

/// Decides whether a failed statement is tried again, and waits a little before that.
pub(crate) struct Attempts<'a> {
    /// When the last attempt must have begun.
    deadline: Instant,
    /// When an attempt must have ended.
    end: Instant,
    failed: u32,
    search: &'a Search,
    /// Held by the request that looks for another server.
    turn: Option<MutexGuard<'a, ()>>,
}

impl<'a> Attempts<'a> {
    /// Allows attempts within most of a budget, so that there is time left to report a failure.
    pub(crate) fn within(budget: Duration, search: &'a Search) -> Self {
        Self {
            deadline: clock::deadline(budget / 4 * 3),
            end: clock::deadline(budget / 16 * 15),
            failed: 0,
            search,
            turn: None,
        }
    }

    /// When whatever is waited for is too late.
    pub(crate) fn end(&self) -> Instant {
        self.end
    }

    /// Ends the search, if there was one: a server has been found.
    pub(crate) fn succeeded(self) {
        if self.turn.is_some() {
            *self.search.failed_at() = None;
        }
    }

    /// Returns if another attempt is due.
    ///
    /// # Errors
    /// The failure is final.
    pub(crate) async fn again(
        &mut self,
        failure: Failure,
        repeatable: bool,
    ) -> Result<(), Failure> {
        self.failed += 1;
        let again = match failure.verdict {
            Verdict::Again => self.is_in_time() && !failure.late,
            Verdict::NotHere | Verdict::ReadOnly => self.may_look_elsewhere(&failure).await,
            Verdict::Lost => {
                repeatable && self.is_in_time() && !failure.late && self.failed < MAX_ATTEMPTS
            }
            Verdict::Refused | Verdict::NoTable => false,
        };
        if !again {
            return Err(failure.contended());
        }
        tracing::debug!(
            error = %format_args!("{:#}", failure.error),
            "a statement of the session store is tried again"
        );
        self.pause(failure.verdict).await;
        Ok(())
    }

    fn is_in_time(&self) -> bool {
        Instant::now() < self.deadline
    }

    /// Whether another connection is worth an attempt. At first this waits for the turn to look.
    async fn may_look_elsewhere(&mut self, failure: &Failure) -> bool {
        if self.turn.is_none() {
            return self.begin_search().await;
        }
        let in_time = self.is_in_time();
        if !in_time {
            self.search.ended_in_vain(failure);
        }
        in_time
    }

    async fn begin_search(&mut self) -> bool {
        let search = self.search;
        if search.rests() {
            return false;
        }
        self.deadline = self.deadline.min(clock::deadline(search.limit));
        self.turn = timeout_at(self.deadline, search.turn.lock()).await.ok();
        // Whoever had the turn before has found a server, or nobody has.
        if search.rests() {
            self.turn = None;
        }
        if search.is_in_vain() {
            // After a search in vain, one more look each time is enough.
            self.deadline = Instant::now();
        }
        self.turn.is_some()
    }

    /// Waits a random moment, so that requests that compete drift apart.
    async fn pause(&self, verdict: Verdict) {
        let limit = match verdict {
            // Each attempt opens a connection.
            verdict if verdict.is_about_server() && self.failed > 1 => 200_000,
            verdict if verdict.is_about_server() => return,
            _ => 20_000,
        };
        let most = (500_u64 << self.failed.min(9)).min(limit);
        let jitter = random::u64().map_or(0, |n| n % most);
        sleep(Duration::from_micros(jitter)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_here() -> Failure {
        Failure {
            verdict: Verdict::NotHere,
            error: anyhow::anyhow!("read-only"),
            late: false,
        }
    }

    /// Attempts until no more are due.
    async fn count(search: &Search, budget: Duration) -> u32 {
        let mut attempts = Attempts::within(budget, search);
        let mut count = 1;
        while attempts.again(refused_here(), false).await.is_ok() {
            count += 1;
        }
        count
    }

    #[tokio::test]
    async fn a_search_in_vain_is_not_repeated_for_a_while() {
        let search = Search::within(Duration::from_millis(5));
        let budget = Duration::from_secs(60);
        assert!(count(&search, budget).await >= 2, "another connection");
        assert!(search.rests());
        assert_eq!(count(&search, budget).await, 1, "it rests");
        *search.failed_at() = Instant::now().checked_sub(REST);
        assert!(!search.rests());
        assert_eq!(count(&search, budget).await, 2, "one more look");
        assert!(search.rests());
    }

    #[tokio::test]
    async fn changes_look_again_while_reads_do_without() {
        let search = Search::within(Duration::from_secs(60));
        *search.failed_at() = Instant::now().checked_sub(Duration::from_secs(1));
        let budget = Duration::from_secs(60);
        assert!(search.is_in_vain());
        assert_eq!(count(&search, budget).await, 2, "a change looks");
        *search.failed_at() = Instant::now().checked_sub(DO_WITHOUT);
        assert!(!search.is_in_vain());
    }

    #[tokio::test]
    async fn one_request_looks_for_all() {
        let search = Search::within(Duration::from_millis(5));
        let budget = Duration::from_secs(60);
        let (one, two, three) = tokio::join!(
            count(&search, budget),
            count(&search, budget),
            count(&search, budget)
        );
        assert!(one >= 2);
        assert_eq!((two, three), (1, 1), "the others wait for what it finds");
    }

    #[tokio::test]
    async fn a_server_that_is_found_ends_the_search() {
        let search = Search::within(Duration::from_secs(60));
        *search.failed_at() = Instant::now().checked_sub(REST);
        let mut attempts = Attempts::within(Duration::from_secs(60), &search);
        attempts.again(refused_here(), false).await.unwrap();
        let other = async {
            let mut other = Attempts::within(Duration::from_secs(60), &search);
            other.again(refused_here(), false).await
        };
        let (found, ()) = tokio::join!(other, async { attempts.succeeded() });
        assert!(found.is_ok(), "the other one tries again");
        assert!(search.failed_at().is_none());
    }

    #[tokio::test]
    async fn no_budget_is_too_long() {
        let search = Search::within(Duration::MAX);
        let mut attempts = Attempts::within(Duration::MAX, &search);
        attempts.again(refused_here(), false).await.unwrap();
    }
}
