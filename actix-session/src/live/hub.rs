//! The sessions of one store that somebody waits for.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::select;
use tokio::{
    sync::Notify,
    task::spawn_local,
    time::{Instant, sleep_until, timeout},
};

use super::{
    EndReason, Watch,
    look::Seen,
    places::{Places, Token, Watched},
    runtime,
};
use crate::{
    contract::Terms,
    protocol::{Name, NotBefore, Reply, Step},
    record::Record,
    storage::StoreIndex,
    sync::lock,
};

/// How many sessions are looked at at once.
const BATCH: usize = 500;
/// How much longer a lease is while the back end is known to tell.
const SPEAKING: u32 = 12;
/// How long the last watch is survived: another one may come.
const REST: Duration = Duration::from_secs(10);
/// The shortest time between two looks, however short the grace is.
const LEAST: Duration = Duration::from_millis(10);
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
            (Reply::Done, Step::End { at }) => self.ended_at(at, EndReason::LoggedOut),
            (Reply::Done, Step::EndIf { at, .. }) => self.ended_at(at, EndReason::Revoked),
            (Reply::Done, Step::Cas { at, new, .. }) => self.written(at, new, at),
            (
                Reply::Done,
                Step::Rotate {
                    at, new, redirect, ..
                },
            ) => {
                self.written(at, new, &redirect.target);
            }
            (Reply::Lost, step) => self.look_at(step.at(), Instant::now() + SOON),
            _ => {}
        }
    }

    fn ended_at(&self, at: &Name, reason: EndReason) {
        self.tell(reason, |places| places.named(at));
    }

    /// A record was written over the one of this name, which may lie elsewhere now.
    fn written(&self, at: &Name, new: &Record, to: &Name) {
        self.tell(EndReason::LoggedOut, |places| {
            let mut ended = places.named(at);
            ended.retain(|token| {
                let is_same = places.found(*token, new);
                if is_same && at != to {
                    places.move_to(*token, to);
                    // An end of the new record may have been told before this.
                    places.hasten(*token, Instant::now());
                }
                !is_same
            });
            ended
        });
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

    /// A principal's sessions have ended together.
    pub(crate) fn marked(&self, principal: &str, mark: &NotBefore) {
        if self.is_idle() {
            return;
        }
        self.tell(EndReason::Revoked, |places| {
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
            let lease = state.places.get(token).map(|it| it.watch.lease);
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
        let speaks = self.speaks.load(Ordering::SeqCst);
        let lease = match speaks {
            true => watch.lease.saturating_mul(SPEAKING),
            false => watch.lease,
        };
        if speaks && self.hears_renewals.load(Ordering::SeqCst) {
            return lease;
        }
        let grace = Duration::from_millis(watch.terms.grace.0.max(0).unsigned_abs());
        lease.min((grace / 2).max(LEAST))
    }

    fn due(&self) -> Due {
        let mut state = self.state();
        let now = Instant::now();
        let (mut names, mut of_all) = (Vec::new(), None);
        for token in state.places.take_due(now, BATCH) {
            let Some(Watched { watch, at, .. }) = state.places.get(token) else {
                continue;
            };
            let (settings, _) =
                of_all.get_or_insert_with(|| (Arc::clone(&watch.terms), watch.terms_now()));
            if Arc::ptr_eq(settings, &watch.terms) {
                names.push((token, at.clone()));
            } else {
                // Another middleware's: it is its turn next.
                state.places.set_due(token, now);
            }
        }
        match of_all {
            Some((_, terms)) => Due::Look(names, terms),
            None => state.places.first_due().map_or(Due::Nothing, Due::At),
        }
    }

    /// Notes what was seen.
    fn seen(&self, token: Token, seen: &Seen) {
        let gone = {
            let mut state = self.state();
            match seen {
                Seen::Live(at, record) if state.places.found(token, record) => {
                    state.places.move_to(token, at);
                    let pause = state
                        .places
                        .get(token)
                        .map(|it| it.watch.pause(record, self.lease(&it.watch)));
                    let pause = pause.unwrap_or_default();
                    state.places.set_due(token, Instant::now() + pause);
                    None
                }
                Seen::Unreadable => {
                    drop(state);
                    self.look_later(token);
                    None
                }
                Seen::Live(..) | Seen::Nothing => {
                    let gone = state.places.remove(token);
                    self.count(&state);
                    gone
                }
            }
        };
        if let Some(watch) = gone {
            watch.tell(EndReason::Gone);
        }
    }

    /// Nobody knows whether the session lives.
    fn look_later(&self, token: Token) {
        let mut state = self.state();
        if let Some(lease) = state.places.get(token).map(|it| it.watch.lease) {
            state.places.set_due(token, Instant::now() + lease);
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
        async move { index.0.listen(&hub).await }
    });
    loop {
        match hub.due() {
            Due::Look(names, terms) => look(&hub, &index, names, &terms).await,
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
    listening.abort();
    hub.speaks(false);
}

async fn look(hub: &Hub, index: &StoreIndex, names: Vec<(Token, Name)>, terms: &Terms) {
    let mut by_name: HashMap<Name, Vec<Token>> = HashMap::new();
    for (token, name) in names {
        by_name.entry(name).or_default().push(token);
    }
    let names = by_name.keys().cloned().collect();
    match index.0.look_at(names, terms).await {
        Ok(seen) => {
            for (name, seen) in seen {
                for token in by_name.remove(&name).unwrap_or_default() {
                    hub.seen(token, &seen);
                }
            }
        }
        Err(error) => tracing::debug!(%error, "the store cannot say whether sessions live"),
    }
    // What could not be read.
    for token in by_name.into_values().flatten() {
        hub.look_later(token);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::{
        clock::SharedClock,
        live::{SessionEnded, pair},
    };

    /// Somebody who waits, for a store that cannot be asked.
    fn wait(hub: &Arc<Hub>, name: &str, id: u128) -> SessionEnded {
        let (ended, waits) = pair();
        let (terms, clock) = (Arc::default(), SharedClock::default());
        let watch = Watch::new(waits, Some(id), terms, clock, Duration::from_secs(5));
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

    #[test]
    fn what_was_lost_is_looked_at_soon() {
        let hub = Arc::new(Hub::default());
        let _waits = wait(&hub, "a", 1);
        let step = Step::End { at: "a".into() };
        hub.after(&step, &Reply::Lost);
        let due = hub.state().places.first_due();
        assert!(due.is_none_or(|due| due <= Instant::now() + SOON));
    }
}
