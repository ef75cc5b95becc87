//! What a request did to its session: changes, not a state.

mod effects;
mod ends;
mod made_on;
mod merge;

use std::{
    borrow::Cow,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    Level,
    clock::Millis,
    contract::{Stamp, Terms},
    error::CommitError,
    random,
    record::{Auth, Lowered, Metadata, Origin, Proof, Proofs, Record, UpstreamLogin, principal_of},
    sync::{drop_panic, lock},
};

pub use self::made_on::{MadeOn, Merged};
pub(crate) use self::{
    effects::{Before, Effects, Since},
    merge::{
        Applied, ApplyError, forwarded_clear, overwrite, overwrite_map, own_record, reduce,
        refused_behind_login, write_reduced,
    },
};

/// The changes that one request made: one effect for each entry, and the metadata that it set.
///
/// [`SessionStore::commit`] and [`SessionStore::rotate`] take them together with the record that
/// they were made on. Opaque; authors of stores apply them with
/// [`made_on`](Changes::made_on) and [`new_record`](Changes::new_record).
///
/// [`SessionStore::commit`]: crate::storage::SessionStore::commit
/// [`SessionStore::rotate`]: crate::storage::SessionStore::rotate
#[derive(Clone, Default)]
pub struct Changes {
    pub(crate) effects: Effects,
    /// The epoch that this request's `clear` drew.
    pub(crate) cleared: Option<u64>,
    pub(crate) ttl: Option<TtlChange>,
    /// Apart, since few requests log somebody in.
    pub(crate) login: Option<Box<LoginChange>>,
    /// What was done before the login, when nobody knew whose session it is. If it is another
    /// person's, nothing of that stays.
    pub(crate) before_login: Option<Box<Before>>,
    pub(crate) reauthenticated: Option<Proof>,
    /// It comes before an authentication of the same request. Few have it.
    pub(crate) lowered: Option<Box<Lowered>>,
    pub(crate) renew: bool,
    /// The entry that names the principal was set to the value that it has. That is activity alone: it
    /// must not undo a logout.
    pub(crate) active: bool,
    /// Somebody waits for the end of the session that they leave.
    pub(crate) made: Option<Made>,
    /// They may log somebody out or renew, and whoever observes wants to know what came of it.
    pub(crate) logout: Option<LoggedOut>,
}

/// Whom a commit or a renewal has logged out. A store of five methods does not say, and neither does a
/// cookie.
#[derive(Clone, Default)]
pub(crate) struct LoggedOut(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    /// `None` if the store does not say.
    principal: Option<Option<String>>,
    /// A renewal has made a session of its own.
    is_alone: bool,
}

impl LoggedOut {
    /// `before` is the record that was written over. A `clear` logs out whomever it had.
    pub(crate) fn note(&self, before: &Record, after: &Record, clears: bool) {
        let stays = !clears && before.principal() == after.principal();
        let was = before.principal().filter(|_| !stays);
        lock(&self.0).principal = Some(was.map(str::to_owned));
    }

    /// Nobody yet.
    pub(crate) fn note_nobody(&self) {
        lock(&self.0).principal = Some(None);
    }

    /// `None` if the store does not say.
    pub(crate) fn principal(&self) -> Option<Option<String>> {
        lock(&self.0).principal.clone()
    }
}

/// What a record that was made last knows of itself. Each attempt notes its own: the one that the store
/// takes is the last.
#[derive(Clone, Default)]
pub(crate) struct Made(Arc<Mutex<Option<Metadata>>>);

impl Made {
    pub(crate) fn note(&self, metadata: &Metadata) {
        *lock(&self.0) = Some(metadata.clone());
    }

    pub(crate) fn metadata(&self) -> Option<Metadata> {
        lock(&self.0).clone()
    }
}

/// What happens to the session's own TTL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TtlChange {
    Set(Millis),
    /// The policy's counts again.
    Reset,
}

impl TtlChange {
    /// The session's own TTL from now on.
    pub(crate) fn own(self) -> Option<Millis> {
        match self {
            Self::Set(ttl) => Some(ttl),
            Self::Reset => None,
        }
    }
}

/// What happens to one entry.
#[derive(Clone)]
pub(crate) enum Effect {
    Set(String),
    Removed,
    /// Closures, run in order on the stored value. After a `Set` or a removal they run at once.
    Modify(Vec<Modify>),
}

impl Effect {
    /// Whether nobody is logged in after it, on the entry that names the principal.
    pub(crate) fn names_nobody(&self) -> bool {
        match self {
            Self::Set(json) => principal_of(json).is_none(),
            Self::Removed => true,
            // Set once it has run.
            Self::Modify(_) => false,
        }
    }

    /// How many closures it has.
    fn closures(&self) -> usize {
        match self {
            Self::Modify(all) => all.len(),
            Self::Set(_) | Self::Removed => 0,
        }
    }
}

/// One read-modify-write of an entry: JSON text in, JSON text out.
pub(crate) type ModifyFn =
    dyn Fn(Option<&str>) -> Result<Option<String>, anyhow::Error> + Send + Sync;

/// With a flag, it says whether it has taken the value away when it ran last.
#[derive(Clone)]
pub(crate) struct Modify(pub(crate) Arc<ModifyFn>, pub(crate) Option<Arc<AtomicBool>>);

impl Modify {
    fn takes(&self) -> bool {
        self.1.is_some()
    }
}

/// A login in this request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LoginChange {
    pub(crate) principal: String,
    /// The time of the call.
    pub(crate) at: Millis,
    /// When the user authenticated, if that was earlier and elsewhere.
    pub(crate) proven: Option<Millis>,
    pub(crate) device: Option<String>,
    /// The session's new id, if the login makes it another person's.
    pub(crate) id: u128,
    /// The login's own absolute timeout, in place of the policy's.
    pub(crate) span: Option<Millis>,
    /// The times of the same principal's login before it stay, unless this one sets its own.
    pub(crate) keep_times: bool,
    pub(crate) level: Level,
    /// Why a login that proves nothing must be followed by one that does, or empty.
    pub(crate) demand: String,
    pub(crate) origin: Option<Box<Origin>>,
    /// By the entry that names the principal, not by `login`.
    pub(crate) by_entry: bool,
}

impl LoginChange {
    /// Whether the times of what is stored go on: they are the same principal's.
    fn keeps_times_of(&self, base: &Record) -> bool {
        self.keep_times && base.principal() == Some(&*self.principal)
    }

    /// The login at an upstream that it comes from.
    pub(crate) fn upstream(&self) -> Option<UpstreamLogin> {
        self.origin.as_ref()?.upstream
    }

    pub(crate) fn auth(&self, span: Option<Millis>) -> Auth {
        let at = self.proven.unwrap_or(self.at);
        Auth {
            principal: self.principal.clone(),
            at,
            device: self.device.clone(),
            login: self.proven.and(Some(self.at)),
            span,
            proofs: Proofs::of(self.level, at, &self.demand),
            origin: self.origin.clone(),
            listed: None,
        }
    }
}

impl Modify {
    /// A closure that panics fails the commit, and nothing else.
    fn run(&self, stored: Option<&str>) -> anyhow::Result<Option<String>> {
        let run = AssertUnwindSafe(|| (self.0)(stored));
        catch_unwind(run).unwrap_or_else(|panic| {
            drop_panic(panic);
            Err(anyhow::anyhow!("the closure of `modify` panicked"))
        })
    }

    pub(crate) fn run_all(
        closures: &[Self],
        stored: Option<&str>,
    ) -> anyhow::Result<Option<String>> {
        let mut value = stored.map(str::to_owned);
        for closure in closures {
            value = closure.run(value.as_deref())?;
        }
        Ok(value)
    }
}

impl Changes {
    /// Whether they change entries, none of which names the principal, and nothing else.
    pub(crate) fn are_entries_alone(&self, principal_entry: Option<&str>) -> bool {
        let Self {
            effects,
            cleared: None,
            ttl: None,
            login: None,
            before_login: None,
            reauthenticated: None,
            lowered: None,
            renew: false,
            active: false,
            made: None,
            logout: None,
        } = self
        else {
            return false;
        };
        principal_entry.is_none_or(|name| effects.get(name).is_none())
    }

    /// No changes.
    pub(crate) const fn nothing() -> Self {
        Self {
            effects: Effects::none(),
            cleared: None,
            ttl: None,
            login: None,
            before_login: None,
            reauthenticated: None,
            lowered: None,
            renew: false,
            active: false,
            made: None,
            logout: None,
        }
    }

    /// Those of a request that has made none.
    pub(crate) fn none() -> &'static Self {
        static NONE: Changes = Changes::nothing();
        &NONE
    }

    /// The base with these changes, for reading. `None` if they cannot be applied.
    pub(crate) fn on_top_of(&self, base: &Record, terms: &Terms) -> Option<Record> {
        match overwrite(base, self, terms.stamp(0, 0)).ok()? {
            Applied::Write(record) => Some(record.with_end(base.end())),
            Applied::Gone | Applied::Nothing => None,
        }
    }

    /// Takes out what was committed, or is not to be, and returns it. What came since stays.
    pub(crate) fn forget(&mut self, committed: &Self, since: &Since) -> Vec<(String, Effect)> {
        if since.all {
            return Vec::new();
        }
        self.cleared = None;
        self.ttl = self.ttl.filter(|_| since.ttl);
        self.lowered = self.lowered.take().filter(|_| since.lowered);
        self.split(|name| {
            let effect = committed.effects.get(name)?;
            let is_new = since.names.contains(name);
            (!is_new).then(|| effect.closures())
        })
    }

    /// Takes out what was done before a login.
    pub(crate) fn forget_before(&mut self, before: &Before) -> Vec<(String, Effect)> {
        self.split(|name| before.get(name))
    }

    /// What may become a session of its own once the one that they were made on has ended: nothing of one
    /// person's reaches the next.
    pub(crate) fn alone(&self, base: Option<&Record>) -> Cow<'_, Self> {
        let is_another = base.is_some_and(|base| self.log_in_another(base));
        match self.before_login.as_deref().filter(|_| is_another) {
            Some(before) => {
                let mut alone = self.clone();
                drop(alone.forget_before(before));
                Cow::Owned(alone)
            }
            None => Cow::Borrowed(self),
        }
    }

    /// Takes out the effects of those entries for which there is a number: of closures, so many.
    fn split(&mut self, part: impl Fn(&str) -> Option<usize>) -> Vec<(String, Effect)> {
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for (name, mut effect) in std::mem::take(&mut self.effects) {
            match (part(&name), &mut effect) {
                (None, _) => left.push((name, effect)),
                (Some(first), Effect::Modify(all)) if all.len() > first => {
                    let first = all.drain(..first).collect();
                    taken.push((name.clone(), Effect::Modify(first)));
                    left.push((name, effect));
                }
                (Some(_), _) => taken.push((name, effect)),
            }
        }
        self.effects = left.into_iter().collect();
        taken
    }

    /// They count as having come before a `clear`, so nothing was taken where it stood.
    pub(crate) fn nothing_taken(&self) {
        for (_, effect) in self.effects.iter() {
            if let Effect::Modify(all) = effect {
                let flags = all.iter().filter_map(|modify| modify.1.as_ref());
                flags.for_each(|taken| taken.store(false, Ordering::Release));
            }
        }
    }

    /// The record of a new session with these changes alone, for stores that override
    /// [`create`](crate::storage::SessionStore::create).
    ///
    /// # Errors
    /// A `modify` fails or makes a value that does not serialize, the record would be too large, or
    /// the random number generator fails.
    ///
    /// # Examples
    /// ```
    /// use actix_session::storage::{Changes, CommitError, Terms};
    ///
    /// /// What a store writes under a new key, and for how long.
    /// fn first(changes: &Changes, terms: &Terms) -> Result<(String, std::time::Duration), CommitError> {
    ///     let record = changes.new_record(terms)?;
    ///     let lives = terms.end(&record).at().duration_since(terms.now()).unwrap_or_default();
    ///     Ok((record.as_text().unwrap_or_default().to_owned(), lives))
    /// }
    ///
    /// let (text, lives) = first(&Changes::default(), &Terms::default())?;
    /// assert!(text.starts_with(r#"{"v":1,"#));
    /// assert_eq!(lives.as_secs(), 86_400);
    /// # Ok::<(), CommitError>(())
    /// ```
    pub fn new_record(&self, terms: &Terms) -> Result<Record, CommitError> {
        self.refuse_upstream()?;
        let record = written(own_record(self, fresh(terms)?))?;
        record.ok_or_else(CommitError::unexpected)
    }

    /// The same for a store that takes maps.
    pub(crate) fn new_map(&self, terms: &Terms) -> Result<Record, CommitError> {
        self.refuse_upstream()?;
        let record = written(overwrite_map(Record::empty(), self, fresh(terms)?))?;
        record.ok_or_else(CommitError::unexpected)
    }

    /// These changes with the record that they were made on, to be merged into the one that is
    /// stored, for stores that override [`commit`](crate::storage::SessionStore::commit) and
    /// [`rotate`](crate::storage::SessionStore::rotate).
    ///
    /// `base` is what those methods are called with.
    ///
    /// # Examples
    /// ```
    /// use actix_session::storage::{Changes, Merged, Record, Terms};
    ///
    /// let base = Record::decode(r#"{"v":1,"state":{"a":1}}"#.to_owned())?;
    /// // Another request has committed since this one loaded its base.
    /// let stored = Record::decode(r#"{"v":1,"state":{"a":1,"b":2}}"#.to_owned())?;
    /// let changes = Changes::default();
    ///
    /// let merged = changes.made_on(&base).merge_into(&stored, &Terms::default())?;
    /// let Merged::Write(record) = merged else { panic!("nobody has cleared the session") };
    /// assert_eq!(record.to_map()["b"], "2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn made_on<'a>(&'a self, base: impl Into<Option<&'a Record>>) -> MadeOn<'a> {
        MadeOn::new(self, base.into())
    }

    /// For a store that does not know how to end what an upstream has ended.
    ///
    /// # Errors
    /// They log somebody in who may be logged out there.
    pub(crate) fn refuse_upstream(&self) -> Result<(), CommitError> {
        let upstream = self.login.as_ref().and_then(|login| login.upstream());
        if upstream.is_none() {
            return Ok(());
        }
        Err(CommitError::Other(anyhow::anyhow!(
            "the login names an upstream, but a logout there could not end the session in this store: \
             use a store of this crate that keeps sessions on the server, and forward all methods to \
             it with `forward_store_methods!` if you wrap it"
        )))
    }

    /// Whether this request changed nothing at all.
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
            && self.cleared.is_none()
            && self.ttl.is_none()
            && self.login.is_none()
            && self.reauthenticated.is_none()
            && self.lowered.is_none()
            && !self.renew
    }

    /// Whether they take rights away, which a renewal that comes too late does all the same.
    pub(crate) fn take_rights_away(&self) -> bool {
        self.cleared.is_some() || self.lowered.is_some()
    }

    /// The `clear` or the lowered level of these changes, and nothing else.
    pub(crate) fn without_rights(&self) -> Self {
        Self {
            cleared: self.cleared,
            lowered: self.lowered.clone(),
            made: self.made.clone(),
            logout: self.logout.clone(),
            ..Self::default()
        }
    }

    /// Whether they log out whoever is logged in, and nobody in: a `clear`, or an entry for the principal
    /// that is removed or names nobody.
    pub(crate) fn log_out(&self, principal_entry: Option<&str>) -> bool {
        let effect = principal_entry.and_then(|entry| self.effects.get(entry));
        let takes_away = self.cleared.is_some() || effect.is_some_and(Effect::names_nobody);
        takes_away && self.login.is_none()
    }

    /// The same, or the entry is taken, if it is there then.
    pub(crate) fn may_log_out(&self, principal_entry: Option<&str>) -> bool {
        let effect = principal_entry.and_then(|entry| self.effects.get(entry));
        let takes = matches!(effect, Some(Effect::Modify(all)) if all.iter().any(Modify::takes));
        self.log_out(principal_entry) || takes && self.login.is_none()
    }

    /// They have logged out nobody yet.
    pub(crate) fn note_nobody(&self) {
        if let Some(logout) = &self.logout {
            logout.note_nobody();
        }
    }

    /// The session that was to be renewed has moved or ended. Whoever was logged in stays so, under
    /// another key, unless a `clear` has followed it.
    pub(crate) fn note_alone(&self) {
        let Some(logout) = &self.logout else { return };
        lock(&logout.0).is_alone = true;
        if self.cleared.is_none() || self.login.is_some() {
            logout.note_nobody();
        }
    }

    /// Whether their renewal made a session of its own, since the one that was loaded had moved or gone.
    pub(crate) fn left_the_old_one(&self) -> bool {
        let noted = self.logout.as_ref();
        noted.is_some_and(|it| lock(&it.0).is_alone)
    }

    /// Whom their renewal has logged out. `principal` is whose session it was when it was loaded: a store
    /// that does not say has renewed that one.
    pub(crate) fn logged_out_by_renewal(
        &self,
        principal: Option<&str>,
        principal_entry: Option<&str>,
    ) -> Option<String> {
        let noted = self.logout.as_ref().and_then(LoggedOut::principal);
        noted.unwrap_or_else(|| {
            let stays = |login: &LoginChange| Some(&*login.principal) == principal;
            let login = self.login.as_deref();
            let stays =
                self.cleared.is_none() && !self.log_out(principal_entry) && login.is_none_or(stays);
            principal.filter(|_| !stays).map(str::to_owned)
        })
    }

    /// Whom these changes have logged out. `principal` is whose session it was when it was loaded: a
    /// store that does not say, and has written them, has written over that.
    pub(crate) fn logged_out(&self, is_written: bool, principal: Option<&str>) -> Option<String> {
        let loaded = || principal.filter(|_| is_written).map(str::to_owned);
        self.logout.as_ref()?.principal().unwrap_or_else(loaded)
    }

    /// Whether the key must change.
    pub(crate) fn renews(&self) -> bool {
        self.renew || self.authenticate()
    }

    /// Whether somebody has proven who they are: a new time begins.
    pub(crate) fn authenticate(&self) -> bool {
        self.login.is_some() || self.reauthenticated.is_some()
    }

    /// Whether a TTL of the session's own outlives them: it belongs to the login.
    pub(crate) fn keep_own_ttl(&self, base: Option<&Record>) -> bool {
        let kept = |login: &LoginChange| base.is_some_and(|base| login.keeps_times_of(base));
        self.cleared.is_none() && self.login.as_deref().is_none_or(kept)
    }

    /// Whether they log in somebody else than whoever is logged in.
    pub(crate) fn log_in_another(&self, stored: &Record) -> bool {
        let principals = stored.principal().zip(self.login.as_ref());
        principals.is_some_and(|(stored, login)| stored != login.principal)
    }

    /// Whether what they make of the base is another session: they clear it, or whoever was logged in no
    /// longer is.
    pub(crate) fn leave(&self, base: &Record, principal_entry: Option<&str>) -> bool {
        if self.cleared.is_some() || self.log_in_another(base) {
            return true;
        }
        let Some((principal, entry)) = base.principal().zip(principal_entry) else {
            return false;
        };
        let next = match self.effects.get(entry) {
            None => return false,
            Some(Effect::Set(json)) => principal_of(json),
            Some(Effect::Removed) => None,
            Some(Effect::Modify(closures)) => {
                let then = Modify::run_all(closures, base.state().get(entry).as_deref());
                then.ok().flatten().and_then(|json| principal_of(&json))
            }
        };
        next.as_deref() != Some(principal)
    }

    /// When the session that their login makes must end, if it must. `policy`: for how long a session
    /// may live whose login does not say.
    pub(crate) fn end_of_login(
        &self,
        base: Option<&Record>,
        policy: Option<Millis>,
    ) -> Option<Millis> {
        let login = self.login.as_ref()?;
        let same = base.filter(|base| self.cleared.is_none() && login.keeps_times_of(base));
        let kept = || same?.metadata()?.own_span();
        let span = login.span.or_else(kept).or(policy)?;
        let proof = self.reauthenticated.map(|proof| proof.at);
        let since = login.proven.unwrap_or(login.at);
        Some(proof.map_or(since, |at| at.max(since)) + span)
    }

    /// Returns the effects that it takes back.
    pub(crate) fn clear(&mut self, epoch: u64) -> Effects {
        let effects = std::mem::take(&mut self.effects);
        self.cleared = Some(epoch);
        // Nobody is logged in after a `clear`, even if this request logged in before it.
        self.login = None;
        self.before_login = None;
        self.reauthenticated = None;
        self.lowered = None;
        self.ttl = None;
        effects
    }

    /// Whether they lower the level of whoever is logged in.
    fn lower(&self, base: &Record) -> bool {
        let Some(lowered) = &self.lowered else {
            return false;
        };
        let auth = base
            .metadata()
            .and_then(|metadata| metadata.auth.as_deref());
        auth.is_some_and(|auth| auth.clone().lower(lowered))
    }

    /// Whether they set an entry, be it to the value that it has: that is activity.
    pub(crate) fn set_any(&self) -> bool {
        let mut effects = self.effects.iter();
        self.active || effects.any(|(_, effect)| !matches!(effect, Effect::Removed))
    }

    pub(crate) fn remove_any(&self) -> bool {
        let mut effects = self.effects.iter();
        effects.any(|(_, effect)| matches!(effect, Effect::Removed))
    }

    pub(crate) fn has_modify(&self) -> bool {
        self.effects
            .iter()
            .any(|(_, effect)| matches!(effect, Effect::Modify(_)))
    }

    /// Whether a session with these changes alone would hold anything.
    pub(crate) fn makes_session(&self) -> bool {
        let holds = |effect: &Effect| match effect {
            Effect::Set(_) => true,
            Effect::Removed => false,
            // A closure that fails must fail where the error is reported.
            Effect::Modify(closures) => !matches!(Modify::run_all(closures, None), Ok(None)),
        };
        self.login.is_some() || self.effects.iter().any(|(_, effect)| holds(effect))
    }

    /// Whether they log somebody in, whatever has become of the record that they were made on. The entry,
    /// set to the principal that it has there, does so only while that record lives.
    pub(crate) fn logs_in(&self, base: Option<&Record>) -> bool {
        let login = self.login.as_deref();
        let named = base.and_then(Record::principal);
        let is_again = |login: &LoginChange| {
            login.by_entry && self.cleared.is_none() && named == Some(&*login.principal)
        };
        login.is_some_and(|login| !is_again(login))
    }

    /// Whether somebody is logged in by them, and the entry for the principal does not take that back.
    pub(crate) fn leave_login(&self, principal_entry: Option<&str>) -> bool {
        let effect = principal_entry.and_then(|entry| self.effects.get(entry));
        self.login.is_some() && !effect.is_some_and(Effect::names_nobody)
    }

    /// Whether these changes alone may become a session if the one to renew has ended or moved. If
    /// somebody was logged in to it, that takes a login.
    pub(crate) fn may_live_alone(&self, base: Option<&Record>) -> bool {
        let somebodys = base.is_some_and(|base| base.principal().is_some());
        (self.logs_in(base) || !somebodys) && self.makes_session()
    }

    /// What a renewal carries of these changes, now that the record is no longer the base. `None`:
    /// whoever was logged in when they were made has been logged out since, or proved who they are and
    /// the session is another's by now.
    ///
    /// What came before somebody's `clear` is dropped, but for a `clear` or a login of their own: the
    /// other `clear` may have left entries that this request saw and cleared.
    pub(crate) fn to_renew(&self, base: &Record, stored: &Record) -> Option<Cow<'_, Self>> {
        if self.logs_in(Some(base)) {
            return Some(Cow::Borrowed(self));
        }
        let is_older = base.is_from_before_clear(stored) && self.cleared.is_none();
        let is_anothers = base.principal() != stored.principal();
        let proves = self.reauthenticated.is_some() || self.login.is_some();
        if is_older && base.principal().is_some() || proves && is_anothers {
            return None;
        }
        if !is_older {
            return Some(Cow::Borrowed(self));
        }
        self.nothing_taken();
        Some(Cow::Owned(Self {
            renew: self.renew,
            made: self.made.clone(),
            logout: self.logout.clone(),
            ..Self::default()
        }))
    }

    /// Whether the changes would leave the record that they were made on as it is.
    ///
    /// A renewal is a change of its own, and is not considered here.
    pub(crate) fn leave_unchanged(&self, base: &Record) -> bool {
        self.leave_unchanged_by(base, |_, closures, now| {
            let then = Modify::run_all(closures, now);
            then.is_ok_and(|then| then.as_deref() == now)
        })
    }

    /// The same for whoever knows whether an entry's closures leave its value as it is.
    pub(crate) fn leave_unchanged_by(
        &self,
        base: &Record,
        leave: impl Fn(&str, &[Modify], Option<&str>) -> bool,
    ) -> bool {
        let same_metadata = self.login.is_none()
            && self.reauthenticated.is_none()
            && !self.lower(base)
            && self.ttl.is_none_or(|ttl| base.own_ttl() == ttl.own());
        let blank = base.state().is_empty() && base.principal().is_none() && !base.has_own_ttl();
        let nothing_cleared = self.cleared.is_none() || blank;
        let stored = |name: &str| base.state().get(name);
        let same = |name: &str, effect: &Effect| match effect {
            Effect::Set(json) => stored(name).as_deref() == Some(json.as_str()),
            Effect::Removed => !base.state().contains(name),
            Effect::Modify(closures) => leave(name, closures, stored(name).as_deref()),
        };
        same_metadata && nothing_cleared && self.effects.iter().all(|(name, e)| same(name, e))
    }
}

/// For a write onto a record that may have kept an id: it goes on to keep it.
pub(crate) fn onto<'a>(stored: &Record, terms: &'a Terms) -> Result<Stamp<'a>, CommitError> {
    Ok(Stamp {
        keeps_entry: stored.id().is_some(),
        ..fresh(terms)?
    })
}

pub(crate) fn fresh(terms: &Terms) -> Result<Stamp<'_>, CommitError> {
    let (commit, id) = random::ids().map_err(CommitError::Other)?;
    Ok(terms.stamp(commit, id))
}

pub(crate) fn written(applied: Result<Applied, ApplyError>) -> Result<Option<Record>, CommitError> {
    match applied {
        Ok(Applied::Write(record)) => Ok(Some(record)),
        Ok(Applied::Nothing | Applied::Gone) => Ok(None),
        Err(ApplyError(error)) => Err(CommitError::Serialization(error)),
    }
}

/// Shows only how many changes there are: no names and no values.
impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("effects", &self.effects.len())
            .field("cleared", &self.cleared.is_some())
            .field("renews", &self.renews())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
