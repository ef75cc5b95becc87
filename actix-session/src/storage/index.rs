//! A principal's sessions, in stores with a shared back end.

use std::{fmt, future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::Instant;

use super::{
    SessionStore, backend,
    lease::{self, Lease},
    upkeep::{Caretaker, Upkeep},
    upstream::{self, Answered, Notice},
    walk::Walk,
};
use crate::{
    changes::Changes,
    clock::{Millis, SharedClock, deadline},
    contract::{Committed, Terms},
    error::{CommitError, Contended},
    live::{
        EndReason, Watch,
        hub::Hub,
        look::{Seen, follow},
    },
    protocol::{
        Backend, CommitMachine, Name, NotBefore, Owner, RevokeMachine, Stored, Trail, read,
    },
    record::Record,
    sync::drop_panic,
};

/// A store that knows whose sessions it holds: its sessions can be listed and ended by principal.
///
/// What the index knows of a session is written by the very step that writes the session: there is
/// no session of a principal that is not listed, and nothing to switch on.
/// [`SessionManager`](crate::SessionManager) uses it.
///
/// A store over a database of one's own ([`KeyValueSessionStore`](super::KeyValueSessionStore)) has one.
/// All stores of this crate implement it whose sessions lie on the server, apart from
/// `RedisActorSessionStore`, which stays on one thread. A wrapper returns the index of the store inside
/// it:
///
/// # Examples
/// ```
/// use actix_session::storage::{MemorySessionStore, SessionIndex, SessionStore, StoreIndex};
///
/// struct Logged<S>(S);
///
/// impl<S: SessionStore> SessionStore for Logged<S> {
///     actix_session::forward_store_methods!(self => self.0);
/// }
///
/// impl<S: SessionIndex> SessionIndex for Logged<S> {
///     fn index(&self) -> StoreIndex {
///         self.0.index()
///     }
/// }
///
/// let _ = Logged(MemorySessionStore::new()).index();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no index of sessions by principal",
    note = "the stores of this crate that keep sessions on the server have one; a wrapper returns \
            the index of the store inside it"
)]
pub trait SessionIndex: SessionStore {
    /// The store's index.
    fn index(&self) -> StoreIndex;
}

impl<S: SessionIndex + ?Sized> SessionIndex for &S {
    fn index(&self) -> StoreIndex {
        (**self).index()
    }
}

impl<S: SessionIndex + ?Sized> SessionIndex for Box<S> {
    fn index(&self) -> StoreIndex {
        (**self).index()
    }
}

impl<S: SessionIndex + ?Sized> SessionIndex for std::rc::Rc<S> {
    fn index(&self) -> StoreIndex {
        (**self).index()
    }
}

impl<S: SessionIndex + ?Sized> SessionIndex for Arc<S> {
    fn index(&self) -> StoreIndex {
        (**self).index()
    }
}

/// The index of a store: see [`SessionIndex`]. Clones share the store.
///
/// # Examples
/// ```
/// use actix_session::storage::{MemorySessionStore, SessionIndex, StoreIndex};
///
/// let index: StoreIndex = MemorySessionStore::new().index();
/// # let _ = index;
/// ```
#[derive(Clone)]
pub struct StoreIndex(pub(crate) Arc<dyn Door + Send + Sync>);

/// Of a store that has no list of its sessions.
pub(super) struct NoIndex(SharedClock);

impl StoreIndex {
    pub(crate) fn none() -> Self {
        Self(Arc::new(NoIndex(SharedClock::default())))
    }

    pub(crate) fn new<B: Index + Send + Sync + 'static>(store: B) -> Self {
        Self(Arc::new(store))
    }

    /// See [`each`].
    pub(crate) async fn each<T>(
        &self,
        principal: &str,
        terms: &Terms,
        look: impl FnMut(Vec<Live>) -> Option<T>,
    ) -> Result<Option<T>, CommitError> {
        each(&*self.0, principal, terms, look).await
    }

    /// Counts a principal's live sessions.
    pub(crate) async fn count(&self, principal: &str, terms: &Terms) -> Result<usize, CommitError> {
        let mut count = 0;
        let counting = |live: Vec<Live>| {
            count += live.len();
            None::<()>
        };
        each_on(Walk::once(), &*self.0, principal, terms, counting).await?;
        Ok(count)
    }

    /// One of a principal's live sessions, wherever it lies now.
    pub(crate) async fn find(
        &self,
        principal: &str,
        id: u128,
        terms: &Terms,
    ) -> Result<Option<Live>, CommitError> {
        let find = |live: Vec<Live>| live.into_iter().find(|live| live.id == id);
        self.each(principal, terms, find).await
    }
}

/// Goes through all of a principal's live sessions, each one once, until `look` finds what it looks for.
/// The latest login comes first, apart from what is logged in meanwhile.
pub(super) async fn each<D: Door + ?Sized, T>(
    door: &D,
    principal: &str,
    terms: &Terms,
    look: impl FnMut(Vec<Live>) -> Option<T>,
) -> Result<Option<T>, CommitError> {
    each_on(Walk::to_the_end(), door, principal, terms, look).await
}

async fn each_on<D: Door + ?Sized, T>(
    mut walk: Walk,
    door: &D,
    principal: &str,
    terms: &Terms,
    mut look: impl FnMut(Vec<Live>) -> Option<T>,
) -> Result<Option<T>, CommitError> {
    loop {
        let (mut live, next) = door.list(principal, walk.page(), terms).await?;
        live.retain(|live| walk.sees(live.id));
        let found = look(live);
        if found.is_some() || !walk.goes_on(next) {
            return Ok(found);
        }
    }
}

impl fmt::Debug for StoreIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreIndex").finish_non_exhaustive()
    }
}

/// Where a list of sessions goes on: the login and the id of the session before.
pub(crate) type After = (Millis, u128);

/// Which of a principal's sessions to list: the latest login first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    pub(crate) after: Option<After>,
    pub(crate) limit: usize,
}

impl Page {
    /// Whether a session comes after the last one of the page before.
    pub(crate) fn includes(&self, session: After) -> bool {
        self.after.is_none_or(|after| session < after)
    }
}

/// An entry of the index, and what lies under the name that it says.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) id: u128,
    pub(crate) login: Millis,
    pub(crate) at: Name,
    /// The entry was written before its record, which may not have been there yet.
    pub(crate) reserved: bool,
    pub(crate) found: Stored,
}

/// A session that counts as logged in later than it was ended.
#[derive(Debug)]
pub(crate) struct Later {
    pub(crate) id: u128,
    pub(crate) login: Millis,
    pub(crate) at: Name,
}

/// What ends a principal's sessions together.
pub(crate) struct EndAll {
    pub(crate) mark: NotBefore,
    /// The session that ends the others.
    pub(crate) by: Option<By>,
    /// The mark's, which knows what this process has logged in.
    pub(crate) clock: SharedClock,
}

/// A session that ends the others of its principal.
pub(crate) struct By {
    pub(crate) id: u128,
    pub(crate) login: Millis,
    /// It must be among the sessions, under one of the ids that are spared. One that is logged in by this
    /// very request need not.
    pub(crate) is_stored: bool,
}

/// A live session of a principal.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) id: u128,
    pub(crate) at: Name,
    pub(crate) record: Record,
}

impl Live {
    /// When its user logged in.
    pub(crate) fn login(&self) -> Option<Millis> {
        Owner::of(&self.record).map(|owner| owner.login)
    }
}

/// What an entry of the index leads to.
#[derive(Debug)]
pub(crate) enum Found {
    Live(Live),
    /// A session of this id, under this name, that only a later version can read.
    Unreadable(u128, Name),
}

impl Found {
    pub(crate) fn id(&self) -> u128 {
        match self {
            Self::Live(live) => live.id,
            Self::Unreadable(id, _) => *id,
        }
    }
}

/// What a back end with an index does besides the protocol's steps.
pub(crate) trait Index: Upkeep {
    /// How many records are looked at at once for those who wait for their ends.
    const AT_ONCE: usize = 16;

    /// The entries of a page, with what lies there. Entries of what has ended may be among them.
    fn sessions(
        &self,
        principal: &str,
        page: Page,
        terms: &Terms,
    ) -> impl Future<Output = anyhow::Result<Vec<Listed>>>;

    /// The sessions that count as logged in later than a time.
    fn later_than(
        &self,
        principal: &str,
        at: Millis,
        terms: &Terms,
    ) -> impl Future<Output = anyhow::Result<Vec<Later>>> {
        async move {
            let mut page = Page {
                after: None,
                limit: 1,
            };
            let mut later = Vec::new();
            loop {
                let listed = self.sessions(principal, page, terms).await?;
                let known = later.len();
                let is_later = listed.iter().take_while(|it| it.login > at);
                later.extend(is_later.map(|it| Later {
                    id: it.id,
                    login: it.login,
                    at: it.at.clone(),
                }));
                if later.len() - known < page.limit {
                    return Ok(later);
                }
                page = page.followed_by(listed.last().map(|last| (last.login, last.id)));
            }
        }
    }

    /// Where the entry of a session says that it is by now. `None` if redirects lead there as soon.
    fn entry_of(
        &self,
        principal: &str,
        id: u128,
    ) -> impl Future<Output = anyhow::Result<Option<Name>>> {
        let _ = (principal, id);
        async { Ok(None) }
    }

    /// Takes an entry away that leads to nothing, if it still says so.
    fn heal(
        &self,
        principal: &str,
        listed: &Listed,
        terms: &Terms,
    ) -> impl Future<Output = anyhow::Result<()>> {
        let _ = (principal, listed, terms);
        async { Ok(()) }
    }

    /// Marks a principal's sessions as ended together: from then on no load opens one. `false`: the
    /// mark before this one has ended `by`, the session of whoever asks. To do it twice is to do it
    /// once.
    fn mark(
        &self,
        principal: &str,
        mark: &NotBefore,
        by: Option<(u128, Millis)>,
        terms: &Terms,
    ) -> impl Future<Output = anyhow::Result<bool>>;

    /// Deletes what a mark has ended, and returns how many sessions that were.
    fn end_marked(
        &self,
        principal: &str,
        mark: &NotBefore,
        terms: &Terms,
    ) -> impl Future<Output = anyhow::Result<u64>>;

    /// Looks at what lies under several names, and extends none of it. What cannot be read is left out.
    fn read_all(&self, names: Vec<Name>, terms: &Terms) -> impl Future<Output = Vec<(Name, Stored)>>
    where
        Self: Sized,
    {
        let reads = names.into_iter().map(async move |at| {
            let found = alone(self.look(&at, terms)).await?;
            Some((at, found))
        });
        stream::iter(reads)
            .buffer_unordered(Self::AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
    }

    /// Tells the hub what other processes end, as long as it is polled. Does nothing if the back end
    /// cannot tell.
    fn listen(&self, _: &Hub) -> impl Future<Output = ()> {
        std::future::pending()
    }
}

/// One look of many, whose failure or panic is nobody else's.
async fn alone<T>(look: impl Future<Output = anyhow::Result<T>>) -> Option<T> {
    match AssertUnwindSafe(look).catch_unwind().await {
        Ok(Ok(found)) => Some(found),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the store cannot say whether a session lives");
            None
        }
        Err(panic) => {
            tracing::error!("the look at a session that somebody waits for has panicked");
            drop_panic(panic);
            None
        }
    }
}

pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, CommitError>> + 'a>>;

/// A back end with an index, whatever its type.
pub(crate) trait Door: Caretaker {
    /// Whether there are lists at all.
    fn has_lists(&self) -> bool {
        true
    }

    fn clock(&self) -> &SharedClock;

    /// The live sessions among the entries of a page, and where the next one begins.
    fn list<'a>(
        &'a self,
        principal: &'a str,
        page: Page,
        terms: &'a Terms,
    ) -> Answer<'a, (Vec<Live>, Option<After>)>;

    /// Ends a session if it is still the principal's, and they have not logged in to it again since
    /// `latest`. Answers whether it was so.
    fn end<'a>(
        &'a self,
        at: Name,
        principal: &'a str,
        id: u128,
        latest: Option<Millis>,
        why: EndReason,
        terms: &'a Terms,
    ) -> Answer<'a, bool>;

    /// Ends a principal's sessions together, and returns how many. `None`: the session that ends the others
    /// had ended before.
    fn end_all<'a>(
        &'a self,
        principal: &'a str,
        end: EndAll,
        terms: &'a Terms,
    ) -> Answer<'a, Option<u64>>;

    fn commit<'a>(
        &'a self,
        live: &'a Live,
        changes: &'a Changes,
        terms: &'a Terms,
    ) -> Answer<'a, Committed>;

    /// Extends a session if it is still the principal's.
    fn touch<'a>(
        &'a self,
        at: Name,
        principal: &'a str,
        id: u128,
        terms: &'a Terms,
    ) -> Answer<'a, Committed>;

    /// Ends what an upstream says is over.
    fn end_upstream<'a>(&'a self, notice: &'a Notice, terms: &'a Terms) -> Answer<'a, Answered>;

    /// Waits until nobody else decides about this principal's sessions.
    fn lock<'a>(&'a self, principal: &'a str, terms: &'a Terms) -> Answer<'a, Lease>;

    fn unlock<'a>(&'a self, lease: Lease, terms: &'a Terms) -> Answer<'a, ()>;

    /// What names lead to now, but for those of which nobody can tell. Looking is no activity.
    fn look_at<'a>(&'a self, names: Vec<Name>, terms: &'a Terms) -> Answer<'a, Vec<(Name, Seen)>>;

    /// Has a watch told when the record of this name ends.
    fn watch(&self, at: Name, watch: Watch);

    /// See [`Index::listen`].
    fn listen<'a>(&'a self, hub: &'a Hub) -> Pin<Box<dyn Future<Output = ()> + 'a>>;
}

impl<B: Index> Door for B {
    fn clock(&self) -> &SharedClock {
        Backend::clock(self)
    }

    fn list<'a>(
        &'a self,
        principal: &'a str,
        page: Page,
        terms: &'a Terms,
    ) -> Answer<'a, (Vec<Live>, Option<After>)> {
        Box::pin(async move {
            let (found, next) = page_of(self, principal, page, terms).await?;
            let live = found.into_iter().filter_map(|found| match found {
                Found::Live(live) => Some(live),
                Found::Unreadable(..) => None,
            });
            Ok((live.collect(), next))
        })
    }

    fn end<'a>(
        &'a self,
        at: Name,
        principal: &'a str,
        id: u128,
        latest: Option<Millis>,
        why: EndReason,
        terms: &'a Terms,
    ) -> Answer<'a, bool> {
        Box::pin(async move {
            let machine = RevokeMachine::new(at, principal, id).why(why);
            let mut machine = machine.no_later_than(latest);
            self.drive(&mut machine, terms).await
        })
    }

    fn end_all<'a>(
        &'a self,
        principal: &'a str,
        end: EndAll,
        terms: &'a Terms,
    ) -> Answer<'a, Option<u64>> {
        Box::pin(async move {
            let ahead = logged_in_ahead(self, principal, &end, terms).await?;
            end_together(self, principal, &end, ahead, terms).await
        })
    }

    fn commit<'a>(
        &'a self,
        live: &'a Live,
        changes: &'a Changes,
        terms: &'a Terms,
    ) -> Answer<'a, Committed> {
        Box::pin(async move {
            let base = Some(live.record.clone());
            let mut machine = CommitMachine::new(live.at.clone(), base, changes, terms);
            self.drive_in_line(&live.at, &mut machine, terms).await
        })
    }

    fn touch<'a>(
        &'a self,
        at: Name,
        principal: &'a str,
        id: u128,
        terms: &'a Terms,
    ) -> Answer<'a, Committed> {
        Box::pin(backend::touch(self, at, principal, id, terms))
    }

    fn end_upstream<'a>(&'a self, notice: &'a Notice, terms: &'a Terms) -> Answer<'a, Answered> {
        Box::pin(upstream::end(self, notice, terms))
    }

    fn lock<'a>(&'a self, principal: &'a str, terms: &'a Terms) -> Answer<'a, Lease> {
        Box::pin(lease::take(self, principal, terms))
    }

    fn unlock<'a>(&'a self, lease: Lease, terms: &'a Terms) -> Answer<'a, ()> {
        Box::pin(async move {
            lease::release(self, lease, terms).await;
            Ok(())
        })
    }

    fn look_at<'a>(&'a self, names: Vec<Name>, terms: &'a Terms) -> Answer<'a, Vec<(Name, Seen)>> {
        Box::pin(async move {
            let found = self.read_all(names, terms).await;
            let follow = found.into_iter().map(async |(name, found)| {
                let seen = alone(follow(self, name.clone(), Some(found), terms)).await?;
                Some((name, seen))
            });
            let seen = stream::iter(follow)
                .buffer_unordered(Self::AT_ONCE)
                .filter_map(std::future::ready);
            Ok(seen.collect().await)
        })
    }

    fn watch(&self, at: Name, watch: Watch) {
        if let Some((hub, index)) = self.ends() {
            hub.add(at, watch, || index);
        }
    }

    fn listen<'a>(&'a self, hub: &'a Hub) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        Box::pin(Index::listen(self, hub))
    }
}

pub(super) fn no_index<T>() -> Result<T, CommitError> {
    Err(CommitError::Other(anyhow::anyhow!(
        "this store has no list of its sessions: they lie in cookies. To list or end a principal's \
         sessions, use a store that keeps them on the server"
    )))
}

impl Door for NoIndex {
    fn has_lists(&self) -> bool {
        false
    }

    fn clock(&self) -> &SharedClock {
        &self.0
    }

    fn list<'a>(
        &'a self,
        _: &'a str,
        _: Page,
        _: &'a Terms,
    ) -> Answer<'a, (Vec<Live>, Option<After>)> {
        Box::pin(async { no_index() })
    }

    fn end<'a>(
        &'a self,
        _: Name,
        _: &'a str,
        _: u128,
        _: Option<Millis>,
        _: EndReason,
        _: &'a Terms,
    ) -> Answer<'a, bool> {
        Box::pin(async { no_index() })
    }

    fn end_all<'a>(&'a self, _: &'a str, _: EndAll, _: &'a Terms) -> Answer<'a, Option<u64>> {
        Box::pin(async { no_index() })
    }

    fn commit<'a>(&'a self, _: &'a Live, _: &'a Changes, _: &'a Terms) -> Answer<'a, Committed> {
        Box::pin(async { no_index() })
    }

    fn touch<'a>(&'a self, _: Name, _: &'a str, _: u128, _: &'a Terms) -> Answer<'a, Committed> {
        Box::pin(async { no_index() })
    }

    fn end_upstream<'a>(&'a self, _: &'a Notice, _: &'a Terms) -> Answer<'a, Answered> {
        Box::pin(async { no_index() })
    }

    fn lock<'a>(&'a self, _: &'a str, _: &'a Terms) -> Answer<'a, Lease> {
        Box::pin(async { no_index() })
    }

    fn unlock<'a>(&'a self, _: Lease, _: &'a Terms) -> Answer<'a, ()> {
        Box::pin(async { no_index() })
    }

    fn look_at<'a>(&'a self, _: Vec<Name>, _: &'a Terms) -> Answer<'a, Vec<(Name, Seen)>> {
        Box::pin(async { no_index() })
    }

    fn watch(&self, _: Name, _: Watch) {}

    fn listen<'a>(&'a self, _: &'a Hub) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        Box::pin(std::future::pending())
    }
}

/// The sessions that servers have logged in whose clocks are ahead. What this process has logged in
/// since the mark was made is later than that.
pub(super) async fn logged_in_ahead<B: Index>(
    store: &B,
    principal: &str,
    end: &EndAll,
    terms: &Terms,
) -> Result<Vec<Later>, CommitError> {
    let later = store.later_than(principal, end.mark.at, terms).await;
    let mut later = later.map_err(CommitError::of_store)?;
    let own = end.clock.latest_login(principal);
    later.retain(|it| it.login > own);
    Ok(later)
}

/// Ends a principal's sessions by a mark, and those that were logged in ahead of it.
pub(super) async fn end_together<B: Index>(
    store: &B,
    principal: &str,
    EndAll { mark, by, .. }: &EndAll,
    ahead: Vec<Later>,
    terms: &Terms,
) -> Result<Option<u64>, CommitError> {
    let is_stored = by.as_ref().is_some_and(|by| by.is_stored);
    if is_stored {
        // One of the sessions that the mark spares must be there still.
        let is_spared = |live: &Live| mark.spared.contains(&live.id);
        let look = |live: Vec<Live>| live.iter().any(is_spared).then_some(());
        if each(store, principal, terms, look).await?.is_none() {
            return Ok(None);
        }
    }
    let by = by.as_ref().map(|by| (by.id, by.login));
    let marked = store.mark(principal, mark, by, terms).await;
    if !marked.map_err(CommitError::of_store)? {
        return Ok(None);
    }
    let ended = store.end_marked(principal, mark, terms).await;
    let mut ended = ended.map_err(CommitError::of_store)?;
    for Later { id, login, at } in ahead {
        if mark.spared.contains(&id) {
            continue;
        }
        let why = EndReason::Revoked;
        if store
            .end(at, principal, id, Some(login), why, terms)
            .await?
        {
            ended += 1;
        }
    }
    Ok(Some(ended))
}

/// What the entries of a page lead to, and where the next one begins.
pub(super) async fn page_of<B: Index>(
    store: &B,
    principal: &str,
    page: Page,
    terms: &Terms,
) -> Result<(Vec<Found>, Option<After>), CommitError> {
    let listed = store.sessions(principal, page, terms).await;
    let listed = listed.map_err(CommitError::of_store)?;
    let last = listed.last().map(|last| (last.login, last.id));
    let next = last.filter(|_| listed.len() >= page.limit);
    let mut all = Vec::with_capacity(listed.len());
    for listed in listed {
        let found = session_of(store, principal, listed, terms).await;
        all.extend(found.map_err(CommitError::of_store)?);
    }
    Ok((all, next))
}

/// The session that an entry leads to, if it is alive and still the principal's.
async fn session_of<B: Index>(
    store: &B,
    principal: &str,
    mut listed: Listed,
    terms: &Terms,
) -> anyhow::Result<Option<Found>> {
    let id = listed.id;
    let (mut at, mut entry) = (listed.at.clone(), listed.at.clone());
    let (mut trail, deadline) = (Trail::default(), deadline(terms.budget));
    loop {
        let found = std::mem::replace(&mut listed.found, Stored::Nothing);
        // Another middleware may see it otherwise: with a longer timeout, or none, or without an entry
        // that names the principal.
        let is_theirs = matches!(&found, Stored::Record(record) if is_of(record, principal, id));
        match found.proven(&at, terms).live(terms) {
            Stored::Record(record) if is_of(&record, principal, id) => {
                return Ok(Some(Found::Live(Live { id, at, record })));
            }
            Stored::Unreadable => return Ok(Some(Found::Unreadable(id, at))),
            Stored::Redirect(redirect) if Instant::now() < deadline => {
                // Who renews a session again and again may stay ahead of whoever follows the redirects. An
                // entry that names what was read a moment ago is about to change.
                at = match store.entry_of(principal, id).await? {
                    Some(now) if now != entry && now != at => {
                        entry = now.clone();
                        now
                    }
                    _ => redirect.target,
                };
                if trail.comes_back_to(&at) {
                    break;
                }
                listed.found = read(store, &at, terms).await?;
            }
            // It must not be taken for dead.
            Stored::Redirect(_) => return Err(Contended.into()),
            Stored::Record(_) | Stored::Nothing if is_theirs => return Ok(None),
            Stored::Record(_) | Stored::Nothing => break,
        }
    }
    store.heal(principal, &listed, terms).await?;
    Ok(None)
}

pub(super) fn is_of(record: &Record, principal: &str, id: u128) -> bool {
    Owner::of(record).is_some_and(|owner| owner.is(principal, id))
}
