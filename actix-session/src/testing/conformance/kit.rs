//! A store under test, and requests that stand still between load and commit.

use std::{fmt, sync::Arc, time::Duration};

use actix_web::cookie::Key;

use crate::{
    Clock as _, Session,
    changes::Changes,
    clock::{Millis, SharedClock},
    contract::{Committed, ExtendOnRead, Opened, Rotated, Terms},
    error::CommitError,
    key::SessionKey,
    record::{MetadataKeys, Place, Record},
    session::{Served, Shown, Times},
    storage::SessionStore,
    testing::ManualClock,
};

/// The idle timeout of all sessions under test.
pub(super) const TTL: Duration = Duration::from_secs(3_600);
/// No busy machine exceeds it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a commit may find that others came first for as long as that.
const CONTENDED: usize = 3;

/// A store under test, with its clock.
///
/// # Examples
/// ```
/// # #[cfg(feature = "memory-session")]
/// # actix_web::rt::System::new().block_on(async {
/// use actix_session::{
///     storage::MemorySessionStore,
///     testing::conformance::{self, Kit},
/// };
///
/// let kit = Kit::new(async |clock| MemorySessionStore::builder().clock(clock).build()).await;
/// conformance::sessions_live_and_end(&kit).await.unwrap();
/// # });
/// ```
pub struct Kit<S> {
    pub(super) store: S,
    pub(super) clock: ManualClock,
    pub(super) terms: Terms,
}

impl<S> fmt::Debug for Kit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kit").finish_non_exhaustive()
    }
}

/// A store breaks a promise. It says which one and how, in words for the store's author.
///
/// # Examples
/// See [`conformance!`](crate::conformance).
pub struct BrokenPromise(anyhow::Error);

impl fmt::Display for BrokenPromise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store breaks a promise: {:#}", self.0)
    }
}

impl fmt::Debug for BrokenPromise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for BrokenPromise {}

impl From<anyhow::Error> for BrokenPromise {
    fn from(error: anyhow::Error) -> Self {
        Self(error)
    }
}

/// Fails unless something holds.
macro_rules! promise {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err($crate::testing::conformance::BrokenPromise::from(anyhow::anyhow!($($words)+)));
        }
    };
}
pub(super) use promise;

pub(super) type Kept = Result<(), BrokenPromise>;

/// A call failed that must not. The causes are said in a line: their `Debug` has backtraces.
pub(super) fn failed<E: Into<anyhow::Error>>(call: &str) -> impl FnOnce(E) -> BrokenPromise {
    move |error| BrokenPromise(anyhow::anyhow!("`{call}` failed: {:#}", error.into()))
}

/// The name of an answer, without what is in it.
pub(super) fn word(answer: &impl fmt::Debug) -> String {
    let answer = format!("{answer:?}");
    let end = answer.find(|c: char| !c.is_alphanumeric());
    format!("`{}`", &answer[..end.unwrap_or(answer.len())])
}

/// A request whose session is loaded. Derefs to it.
pub(super) struct Request {
    pub(super) key: SessionKey,
    pub(super) base: Option<Record>,
    pub(super) session: Session,
}

impl std::ops::Deref for Request {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Request {
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.session.get(name).ok().flatten()
    }

    pub(super) fn count(&self) -> Result<(), BrokenPromise> {
        let count = |n: Option<u64>| Some(n.unwrap_or(0) + 1);
        self.session.modify("n", count).map_err(failed("modify"))
    }

    pub(super) fn insert(&self, name: &str, value: u64) -> Result<(), BrokenPromise> {
        self.session.insert(name, value).map_err(failed("insert"))
    }

    fn changes(&self) -> Changes {
        let mut snapshot = self.session.lock().take_snapshot();
        snapshot.settle_named(self.base.as_ref());
        snapshot.changes
    }
}

impl<S: SessionStore> Kit<S> {
    /// Starts with a store. It is made with the clock that the tests move.
    pub async fn new(make: impl AsyncFnOnce(ManualClock) -> S) -> Self {
        let clock = ManualClock::new();
        let keys = MetadataKeys::new(&Key::generate(), &[]);
        Self {
            store: make(clock.clone()).await,
            clock,
            terms: Terms {
                budget: PATIENCE,
                keys: Some(Arc::new(keys)),
                ..Terms::default().with_ttl(TTL)
            },
        }
    }

    /// The same store on another thread.
    pub(super) fn share(&self) -> Self
    where
        S: Clone,
    {
        Self {
            store: self.store.clone(),
            clock: self.clock.clone(),
            terms: self.terms.clone(),
        }
    }

    /// The terms of a call made now.
    pub(super) fn terms(&self) -> Terms {
        Terms {
            now: Millis::from(self.clock.now()),
            ..self.terms.clone()
        }
    }

    pub(super) fn extending(&self) -> Terms {
        Terms {
            extend: ExtendOnRead::Always,
            ..self.terms()
        }
    }

    fn session(&self, base: Option<Record>) -> Session {
        let clock = SharedClock::new(self.clock.clone());
        let served = Served::unnamed(clock, Times::from(&self.terms), true);
        let shown = Shown {
            record: base,
            ..Shown::default()
        };
        Session::of_request(served, shown)
    }

    pub(super) async fn open(&self, key: &SessionKey) -> Result<Opened, BrokenPromise> {
        self.open_on(key, &self.terms()).await
    }

    pub(super) async fn open_on(
        &self,
        key: &SessionKey,
        terms: &Terms,
    ) -> Result<Opened, BrokenPromise> {
        let opened = self.store.open(key, terms).await.map_err(failed("open"))?;
        Ok(match opened {
            Opened::Live(record) => Opened::Live(terms.prove(record, Place::Unnamed)),
            opened => opened,
        })
    }

    pub(super) async fn is_live(&self, key: &SessionKey) -> Result<bool, BrokenPromise> {
        Ok(matches!(self.open(key).await?, Opened::Live(_)))
    }

    /// A request that has loaded a session that must be there.
    pub(super) async fn load(&self, key: &SessionKey) -> Result<Request, BrokenPromise> {
        match self.open(key).await? {
            Opened::Live(record) => Ok(Request {
                key: key.duplicate(),
                session: self.session(Some(record.clone())),
                base: Some(record),
            }),
            found => Err(anyhow::anyhow!(
                "a live session must be found, and `open` answered {}",
                word(&found)
            )
            .into()),
        }
    }

    /// Makes a session with what `act` does.
    pub(super) async fn create(
        &self,
        act: impl FnOnce(&Session),
    ) -> Result<SessionKey, BrokenPromise> {
        self.try_create(act).await.map_err(failed("create"))
    }

    pub(super) async fn try_create(
        &self,
        act: impl FnOnce(&Session),
    ) -> Result<SessionKey, CommitError> {
        let session = self.session(None);
        act(&session);
        self.create_from(session).await
    }

    /// Makes a session of what was done to the handle of a request that had none.
    pub(super) async fn create_from(&self, session: Session) -> Result<SessionKey, CommitError> {
        let changes = session.lock().take_snapshot().changes;
        let (key, _) = self.store.create(&changes, &self.terms()).await?;
        Ok(key)
    }

    /// A request without a session.
    pub(super) fn guest(&self) -> Session {
        self.session(None)
    }

    /// Makes a session with the entry `n`, which is 0.
    pub(super) async fn counter(&self) -> Result<SessionKey, BrokenPromise> {
        self.create(|s| drop(s.insert("n", 0))).await
    }

    pub(super) async fn commit(&self, request: Request) -> Result<Committed, BrokenPromise> {
        let (changes, terms) = (request.changes(), self.terms());
        let base = request.base.as_ref();
        for _ in 0..CONTENDED {
            let committed = self.store.commit(&request.key, base, &changes, &terms);
            match committed.await {
                // Others came first for as long as the budget lasted: nothing was done.
                Err(CommitError::Contended) => {}
                answer => return answer.map_err(failed("commit")),
            }
        }
        Err(BrokenPromise(anyhow::anyhow!(
            "a commit must come to an end: it was told again and again that others had changed the \
             record meanwhile. Does the step compare what is stored with what it read, byte by byte?"
        )))
    }

    pub(super) async fn rotate(&self, request: Request) -> Result<Rotated, BrokenPromise> {
        let (changes, terms) = (request.changes(), self.terms());
        let base = request.base.as_ref();
        let rotated = self.store.rotate(&request.key, base, &changes, &terms);
        rotated.await.map_err(failed("rotate"))
    }

    /// On terms that keep the end.
    pub(super) async fn commit_quietly(
        &self,
        request: Request,
    ) -> Result<Committed, BrokenPromise> {
        let (changes, terms) = (request.changes(), self.terms().quiet());
        let base = request.base.as_ref();
        let committed = self.store.commit(&request.key, base, &changes, &terms);
        committed.await.map_err(failed("commit"))
    }

    /// As another worker would: a worker's own commits queue up, so that they do not compete.
    pub(super) async fn commit_apart(&self, request: Request) -> Result<Committed, BrokenPromise>
    where
        S: Clone,
    {
        let other = self.share();
        other.commit(request).await
    }

    /// As another worker would.
    pub(super) async fn rotate_apart(&self, request: Request) -> Result<Rotated, BrokenPromise>
    where
        S: Clone,
    {
        let other = self.share();
        other.rotate(request).await
    }

    /// Renews a session, and returns its new key.
    pub(super) async fn renew(&self, request: Request) -> Result<SessionKey, BrokenPromise> {
        request.session.renew();
        match self.rotate(request).await? {
            Rotated::Rotated(key, ..) => Ok(key),
            answer => Err(anyhow::anyhow!(
                "a live session is renewed, and `rotate` answered {}",
                word(&answer)
            )
            .into()),
        }
    }

    pub(super) async fn delete(&self, key: &SessionKey) -> Result<(), BrokenPromise> {
        self.store.delete(key).await.map_err(failed("delete"))
    }

    /// What to do about a race, in words that the store's author knows.
    pub(super) fn atomic(&self) -> &'static str {
        if self.is_over_a_database() {
            "compare and write in one atomic step, under one lock or in one transaction"
        } else {
            "compare and write in one atomic step, under one lock or in one transaction, and merge with \
             `Changes::made_on` what is there at that time"
        }
    }

    /// Whether its author has written three methods of a database, and no store.
    pub(super) fn is_over_a_database(&self) -> bool {
        std::any::type_name::<S>().contains("::KeyValueSessionStore<")
    }

    pub(super) fn pass(&self, span: Duration) {
        self.clock.advance(span);
    }
}
