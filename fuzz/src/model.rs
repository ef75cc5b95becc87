//! The promises about writes, renewals and time, for a store whose steps nothing interrupts.
//!
//! Loads and answers are atomic here. The model checker covers the steps of several answers mixed.

use std::collections::BTreeMap;

/// How long after a renewal the new cookie may still be on its way.
const ON_ITS_WAY: i64 = 10_000;
/// How long a renewal leaves its redirect.
const GRACE: i64 = 60_000;

/// Entries by the number of their name.
pub type Entries = BTreeMap<u8, i64>;
/// A session key: its index in the order in which keys were made.
pub type Key = usize;

/// The configuration of a middleware. Times are in ms.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Idle time to live.
    pub ttl: i64,
    /// The cap on a session's whole life.
    pub absolute: Option<i64>,
    /// The least extension that a load makes; `None` if loads extend nothing.
    pub extend: Option<i64>,
    /// Cookies have an age.
    pub persistent: bool,
    /// If two live cookies arrive, neither is used.
    pub strict: bool,
}

/// A record.
#[derive(Debug, Clone)]
pub struct Rec {
    /// Which session it is, whatever its key: another one after a logout.
    pub lineage: u32,
    /// The state.
    pub entries: Entries,
    epoch: u32,
    /// Who is logged in, and the time of the last authentication.
    pub auth: Option<(u8, i64)>,
    /// The time of the login itself.
    pub logged_in: Option<i64>,
    /// When the session began.
    pub created: i64,
    /// The end that no activity moves.
    pub cap: Option<i64>,
    /// The session's own time to live.
    pub ttl: Option<i64>,
    /// The login's own absolute timeout.
    pub span: Option<i64>,
    end: i64,
    write: u32,
}

/// What a login brings.
#[derive(Debug, Clone, Copy)]
pub struct Login {
    /// Who logs in.
    pub who: u8,
    /// An idle time of its own.
    pub idle: Option<i64>,
    /// An absolute time of its own.
    pub absolute: Option<i64>,
    /// Keeps the times of the same person's login before it.
    pub keep: bool,
}

/// A login that a request has made.
#[derive(Debug, Clone, Copy)]
struct LoggedIn {
    who: u8,
    at: i64,
    /// When they authenticated again after that, in the same request.
    proven: Option<i64>,
    /// The session's id if it was another principal's.
    lineage: u32,
    span: Option<i64>,
    keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Login,
    Ended,
}

#[derive(Debug, Clone, Copy)]
struct Redirect {
    to: Key,
    kind: Kind,
    made: i64,
    end: i64,
}

#[derive(Debug, Clone)]
enum Stored {
    Rec(Rec),
    Redirect(Redirect),
    Nothing,
}

/// One read-modify-write.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    /// Adds to the value, or to 0 if there is none.
    Add(i64),
    /// Doubles what is there.
    Double,
    /// Removes.
    Take,
}

impl Op {
    /// The result for a value.
    pub const fn on(self, value: Option<i64>) -> Option<i64> {
        match (self, value) {
            (Self::Add(n), Some(value)) => Some(value.wrapping_add(n)),
            (Self::Add(n), None) => Some(n),
            (Self::Double, Some(value)) => Some(value.wrapping_mul(2)),
            (Self::Double, None) | (Self::Take, _) => None,
        }
    }
}

#[derive(Debug, Clone)]
enum Effect {
    Set(i64),
    Removed,
    Modify(Vec<Op>),
}

impl Effect {
    fn on(&self, value: Option<i64>) -> Option<i64> {
        match self {
            Self::Set(new) => Some(*new),
            Self::Removed => None,
            Self::Modify(ops) => ops.iter().fold(value, |value, op| op.on(value)),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Changes {
    effects: BTreeMap<u8, Effect>,
    cleared: Option<u32>,
    /// The session's own, or the policy's again.
    ttl: Option<Option<i64>>,
    login: Option<LoggedIn>,
    proven: Option<i64>,
    renew: bool,
}

impl Changes {
    fn is_empty(&self) -> bool {
        let metadata = self.cleared.is_some() || self.ttl.is_some() || self.proven.is_some();
        self.effects.is_empty() && !metadata && self.login.is_none() && !self.renew
    }

    fn makes_session(&self) -> bool {
        let holds = |effect: &Effect| effect.on(None).is_some();
        self.login.is_some() || self.effects.values().any(holds)
    }

    fn set_any(&self) -> bool {
        let mut effects = self.effects.values();
        effects.any(|effect| !matches!(effect, Effect::Removed))
    }

    fn applied_to(&self, entries: &Entries) -> Entries {
        let mut new = entries.clone();
        for (name, effect) in &self.effects {
            match effect.on(entries.get(name).copied()) {
                Some(value) => drop(new.insert(*name, value)),
                None => drop(new.remove(name)),
            }
        }
        new
    }

    fn leave_as_it_is(&self, base: &Rec) -> bool {
        let blank = base.entries.is_empty() && base.auth.is_none() && base.ttl.is_none();
        let cleared = self.cleared.is_some() && !blank;
        let timed = self.ttl.is_some_and(|ttl| base.ttl != ttl);
        let known = self.login.is_some() || self.proven.is_some();
        !cleared && !timed && !known && self.applied_to(&base.entries) == base.entries
    }
}

/// What a request came with.
#[derive(Debug)]
enum Loaded {
    None,
    Live(Key, Rec),
    Moved(Key, i64),
    Lost(Key),
}

/// A request between load and answer.
#[derive(Debug)]
pub struct Request {
    loaded: Loaded,
    others: Vec<Key>,
    came: bool,
    /// The load has extended it.
    extended: bool,
    changes: Changes,
    purged: bool,
    ended: bool,
}

/// What the answer does with the cookie.
#[derive(Debug, PartialEq, Eq)]
pub enum Cookie {
    /// Nothing.
    Leave,
    /// Sets this key, with this age if there is one.
    Set(Key, Option<i64>),
    /// Removes it.
    Remove,
}

/// The store and the middleware.
#[derive(Debug)]
pub struct Model {
    policy: Policy,
    /// The present time.
    pub now: i64,
    slots: Vec<Stored>,
    drawn: u32,
}

impl Request {
    fn base(&self) -> Option<&Rec> {
        match &self.loaded {
            Loaded::Live(_, base) => Some(base),
            _ => None,
        }
    }

    fn visible(&self) -> Option<&Rec> {
        let hidden = self.purged || self.changes.cleared.is_some();
        self.base().filter(|_| !hidden)
    }

    /// An entry as the handler sees it.
    pub fn value(&self, name: u8) -> Option<i64> {
        let base = self.visible().and_then(|base| base.entries.get(&name));
        match self.changes.effects.get(&name) {
            Some(effect) => effect.on(base.copied()),
            None => base.copied(),
        }
    }

    /// All of them.
    pub fn entries(&self) -> Entries {
        let base = self.visible().map(|base| base.entries.clone());
        self.changes.applied_to(&base.unwrap_or_default())
    }

    /// Who is logged in.
    pub fn principal(&self) -> Option<u8> {
        let login = self.changes.login.map(|login| login.who);
        login.or_else(|| self.visible()?.auth.map(|(who, _)| who))
    }

    /// Sets an entry.
    pub fn insert(&mut self, name: u8, value: i64) {
        self.changes.effects.insert(name, Effect::Set(value));
    }

    /// Removes one.
    pub fn remove(&mut self, name: u8) {
        if self.value(name).is_some() {
            self.changes.effects.insert(name, Effect::Removed);
        }
    }

    /// Changes one atomically.
    pub fn modify(&mut self, name: u8, op: Op) {
        let new = op.on(self.value(name));
        let hidden = self.purged || self.changes.cleared.is_some();
        let effect = match self.changes.effects.get_mut(&name) {
            Some(Effect::Modify(ops)) => return ops.push(op),
            None if !hidden => Effect::Modify(vec![op]),
            _ => new.map_or(Effect::Removed, Effect::Set),
        };
        self.changes.effects.insert(name, effect);
    }

    /// Ends the session.
    pub fn purge(&mut self) {
        self.purged = true;
        self.changes = Changes::default();
    }

    /// Asks for another key.
    pub const fn renew(&mut self) {
        self.changes.renew = true;
    }

    /// Sets the session's own time to live.
    pub const fn set_ttl(&mut self, ttl: i64) {
        self.changes.ttl = Some(Some(ttl));
    }

    /// Takes it back.
    pub const fn reset_ttl(&mut self) {
        self.changes.ttl = Some(None);
    }

    /// Whoever is logged in has authenticated again; `false` if nobody is.
    pub fn prove(&mut self, now: i64) -> bool {
        if self.principal().is_none() {
            return false;
        }
        match &mut self.changes.login {
            Some(login) => login.proven = Some(now),
            None => self.changes.proven = Some(now),
        }
        self.changes.renew = true;
        true
    }

    fn clear(&mut self, epoch: u32) {
        if self.purged {
            self.changes = Changes::default();
            return;
        }
        self.changes.effects.clear();
        self.changes.cleared = Some(epoch);
        self.changes.login = None;
        self.changes.proven = None;
        self.changes.ttl = None;
    }
}

impl Model {
    /// Nothing is stored.
    pub const fn new(policy: Policy, now: i64) -> Self {
        Self {
            policy,
            now,
            slots: Vec::new(),
            drawn: 0,
        }
    }

    /// How many keys were made.
    pub fn keys(&self) -> usize {
        self.slots.len()
    }

    /// The record that a key opens.
    pub fn live(&self, key: Key) -> Option<Rec> {
        match self.slot(key) {
            Stored::Rec(rec) => Some(rec),
            _ => None,
        }
    }

    fn slot(&self, key: Key) -> Stored {
        match &self.slots[key] {
            Stored::Rec(rec) if rec.end <= self.now => Stored::Nothing,
            Stored::Rec(rec) if rec.cap.is_some_and(|cap| cap <= self.now) => Stored::Nothing,
            Stored::Redirect(redirect) if redirect.end <= self.now => Stored::Nothing,
            slot => slot.clone(),
        }
    }

    fn draw(&mut self) -> u32 {
        self.drawn += 1;
        self.drawn
    }

    fn end_of(&self, rec: &Rec) -> i64 {
        let idle = self.now + rec.ttl.unwrap_or(self.policy.ttl);
        rec.cap.map_or(idle, |cap| cap.min(idle))
    }

    /// A request comes, with these cookies.
    pub fn load(&mut self, cookies: &[Key]) -> Request {
        let mut distinct: Vec<Key> = Vec::new();
        for key in cookies {
            if !distinct.contains(key) {
                distinct.push(*key);
            }
        }
        let mut found: Vec<Loaded> = Vec::new();
        let mut touched: Vec<Key> = Vec::new();
        for key in distinct.iter().take(4) {
            if self.touch(*key) {
                touched.push(*key);
            }
            found.push(match self.slot(*key) {
                Stored::Rec(rec) => Loaded::Live(*key, rec),
                Stored::Redirect(redirect) => Loaded::Moved(*key, self.now - redirect.made),
                Stored::Nothing => Loaded::Lost(*key),
            });
        }
        let live = |loaded: &Loaded| matches!(loaded, Loaded::Live(..));
        let moved = |loaded: &Loaded| matches!(loaded, Loaded::Moved(..));
        let ambiguous = self.policy.strict && found.iter().filter(|l| live(l)).count() > 1;
        let best = found.iter().position(live);
        let best = best.or_else(|| found.iter().position(moved));
        let loaded = match best.or_else(|| (!found.is_empty()).then_some(0)) {
            Some(best) if !ambiguous => found.swap_remove(best),
            _ => Loaded::None,
        };
        let used = match &loaded {
            Loaded::Live(key, _) | Loaded::Moved(key, _) | Loaded::Lost(key) => Some(*key),
            Loaded::None => None,
        };
        Request {
            loaded,
            others: distinct
                .into_iter()
                .filter(|key| Some(*key) != used)
                .collect(),
            came: !cookies.is_empty(),
            extended: used.is_some_and(|used| touched.contains(&used)),
            changes: Changes::default(),
            purged: false,
            ended: false,
        }
    }

    /// Whether it was extended.
    fn touch(&mut self, key: Key) -> bool {
        let Stored::Rec(mut rec) = self.slot(key) else {
            return false;
        };
        let Some(interval) = self.policy.extend else {
            return false;
        };
        // A session whose own time is short is extended before it ends in use.
        let interval = rec.ttl.map_or(interval, |own| interval.min(own / 2));
        let end = self.end_of(&rec);
        let since_last = self.now + rec.ttl.unwrap_or(self.policy.ttl) - rec.end;
        if interval == 0 || since_last >= interval && end - rec.end >= interval.min(1_000) {
            rec.end = end;
            self.slots[key] = Stored::Rec(rec);
            return true;
        }
        false
    }

    /// The handler clears.
    pub fn clear(&mut self, request: &mut Request) {
        let epoch = self.draw();
        request.clear(epoch);
    }

    /// The handler logs somebody in.
    pub fn login(&mut self, request: &mut Request, login: Login) {
        let another = request.principal().is_some_and(|known| known != login.who);
        // What this request has set counts, but not for a login before this one.
        let mut made = LoggedIn {
            who: login.who,
            at: self.now,
            proven: None,
            lineage: 0,
            span: login.absolute,
            keep: login.keep,
        };
        let mut ttl = request.changes.ttl;
        match request.changes.login {
            Some(earlier) if login.keep && !another => {
                made.span = made.span.or(earlier.span);
                made.keep = earlier.keep;
            }
            Some(_) => ttl = None,
            None => {}
        }
        if another {
            self.clear(request);
        }
        made.lineage = self.draw();
        request.changes.ttl = login.idle.map(Some).or(ttl);
        request.changes.login = Some(made);
        request.changes.proven = None;
        request.changes.renew = true;
    }

    /// The handler ends the session and waits for it.
    pub fn purge_now(&mut self, request: &mut Request) {
        request.purge();
        request.ended = true;
        self.end_all(request);
    }

    /// The answer; `head` is whether there is one that can carry a cookie.
    pub fn finish(&mut self, request: &Request, head: bool) -> Cookie {
        let changes = &request.changes;
        let login_is_over = self.login_is_over(request);
        if request.purged || self.is_over_once_cleared(request) || head && login_is_over {
            if !request.ended {
                self.end_all(request);
            }
            let creates = head && !login_is_over && changes.makes_session();
            return match (creates, request.came) {
                (true, _) => self.create(request),
                (false, true) => Cookie::Remove,
                (false, false) => Cookie::Leave,
            };
        }
        match &request.loaded {
            Loaded::Live(key, _) if changes.renew && head => self.rotate(*key, request),
            Loaded::Live(..) if changes.renew => Cookie::Leave,
            Loaded::Live(key, base) if !changes.leave_as_it_is(base) => self.commit(*key, request),
            Loaded::Live(key, _) if changes.set_any() => self.active(*key, request),
            Loaded::Live(key, base) if head && request.extended => self.check(*key, base),
            Loaded::Live(..) => Cookie::Leave,
            Loaded::Moved(key, age) => self.behind_redirect(*key, *age, request, head),
            Loaded::None | Loaded::Lost(_) if head && changes.makes_session() => {
                self.create(request)
            }
            Loaded::None | Loaded::Lost(_) => Cookie::Leave,
        }
    }

    /// Without its login a session counts its absolute time from its creation.
    fn is_over_once_cleared(&self, request: &Request) -> bool {
        let cleared = request.changes.cleared.is_some() && request.changes.login.is_none();
        let end = |base: &Rec| self.policy.absolute.map(|span| base.created + span);
        let end = request.base().and_then(end);
        cleared && end.is_some_and(|end| end <= self.now)
    }

    /// The time of the login's session has run out before the answer.
    fn login_is_over(&self, request: &Request) -> bool {
        let Some(login) = request.changes.login else {
            return false;
        };
        let base = request.base();
        let same = base.filter(|base| base.auth.is_some_and(|(who, _)| who == login.who));
        let kept = same.filter(|_| login.keep).and_then(|base| base.span);
        let since = login.proven.unwrap_or(login.at);
        let span = login.span.or(kept).or(self.policy.absolute);
        span.is_some_and(|span| since + span <= self.now)
    }

    fn behind_redirect(&mut self, key: Key, age: i64, request: &Request, head: bool) -> Cookie {
        let changes = &request.changes;
        if changes.login.is_some() {
            return if head {
                self.create(request)
            } else {
                Cookie::Leave
            };
        }
        let makes = changes.makes_session();
        if changes.cleared.is_some() && head && makes && (changes.renew || age >= ON_ITS_WAY) {
            self.forward(key, None, changes);
            return match age < ON_ITS_WAY {
                true => self.rotate(key, request),
                false => self.create(request),
            };
        }
        if changes.cleared.is_some() && (head || !makes || !changes.renew && age < ON_ITS_WAY) {
            return self.commit(key, request);
        }
        if changes.is_empty() || !changes.makes_session() || !head {
            return Cookie::Leave;
        }
        match changes.renew {
            _ if age >= ON_ITS_WAY => self.create(request),
            true => self.rotate(key, request),
            false => Cookie::Leave,
        }
    }

    /// Nothing has changed. A cookie with an age is refreshed if its key is current.
    fn check(&mut self, key: Key, base: &Rec) -> Cookie {
        if !self.policy.persistent && base.ttl.is_none() {
            return Cookie::Leave;
        }
        self.touch(key);
        self.refreshed(key, Some(base))
    }

    /// Entries were set to the values that they have: that extends as a change does.
    fn active(&mut self, key: Key, request: &Request) -> Cookie {
        match self.policy.extend {
            // Too soon.
            Some(_) if !request.extended => return Cookie::Leave,
            Some(_) => {
                self.touch(key);
            }
            None => {
                self.policy.extend = Some(0);
                self.touch(key);
                self.policy.extend = None;
            }
        }
        self.refreshed(key, request.base())
    }

    /// The cookie of a key that stays: with the age that the record has now, or without the one
    /// that it had.
    fn refreshed(&self, key: Key, base: Option<&Rec>) -> Cookie {
        let Stored::Rec(rec) = self.slot(key) else {
            return Cookie::Leave;
        };
        let had = base.is_some_and(|base| base.ttl.is_some());
        if self.aged(&rec) || had {
            return self.set(key, &rec);
        }
        Cookie::Leave
    }

    fn aged(&self, rec: &Rec) -> bool {
        self.policy.persistent || rec.ttl.is_some()
    }

    fn set(&self, key: Key, rec: &Rec) -> Cookie {
        Cookie::Set(key, self.aged(rec).then(|| rec.end - self.now))
    }

    fn commit(&mut self, key: Key, request: &Request) -> Cookie {
        let (changes, base) = (&request.changes, request.base());
        match (self.slot(key), base) {
            (Stored::Rec(stored), Some(base)) => {
                // Otherwise the commit counts as older than the clear.
                if stored.epoch == base.epoch || changes.cleared.is_some() {
                    let Some(new) = self.merged(&stored, changes) else {
                        return Cookie::Leave;
                    };
                    self.slots[key] = Stored::Rec(new);
                }
                self.refreshed(key, Some(base))
            }
            (Stored::Redirect(_), base) => {
                let base = base.cloned();
                self.forward(key, base.as_ref(), changes);
                Cookie::Leave
            }
            _ => Cookie::Leave,
        }
    }

    /// The stored record with the changes on top; `None` if the session that they were made for is gone.
    fn merged(&mut self, stored: &Rec, changes: &Changes) -> Option<Rec> {
        let mut new = stored.clone();
        new.write = self.draw();
        let another = match (stored.auth, changes.login) {
            (Some((known, _)), Some(login)) => known != login.who,
            _ => false,
        };
        if changes.proven.is_some() && changes.login.is_none() && stored.auth.is_none() {
            return None;
        }
        if changes.cleared.is_some() || another {
            new.entries.clear();
        }
        new.entries = changes.applied_to(&new.entries);
        if let Some(epoch) = changes.cleared {
            new.epoch = epoch;
            self.log_out(&mut new);
        }
        if let Some(login) = changes.login {
            if another {
                (new.lineage, new.created) = (login.lineage, login.at);
            }
            // The times of a guest are nobody's login's.
            let is_same = stored.auth.is_some_and(|(who, _)| who == login.who);
            if !is_same || !login.keep {
                (new.ttl, new.span) = (None, None);
            }
            new.span = login.span.or(new.span);
            let since = login.proven.unwrap_or(login.at);
            (new.auth, new.logged_in) = (Some((login.who, since)), Some(login.at));
        }
        new.ttl = changes.ttl.unwrap_or(new.ttl);
        if let (Some(at), Some((_, since))) = (changes.proven, &mut new.auth) {
            *since = at.max(*since);
        }
        if changes.login.is_some() || changes.proven.is_some() {
            let since = new.auth.map_or(new.created, |(_, at)| at);
            new.cap = new.span.or(self.policy.absolute).map(|span| since + span);
        }
        new.end = self.end_of(&new);
        Some(new)
    }

    /// Nothing of a login stays, and no time of its own.
    fn log_out(&mut self, rec: &mut Rec) {
        rec.lineage = self.draw();
        (rec.auth, rec.logged_in) = (None, None);
        (rec.ttl, rec.span) = (None, None);
        rec.cap = self.policy.absolute.map(|span| rec.created + span);
    }

    /// A commit behind a redirect.
    fn forward(&mut self, from: Key, base: Option<&Rec>, changes: &Changes) {
        let (mut at, mut login) = (from, false);
        let mut stored = loop {
            match self.slot(at) {
                Stored::Redirect(redirect) if redirect.kind == Kind::Ended => return,
                Stored::Redirect(redirect) => {
                    login |= redirect.kind == Kind::Login;
                    at = redirect.to;
                }
                Stored::Rec(rec) => break rec,
                Stored::Nothing => return,
            }
        };
        let before = |name: &u8| base.and_then(|base| base.entries.get(name)).copied();
        if let Some(epoch) = changes.cleared {
            stored.epoch = epoch;
            self.log_out(&mut stored);
            // Nothing is left of the login's times, and nothing is extended.
            stored.end = stored.end.min(self.end_of(&stored));
            stored
                .entries
                .retain(|name, value| before(name) != Some(*value));
        } else {
            if base.is_none_or(|base| base.epoch != stored.epoch) {
                return;
            }
            let same = |name: &u8| stored.entries.get(name).copied() == before(name);
            let modifies = |effect: &Effect| matches!(effect, Effect::Modify(_));
            let mut effects = changes.effects.iter();
            if login && effects.any(|(name, effect)| modifies(effect) && !same(name)) {
                return;
            }
            let effects = changes.effects.iter();
            let kept = effects.filter(|(name, effect)| modifies(effect) || same(name));
            let kept = Changes {
                effects: kept.map(|(name, effect)| (*name, effect.clone())).collect(),
                ..Changes::default()
            };
            let entries = kept.applied_to(&stored.entries);
            if entries == stored.entries {
                return;
            }
            stored.entries = entries;
        }
        stored.write = self.draw();
        self.slots[at] = Stored::Rec(stored);
    }

    fn rotate(&mut self, key: Key, request: &Request) -> Cookie {
        let changes = &request.changes;
        let Some(base) = request.base().cloned() else {
            return self.renew_behind_redirect(key, request);
        };
        match self.slot(key) {
            Stored::Rec(stored) => {
                let logged_out = base.auth.is_some() && stored.epoch != base.epoch;
                if logged_out && changes.login.is_none() {
                    return Cookie::Leave;
                }
                let Some(new) = self.merged(&stored, changes) else {
                    return Cookie::Leave;
                };
                let who = |rec: &Rec| rec.auth.map(|(who, _)| who);
                let replaced = stored.auth.is_some() && who(&stored) != who(&new);
                let kind = match changes.login {
                    _ if changes.cleared.is_some() || replaced => Kind::Ended,
                    Some(_) => Kind::Login,
                    None => Kind::Plain,
                };
                let to = self.slots.len();
                let cookie = self.set(to, &new);
                self.slots.push(Stored::Rec(new));
                self.slots[key] = Stored::Redirect(Redirect {
                    to,
                    kind,
                    made: self.now,
                    end: self.now + GRACE,
                });
                cookie
            }
            Stored::Redirect(_) => {
                if changes.login.is_none() && changes.cleared.is_some() {
                    self.forward(key, Some(&base), changes);
                }
                self.own(request)
            }
            Stored::Nothing => self.own(request),
        }
    }

    fn renew_behind_redirect(&mut self, key: Key, request: &Request) -> Cookie {
        let mut at = key;
        loop {
            match self.slot(at) {
                Stored::Redirect(redirect) => at = redirect.to,
                Stored::Rec(rec) if rec.auth.is_some() => return Cookie::Leave,
                _ => return self.own(request),
            }
        }
    }

    /// A session of this request's own changes alone, if it may have one.
    fn own(&mut self, request: &Request) -> Cookie {
        let somebodys = request.base().is_some_and(|base| base.auth.is_some());
        let refused = somebodys && request.changes.login.is_none();
        if refused || !request.changes.makes_session() {
            return Cookie::Leave;
        }
        self.create(request)
    }

    fn create(&mut self, request: &Request) -> Cookie {
        let empty = Rec {
            lineage: self.draw(),
            entries: Entries::new(),
            epoch: 0,
            auth: None,
            logged_in: None,
            created: self.now,
            cap: self.policy.absolute.map(|span| self.now + span),
            ttl: None,
            span: None,
            end: 0,
            write: 0,
        };
        let Some(new) = self.merged(&empty, &request.changes) else {
            return Cookie::Leave;
        };
        let key = self.slots.len();
        let cookie = self.set(key, &new);
        self.slots.push(Stored::Rec(new));
        cookie
    }

    fn end_all(&mut self, request: &Request) {
        let used = match &request.loaded {
            Loaded::Live(key, _) | Loaded::Moved(key, _) | Loaded::Lost(key) => Some(*key),
            Loaded::None => None,
        };
        for key in used.into_iter().chain(request.others.iter().copied()) {
            self.end(key);
        }
    }

    /// Deletes the record, or follows the redirect.
    fn end(&mut self, key: Key) {
        let mut at = key;
        loop {
            match &self.slots[at] {
                Stored::Redirect(redirect) if redirect.end > self.now => at = redirect.to,
                Stored::Rec(_) => {
                    self.slots[at] = Stored::Nothing;
                    return;
                }
                _ => return,
            }
        }
    }
}
