//! Connections, time limits, and what becomes of errors.

use std::{
    future::pending,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::{Either, FutureExt as _, select};
use sqlx::{Connection as _, Error, Pool, pool::PoolConnection};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    attempts::Search,
    connect::{Greeting, Inquiry, Welcome, is_worth_another, no_connection, none_in_time},
    database::{Database, Limits, Verdict},
    failure::Failure,
    line::Line,
    proof::Proof,
};
use crate::{clock, measure, to_the_end::to_the_end};

/// How often somebody who waits looks for connections that came back to the pool by other ways.
const LOOK: Duration = Duration::from_millis(10);

/// After a server has refused a connection, it is asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// A pool, and what is known about its connections.
pub(crate) struct Connections<D: Database> {
    pool: Pool<D>,
    limits: Limits,
    /// Writers wait here in line if the database takes one at a time. SQLite itself waits by trying
    /// again, which lets the unlucky starve.
    writer: Arc<Semaphore>,
    /// Those who wait for a connection.
    line: Arc<Line<Open<D>>>,
    /// As many may open a connection at once as the pool may have. In a longer line, those in front would have
    /// stood there until their time is nearly up.
    openers: Arc<Semaphore>,
    inquiry: Inquiry,
    /// How many connections may be dead, since another one was lost: each is pinged before its next
    /// use.
    suspects: AtomicU32,
    /// Grows whenever the connections that are open turn out to be useless.
    era: AtomicU64,
    search: Search,
    proof: Proof,
}

/// An open connection. It goes back to the pool when it is dropped.
struct Open<D: Database> {
    /// It is missing only after it was taken out.
    connection: Option<PoolConnection<D>>,
    /// It was opened in this era or later.
    era: u64,
    /// It has been used a moment ago, or has given a sign of life.
    is_awake: bool,
    /// How long the pool may wait for a sign of life before it takes the connection back.
    sign: Duration,
    /// The runtime that opened it.
    runtime: Handle,
}

impl<D: Database> Open<D> {
    fn hold(mut self, turn: Option<OwnedSemaphorePermit>) -> Held<D> {
        Held {
            connection: self.connection.take(),
            era: self.era,
            runtime: self.runtime.clone(),
            _turn: turn,
        }
    }
}

impl<D: Database> Drop for Open<D> {
    /// By itself, the pool would wait without limit, and meanwhile miss a connection: for ever, if
    /// nothing comes any more from the server and nothing says so.
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        on_a_runtime(&self.runtime, || {
            if !D::LOCAL {
                tokio::spawn(timeout(self.sign, connection.return_to_pool()));
            }
            drop(connection);
        });
    }
}

/// Drops a connection. The pool spawns a task for that, which panics outside of a runtime; and a
/// worker that stops drops its requests there.
fn on_a_runtime(opener: &Handle, drop: impl FnOnce()) {
    let runtime = Handle::try_current().unwrap_or_else(|_| opener.clone());
    let _entered = runtime.enter();
    drop();
}

/// A connection that is closed unless it is given back. In the middle of a statement, only closing
/// it makes the server give up; in the pool, the rest of the answer would still have to be read.
pub(crate) struct Held<D: Database> {
    connection: Option<PoolConnection<D>>,
    /// It was opened in this era or later.
    era: u64,
    /// The runtime that opened it.
    runtime: Handle,
    _turn: Option<OwnedSemaphorePermit>,
}

impl<D: Database> Held<D> {
    pub(crate) fn get(&mut self) -> Result<&mut D::Connection, Error> {
        // It is missing only after `open`, which consumes the whole.
        self.connection.as_deref_mut().ok_or(Error::PoolClosed)
    }

    /// Nothing is under way on it: it may go back to the pool.
    fn open(mut self, sign: Duration) -> Option<Open<D>> {
        Some(Open {
            connection: Some(self.connection.take()?),
            era: self.era,
            is_awake: true,
            sign,
            runtime: self.runtime.clone(),
        })
    }

    fn close(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        on_a_runtime(&self.runtime, || match D::LOCAL {
            // Its worker thread finishes the statement. Closing the last connection would delete a
            // database in memory.
            true => drop(connection),
            false => drop(connection.detach()),
        });
    }
}

impl<D: Database> Drop for Held<D> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<D: Database> Connections<D> {
    /// `is_own`: the store has made the pool.
    pub(crate) fn new(pool: Pool<D>, limits: Limits, is_own: bool) -> Self {
        let greeting = is_own.then(|| Greeting::of::<D>(&pool.connect_options(), &limits));
        let most = pool.options().get_max_connections();
        Self {
            pool,
            limits,
            writer: Arc::new(Semaphore::new(1)),
            openers: Arc::new(Semaphore::new(most.max(1) as usize)),
            line: Arc::new(Line::new()),
            inquiry: Inquiry::new(greeting),
            suspects: AtomicU32::new(0),
            era: AtomicU64::new(0),
            search: Search::within(limits.connect),
            proof: Proof::new(),
        }
    }

    pub(crate) fn proof(&self) -> &Proof {
        &self.proof
    }

    pub(crate) fn search(&self) -> &Search {
        &self.search
    }

    pub(crate) fn pool(&self) -> &Pool<D> {
        &self.pool
    }

    /// Says what must change in a pool of the application's.
    pub(crate) async fn check_pool(&self) -> Option<&'static str> {
        D::check_pool(&self.pool.connect_options(), &self.limits).await
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes a connection that is not known to be dead. All that this waits for has one limit.
    ///
    /// # Errors
    /// Nothing was done.
    pub(crate) async fn hold(
        self: &Arc<Self>,
        writes: bool,
        until: Instant,
    ) -> Result<Held<D>, Failure> {
        measure::waited("sql", self.hold_any(writes, until)).await
    }

    async fn hold_any(self: &Arc<Self>, writes: bool, until: Instant) -> Result<Held<D>, Failure> {
        let deadline = clock::deadline(self.limits.connect).min(until);
        let turn = self.wait_to_write(writes, deadline).await?;
        loop {
            let open = self.take(deadline).await?;
            let open = match D::LOCAL || (open.is_awake && !self.has_suspects()) {
                true => Some(open),
                // Whoever gives up meanwhile would close it.
                false => to_the_end(Arc::clone(self).alive(open, deadline)).await,
            };
            if let Some(open) = open {
                return Ok(open.hold(turn));
            }
        }
    }

    /// Waits for the turn to write, if the database takes one writer at a time.
    async fn wait_to_write(
        &self,
        writes: bool,
        deadline: Instant,
    ) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        if !D::LOCAL || !writes {
            return Ok(None);
        }
        let turn = Arc::clone(&self.writer).acquire_owned();
        match timeout_at(deadline, turn).await {
            Ok(turn) => Ok(turn.ok()),
            Err(_) => Err(Failure::late("waiting to write", Verdict::Again)),
        }
    }

    /// Takes a connection that the pool has or opens, or that another request gives back.
    async fn take(self: &Arc<Self>, deadline: Instant) -> Result<Open<D>, Failure> {
        let welcome = OnceLock::new();
        let opening = pin!(self.open_or_ask(&welcome));
        let waiting = pin!(self.wait_in_line());
        match timeout_at(deadline, select(opening, waiting)).await {
            Ok(Either::Left((Err(error), _))) => Err(no_connection::<D>(error)),
            Ok(Either::Left((Ok(open), _)) | Either::Right((open, _))) => Ok(open),
            Err(_) => Err(none_in_time::<D>(welcome.get())),
        }
    }

    /// Opens a connection. If that takes long, asks the server why.
    async fn open_or_ask(self: &Arc<Self>, welcome: &OnceLock<Welcome>) -> Result<Open<D>, Error> {
        if D::LOCAL {
            return self.open_at_last().await;
        }
        let began = Instant::now();
        let asking = async {
            sleep(self.limits.sign()).await;
            // Others wait for the same answer.
            match to_the_end(Arc::clone(self).inquire(began)).await {
                Some(welcome) => welcome,
                None => pending().await,
            }
        };
        match select(pin!(self.open_at_last()), pin!(asking)).await {
            Either::Left((opened, _)) => opened,
            Either::Right((answer, opening)) => {
                let _ = welcome.set(answer);
                opening.await
            }
        }
    }

    async fn inquire(self: Arc<Self>, since: Instant) -> Option<Welcome> {
        let asking = self.inquiry.ask(&self.pool, since);
        timeout(self.limits.connect(), asking).await.ok()
    }

    /// Has the pool try again while the server allows no further connection, or if one breaks while
    /// it is opened.
    async fn open_at_last(&self) -> Result<Open<D>, Error> {
        loop {
            match self.open().await {
                Err(error) if is_tried_again::<D>(&error) => {}
                opened => return opened,
            }
            sleep(PAUSE).await;
        }
    }

    /// Has the pool find or open a connection. If the request gets another one meanwhile, this one
    /// is opened all the same, for the next in line: otherwise a busy server would be asked for
    /// connections again and again, and never have enough.
    async fn open(&self) -> Result<Open<D>, Error> {
        let openers = || Arc::clone(&self.openers);
        let turn = match openers().try_acquire_owned() {
            Ok(turn) => turn,
            // The pool may look at one that is idle, and closes it if it is told to stop.
            Err(_) => match self.idle() {
                Some(open) => return Ok(open),
                None => openers()
                    .acquire_owned()
                    .await
                    .map_err(|_| Error::PoolClosed)?,
            },
        };
        let open = self.opened(true);
        let mut acquiring = Box::pin(self.pool.acquire());
        if let Some(acquired) = (&mut acquiring).now_or_never() {
            return acquired.map(open);
        }
        let (tell, told) = oneshot::channel();
        let (line, limit) = (Arc::clone(&self.line), self.limits.connect());
        tokio::spawn(async move {
            let Ok(acquired) = timeout(limit, acquiring).await else {
                return;
            };
            // It is tried again after a pause, in which everybody who waits would ask otherwise.
            let pauses = acquired.as_ref().is_err_and(is_tried_again::<D>);
            let turn = pauses.then_some(turn);
            if let Err(Ok(open)) = tell.send(acquired.map(open)) {
                drop(line.hand(open));
            }
            if pauses {
                sleep(PAUSE).await;
            }
            drop(turn);
        });
        told.await.unwrap_or(Err(Error::PoolTimedOut))
    }

    /// What nobody uses now. It was asked for no sign of life.
    fn idle(&self) -> Option<Open<D>> {
        let open = self.opened(false);
        self.pool.try_acquire().map(open)
    }

    /// Asked for before the pool is, which may give an older one than is known then.
    fn opened(&self, is_awake: bool) -> impl FnOnce(PoolConnection<D>) -> Open<D> + use<D> {
        let (era, sign) = (self.era.load(Ordering::Acquire), self.limits.sign());
        move |connection| Open {
            connection: Some(connection),
            era,
            is_awake,
            sign,
            runtime: Handle::current(),
        }
    }

    /// Waits for a connection that somebody gives back. One that is idle meanwhile will do: what the
    /// pool itself asks for a sign of life may be silent for ever.
    async fn wait_in_line(&self) -> Open<D> {
        let mut place = self.line.join();
        loop {
            if let Ok(open) = timeout(LOOK, place.wait()).await {
                return open;
            }
            if let Some(open) = self.idle() {
                return open;
            }
        }
    }

    fn has_suspects(&self) -> bool {
        self.suspects.load(Ordering::Relaxed) > 0
    }

    /// Pings a connection that may be dead. One that is silent condemns those that are idle.
    async fn alive(self: Arc<Self>, open: Open<D>, deadline: Instant) -> Option<Open<D>> {
        let mut held = open.hold(None);
        let connection = held.get().ok()?;
        let limit = clock::deadline(self.limits.sign()).min(deadline);
        let answered = timeout_at(limit, connection.ping()).await;
        let less = |suspects: u32| suspects.checked_sub(1);
        let _ = self
            .suspects
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if answered.is_err() {
            self.close_idle();
        }
        match answered {
            Ok(Ok(())) => held.open(self.limits.sign()),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    fn close_idle(&self) {
        while let Some(connection) = self.pool.try_acquire() {
            drop(connection.detach());
        }
    }

    /// Ends the use of a connection, and gives it back unless it may be broken.
    pub(crate) async fn settle<T>(
        self: &Arc<Self>,
        held: Held<D>,
        result: Option<Result<T, Error>>,
        until: Instant,
    ) -> Result<T, Failure> {
        let Some(result) = result else {
            self.suspect();
            let verdict = match D::LOCAL {
                // Only reads are given up, and only a lock keeps them waiting.
                true => Verdict::Again,
                false => Verdict::Lost,
            };
            return Err(Failure::late("a statement", verdict));
        };
        match result {
            Ok(value) => {
                self.give_back(held);
                Ok(value)
            }
            Err(error) => {
                let failure = Failure::of::<D>(error);
                match failure.verdict {
                    Verdict::Lost => self.suspect(),
                    // While nobody looks for another server, this one is good for reads.
                    verdict if verdict.is_about_server() && !self.search.rests() => {
                        let era = held.era;
                        if verdict == Verdict::ReadOnly {
                            self.give_back(held);
                            // What is rare is on the heap.
                            let leaving = Box::pin(Arc::clone(self).leave(era));
                            // It goes on if there is no time to wait for it.
                            let _ = timeout_at(until, tokio::spawn(leaving)).await;
                        } else {
                            drop(held);
                            self.condemn(era);
                        }
                    }
                    _ => self.give_back(held),
                }
                Err(failure)
            }
        }
    }

    /// Gives a connection to whoever has waited longest, or else to the pool.
    fn give_back(&self, held: Held<D>) {
        if held.era == self.era.load(Ordering::Acquire) {
            let open = held.open(self.limits.sign());
            drop(open.and_then(|open| self.line.hand(open)));
        }
    }

    /// Has nobody use connections to a read-only server any further, once a new one is to be had: until then
    /// they serve reads. A server that turns it away for now is asked again by whoever looks for another one.
    async fn leave(self: Arc<Self>, era: u64) {
        if era != self.era.load(Ordering::Acquire) {
            return;
        }
        let failure = match Arc::clone(&self).inquire(Instant::now()).await {
            Some(Ok(())) => return self.condemn(era),
            Some(Err(error)) if is_worth_another::<D>(&error) => return,
            Some(Err(error)) => no_connection::<D>(error),
            None => Failure::late("connecting", Verdict::ReadOnly),
        };
        self.search.ended_in_vain(&failure);
    }

    /// Closes all connections that were opened before they were known to be useless: those in the pool now,
    /// those in use when they are given back.
    fn condemn(&self, era: u64) {
        let next = self
            .era
            .compare_exchange(era, era + 1, Ordering::AcqRel, Ordering::Acquire);
        // Otherwise what is in the pool was opened later.
        if next.is_ok() {
            self.close_idle();
        }
    }

    fn suspect(&self) {
        self.suspects.store(self.pool.size(), Ordering::Relaxed);
    }

    /// Limits how long a statement may take. In a database in this process none can be interrupted.
    pub(crate) async fn bounded<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        if D::LOCAL {
            return Some(work.await);
        }
        timeout(D::statement_limit(&self.limits), work).await.ok()
    }

    /// As [`bounded`](Self::bounded); but whoever only reads waits for nobody's lock beyond this time.
    pub(crate) async fn bounded_read<T>(
        &self,
        until: Instant,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        timeout_at(until, self.bounded(work)).await.ok().flatten()
    }
}

fn is_tried_again<D: Database>(error: &Error) -> bool {
    matches!(error, Error::PoolTimedOut) || is_worth_another::<D>(error)
}
