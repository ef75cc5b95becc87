//! Carries queries out, and again whenever the database says that this may help.

use std::{sync::Arc, time::Duration};

use sqlx::Error;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    attempts::Attempts,
    backend::Attempt,
    database::{SqlDatabase, Verdict},
    failure::Failure,
    proof::{Due, SOON},
    query::{Answer, Query},
    run::Held,
    store::SqlSessionStore,
};
use crate::{contract::Terms, protocol::Reply, to_the_end::to_the_end};

impl<D: SqlDatabase> SqlSessionStore<D> {
    /// Carries out a query where the connections live.
    ///
    /// # Errors
    /// Nothing was done.
    pub(super) async fn query(&self, query: Query, terms: &Terms) -> Result<Reply, Failure> {
        match self.ask(query, terms).await? {
            Answer::Reply(reply) => Ok(reply),
            _ => Err(Failure::unfinished()),
        }
    }

    /// The same for what is answered otherwise.
    pub(super) async fn ask(&self, query: Query, terms: &Terms) -> Result<Answer, Failure> {
        let is_repeatable = query.is_repeatable();
        let asked = Arc::new((query, terms.clone()));
        let work = |store: Self| async move { store.carry_out(&asked).await };
        let replied = self.there(work).await;
        if !is_repeatable
            && let Err(failure) = &replied
            && failure.verdict == Verdict::Lost
        {
            tracing::debug!(
                error = %format_args!("{:#}", failure.error),
                "the answer to a statement was lost"
            );
            return Ok(Reply::Lost.into());
        }
        replied
    }

    async fn carry_out(&self, asked: &Arc<(Query, Terms)>) -> Result<Answer, Failure> {
        let (query, terms) = &**asked;
        if query.needs_proof() {
            self.have_proof(terms).await;
        }
        self.repeat(asked).await
    }

    /// While sessions are only read, has the server show now and then that it takes writes. One that is
    /// demoted while it runs keeps its clients, and goes on answering reads with what may be older than the end
    /// of a session.
    async fn have_proof(&self, terms: &Terms) {
        let connections = &self.0.connections;
        if D::LOCAL || connections.search().is_in_vain() {
            return;
        }
        let Some(due) = connections.proof().due() else {
            return;
        };
        let store = self.clone();
        let asked = Arc::new((Query::Prove, terms.clone()));
        let proving = tokio::spawn(async move {
            if let Err(failure) = store.repeat(&asked).await
                && failure.is_refusal()
            {
                store.0.connections.proof().note_refusal();
            }
        });
        if due == Due::First {
            // Whoever gets no answer in time reads all the same.
            let _ = timeout(SOON, proving).await;
        }
    }

    /// Carries out a query, and tries again whenever the database says that this may help.
    async fn repeat(&self, asked: &Arc<(Query, Terms)>) -> Result<Answer, Failure> {
        let (query, terms) = &**asked;
        let mut attempts = Attempts::within(terms.budget, self.0.connections.search());
        loop {
            let begun = Instant::now();
            let mut failure = match self.attempt(asked, attempts.end()).await {
                Ok(reply) => {
                    attempts.succeeded();
                    if query.writes() {
                        self.0.connections.proof().note();
                    }
                    return Ok(reply);
                }
                Err(failure) => failure,
            };
            if !D::LOCAL && failure.verdict == Verdict::Again {
                let next = self.next_may_take(begun.elapsed());
                failure.late |= Instant::now() + next > attempts.end();
            }
            // To read once more is free: only the connection may be silent, and this one is closed.
            failure.late &= query.writes() || failure.verdict != Verdict::Lost;
            // Other statements do without their message. This one is nothing else.
            if query.is_message() && failure.refuses_to_tell::<D>() {
                return Err(failure);
            }
            attempts.again(failure, query.is_repeatable()).await?;
        }
    }

    /// How long another attempt may take: nobody would know what became of one that ends too late.
    /// After one wait for a lock, the next may be as long as a statement may take.
    fn next_may_take(&self, last: Duration) -> Duration {
        let limit = D::statement_limit(self.0.connections.limits());
        last.max(if last > limit / 4 { limit } else { last })
    }

    /// What has begun goes on if nobody waits for it any more: the connection would have to be closed
    /// otherwise.
    async fn attempt(
        &self,
        asked: &Arc<(Query, Terms)>,
        until: Instant,
    ) -> Result<Answer, Failure> {
        let writes = asked.0.writes();
        let held = self.0.connections.hold(writes, until).await?;
        let work = self.clone().attempt_on(held, Arc::clone(asked), until);
        match &self.0.runtime {
            // Nothing drops it there.
            Some(_) => work.await,
            None => to_the_end(work).await,
        }
    }

    async fn attempt_on(
        self,
        mut held: Held<D>,
        asked: Arc<(Query, Terms)>,
        until: Instant,
    ) -> Result<Answer, Failure> {
        let (query, terms) = &*asked;
        let connections = &self.0.connections;
        let statements = match query.is_message() {
            true => self.0.statements.telling(),
            false => self.0.statements.now(),
        };
        let work = async {
            let connection = held.get()?;
            let before = self.wait_within(connection, query, until).await?;
            let attempt = Attempt::<D> {
                statements,
                connection,
                terms,
            };
            let result = attempt.perform(query).await;
            if let Some(before) = before {
                D::wait_again(held.get()?, before).await?;
            }
            result
        };
        let result = match query {
            Query::Count => timeout_at(until, work).await.ok(),
            _ if query.writes() => connections.bounded(work).await,
            _ => connections.bounded_read(until, work).await,
        };
        if let Some(Err(error)) = &result {
            self.0.statements.failed::<D>(error);
        }
        connections.settle(held, result, until).await
    }

    /// A statement in this process cannot be given up. So one that waits for others' locks gives up
    /// by itself, while there is time to say so.
    async fn wait_within(
        &self,
        connection: &mut D::Connection,
        query: &Query,
        until: Instant,
    ) -> Result<Option<Duration>, Error> {
        let limit = self.0.connections.limits().command;
        let left = until.saturating_duration_since(Instant::now());
        // What the store itself has opened waits for `limit`.
        let is_short_enough = self.0.runtime.is_some() && limit <= left;
        if !D::LOCAL || !query.writes() || is_short_enough {
            return Ok(None);
        }
        D::wait_at_most(connection, limit.min(left)).await
    }
}
