//! Connections to one server: one for each runtime, made when needed, and replaced when broken.
//!
//! A connection's driver is a task of the runtime that made it. A connection that workers share
//! would die with one of them, and would wake two threads for each command.

use std::{
    collections::{HashMap, hash_map::Entry},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use redis::{Client, RedisError, aio::MultiplexedConnection};
use tokio::{
    runtime::{Handle, Id},
    sync::Mutex as AsyncMutex,
    task::AbortHandle,
    time::Instant,
};

use super::{
    Job, LastFailure, Outcome, Timeouts, is_spent, refusal,
    role::{self, Asking},
    sentinel::Sentinel,
};
use crate::{event, sync::lock};

#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

/// Where a connection leads.
#[allow(clippy::large_enum_variant, reason = "a link has one")]
pub(super) enum Source {
    Server(Client),
    /// Whichever server is the master at the time of connecting.
    Sentinel(Arc<Sentinel>),
}

struct Inner {
    source: Source,
    timeouts: Timeouts,
    runtimes: Mutex<Runtimes>,
}

type Runtimes = HashMap<Id, Arc<RuntimeConnection>, foldhash::fast::RandomState>;

/// A runtime's connection. The first job makes it, while others wait.
struct RuntimeConnection {
    number: u64,
    connection: AsyncMutex<Option<Numbered>>,
    /// The last connection that must not be used again, and so must no earlier one. Whoever finds
    /// that out does not wait for the lock, which another job holds for as long as it connects.
    spent: AtomicU64,
    /// Attempts to connect.
    attempts: LastFailure,
    asking: Arc<Asking>,
    /// Ends with the runtime, and then forgets the connection.
    watcher: Mutex<Option<AbortHandle>>,
}

#[derive(Clone)]
struct Numbered {
    number: u64,
    /// When it was made, as its source counts.
    era: u64,
    connection: MultiplexedConnection,
}

impl Numbered {
    fn new(era: u64, connection: MultiplexedConnection) -> Self {
        Self {
            number: next_number(),
            era,
            connection,
        }
    }
}

impl RuntimeConnection {
    /// Has nobody use a connection again that broke, or that holds an answer back.
    fn set_aside(&self, number: u64) {
        self.spent.fetch_max(number, Ordering::AcqRel);
        // It is closed at once, unless another is being made.
        if let Ok(mut held) = self.connection.try_lock() {
            held.take_if(|held| !self.may_use(held));
        }
    }

    fn may_use(&self, held: &Numbered) -> bool {
        held.number > self.spent.load(Ordering::Acquire)
    }
}

impl Drop for RuntimeConnection {
    fn drop(&mut self) {
        if let Some(watcher) = lock(&self.watcher).take() {
            watcher.abort();
        }
    }
}

impl Link {
    pub(super) fn new(source: Source, timeouts: Timeouts) -> Self {
        Self(Arc::new(Inner {
            source,
            timeouts,
            runtimes: Mutex::default(),
        }))
    }

    /// How to connect to the server. `None` if Sentinel has to be asked first.
    pub(super) fn client(&self) -> Option<Client> {
        match &self.0.source {
            Source::Server(client) => Some(client.clone()),
            Source::Sentinel(_) => None,
        }
    }

    /// Does a job once.
    ///
    /// # Errors
    /// The job was refused.
    pub(super) async fn once(&self, job: &Job<'_>) -> Result<Outcome, RedisError> {
        let own = self.of_this_runtime();
        let held = self.connection(&own).await?;
        let number = held.number;
        let outcome = self.over(&own, held, job).await;
        if outcome.as_ref().is_err_and(refusal::is_not_here) {
            own.set_aside(number);
        }
        outcome
    }

    /// Does a job once. A read asks now and then whether the server is a replica by now. If it is, it serves
    /// reads until a new connection leads to a master.
    ///
    /// # Errors
    /// The job was refused.
    pub(super) async fn once_at_master(
        &self,
        job: &Job<'_>,
        until: Instant,
    ) -> Result<Outcome, RedisError> {
        let own = self.of_this_runtime();
        let held = self.connection(&own).await?;
        let number = held.number;
        let outcome = if job.looks && own.asking.is_due() {
            // What is rare is on the heap.
            Box::pin(self.once_asking(&own, held, job)).await
        } else {
            self.over(&own, held, job).await
        };
        if outcome.as_ref().is_err_and(refusal::is_not_here) {
            Box::pin(self.finds_master(&own, number, until)).await;
        }
        outcome
    }

    /// Does it, and again if the server is a replica and a new connection leads to a master.
    async fn once_asking(
        &self,
        own: &Arc<RuntimeConnection>,
        held: Numbered,
        job: &Job<'_>,
    ) -> Result<Outcome, RedisError> {
        let (connection, timeouts) = (held.connection.clone(), self.0.timeouts);
        let number = held.number;
        let doing = self.over(own, held, job);
        let (is_replica, outcome) = own.asking.along(connection, timeouts, doing).await;
        if !is_replica {
            return outcome;
        }
        let until = Instant::now() + role::SOON;
        match self.finds_master(own, number, until).await {
            Some(true) => {
                let held = self.connection(own).await?;
                return self.over(own, held, job).await;
            }
            Some(false) => own.asking.do_without(),
            None => {}
        }
        outcome
    }

    /// Connects anew, unless somebody has done so since. If that leads to a master, all later jobs go there.
    async fn finds_master(
        &self,
        own: &Arc<RuntimeConnection>,
        number: u64,
        until: Instant,
    ) -> Option<bool> {
        let (link, runtime, timeouts) = (self.clone(), Arc::clone(own), self.0.timeouts);
        let looking = async move {
            let held = runtime.connection.lock().await;
            if held.as_ref().is_some_and(|held| held.number > number) {
                return true;
            }
            drop(held);
            let source = &link.0.source;
            let era = source.era();
            let Ok(connection) = source.connect(timeouts).await else {
                return false;
            };
            let is_worth_it = role::is_worth_leaving_for(connection.clone(), timeouts).await;
            if is_worth_it {
                *runtime.connection.lock().await = Some(Numbered::new(era, connection));
                event::left_replica();
            }
            is_worth_it
        };
        own.asking.look(timeouts, until, looking).await
    }

    /// Does a job on a connection.
    ///
    /// A server that holds a write back, as in `CLIENT PAUSE WRITE`, holds back whatever comes after
    /// it on the same connection. So a connection whose answer is late is not used any further.
    async fn over(
        &self,
        own: &RuntimeConnection,
        held: Numbered,
        job: &Job<'_>,
    ) -> Result<Outcome, RedisError> {
        let Numbered {
            number,
            mut connection,
            ..
        } = held;
        let doing = pin!(job.over(&mut connection));
        let late = || {
            own.set_aside(number);
            job.is_late();
        };
        let outcome = self.0.timeouts.bound(doing, late).await;
        if is_spent(&outcome) {
            own.set_aside(number);
        }
        outcome
    }

    fn of_this_runtime(&self) -> Arc<RuntimeConnection> {
        let id = Handle::current().id();
        if let Some(own) = self.runtimes().get(&id) {
            return Arc::clone(own);
        }
        // Made outside the lock: a runtime that is shutting down drops the watcher at once, and
        // the watcher takes the lock itself.
        let number = next_number();
        let made = Arc::new(RuntimeConnection {
            number,
            connection: AsyncMutex::new(None),
            spent: AtomicU64::new(0),
            attempts: LastFailure::default(),
            asking: Asking::later(),
            watcher: Mutex::new(Some(self.forget_with_runtime(id, number))),
        });
        Arc::clone(self.runtimes().entry(id).or_insert(made))
    }

    fn runtimes(&self) -> MutexGuard<'_, Runtimes> {
        lock(&self.0.runtimes)
    }

    /// Starts a task that is dropped with the runtime, and then drops the runtime's connection of this
    /// number: another thread of the runtime may have made one first, which stays.
    fn forget_with_runtime(&self, id: Id, number: u64) -> AbortHandle {
        struct Forget {
            link: std::sync::Weak<Inner>,
            id: Id,
            number: u64,
        }

        impl Drop for Forget {
            fn drop(&mut self) {
                if let Some(inner) = self.link.upgrade() {
                    let own = Link(inner).remove(self.id, self.number);
                    drop(own);
                }
            }
        }

        let link = Arc::downgrade(&self.0);
        let forget = Forget { link, id, number };
        let watch = async move {
            let _forget = forget;
            std::future::pending::<()>().await;
        };
        tokio::spawn(watch).abort_handle()
    }

    /// Takes a runtime's connection out, unless it is another one by now.
    fn remove(&self, id: Id, number: u64) -> Option<Arc<RuntimeConnection>> {
        match self.runtimes().entry(id) {
            Entry::Occupied(own) if own.get().number == number => Some(own.remove()),
            _ => None,
        }
    }

    async fn connection(&self, own: &RuntimeConnection) -> Result<Numbered, RedisError> {
        let failed = own.attempts.count();
        let mut held = own.connection.lock().await;
        let era = self.0.source.era();
        let usable = |held: &&Numbered| held.era == era && own.may_use(held);
        if let Some(held) = held.as_ref().filter(usable) {
            return Ok(held.clone());
        }
        // A job that has waited for an attempt that failed does not wait for another.
        if let Some(error) = own.attempts.since(failed) {
            return Err(error);
        }
        // What is rare is on the heap.
        let connecting = Box::pin(self.0.source.connect(self.0.timeouts));
        let connected = connecting.await;
        let connection = connected.inspect_err(|error| own.attempts.note(error))?;
        let made = Numbered::new(era, connection);
        *held = Some(made.clone());
        Ok(made)
    }
}

impl Source {
    /// Connections that were made in an earlier era lead to the wrong server.
    fn era(&self) -> u64 {
        match self {
            Self::Server(_) => 0,
            Self::Sentinel(sentinel) => sentinel.era(),
        }
    }

    async fn connect(&self, timeouts: Timeouts) -> Result<MultiplexedConnection, RedisError> {
        let config = timeouts.connecting();
        match self {
            Self::Server(client) => {
                let connecting = client.get_multiplexed_async_connection_with_config(&config);
                connecting.await.map_err(refusal::of_connecting)
            }
            Self::Sentinel(sentinel) => sentinel.connect(&config).await,
        }
    }
}

/// Later connections have larger numbers. None has 0.
fn next_number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::{Either, select};
    use redis::Value;
    use tokio::sync::Notify;

    use super::{super::super::fake, *};

    /// Another job connects meanwhile, to a server that lets nobody in.
    #[actix_web::test]
    async fn a_job_whose_time_is_up_waits_for_nobody_who_connects() {
        let (server, accepted) = fake::listen_to(1, |_| Some(String::new())).await;
        let timeouts = Timeouts {
            command: Duration::from_secs(5),
            ..fake::PATIENCE
        };
        let link = Link::new(Source::Server(Client::open(server).unwrap()), timeouts);
        let (get, late) = (redis::cmd("GET"), Notify::new());
        let job = Job::command("a", &get).telling(&late);
        let next = async {
            late.notified().await;
            link.once(&Job::command("b", &get)).await
        };
        match select(pin!(link.once(&job)), pin!(next)).await {
            Either::Left((Ok(Outcome::Lost(_)), _)) => {}
            Either::Left(_) => panic!("nobody has answered it"),
            Either::Right(_) => panic!("it has waited for the other one"),
        }
        assert_eq!(accepted.get(), 2);
    }

    /// What a server answers to `HELLO` and to `GET`.
    fn answer(role: &str, value: u32) -> impl Fn(&[String]) -> Option<String> {
        let hello = format!("*2\r\n$4\r\nrole\r\n${}\r\n{role}\r\n", role.len());
        move |command| match command[0].as_str() {
            "HELLO" => Some(hello.clone()),
            _ => Some(format!(":{value}\r\n")),
        }
    }

    async fn read(link: &Link) -> Value {
        let get = redis::cmd("GET");
        match link
            .once_at_master(&Job::command("a", &get).reading(), Instant::now())
            .await
        {
            Ok(Outcome::Value(value)) => value,
            _ => panic!("it is served"),
        }
    }

    #[actix_web::test]
    async fn reads_do_without_a_master_for_a_while() {
        let (server, accepted) = fake::listen_to(usize::MAX, answer("replica", 1)).await;
        let source = Source::Server(Client::open(server).unwrap());
        let link = Link::new(source, fake::PATIENCE);
        assert_eq!(read(&link).await, Value::Int(1));
        assert_eq!(accepted.get(), 1, "nobody has asked yet");
        link.of_this_runtime().asking.at_once();
        for _ in 0..3 {
            assert_eq!(read(&link).await, Value::Int(1));
            assert_eq!(accepted.get(), 2, "one of them looks for a master");
        }
    }

    #[actix_web::test]
    async fn a_read_leaves_a_replica_for_a_master() {
        let (old, new) = (answer("replica", 1), answer("master", 2));
        let mut asked = 0;
        let both = move |command: &[String]| {
            asked += usize::from(command[0] == "HELLO");
            let answer = if asked < 2 { &old } else { &new };
            answer(command)
        };
        let (server, accepted) = fake::listen_to(usize::MAX, both).await;
        let source = Source::Server(Client::open(server).unwrap());
        let link = Link::new(source, fake::PATIENCE);
        link.of_this_runtime().asking.at_once();
        assert_eq!(read(&link).await, Value::Int(2));
        assert_eq!(accepted.get(), 2);
        assert_eq!(read(&link).await, Value::Int(2));
        assert_eq!(accepted.get(), 2, "all of them go there from now on");
    }

    #[tokio::test]
    async fn only_its_own_watcher_forgets_a_connection() {
        let client = Client::open("redis://127.0.0.1:1").unwrap();
        let link = Link::new(Source::Server(client), fake::PATIENCE);
        let own = link.of_this_runtime();
        let id = Handle::current().id();
        assert!(link.remove(id, own.number + 1).is_none());
        assert!(Arc::ptr_eq(&link.of_this_runtime(), &own));
        assert!(link.remove(id, own.number).is_some());
        assert!(!Arc::ptr_eq(&link.of_this_runtime(), &own));
    }
}
