//! What the author of a store supplies: named values, and one transaction over them.

use std::{fmt, future::Future};

use crate::digest;

/// A transactional database of the application's own, as a [`KeyValueSessionStore`] uses it: values
/// under names, read several at once and written all or none.
///
/// Three methods are all that there is to write. The library keeps every promise of a session on top
/// of them: merging, redirects, tombstones, lost answers, renewals, endings, the index of sessions by
/// principal, caps and live ends. `examples/redb_store.rs` is a whole store, embedded and
/// durable.
///
/// # What the database must do
/// - **[`commit`](Self::commit) is atomic and isolated.** It compares all expected values and makes
///   all writes in one step: nobody writes between the comparison and the writes, and nobody sees half
///   of the writes. A lock around both, a serializable transaction, or the database's own conditional
///   write does that. To read, compare and then write without one loses changes, and brings ended
///   sessions back.
/// - **A read sees what was acknowledged before it.** Never read from a replica that lags.
/// - **A value is bytes**, and comes back as it was written.
/// - **Futures may be dropped at any await.** A transaction that was begun is then either done or not,
///   as a whole.
/// - **[`sweep`](Self::sweep) goes by the end that was written last**, and compares and removes in one
///   atomic step: a value may be written anew meanwhile.
/// - **A tokio runtime is there, and not always the same one.** Requests call from their workers.
///   [`sweep`](Self::sweep), and [`get`](Self::get) for whoever awaits
///   [`Session::ended`](crate::Session::ended), are called on the library's thread `session-ends`,
///   which has a runtime of its own. For a list of ended cookies, all three are. A client that is
///   bound to one runtime must be used through a channel.
/// - **No method blocks.** Whatever waits for the disk runs in [`web::block`](actix_web::web::block).
///   Otherwise it holds up all requests of its thread, and
///   [`command_timeout`](super::KeyValueSessionStoreBuilder::command_timeout) cannot cut it short.
///
/// Errors are those of the crate `anyhow`, version 1: add it to your dependencies. `conformance!` with
/// `key_value` (feature `testing`) tests this, but not that it is durable, that nothing blocks, that a
/// call which is dropped leaves no half, or that a sweep frees room. A narrow race may pass: run it more
/// than once.
///
/// # How much is asked at once
/// | | |
/// | --- | --- |
/// | names in one [`get`](Self::get) | one to four for a request; 100, then 400, then 1,600 to list or end a principal's sessions; for `erase` all that are on the list |
/// | names in one [`commit`](Self::commit) | up to some 20, expected ones and writes together |
/// | values removed by one [`sweep`](Self::sweep) | up to 1,000; it may remove fewer, and is called again a minute later |
/// | the value of a session | up to [`max_state_size`](crate::config::SessionMiddlewareBuilder::max_state_size) (16 MiB by default) and some hundred bytes: set that below your database's limit |
/// | the value of a principal | some 100 bytes for each session, without a bound but [`max_sessions`](crate::config::SessionMiddlewareBuilder::max_sessions) |
///
/// A database that takes fewer names at once reads them in parts: the values of a `get` need not be of
/// one moment.
///
/// # Names
/// Names are ASCII, shorter than 64 bytes, and contain neither keys nor principals: only digests of
/// them. A database that is used for other things too puts a prefix before them, or uses a table of
/// its own.
///
/// # Layout
/// Values are text, so that an operator can read them. Each begins with its end in milliseconds since
/// the Unix epoch and a word:
///
/// | name | value |
/// | --- | --- |
/// | `s.` and a digest of the key | `END record EPOCH RECORD`: a session; `RECORD` is what [`Record::as_text`](crate::storage::Record::as_text) returns |
/// | the same | `END moved FLAG\|TIME\|NAME`: the key was renewed, and the session is under this name |
/// | the same | `END ended`: the session has ended, and the name is not used again |
/// | the same, of another name | what is no session, in the form of one: the lock of a login under [`OverLimit::Refuse`](crate::config::OverLimit::Refuse), what is kept of [upstreams](crate::Login::upstream) and of revoked cookies. Whoever counts `s.` counts them too |
/// | `p.` and a digest of the principal | `END principal JSON`: which sessions are whose, and which were revoked together |
///
/// The library never counts a value whose end has passed, swept or not. So a database that expires values
/// by a clock of its own may remove them late, but not early: what has gone is a session that has ended.
/// The end of a value can move by each write. The kit moves a clock of its own, so that such a database says
/// `key_value, without a clock` there.
///
/// # Examples
/// A database in memory, whole:
/// ```
/// use std::{collections::BTreeMap, sync::Mutex};
/// use actix_session::storage::{
///     KeyValueDatabase, KeyValueOutcome, KeyValueTransaction, KeyValueWrite,
/// };
///
/// /// Values and their ends.
/// #[derive(Default)]
/// struct InMemory(Mutex<BTreeMap<String, (Vec<u8>, u64)>>);
///
/// impl KeyValueDatabase for InMemory {
///     async fn get(&self, names: &[String]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
///         let values = self.0.lock().unwrap();
///         Ok(names.iter().map(|name| Some(values.get(name)?.0.clone())).collect())
///     }
///
///     async fn commit(&self, transaction: KeyValueTransaction) -> anyhow::Result<KeyValueOutcome> {
///         // The lock is held from the comparison to the last write.
///         let mut values = self.0.lock().unwrap();
///         let get = |name: &str| anyhow::Ok(values.get(name).map(|(value, _)| value.clone()));
///         if !transaction.is_as_expected(get)? {
///             return Ok(KeyValueOutcome::Changed);
///         }
///         for write in transaction.writes {
///             match write {
///                 KeyValueWrite::Put { name, value, end } => values.insert(name, (value, end)),
///                 KeyValueWrite::Remove { name } => values.remove(&name),
///             };
///         }
///         Ok(KeyValueOutcome::Done)
///     }
///
///     async fn sweep(&self, now: u64, _limit: usize) -> anyhow::Result<usize> {
///         let mut values = self.0.lock().unwrap();
///         let before = values.len();
///         values.retain(|_, (_, end)| *end > now);
///         Ok(before - values.len())
///     }
/// }
///
/// # actix_web::rt::System::new().block_on(async {
/// use actix_session::storage::{KeyValueSessionStore, SessionStore as _};
/// use actix_web::cookie::time::Duration;
///
/// let store = KeyValueSessionStore::new(InMemory::default());
/// let key = store.save([("n".into(), "1".into())].into(), &Duration::hours(1)).await.unwrap();
/// assert_eq!(store.load(&key).await.unwrap().unwrap()["n"], "1");
/// # });
/// ```
///
/// [`KeyValueSessionStore`]: super::KeyValueSessionStore
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a database for a `KeyValueSessionStore`",
    label = "this must implement `actix_session::storage::KeyValueDatabase`"
)]
pub trait KeyValueDatabase: Send + Sync + 'static {
    /// Reads what lies under these names, in this order: `None` for a name without a value.
    ///
    /// The values need not be of one moment: [`commit`](Self::commit) compares them again.
    ///
    /// # Errors
    /// The database fails.
    fn get(&self, names: &[String]) -> impl Future<Output = anyhow::Result<Vec<Option<Vec<u8>>>>>;

    /// Makes all writes if all expected values are there still, in one atomic step, and returns once
    /// that is durable.
    ///
    /// # Errors
    /// Nobody knows whether the transaction was done, or still will be: the answer was lost. The
    /// library then finds out, and repeats what can be repeated. If it is certain that nothing was
    /// done and nothing will be, return [`KeyValueOutcome::Refused`]: a read that fails before the first
    /// write, for instance.
    fn commit(
        &self,
        transaction: KeyValueTransaction,
    ) -> impl Future<Output = anyhow::Result<KeyValueOutcome>>;

    /// Removes up to `limit` values whose end is `now` or earlier, and returns how many it removed.
    /// `now` is in milliseconds since the Unix epoch.
    ///
    /// The library calls it about once a minute, from this process's first new session on, and again at
    /// once if it removed as many as the limit says. A database that removes values at their end by itself returns 0. To find what has ended
    /// without reading everything, keep the names by their ends beside the values, and write both in the
    /// same transaction.
    ///
    /// A call that takes longer than 30 seconds is dropped, and made again at once with half the limit.
    ///
    /// # Errors
    /// The database fails. Nothing depends on a sweep but room.
    fn sweep(&self, now: u64, limit: usize) -> impl Future<Output = anyhow::Result<usize>>;
}

/// One transaction of a [`KeyValueDatabase`]: what must be there, and what to write then.
///
/// # Examples
/// See [`KeyValueDatabase`].
#[derive(Clone)]
#[non_exhaustive]
pub struct KeyValueTransaction {
    /// Names, each once, with the values that must be there; `None`: there must be none.
    pub expected: Vec<(String, Option<Vec<u8>>)>,
    /// What to write if all of that is so. No name occurs twice.
    pub writes: Vec<KeyValueWrite>,
}

/// One write of a [`KeyValueTransaction`].
///
/// # Examples
/// See [`KeyValueDatabase`].
#[derive(Clone)]
pub enum KeyValueWrite {
    /// Writes a value, whatever is there.
    Put {
        /// The name.
        name: String,
        /// The value, opaque to the database. It includes the end; no database needs to return that by
        /// itself.
        value: Vec<u8>,
        /// From when on the value may be removed, in milliseconds since the Unix epoch. If names are kept by
        /// their ends, read the end before in this same transaction, to remove its entry.
        end: u64,
    },
    /// Removes a value, if there is one.
    Remove {
        /// The name.
        name: String,
    },
}

/// What became of a [`KeyValueTransaction`].
///
/// # Examples
/// See [`KeyValueDatabase`].
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyValueOutcome {
    /// All writes were made, durably.
    Done,
    /// An expected value is not there, or another transaction came first: nothing was done. The
    /// library reads again, and decides anew, at once and as often as the budget allows
    /// ([`commit_budget`](crate::config::SessionMiddlewareBuilder::commit_budget)). If that asks too much
    /// of a remote database, wait a little before you return this.
    Changed,
    /// The database fails, and it is certain that nothing was done and nothing will be.
    Refused(anyhow::Error),
}

impl KeyValueTransaction {
    /// Makes a transaction, for an author's own tests. No name may occur twice among the expected
    /// values, and none among the writes.
    ///
    /// # Examples
    /// ```
    /// use actix_session::storage::{KeyValueTransaction, KeyValueWrite};
    ///
    /// let remove = KeyValueWrite::Remove { name: "a".to_owned() };
    /// let transaction = KeyValueTransaction::new([("a".to_owned(), Some(b"1".to_vec()))], [remove]);
    /// assert!(transaction.is_as_expected(|_| Ok::<_, ()>(Some("1")))?);
    /// assert!(!transaction.is_as_expected(|_| Ok::<_, ()>(None::<&str>))?);
    /// # Ok::<(), ()>(())
    /// ```
    pub fn new(
        expected: impl IntoIterator<Item = (String, Option<Vec<u8>>)>,
        writes: impl IntoIterator<Item = KeyValueWrite>,
    ) -> Self {
        Self {
            expected: expected.into_iter().collect(),
            writes: writes.into_iter().collect(),
        }
    }

    /// Whether all expected values are there, as `get` reads them. Call it under the lock, or in the
    /// transaction, in which the writes are made. A database that reads asynchronously reads the names of
    /// [`expected`](Self::expected) first, or compares them by itself.
    ///
    /// # Errors
    /// Those of `get`.
    ///
    /// # Examples
    /// See [`KeyValueDatabase`].
    pub fn is_as_expected<V: AsRef<[u8]>, E>(
        &self,
        mut get: impl FnMut(&str) -> Result<Option<V>, E>,
    ) -> Result<bool, E> {
        for (name, expected) in &self.expected {
            let found = get(name)?;
            if found.as_ref().map(AsRef::as_ref) != expected.as_deref() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Shows fingerprints and sizes alone: values contain what users have in their sessions.
impl fmt::Debug for KeyValueTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = self.expected.iter();
        let expected: Vec<_> = expected
            .map(|(name, value)| (digest::fingerprint(name), value.as_ref().map(Vec::len)))
            .collect();
        f.debug_struct("KeyValueTransaction")
            .field("expected", &expected)
            .field("writes", &self.writes)
            .finish()
    }
}

/// Shows a fingerprint and a size alone.
impl fmt::Debug for KeyValueWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { name, value, end } => f
                .debug_struct("Put")
                .field("name", &digest::fingerprint(name))
                .field("octets", &value.len())
                .field("end", end)
                .finish(),
            Self::Remove { name } => f
                .debug_struct("Remove")
                .field("name", &digest::fingerprint(name))
                .finish(),
        }
    }
}
