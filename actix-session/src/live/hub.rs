//! The sessions of one store that somebody waits for.

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, future::select, stream};
use tokio::{
    sync::Notify,
    task::spawn_local,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    EndReason, Watch,
    look::Seen,
    places::{Places, Token, Watched},
    runtime,
    watch::{AGAIN, Looking, pause},
};
use crate::{
    clock::Millis,
    contract::Terms,
    protocol::{Flag, Name, NotBefore, Reply, Step},
    record::Record,
    storage::{StoreIndex, index::Live},
    sync::{drop_panic, lock},
};

/// How many sessions are looked at at once.
const BATCH: usize = 500;
/// How many lists are read at once to find sessions that have moved.
const AT_ONCE: usize = 16;
/// How much longer a lease is while the back end is known to tell.
const SPEAKING: u32 = 12;
/// How long the last watch is survived: another one may come.
const REST: Duration = Duration::from_secs(10);
/// How long after a look has found nothing the reason may come. Then it is not known.
const REASON: Duration = Duration::from_millis(250);
/// When to look again after an answer that was lost.
const SOON: Duration = Duration::from_millis(500);

/// Clones of a store share it.
#[derive(Default)]
pub(crate) struct Hub {
    /// How many watches there are: steps look at this alone if there is none.
    watched: AtomicUsize,
    /// What other processes end is told here, too.
    speaks: AtomicBool,
    /// And so is what they renew.
    hears_renewals: AtomicBool,
    state: Mutex<State>,
    /// There is something to do before its time.
    hurry: Notify,
}

#[derive(Default)]
struct State {
    places: Places,
    /// Somebody looks for ends.
    runs: bool,
}

/// What to do next.
enum Due {
    Look(Vec<(Token, Name)>, Terms),
    At(Instant),
    Nothing,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Keeps a watch on the record of this name, and looks at it once. `index` looks.
    pub(crate) fn add(
        self: &Arc<Self>,
        at: Name,
        watch: Watch,
        index: impl FnOnce() -> StoreIndex,
    ) {
        let token = self.state().places.draw();
        let hub = Arc::downgrade(self);
        watch.when_unwanted(move || {
            if let Some(hub) = Weak::upgrade(&hub) {
                hub.forget(token);
            }
        });
        let mut state = self.state();
        state.places.insert(token, at, watch, Instant::now());
        self.count(&state);
        let starts = !std::mem::replace(&mut state.runs, true);
        let watched = state.places.get(token);
        let unwanted = watched.is_some_and(|it| it.watch.is_unwanted());
        drop(state);
        if unwanted {
            self.forget(token);
        }
        if starts {
            let (hub, index) = (Arc::clone(self), index());
            runtime::spawn(move || run(hub, index));
        }
        self.hurry.notify_one();
    }

    fn count(&self, state: &State) {
        self.watched.store(state.places.len(), Ordering::SeqCst);
    }

    fn is_idle(&self) -> bool {
        self.watched.load(Ordering::SeqCst) == 0
    }

    fn forget(&self, token: Token) {
        let mut state = self.state();
        let watch = state.places.remove(token);
        self.count(&state);
        drop(state);
        drop(watch);
    }

    /// Takes watches out, and tells them.
    fn tell(&self, reason: EndReason, find: impl FnOnce(&mut Places) -> Vec<Token>) {
        let mut state = self.state();
        let tokens = find(&mut state.places);
        let watches = state.places.remove_all(tokens);
        self.count(&state);
        drop(state);
        for watch in watches {
            watch.tell(reason);
        }
    }

    /// What a step of this process has done.
    pub(crate) fn after(&self, step: &Step, reply: &Reply) {
        if self.is_idle() {
            return;
        }
        match (reply, step) {
            (_, Step::Read { .. } | Step::Insert { .. }) => {}
            (Reply::Done, Step::End { at, .. }) => self.ended_at(at, EndReason::LoggedOut),
            (Reply::Done, Step::EndIf { at, why, .. }) => self.ended_at(at, *why),
            (
                Reply::Done,
                Step::Cas {
                    at,
                    new,
                    owner_before,
                    ..
                },
            ) => self.written((at, owner_before.id(new)), new, at),
            (Reply::Done, Step::Rotate { at, redirect, .. }) if redirect.flag == Flag::Ended => {
                self.ended_at(at, EndReason::LoggedOut);
            }
            (
                Reply::Done,
                Step::Rotate {
                    at,
                    new,
                    redirect,
                    owner_before,
                    ..
                },
            ) => {
                self.written((at, owner_before.id(new)), new, &redirect.target);
            }
            (Reply::Lost, step) => self.look_at(step.at(), Instant::now() + SOON),
            _ => {}
        }
    }

    fn ended_at(&self, at: &Name, reason: EndReason) {
        self.tell(reason, |places| places.named(at));
    }

    /// A record was written over the one of this name, which may lie elsewhere now. The session's id
    /// before, as far as it is known.
    fn written(&self, (at, before): (&Name, Option<u128>), new: &Record, to: &Name) {
        let mut hastens = false;
        self.tell(EndReason::LoggedOut, |places| {
            let mut ended = places.named(at);
            ended.retain(|token| {
                let is_same = places.found(*token, new);
                let id = places.get(*token).and_then(|it| it.watch.id);
                let is_before = before.is_none() || before == id;
                if is_same && at != to {
                    places.move_to(*token, to);
                    // An end of the new record may have been told before this.
                    places.hasten(*token, Instant::now());
                    hastens = true;
                } else if !is_same && !is_before {
                    // Steps are told in any order: this one may be older than the session.
                    places.doubt(*token, EndReason::LoggedOut);
                    places.hasten(*token, Instant::now());
                    hastens = true;
                }
                !is_same && is_before
            });
            ended
        });
        if hastens {
            self.hurry.notify_one();
        }
    }

    /// Looks at what lies under a name, at that time at the latest.
    fn look_at(&self, at: &str, due: Instant) {
        let mut state = self.state();
        for token in state.places.named(&at.into()) {
            state.places.hasten(token, due);
        }
        drop(state);
        self.hurry.notify_one();
    }

    /// Looks at what lies under a name.
    pub(crate) fn look_soon(&self, at: &str) {
        // Told for each entry that goes, while hardly anybody waits.
        if !self.is_idle() {
            self.look_at(at, Instant::now());
        }
    }

    /// A principal's sessions have ended together. One whose owner nobody knows here, since another
    /// process has just logged in, is found by looking.
    pub(crate) fn marked(&self, principal: &str, mark: &NotBefore) {
        if self.is_idle() {
            return;
        }
        self.tell(EndReason::Revoked, |places| {
            places.look_again(Instant::now());
            places.owned(|owner| owner.principal == principal && mark.ends(owner.id, owner.login))
        });
    }

    /// Another process has told that a session has ended.
    pub(crate) fn ended(&self, id: u128, reason: EndReason) {
        self.tell(reason, |places| places.with_id(id));
    }

    /// Another process has told that a session has a new name.
    pub(crate) fn renewed(&self, id: u128) {
        let mut state = self.state();
        for token in state.places.with_id(id) {
            state.places.hasten(token, Instant::now());
        }
        drop(state);
        self.hurry.notify_one();
    }

    /// Notes whether other processes tell. What they told before is found by looking.
    pub(crate) fn speaks(&self, speaks: bool) {
        if self.speaks.swap(speaks, Ordering::SeqCst) == speaks {
            return;
        }
        let mut state = self.state();
        let now = Instant::now();
        for token in state.places.tokens() {
            let lease = state.places.get(token).map(|it| it.watch.looking.lease);
            let wait = lease.filter(|_| !speaks).unwrap_or_default();
            state.places.hasten(token, now + wait);
        }
        drop(state);
        self.hurry.notify_one();
    }

    /// From now on, the line tells renewals as well while it speaks.
    #[cfg_attr(
        not(feature = "redis-session"),
        allow(dead_code, reason = "no other back end does")
    )]
    pub(crate) fn hears_renewals(&self) {
        self.hears_renewals.store(true, Ordering::SeqCst);
    }

    /// How long a look is good for. A renewal that nobody tells must be seen before its redirect goes.
    fn lease(&self, watch: &Watch) -> Duration {
        // Messages carry ids.
        let speaks = self.speaks.load(Ordering::SeqCst) && watch.id.is_some();
        let lease = match speaks {
            true => watch.looking.lease.saturating_mul(SPEAKING),
            false => watch.looking.lease,
        };
        if speaks && self.hears_renewals.load(Ordering::SeqCst) {
            return lease;
        }
        watch.looking.within_grace(lease)
    }

    /// The application's clock is asked without the lock, and before anything is taken: whatever it
    /// does, nothing is lost.
    fn due(&self) -> Due {
        let first = {
            let state = self.state();
            let first = state.places.first_due();
            first.map(|(due, looking)| (due, looking.clone()))
        };
        match first {
            None => Due::Nothing,
            Some((due, _)) if due > Instant::now() => Due::At(due),
            Some((_, looking)) => {
                let terms = looking.terms_now();
                Due::Look(self.take_due(&looking), terms)
            }
        }
    }

    fn take_due(&self, looking: &Looking) -> Vec<(Token, Name)> {
        let mut state = self.state();
        let now = Instant::now();
        let mut names = Vec::new();
        for token in state.places.take_due(now, BATCH) {
            let Some(Watched { watch, at, .. }) = state.places.get(token) else {
                continue;
            };
            if Arc::ptr_eq(&looking.terms, &watch.looking.terms) {
                names.push((token, at.clone()));
            } else {
                // Another middleware's: it is its turn next.
                state.places.set_due(token, now);
            }
        }
        names
    }

    /// Whose session it is, and its id, if a look under this name has found nothing again, and a redirect
    /// may have come and gone since it was there: its principal's list says where it is, if it is anywhere.
    fn lost(&self, token: Token, asked: &Name, seen: &Seen) -> Option<(String, u128)> {
        let state = self.state();
        let watched = state.places.get(token)?;
        let grace = watched.watch.looking.terms.grace.0.max(0).unsigned_abs();
        let is_old = |at: Instant| at.elapsed() >= Duration::from_millis(grace / 4 * 3);
        let is_lost = matches!(seen, Seen::Nothing)
            && watched.is_missing
            && watched.at == *asked
            && watched.found_at.is_none_or(is_old);
        let owner = watched.watch.owner.as_ref().filter(|_| is_lost)?;
        Some((owner.principal.clone(), owner.id))
    }

    /// Notes what was seen on these terms, by a look under this name.
    fn seen(&self, token: Token, asked: &Name, seen: &Seen, terms: &Terms) {
        let mut reason = EndReason::Gone;
        let gone = {
            let mut state = self.state();
            let is_elsewhere = state.places.get(token).is_some_and(|it| it.at != *asked);
            match seen {
                // A step of this process has renewed it meanwhile: what was seen may be older.
                _ if is_elsewhere => {
                    state.places.set_due(token, Instant::now());
                    None
                }
                Seen::Live(at, record) if state.places.found(token, record) => {
                    state.places.move_to(token, at);
                    let watched = state.places.get(token);
                    let pause = watched.map(|it| pause(record, terms, self.lease(&it.watch)));
                    state
                        .places
                        .set_due(token, Instant::now() + pause.unwrap_or_default());
                    None
                }
                Seen::Ahead(at) => {
                    state.places.move_to(token, at);
                    state.places.set_due(token, Instant::now());
                    None
                }
                Seen::Unreadable => {
                    drop(state);
                    self.look_later(token);
                    None
                }
                Seen::Live(..) | Seen::Nothing => {
                    let is_another = matches!(seen, Seen::Live(..));
                    let doubt = state.places.take_doubt(token).filter(|_| is_another);
                    // Whoever has ended it tells the reason, and may not have come to that yet.
                    if doubt.is_none() && !state.places.missing(token) {
                        state.places.set_due(token, Instant::now() + REASON);
                        None
                    } else {
                        reason = doubt.unwrap_or(reason);
                        let gone = state.places.remove(token);
                        self.count(&state);
                        gone
                    }
                }
            }
        };
        if let Some(watch) = gone {
            watch.tell(reason);
        }
    }

    /// Nobody knows whether the session lives, and another look would say no more.
    fn look_later(&self, token: Token) {
        self.look_within(token, Duration::MAX);
    }

    /// A look has failed. Another one comes soon, so that one late answer does not cost a lease.
    fn look_again(&self, token: Token) {
        self.look_within(token, AGAIN);
    }

    fn look_within(&self, token: Token, limit: Duration) {
        let mut state = self.state();
        if let Some(lease) = state.places.get(token).map(|it| it.watch.looking.lease) {
            state
                .places
                .set_due(token, Instant::now() + lease.min(limit));
        }
    }

    /// Ends the search for ends, if there is nothing to wait for.
    fn rests(&self) -> bool {
        let mut state = self.state();
        let rests = state.places.is_empty();
        state.runs = !rests;
        rests
    }
}

/// Looks for ends while somebody waits for one.
async fn run(hub: Arc<Hub>, index: StoreIndex) {
    let listening = spawn_local({
        let (hub, index) = (Arc::clone(&hub), index.clone());
        async move { listen(&hub, || index.0.listen(&hub)).await }
    });
    // The clock is the application's: whoever waits does not wait for ever if it panics.
    while let Err(panic) = AssertUnwindSafe(search(&hub, &index)).catch_unwind().await {
        tracing::error!("the search for ends of sessions has panicked, and goes on");
        drop_panic(panic);
        sleep(SOON).await;
    }
    listening.abort();
    hub.speaks(false);
}

/// What listens may run code of the application's, too: a connection pool's, say. If it panics, nothing is
/// told until it listens again.
async fn listen<F: Future<Output = ()>>(hub: &Hub, mut listening: impl FnMut() -> F) {
    while let Err(panic) = AssertUnwindSafe(listening()).catch_unwind().await {
        hub.speaks(false);
        tracing::error!("the line for ends of sessions has panicked, and is opened again");
        drop_panic(panic);
        sleep(SOON).await;
    }
    hub.speaks(false);
}

async fn search(hub: &Hub, index: &StoreIndex) {
    loop {
        match hub.due() {
            Due::Look(names, terms) => look(hub, index, names, &terms).await,
            Due::At(due) => {
                select(pin!(sleep_until(due)), pin!(hub.hurry.notified())).await;
            }
            Due::Nothing => {
                let came = timeout(REST, hub.hurry.notified()).await.is_ok();
                if !came && hub.rests() {
                    break;
                }
            }
        }
    }
}

async fn look(hub: &Hub, index: &StoreIndex, names: Vec<(Token, Name)>, terms: &Terms) {
    if names.is_empty() {
        // Nobody waits any more.
        return;
    }
    let mut taken = Taken::new(hub, &names);
    let mut by_name: HashMap<Name, Vec<Token>> = HashMap::new();
    for (token, name) in names {
        by_name.entry(name).or_default().push(token);
    }
    let names = by_name.keys().cloned().collect();
    let began = Instant::now();
    let seen = match index.0.look_at(names, terms).await {
        Ok(seen) => seen,
        Err(error) => {
            tracing::debug!(%error, "the store cannot say whether sessions live");
            return;
        }
    };
    let now = || Terms {
        now: terms.now + Millis::from(began.elapsed()),
        ..terms.clone()
    };
    let then = now();
    let mut lost: HashMap<String, Vec<Lost>> = HashMap::new();
    for (name, seen) in seen {
        for token in by_name.remove(&name).unwrap_or_default() {
            match hub.lost(token, &name, &seen) {
                Some((principal, id)) => {
                    let at = name.clone();
                    lost.entry(principal)
                        .or_default()
                        .push(Lost { token, at, id });
                }
                None => {
                    taken.settle(token);
                    hub.seen(token, &name, &seen, &then);
                }
            }
        }
    }
    let finds = lost.into_iter().map(async |(principal, lost)| {
        let found = find(index, &principal, &lost, terms).await;
        (lost, found)
    });
    let mut finds = pin!(stream::iter(finds).buffer_unordered(AT_ONCE));
    while let Some((lost, found)) = finds.next().await {
        let Some(found) = found else {
            continue;
        };
        let then = now();
        for (Lost { token, at, .. }, found) in lost.into_iter().zip(found) {
            taken.settle(token);
            let seen = found.map_or(Seen::Nothing, |live| Seen::Live(live.at, live.record));
            hub.seen(token, &at, &seen, &then);
        }
    }
}

/// Somebody's session of which nothing is left where it was.
struct Lost {
    token: Token,
    at: Name,
    id: u128,
}

/// Where a principal's sessions are now, by their list: a renewal that nobody here was told of, longer ago
/// than its redirect lives, ends none. `None`: the store cannot say that now.
async fn find(
    index: &StoreIndex,
    principal: &str,
    lost: &[Lost],
    terms: &Terms,
) -> Option<Vec<Option<Live>>> {
    let mut found: Vec<Option<Live>> = lost.iter().map(|_| None).collect();
    let search = |live: Vec<Live>| {
        for live in live {
            let meant = lost.iter().zip(&mut found);
            meant
                .filter(|(lost, _)| lost.id == live.id)
                .for_each(|(_, found)| *found = Some(live.clone()));
        }
        found.iter().all(Option::is_some).then_some(())
    };
    if let Err(error) = index.each(principal, terms, search).await {
        tracing::debug!(%error, "the store cannot say where a session is");
        return None;
    }
    Some(found)
}

/// Those that were taken for a look: who is left without an answer, for whatever reason, is looked at again.
struct Taken<'a> {
    hub: &'a Hub,
    tokens: HashSet<Token>,
}

impl<'a> Taken<'a> {
    fn new(hub: &'a Hub, names: &[(Token, Name)]) -> Self {
        let tokens = names.iter().map(|(token, _)| *token).collect();
        Self { hub, tokens }
    }

    fn settle(&mut self, token: Token) {
        self.tokens.remove(&token);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for token in &self.tokens {
            self.hub.look_again(*token);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::{
        clock::{Clock, SharedClock},
        live::{SessionEnded, pair, watch::tests::looking},
        record::Metadata,
    };

    /// Somebody who waits, for a store that cannot be asked.
    fn wait(hub: &Arc<Hub>, name: &str, id: u128) -> SessionEnded {
        let (ended, waits) = pair();
        let watch = Watch::new(waits, Some(&Metadata::new(id, Millis::ZERO)), looking());
        hub.add(name.into(), watch, StoreIndex::none);
        ended
    }

    #[test]
    fn whoever_no_longer_waits_leaves_nothing() {
        let hub = Arc::new(Hub::default());
        for round in 0..3 {
            let waiting: Vec<_> = (0..100).map(|id| wait(&hub, "a", id)).collect();
            let others: Vec<_> = (0..100).map(|id| wait(&hub, "b", id + round)).collect();
            assert_eq!(hub.state().places.len(), 200);
            drop(waiting);
            assert_eq!(hub.state().places.len(), 100);
            drop(others);
            assert!(hub.is_idle());
            assert!(hub.state().places.has_nothing());
        }
    }

    /// A step ends a session, and tells it then: a look may come in between.
    #[test]
    fn a_look_that_finds_nothing_waits_for_the_reason() {
        let hub = Arc::new(Hub::default());
        let [told, untold] = [("a", 1), ("b", 2)].map(|(at, id)| wait(&hub, at, id));
        let look = || {
            let tokens = hub.state().places.tokens();
            for token in tokens {
                let at = hub.state().places.get(token).map(|it| it.at.clone());
                hub.seen(token, &at.unwrap(), &Seen::Nothing, &Terms::default());
            }
        };
        look();
        assert_eq!([told.reason(), untold.reason()], [None; 2]);
        hub.ended(1, EndReason::LoggedOut);
        look();
        let reasons = [told.reason(), untold.reason()];
        assert_eq!(reasons, [Some(EndReason::LoggedOut), Some(EndReason::Gone)]);
    }

    /// Otherwise nobody would find it under its new name when that ends.
    #[test]
    fn a_look_that_a_renewal_has_overtaken_says_nothing() {
        let hub = Arc::new(Hub::default());
        let ended = wait(&hub, "a", 1);
        let token = hub.state().places.tokens()[0];
        let metadata = Metadata::new(1, Millis::ZERO);
        let record = Record::written(crate::record::WireFormat::V1, 1, metadata, &[]);
        let (before, after) = (Name::from("a"), Name::from("b"));
        let seen = Seen::Live(before.clone(), record.clone());
        hub.written((&before, None), &record, &after);
        hub.seen(token, &before, &seen, &Terms::default());
        hub.ended_at(&after, EndReason::LoggedOut);
        assert_eq!(ended.reason(), Some(EndReason::LoggedOut));
    }

    #[test]
    fn a_look_that_a_renewal_stays_ahead_of_is_not_lost() {
        let hub = Arc::new(Hub::default());
        let ended = wait(&hub, "a", 1);
        let token = hub.state().places.tokens()[0];
        let ahead = Seen::Ahead("b".into());
        hub.seen(token, &"a".into(), &ahead, &Terms::default());
        assert_eq!(ended.reason(), None);
        hub.ended_at(&"b".into(), EndReason::LoggedOut);
        assert_eq!(ended.reason(), Some(EndReason::LoggedOut));
    }

    #[test]
    fn each_is_told_by_what_is_meant() {
        let hub = Arc::new(Hub::default());
        let [one, same, other] = [("a", 1), ("a", 1), ("b", 2)].map(|(at, id)| wait(&hub, at, id));
        hub.ended(3, EndReason::Revoked);
        hub.ended_at(&"c".into(), EndReason::LoggedOut);
        assert!([&one, &same, &other].iter().all(|it| it.reason().is_none()));
        hub.ended(1, EndReason::Revoked);
        assert_eq!(one.now_or_never(), Some(EndReason::Revoked));
        assert_eq!(same.now_or_never(), Some(EndReason::Revoked));
        hub.ended_at(&"b".into(), EndReason::LoggedOut);
        assert_eq!(other.now_or_never(), Some(EndReason::LoggedOut));
        assert!(hub.state().places.has_nothing());
    }

    /// A clock that panics once, and finds out whether it is asked under the hub's lock.
    struct Asked {
        hub: Weak<Hub>,
        told: std::sync::mpsc::Sender<bool>,
        panicked: AtomicBool,
    }

    impl Clock for Asked {
        fn now(&self) -> std::time::SystemTime {
            let hub = self.hub.upgrade();
            let is_free = hub.is_none_or(|hub| hub.state.try_lock().is_ok());
            // Nobody may listen any more.
            let _ = self.told.send(is_free);
            assert!(self.panicked.swap(true, Ordering::SeqCst), "a clock");
            std::time::SystemTime::UNIX_EPOCH
        }
    }

    #[test]
    fn a_clock_is_asked_without_the_lock_and_may_panic() {
        let hub = Arc::new(Hub::default());
        let (told, asked) = std::sync::mpsc::channel();
        let clock = SharedClock::new(Asked {
            hub: Arc::downgrade(&hub),
            told,
            panicked: AtomicBool::new(false),
        });
        let (_ended, waits) = pair();
        let watch = Watch::new(waits, None, Looking { clock, ..looking() });
        hub.add("a".into(), watch, StoreIndex::none);
        for _ in 0..2 {
            let is_free = asked.recv_timeout(Duration::from_secs(60)).unwrap();
            // Others lock it for a moment only, and nobody else is here.
            assert!(is_free);
        }
    }

    #[test]
    fn whoever_is_revoked_is_told_before_the_first_look() {
        let hub = Arc::new(Hub::default());
        let [ours, later, others] =
            [("a", 1, 5), ("a", 2, 7), ("b", 3, 5)].map(|(who, id, login)| {
                let (ended, waits) = pair();
                let mut metadata = Metadata::new(id, Millis::ZERO);
                metadata.belong_to(Some(who.to_owned()), Millis(login));
                let id = metadata.id;
                let watch = Watch::new(waits, Some(&metadata), looking());
                hub.add(id.to_string().into(), watch, StoreIndex::none);
                ended
            });
        let mark = NotBefore {
            at: Millis(5),
            spared: Vec::new(),
        };
        hub.marked("a", &mark);
        assert_eq!(ours.reason(), Some(EndReason::Revoked));
        assert_eq!([later.reason(), others.reason()], [None, None]);
    }

    #[test]
    fn what_was_lost_is_looked_at_soon() {
        let hub = Arc::new(Hub::default());
        let _waits = wait(&hub, "a", 1);
        let (at, owner) = ("a".into(), None);
        let step = Step::End { at, owner };
        hub.after(&step, &Reply::Lost);
        let due = hub.state().places.first_due().map(|(due, _)| due);
        assert!(due.is_none_or(|due| due <= Instant::now() + SOON));
    }

    /// Its renewal is told to nobody, and must be seen before the redirect goes.
    #[test]
    fn a_session_without_an_id_is_looked_at_as_if_the_line_were_silent() {
        let hub = Hub::default();
        hub.hears_renewals();
        let lease_of = |known: Option<&Metadata>| {
            let (_ended, waits) = pair();
            hub.lease(&Watch::new(waits, known, looking()))
        };
        let known = Metadata::new(1, Millis::ZERO);
        let silent = lease_of(Some(&known));
        hub.speaks(true);
        assert_eq!(lease_of(None), silent);
        assert_eq!(lease_of(Some(&known)), silent * SPEAKING);
    }

    #[actix_web::test]
    async fn a_look_that_fails_is_repeated_before_the_lease_is_over() {
        let hub = Arc::new(Hub::default());
        let _waits = wait(&hub, "a", 1);
        let tokens = hub.state().places.tokens();
        let names = tokens.into_iter().map(|token| (token, "a".into()));
        look(
            &hub,
            &StoreIndex::none(),
            names.collect(),
            &Terms::default(),
        )
        .await;
        let due = hub.state().places.first_due().map(|(due, _)| due);
        assert!(due.is_none_or(|due| due <= Instant::now() + AGAIN));
    }

    /// Of a principal's session; nobody looks meanwhile.
    fn wait_quietly(hub: &Arc<Hub>, name: &str, id: u128) -> SessionEnded {
        hub.state().runs = true;
        let (ended, waits) = pair();
        let record = record_of("user-42", id);
        let watch = Watch::new(waits, record.metadata(), looking());
        hub.add(name.into(), watch, StoreIndex::none);
        ended
    }

    fn record_of(principal: &str, id: u128) -> Record {
        let mut metadata = Metadata::new(id, Millis::ZERO);
        metadata.belong_to(Some(principal.to_owned()), Millis(1));
        Record::written(crate::record::WireFormat::V1, 1, metadata, &[])
    }

    fn written(stored: &Record, new: &Record) -> Step {
        Step::Cas {
            at: "a".into(),
            expect: stored.version(),
            new: new.clone(),
            until: crate::protocol::Until::Same,
            epoch: None,
            owner_before: crate::protocol::OwnerBefore::of(stored, new),
        }
    }

    /// The search may sleep until the next look that is planned.
    #[test]
    fn what_has_moved_is_looked_at_at_once() {
        let hub = Arc::new(Hub::default());
        let ended = wait_quietly(&hub, "a", 1);
        let hurries = || hub.hurry.notified().now_or_never().is_some();
        assert!(hurries());
        hub.written(
            (&"a".into(), Some(1)),
            &record_of("user-42", 1),
            &"b".into(),
        );
        assert!(hurries());
        assert_eq!(ended.reason(), None);
    }

    /// A thread tells what it has written after another one has told what came next.
    #[test]
    fn a_write_that_is_told_late_ends_nothing() {
        let hub = Arc::new(Hub::default());
        let (one, other) = (record_of("user-42", 1), record_of("user-42", 2));
        let late = written(&one, &one);
        let ended = wait_quietly(&hub, "a", 2);
        hub.after(&late, &Reply::Done);
        assert_eq!(ended.reason(), None);
        let token = hub.state().places.tokens()[0];
        let see = |record: &Record| {
            let seen = Seen::Live("a".into(), record.clone());
            hub.seen(token, &"a".into(), &seen, &Terms::default());
        };
        see(&other);
        assert_eq!(ended.reason(), None);
        // If it was not late, the look tells the reason.
        hub.after(&late, &Reply::Done);
        see(&one);
        assert_eq!(ended.reason(), Some(EndReason::LoggedOut));
    }

    #[test]
    fn a_write_ends_the_session_that_it_replaces() {
        let hub = Arc::new(Hub::default());
        let ended = wait_quietly(&hub, "a", 1);
        let next = written(&record_of("user-42", 1), &record_of("user-43", 2));
        hub.after(&next, &Reply::Done);
        assert_eq!(ended.reason(), Some(EndReason::LoggedOut));
    }

    /// Whoever is left in the middle of a look is looked at again.
    #[test]
    fn whoever_gets_no_answer_is_looked_at_again() {
        let hub = Arc::new(Hub::default());
        let _waits = [1, 2].map(|id| wait_quietly(&hub, "a", id));
        let names: Vec<_> = hub.take_due(&hub_looking(&hub));
        assert_eq!(names.len(), 1, "those of other middlewares wait");
        assert!(hub.state().places.first_due().is_some());
        let token = names[0].0;
        drop(Taken::new(&hub, &names));
        let due = hub.state().places.due_of(token);
        assert!(due.is_some_and(|due| due <= Instant::now() + AGAIN));
    }

    fn hub_looking(hub: &Hub) -> Looking {
        let state = hub.state();
        let first = state.places.first_due().map(|(_, looking)| looking.clone());
        first.unwrap()
    }

    #[actix_web::test]
    async fn a_line_that_panics_is_opened_again() {
        let hub = Hub::default();
        let tries = std::cell::Cell::new(0);
        let listening = || async {
            tries.set(tries.get() + 1);
            assert!(!hub.speaks.load(Ordering::SeqCst));
            hub.speaks(true);
            assert!(tries.get() > 1, "a line");
        };
        listen(&hub, listening).await;
        assert_eq!(tries.get(), 2);
        assert!(!hub.speaks.load(Ordering::SeqCst));
    }
}
