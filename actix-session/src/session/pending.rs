//! What a session handle holds: the record as it was loaded, and the changes on top.

mod auth;
mod early;

pub(crate) use self::auth::{Identity, NamedLogin};
use self::early::{Act, Acts};

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
    task::Waker,
};

use super::{
    SessionStatus, Times,
    ending::{Answer, Endings, SaveAnswer},
};
use crate::{
    changes::{Changes, Effect, Effects, LoggedOut, Modify, Since, TtlChange},
    clock::{Millis, SharedClock},
    contract::Terms,
    record::{PrincipalEntry, RESERVED, Record},
};

#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) status: SessionStatus,
    base: Option<Record>,
    changes: Changes,
    /// The results of those effects in `changes` that are functions, for reading.
    computed: Computed,
    purged: bool,
    /// In a box, since few requests have any.
    discarded: Option<Box<Discarded>>,
    /// The application has asked for the session.
    pub(crate) asked: bool,
    /// The store failed to load the record, and the request is served without it.
    pub(crate) degraded: bool,
    /// The load has extended the record.
    pub(super) extended: bool,
    /// The load found that another request has renewed the session.
    pub(super) moved: bool,
    /// A moment ago, so that the cookie of the renewed session may be on its way.
    in_flight: bool,
    /// Then: an entry was removed that nobody could see.
    removed_unseen: bool,
    /// Under lazy loading, nobody has loaded the record yet.
    pub(crate) unloaded: bool,
    /// Somebody has asked for the session before a middleware serves the request, which loads the record
    /// then. Until it does, the session shows what was done to it.
    early: bool,
    /// The changes have been committed; later ones would be lost.
    finished: bool,
    noted: Option<Box<Noted>>,
    /// The session's own time that this request has set and saved: it is that of a login which follows.
    saved_ttl: Option<TtlChange>,
    /// What an effect has ended, unless it turns out that it logs nobody out; or a login, unless it turns
    /// out that there was none before it.
    ended_times: Option<Box<EndedTimes>>,
    /// The client has gone while they were being committed.
    pub(crate) departed: bool,
    /// A login of whoever is logged in, if the session is renewed too.
    named: Option<Box<NamedLogin>>,
    /// `None` if no middleware serves the session.
    pub(super) served: Option<Arc<Served>>,
    endings: Endings,
}

/// The session's own time that this request has set, and that belongs to a login.
#[derive(Debug, Default)]
pub(crate) struct EndedTimes {
    ttl: Option<TtlChange>,
    saved: Option<TtlChange>,
    /// It stands if this is who was logged in when the request came.
    stands_for: Option<String>,
}

impl EndedTimes {
    fn stand(&self, known: Option<&str>) -> bool {
        known == self.stands_for.as_deref()
    }
}

/// What is done to a session, noted for whoever has to know it later.
enum Noted {
    /// Since a commit began that a handler waits for.
    Since(Since),
    /// Before a middleware serves the session.
    Early(Acts),
}

impl Noted {
    /// Few requests need it.
    #[cold]
    fn note(&mut self, since: impl FnOnce(&mut Since), act: impl FnOnce() -> Act) {
        match self {
            Self::Since(noted) => since(noted),
            Self::Early(acts) => acts.push(act),
        }
    }
}

/// The results of closures, by the names of their entries. Few requests have any.
#[derive(Default)]
#[allow(
    clippy::box_collection,
    reason = "few requests have any: a map would take more room in each"
)]
struct Computed(Option<Box<HashMap<String, Option<String>>>>);

impl Computed {
    fn get(&self, name: &str) -> Option<&Option<String>> {
        self.0.as_ref()?.get(name)
    }

    fn insert(&mut self, name: String, result: Option<String>) {
        self.0.get_or_insert_default().insert(name, result);
    }

    fn remove(&mut self, name: &str) -> Option<Option<String>> {
        self.0.as_mut()?.remove(name)
    }
}

/// What all sessions of a middleware have in common, but for quiet requests.
pub(crate) struct Served {
    /// The entry that names the principal, if there is one.
    pub(crate) principal_entry: Option<PrincipalEntry>,
    pub(crate) clock: SharedClock,
    pub(crate) times: Times,
    pub(crate) knows_ends: bool,
}

impl Served {
    /// Of sessions whose principal no entry names.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn unnamed(clock: SharedClock, times: Times, knows_ends: bool) -> Arc<Self> {
        Arc::new(Self {
            principal_entry: None,
            clock,
            times,
            knows_ends,
        })
    }
}

/// What the load of a request shows to its handler.
#[derive(Default)]
pub(crate) struct Shown {
    pub(crate) record: Option<Record>,
    pub(crate) degraded: bool,
    pub(crate) extended: bool,
    pub(crate) moved: bool,
    /// A moment ago.
    pub(crate) in_flight: bool,
}

/// What is over, and may run code of the application when it is dropped: closures, and whatever
/// waits for an ending.
#[derive(Default)]
pub(super) struct Discarded {
    effects: Vec<Effect>,
    endings: Vec<Endings>,
}

/// What the middleware takes once the handler has answered.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) purged: bool,
    pub(crate) changes: Changes,
    /// The changes log out whoever is logged in.
    pub(crate) logs_out: bool,
    /// An entry was removed before anybody could see it.
    pub(crate) removed_unseen: bool,
    /// A login, unless whom it names was logged in when nobody had loaded the session.
    pub(crate) named: Option<Box<NamedLogin>>,
    /// What has ended with a login, unless it turns out who was logged in.
    pub(crate) ended_times: Option<Box<EndedTimes>>,
}

impl Snapshot {
    /// Of a request that has done nothing.
    pub(crate) fn none() -> &'static Self {
        static NONE: Snapshot = Snapshot {
            purged: false,
            changes: Changes::nothing(),
            logs_out: false,
            removed_unseen: false,
            named: None,
            ended_times: None,
        };
        &NONE
    }

    /// Whether its commit has to know what is stored.
    pub(crate) fn needs_record(&self) -> bool {
        !self.changes.is_empty() || self.named.is_some()
    }

    /// The session was loaded after all that was done.
    pub(crate) fn was_unseen(&mut self) {
        self.removed_unseen = self.changes.remove_any();
    }

    /// Whether something stored was to change that does not show behind a redirect. An entry that this
    /// request has set and removed again is nothing.
    pub(crate) fn changes_unseen(&self) -> bool {
        let changes = &self.changes;
        let sets_metadata = changes.lowered.is_some() || changes.ttl.is_some();
        self.removed_unseen || sets_metadata || changes.has_modify()
    }

    /// Whether they depend on whose session it was.
    pub(crate) fn depends_on_owner(&self) -> bool {
        self.named.is_some() || self.ended_times.is_some()
    }

    /// Once it is known whose session it was.
    pub(crate) fn settle_named(&mut self, base: Option<&Record>) {
        let known = base.and_then(Record::principal);
        if let Some(ended) = self.ended_times.take_if(|ended| ended.stand(known)) {
            self.changes.ttl = self.changes.ttl.or(ended.ttl);
        }
        let Some(named) = self.named.take() else {
            return;
        };
        if named.is_login(known, self.changes.renew) {
            named.apply(&mut self.changes);
            self.changes.logout = Some(LoggedOut::default());
        } else if !named.is_over {
            self.changes.effects.remove(&named.entry);
        }
    }
}

impl Pending {
    #[inline]
    pub(crate) fn of_request(served: Arc<Served>, shown: Shown) -> Self {
        Self {
            base: shown.record,
            degraded: shown.degraded,
            extended: shown.extended,
            moved: shown.moved,
            in_flight: shown.in_flight,
            endings: Endings::attached(served.knows_ends),
            served: Some(served),
            ..Self::default()
        }
    }

    /// A middleware serves the session from now on. Somebody has asked for it before.
    fn attach(&mut self, served: Arc<Served>) {
        let endings = Endings::attached(served.knows_ends);
        let before = std::mem::replace(&mut self.endings, endings);
        if !before.is_idle() {
            self.discarded().endings.push(before);
        }
        self.served = Some(served);
        self.asked = true;
        if let Some(acts) = self.acts().map(std::mem::take) {
            self.discarded().effects.extend(acts.into_effects());
        }
        self.noted = None;
    }

    /// The same for one to which all has been done again. Returns what was there.
    fn replace(&mut self, again: Self) -> Self {
        let may_hide = again.moved && self.is_to_be_loaded();
        let again = Self {
            asked: true,
            removed_unseen: may_hide && again.changes.remove_any(),
            ..again
        };
        std::mem::replace(self, again)
    }

    /// A middleware may serve the session later.
    pub(super) fn wait_for_middleware(&mut self) {
        self.early = self.base.is_none();
        let noted = || Box::new(Noted::Early(Acts::default()));
        self.noted = self.early.then(noted);
    }

    pub(crate) fn load(&mut self, shown: Shown) {
        let may_hide = shown.moved && self.is_to_be_loaded();
        self.removed_unseen = may_hide && self.changes.remove_any();
        self.base = shown.record;
        self.degraded = shown.degraded;
        self.extended = shown.extended;
        self.moved = shown.moved;
        self.in_flight = shown.in_flight;
        self.unloaded = false;
        self.early = false;
        let known = self.base.as_ref().and_then(Record::principal);
        let ended = self.ended_times.take().filter(|ended| ended.stand(known));
        self.take_back_end(ended);
        self.settle_named();
        let base = self.base.as_ref();
        if base.is_some_and(|base| self.changes.log_in_another(base)) {
            self.forget_before_login();
        }
    }

    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The record that a commit would change.
    pub(super) fn present(&self) -> Option<&Record> {
        self.base.as_ref().filter(|_| !self.purged)
    }

    /// Whether the session is the one that was loaded, as far as this request goes: neither ended nor
    /// cleared, nor another person's, nor nobody's any more.
    pub(super) fn shows_present(&self) -> bool {
        let visible = self.visible();
        visible.is_some_and(|base| !self.has_left_by_entry(base))
    }

    /// Whether an entry depends on what nobody has loaded.
    pub(super) fn is_unknown(&self, name: &str) -> bool {
        !self.decides(name) && self.is_unloaded()
    }

    /// Whether this request alone determines an entry.
    fn decides(&self, name: &str) -> bool {
        let effect = self.changes.effects.get(name);
        matches!(effect, Some(Effect::Set(_) | Effect::Removed))
    }

    /// Whether an entry shows what the record has, perhaps with closures on top.
    fn shows_stored(&self, name: &str) -> bool {
        let is_over = self.purged || self.changes.cleared.is_some();
        !is_over && !self.decides(name)
    }

    /// Whether the record may have an entry that does not show.
    fn may_hide(&self, name: &str) -> bool {
        !self.decides(name) && (self.is_to_be_loaded() || self.is_hidden_for_now())
    }

    /// Whether a failed load hides what the record has, or another request's renewal, so that the client sees
    /// it in a moment.
    pub(crate) fn is_hidden_for_now(&self) -> bool {
        let is_hidden = self.degraded || self.in_flight;
        is_hidden && !self.purged && self.changes.cleared.is_none()
    }

    /// Whether the record shows through, and nobody has loaded it.
    pub(super) fn is_unloaded(&self) -> bool {
        self.is_unloaded_or_cleared() && self.changes.cleared.is_none()
    }

    /// Whether the session goes on, and nobody has loaded it.
    pub(super) fn is_unloaded_or_cleared(&self) -> bool {
        self.unloaded && !self.purged
    }

    /// Whether a load may still tell what a change has changed.
    pub(super) fn is_to_be_loaded(&self) -> bool {
        self.goes_on_to_be_loaded() && self.changes.cleared.is_none()
    }

    fn goes_on_to_be_loaded(&self) -> bool {
        (self.unloaded || self.early) && !self.purged
    }

    /// What the record holds, without this request's changes to it.
    pub(super) fn loaded_value(&self, name: &str) -> Option<String> {
        let value = self.visible()?.state().get(name);
        value.map(Cow::into_owned)
    }

    /// The entries whose values depend on the record and on closures.
    pub(super) fn modified(&self) -> Vec<String> {
        let effects = self.changes.effects.iter();
        let modified = effects.filter(|(_, effect)| matches!(effect, Effect::Modify(_)));
        modified.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn closures(&self, name: &str) -> &[Modify] {
        match self.changes.effects.get(name) {
            Some(Effect::Modify(all)) => all,
            Some(Effect::Set(_) | Effect::Removed) | None => &[],
        }
    }

    /// Notes the result of an entry's closures, if these are still all of them.
    pub(super) fn compute(
        &mut self,
        name: &str,
        closures: &[Modify],
        result: Option<String>,
    ) -> bool {
        let are_all = self.closures(name).len() == closures.len();
        if are_all && !closures.is_empty() {
            self.computed.insert(name.to_owned(), result);
        }
        are_all
    }

    /// The handle can still be read, but no longer be changed.
    #[inline]
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        let endings = std::mem::take(&mut self.endings);
        if !endings.is_idle() {
            self.discarded().endings.push(endings);
        }
        self.keep_results();
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Fails once it is too late to commit changes.
    pub(crate) fn writable(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.finished,
            "the response has been sent: a session must be changed before that, in the handler"
        );
        Ok(())
    }

    pub(super) fn clock(&self) -> SharedClock {
        let served = self.served.as_ref();
        served.map_or_else(SharedClock::default, |served| served.clock.clone())
    }

    pub(super) fn principal_entry(&self) -> Option<&PrincipalEntry> {
        self.served.as_ref()?.principal_entry.as_ref()
    }

    /// The absolute timeout of a login that may keep the times of the one before it.
    pub(crate) fn absolute(&self, keeps_times: bool) -> Option<Millis> {
        let kept = self.visible().filter(|_| keeps_times);
        let kept = kept.and_then(|record| record.metadata()?.own_span());
        kept.or_else(|| self.served.as_ref()?.times.absolute)
    }

    /// Asks the middleware to end the session now, if there is one that still can. Whoever asks
    /// wakes it.
    pub(super) fn ask_for_ending(&mut self) -> Option<(Answer, Option<Waker>)> {
        if !self.finished {
            self.purge();
        }
        self.endings.ask()
    }

    /// Asks the middleware to commit now. Whoever asks wakes it.
    pub(super) fn ask_for_save(&mut self) -> Option<(SaveAnswer, Option<Waker>)> {
        self.endings.ask_to_save()
    }

    pub(crate) fn endings(&mut self) -> &mut Endings {
        &mut self.endings
    }

    /// The record under the changes, unless the session is purged or cleared.
    fn visible(&self) -> Option<&Record> {
        let base = self.base.as_ref()?;
        let hidden = self.purged || self.changes.cleared.is_some();
        (!hidden && !self.changes.log_in_another(base)).then_some(base)
    }

    /// The record, if an entry shows as it was loaded.
    pub(super) fn unchanged(&self, name: &str) -> Option<&Record> {
        let effect = self.changes.effects.get(name);
        self.visible().filter(|_| effect.is_none())
    }

    pub(crate) fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.changes.effects.get(name) {
            Some(Effect::Set(json)) => Some(Cow::Borrowed(json)),
            Some(Effect::Removed) => None,
            Some(Effect::Modify(_)) => self.computed.get(name)?.as_deref().map(Cow::Borrowed),
            None => self.visible()?.state().get(name),
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        match self.changes.effects.get(name) {
            Some(Effect::Set(_)) => true,
            Some(Effect::Removed) => false,
            Some(Effect::Modify(_)) => matches!(self.computed.get(name), Some(Some(_))),
            None => self
                .visible()
                .is_some_and(|base| base.state().contains(name)),
        }
    }

    pub(crate) fn entries(&self) -> HashMap<String, String> {
        let mut map = self.visible().map(Record::to_map).unwrap_or_default();
        for (name, _) in self.changes.effects.iter() {
            match self.value(name) {
                Some(json) => drop(map.insert(name.clone(), json.into_owned())),
                None => drop(map.remove(name)),
            }
        }
        map
    }

    pub(crate) fn mark_changed(&mut self) {
        if self.status == SessionStatus::Unchanged {
            self.status = SessionStatus::Changed;
        }
    }

    pub(crate) fn set(&mut self, name: impl AsRef<str> + Into<String>, effect: Effect) {
        self.set_by(name, effect, |name, effect| {
            Act::Change(name.to_owned(), effect.clone())
        });
    }

    /// `act` is what has led to the effect.
    fn set_by(
        &mut self,
        name: impl AsRef<str> + Into<String>,
        effect: Effect,
        act: impl FnOnce(&str, &Effect) -> Act,
    ) {
        if name.as_ref() == RESERVED {
            return;
        }
        self.note_effect(name.as_ref(), &effect);
        self.mark_changed();
        self.note(
            |since| {
                since.names.insert(name.as_ref().to_owned());
            },
            || act(name.as_ref(), &effect),
        );
        if let Some(before) = &mut self.changes.before_login {
            before.remove(name.as_ref());
        }
        self.unname(name.as_ref());
        let replaced = self.changes.effects.set(name, effect);
        if let Some(replaced) = replaced {
            self.discarded().effects.push(replaced);
        }
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<String> {
        let before = self.value(name).map(Cow::into_owned);
        // What is hidden is removed as well, so that the response or an event says that it was not.
        // A closure that has left nothing here may leave something when it meets what others have stored.
        let is_modified = matches!(self.changes.effects.get(name), Some(Effect::Modify(_)));
        if before.is_some() || is_modified || self.may_hide(name) {
            // A closure has seen nothing of what is stored.
            self.removed_unseen |= self.in_flight && self.shows_stored(name);
            self.set(name, Effect::Removed);
        } else {
            self.note(|_| {}, || Act::Change(name.to_owned(), Effect::Removed));
            self.unname(name);
            self.mark_changed();
        }
        before
    }

    /// Something else was done to an entry than a login by it, or after that.
    fn unname(&mut self, name: &str) {
        match &mut self.named {
            Some(named) if named.entry == name => named.is_over = true,
            Some(named) => named.before.remove(name),
            None => {}
        }
    }

    /// Adds a closure. If this request alone determines the value that the closure gets, or nobody
    /// will commit it, only the result is kept.
    pub(crate) fn modify(&mut self, name: &str, modify: Modify, now: Option<String>) {
        let over_nothing = self.purged || self.changes.cleared.is_some();
        let may_merge = !over_nothing && self.may_be_committed();
        match self.changes.effects.get_mut(name) {
            Some(Effect::Modify(all)) => {
                if let Some(Noted::Early(acts)) = self.noted.as_deref_mut() {
                    acts.push(|| Act::modify(name, &modify));
                }
                all.push(modify);
                self.computed.insert(name.to_owned(), now);
                self.mark_changed();
            }
            None if may_merge => {
                self.computed.insert(name.to_owned(), now);
                self.set(name, Effect::Modify(vec![modify]));
            }
            _ => {
                let effect = now.clone().map_or(Effect::Removed, Effect::Set);
                self.computed.insert(name.to_owned(), now);
                self.set_by(name, effect, |name, _| Act::modify(name, &modify));
                self.discarded().effects.push(Effect::Modify(vec![modify]));
            }
        }
    }

    /// Nothing shows that could be updated. If the record may hold it, a closure that changes nothing is noted,
    /// so that the response or an event says so.
    pub(super) fn update_unseen(&mut self, name: &str) {
        let is_unseen = self.is_hidden_for_now() && self.changes.effects.get(name).is_none();
        if is_unseen && !self.is_principal_entry(name) && !self.finished {
            let same = |stored: Option<&str>| Ok(stored.map(str::to_owned));
            self.modify(name, Modify(Arc::new(same), None), None);
        }
    }

    pub(crate) fn clear(&mut self, epoch: u64) {
        self.note(|since| since.all = true, || Act::Clear(epoch));
        self.start_empty(epoch);
    }

    fn start_empty(&mut self, epoch: u64) {
        self.mark_changed();
        self.saved_ttl = None;
        self.ended_times = None;
        self.named = None;
        if self.purged {
            self.discard_changes();
        } else {
            let effects = self.changes.clear(epoch);
            self.discard_effects(effects);
        }
    }

    pub(crate) fn purge(&mut self) {
        self.status = SessionStatus::Purged;
        self.purged = true;
        self.saved_ttl = None;
        self.ended_times = None;
        self.named = None;
        if let Some(Noted::Early(acts)) = self.noted.as_deref_mut() {
            // What came before it counts for nothing.
            let past = std::mem::take(acts).into_effects();
            self.discarded().effects.extend(past);
        }
        self.note(|since| since.all = true, || Act::Purge);
        self.discard_changes();
    }

    /// Notes what is done, if somebody has to know it later.
    fn note(&mut self, since: impl FnOnce(&mut Since), act: impl FnOnce() -> Act) {
        if let Some(noted) = self.noted.as_deref_mut() {
            noted.note(since, act);
        }
    }

    /// While a commit is under way that a handler waits for.
    fn note_since(&mut self, note: impl FnOnce(&mut Since)) {
        if let Some(Noted::Since(since)) = self.noted.as_deref_mut() {
            note(since);
        }
    }

    fn discard_changes(&mut self) {
        let effects = std::mem::take(&mut self.changes).effects;
        self.discard_effects(effects);
    }

    fn discard_effects(&mut self, effects: Effects) {
        if !effects.is_empty() {
            let effects = effects.into_iter().map(|(_, effect)| effect);
            self.discarded().effects.extend(effects);
        }
    }

    fn discarded(&mut self) -> &mut Discarded {
        self.discarded.get_or_insert_default()
    }

    /// What is to be dropped without the lock.
    #[inline]
    pub(super) fn take_discarded(&mut self) -> Option<Box<Discarded>> {
        self.discarded.take()
    }

    pub(crate) fn renew(&mut self) {
        if self.status != SessionStatus::Purged {
            self.status = SessionStatus::Renewed;
        }
        self.changes.renew = true;
    }

    pub(crate) fn set_ttl(&mut self, ttl: TtlChange) {
        self.mark_changed();
        self.note(|since| since.ttl = true, || Act::SetTtl(ttl));
        self.changes.ttl = Some(ttl);
    }

    /// Whether there is something to commit or to end.
    pub(crate) fn is_asked_for_anything(&self) -> bool {
        self.purged || self.changes.active || !self.changes.is_empty()
    }

    /// Whether there is nothing to commit, and nobody waits for an ending.
    pub(crate) fn is_at_rest(&self) -> bool {
        !self.is_asked_for_anything() && !self.endings.is_asked()
    }

    /// Takes what must be committed.
    pub(crate) fn take_snapshot(&mut self) -> Snapshot {
        let named = self.named.take().filter(|_| self.is_to_be_loaded());
        let ended_times = self.ended_times.take().filter(|ended| {
            let is_login = ended.stands_for.is_some();
            self.is_to_be_loaded() || is_login && self.goes_on_to_be_loaded()
        });
        let snapshot = Snapshot {
            named,
            ended_times,
            ..self.snapshot()
        };
        self.finish();
        snapshot
    }

    /// What would have to be committed now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut changes = self.changes.clone();
        let entry = self.principal_entry().map(|entry| &**entry);
        let logs_out = changes.log_out(entry);
        let is_told = changes.may_log_out(entry) || changes.renews();
        changes.logout = is_told.then(LoggedOut::default);
        Snapshot {
            purged: self.purged,
            changes,
            logs_out,
            removed_unseen: self.removed_unseen,
            named: None,
            ended_times: None,
        }
    }

    /// The same for a commit that a handler waits for.
    pub(crate) fn snapshot_to_save(&mut self) -> Snapshot {
        self.noted = Some(Box::new(Noted::Since(Since::default())));
        self.snapshot()
    }

    /// What was to be saved waits for the response.
    pub(crate) fn not_saved(&mut self) {
        self.noted = None;
    }

    pub(super) fn is_saving(&self) -> bool {
        self.since().is_some()
    }

    fn since(&self) -> Option<&Since> {
        match self.noted.as_deref() {
            Some(Noted::Since(since)) => Some(since),
            Some(Noted::Early(_)) | None => None,
        }
    }

    /// Whether the store has no say in an entry's value.
    pub(super) fn decides_alone(&self, name: &str) -> bool {
        let is_alone = match &self.base {
            Some(base) => base.is_in_cookie(),
            None => !self.degraded && !self.in_flight && !self.unloaded,
        };
        let effect = self.changes.effects.get(name);
        is_alone || !self.endings.is_attached() || matches!(effect, Some(Effect::Set(_)))
    }

    /// What this request has removed of its own is there again, unless something else is by now.
    pub(super) fn put_back(&mut self, name: &str, json: String) {
        if let Some(Effect::Removed) = self.changes.effects.get(name) {
            self.set(name, Effect::Set(json));
        }
    }

    /// Whether a middleware serves the session, or may do so later.
    fn may_be_committed(&self) -> bool {
        self.early || self.endings.is_attached()
    }

    /// Whether nothing is pending that only the response can complete.
    pub(super) fn can_save(&self) -> bool {
        !self.purged && !self.changes.renews()
    }

    /// The base with the changes on top. `None` if they cannot be applied.
    pub(crate) fn view(&self, base: &Record, terms: &Terms) -> Option<Record> {
        let effects = self.changes.effects.iter();
        let effects = effects.map(|(name, _)| {
            let value = self.value(name).map(Cow::into_owned);
            (name.clone(), value.map_or(Effect::Removed, Effect::Set))
        });
        let changes = Changes {
            effects: effects.collect(),
            ..self.changes.clone()
        };
        changes.on_top_of(base, terms)
    }

    /// These changes are committed, and this is what they have left.
    pub(crate) fn saved(&mut self, changes: &Changes, record: Record) {
        self.note_saved_ttl(changes);
        self.forget(changes);
        self.base = Some(record);
    }

    /// These changes leave the record as it is. To set an entry is activity all the same.
    pub(crate) fn not_needed(&mut self, changes: &Changes) {
        self.note_saved_ttl(changes);
        self.forget(changes);
        self.changes.active |= changes.set_any();
    }

    fn note_saved_ttl(&mut self, changes: &Changes) {
        let since = self.since();
        if !since.is_some_and(|since| since.all || since.ttl) {
            self.saved_ttl = changes.ttl.or(self.saved_ttl);
        }
    }

    /// It was not known that somebody else was logged in.
    fn forget_before_login(&mut self) {
        if let Some(before) = self.changes.before_login.take() {
            let forgotten = self.changes.forget_before(&before);
            self.discard(forgotten);
        }
    }

    /// The session has ended with these changes, or nobody knows what became of them. Whoever they logged
    /// out stays so for the rest of the request.
    pub(crate) fn give_up(&mut self, changes: &Changes) {
        let entry = self.principal_entry().map(|entry| &**entry);
        if changes.may_log_out(entry) {
            self.base = None;
        }
        self.forget(changes);
    }

    /// These changes are not committed any more.
    pub(crate) fn forget(&mut self, changes: &Changes) {
        let since = match self.noted.take().map(|noted| *noted) {
            Some(Noted::Since(since)) => since,
            Some(Noted::Early(_)) | None => Since::default(),
        };
        self.ended_times = None;
        let forgotten = self.changes.forget(changes, &since);
        self.discard(forgotten);
    }

    /// Takes back what was to take an entry, if it is not committed. `json` is what it was to take.
    pub(super) fn withdraw(&mut self, name: &str, taken: &Arc<AtomicBool>, json: String) -> bool {
        let Some(Effect::Modify(all)) = self.changes.effects.get_mut(name) else {
            return false;
        };
        let is_it = |modify: &Modify| modify.1.as_ref().is_some_and(|it| Arc::ptr_eq(it, taken));
        let Some(place) = all.iter().position(is_it) else {
            return false;
        };
        let withdrawn = all.remove(place);
        if all.is_empty() {
            self.changes.effects.remove(name);
            self.computed.remove(name);
            if self.is_principal_entry(name) {
                let ended = self.ended_times.take();
                self.take_back_end(ended);
            }
        } else {
            self.computed.insert(name.to_owned(), Some(json));
        }
        let withdrawn = Effect::Modify(vec![withdrawn]);
        self.discarded().effects.push(withdrawn);
        true
    }

    fn discard(&mut self, forgotten: Vec<(String, Effect)>) {
        for (name, effect) in forgotten {
            if self.changes.effects.get(&name).is_none() {
                self.computed.remove(&name);
            }
            self.discarded().effects.push(effect);
        }
    }

    /// Keeps what closures have come to, and no closure: one may have captured its session.
    fn keep_results(&mut self) {
        if !self.changes.has_modify() {
            return;
        }
        for (name, effect) in self.changes.effects.iter_mut() {
            if let Effect::Modify(_) = effect {
                let result = self.computed.remove(name).flatten();
                let result = result.map_or(Effect::Removed, Effect::Set);
                let closures = std::mem::replace(effect, result);
                let discarded = self.discarded.get_or_insert_default();
                discarded.effects.push(closures);
            }
        }
    }
}
