//! Who is logged in, and what they have proven.

use super::{Act, EndedTimes, Pending};
use crate::{
    Level,
    changes::{Before, Changes, Effect, LoginChange, TtlChange},
    clock::Millis,
    record::{Auth, Lowered, Proof, Record, id_after_clear},
};

/// Whose session a request has.
pub(crate) struct Identity {
    pub(crate) principal: String,
    /// The session's id, and those that it may have once the request is over.
    pub(crate) ids: Vec<u128>,
    /// The time of its login.
    pub(crate) login: Millis,
    /// It is this request that logs in, so that there may be no such session yet.
    pub(crate) is_new: bool,
}

impl Identity {
    pub(crate) fn of(base: Option<&Record>, changes: &Changes) -> Option<Self> {
        let metadata = base.and_then(Record::metadata);
        let login = changes.login.as_deref();
        let stored = metadata.and_then(|metadata| metadata.auth.as_deref());
        let stored = stored.filter(|_| changes.cleared.is_none());
        let mut ids: Vec<u128> = metadata.map(|metadata| metadata.id).into_iter().collect();
        if let (Some(epoch), Some(id)) = (changes.cleared, ids.first()) {
            ids.push(id_after_clear(*id, epoch));
        }
        ids.extend(login.map(|login| login.id));
        let of_login = login.map(|login| (&login.principal, login.at));
        let of_stored = || stored.map(|auth| (&auth.principal, auth.login()));
        let (principal, login) = of_login.or_else(of_stored)?;
        Some(Self {
            principal: principal.clone(),
            ids,
            login,
            is_new: changes.login.is_some(),
        })
    }
}

/// A login by the entry that names the principal.
pub(crate) struct NamedLogin {
    pub(crate) login: LoginChange,
    pub(crate) epoch: u64,
    pub(crate) entry: String,
    /// The entry's value.
    pub(crate) json: String,
    /// What was done before it, which belongs to whoever was there.
    pub(crate) before: Before,
    /// Something else was done to the entry since, and stands.
    pub(crate) is_over: bool,
    /// The session was renewed while it stood, so that it was a login, whoever was there.
    pub(crate) is_renewed: bool,
}

/// Shows nothing: principals are personal data.
impl std::fmt::Debug for NamedLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NamedLogin").finish_non_exhaustive()
    }
}

impl NamedLogin {
    /// Once it is known who was there: whether it is a login.
    pub(super) fn is_login(&self, known: Option<&str>, renew: bool) -> bool {
        known != Some(&self.login.principal) || renew && !self.is_over
    }

    /// A time that was set before another login is that one's, if this turns out to be none.
    fn time_before_another(&self, set: Option<TtlChange>) -> Option<Box<EndedTimes>> {
        let ttl = set.filter(|_| !self.is_renewed)?;
        Some(Box::new(EndedTimes {
            ttl: Some(ttl),
            saved: None,
            stands_for: Some(self.login.principal.clone()),
        }))
    }

    /// What came after it belongs to the login.
    pub(super) fn apply(self, changes: &mut Changes) {
        changes.before_login = Some(Box::new(self.before));
        changes.login = Some(Box::new(LoginChange {
            by_entry: true,
            ..self.login
        }));
        changes.reauthenticated = None;
        changes.lowered = None;
        changes.renew = true;
    }
}

impl Pending {
    pub(crate) fn is_principal_entry(&self, name: &str) -> bool {
        self.principal_entry().map(|entry| &**entry) == Some(name)
    }

    /// Logs somebody in, and sets the entry that names the principal, if there is one.
    pub(crate) fn login_and_name(
        &mut self,
        login: LoginChange,
        ttl: Option<TtlChange>,
        epoch: u64,
    ) {
        let principal = login.principal.clone();
        self.login(login, ttl, epoch);
        self.name_principal(&principal);
    }

    /// Sets the entry, if there is one, to whoever has logged in.
    fn name_principal(&mut self, principal: &str) {
        if let Some(entry) = self.principal_entry().cloned() {
            let json = serde_json::Value::from(principal).to_string();
            self.set(&*entry, Effect::Set(json));
        }
    }

    /// Sets the entry that names the principal. To the value that it has, that is no change, unless the
    /// session is renewed as well.
    pub(crate) fn set_principal(&mut self, named: NamedLogin) {
        let is_new = self.principal() != Some(&named.login.principal);
        let known = self.changes.effects.get(&named.entry);
        let is_after_other = known.is_some_and(Effect::names_nobody) || self.named.is_some();
        if self.is_login_open() && !(is_new && is_after_other) {
            self.name_later(named);
        } else if is_new || self.changes.renew && self.changes.login.is_none() {
            self.log_in_named(named);
        } else if self.changes.login.is_some() {
            self.name_principal(&named.login.principal);
        } else {
            self.named.get_or_insert_with(|| Box::new(named));
            self.active();
        }
    }

    /// Only the load can tell whether it is a login. The entry shows already. Of several for one
    /// principal the first one counts.
    fn name_later(&mut self, mut named: NamedLogin) {
        let earlier = self.named.take();
        self.set(&named.entry, Effect::Set(named.json.clone()));
        self.named = earlier.or_else(|| {
            named.before = Before::of(&self.changes.effects);
            named.before.remove(&named.entry);
            named.is_renewed = self.changes.renew;
            Some(Box::new(named))
        });
        self.active();
    }

    /// Whether only the load can tell who is logged in.
    pub(crate) fn is_login_open(&self) -> bool {
        self.is_to_be_loaded() && self.changes.login.is_none()
    }

    fn active(&mut self) {
        self.mark_changed();
        self.changes.active = true;
    }

    fn log_in_named(&mut self, named: NamedLogin) {
        let login = LoginChange {
            by_entry: true,
            ..named.login
        };
        self.login(login, None, named.epoch);
        self.set(&named.entry, Effect::Set(named.json));
    }

    /// The request has renewed the session. With the entry that names the principal, that is a login.
    pub(crate) fn renew_named(&mut self) {
        if self.unloaded || self.early {
            self.note(|_| {}, || Act::Renew);
            if self.is_to_be_loaded() {
                // The load decides.
                if let Some(named) = self.named.as_mut().filter(|named| !named.is_over) {
                    named.is_renewed = true;
                }
                return self.renew();
            }
        }
        match self.named.take_if(|named| !named.is_over) {
            Some(named) => self.log_in_named(*named),
            None => self.renew(),
        }
    }

    /// Once it is known whose session it was.
    pub(super) fn settle_named(&mut self) {
        let Some(named) = self.named.take() else {
            return;
        };
        if !named.is_login(self.stored_principal(), self.changes.renew) {
            if !named.is_over {
                let same = self.changes.effects.remove(&named.entry);
                self.discarded().effects.extend(same);
            }
            self.named = Some(named);
            return;
        }
        self.changes.ttl = self.changes.ttl.or(self.saved_ttl);
        named.apply(&mut self.changes);
        self.renew();
    }

    /// Whether this request has logged out whoever was logged in, by the entry that names the principal.
    /// Its other entries stay.
    fn names_nobody(&self) -> bool {
        let entry = self.principal_entry();
        let effect = entry.and_then(|entry| self.changes.effects.get(entry));
        effect.is_some_and(Effect::names_nobody)
    }

    /// Whether whoever was logged in when the record was loaded has been logged out so.
    pub(in crate::session) fn has_left_by_entry(&self, base: &Record) -> bool {
        base.principal().is_some() && self.names_nobody()
    }

    /// The login's own times end with it.
    pub(super) fn note_effect(&mut self, name: &str, effect: &Effect) {
        let is_taken = matches!(effect, Effect::Modify(_));
        let logs_out = self.is_principal_entry(name) && (is_taken || effect.names_nobody());
        let may_end_login = self.is_login_open() && !self.names_nobody();
        let is_somebodys = self.principal().is_some();
        if logs_out && (is_somebodys || may_end_login) {
            self.note_since(|since| since.ttl = true);
            self.end_times(is_taken || !is_somebodys);
        }
    }

    /// `may_return`: it is not known yet whether anybody is logged out.
    fn end_times(&mut self, may_return: bool) {
        // What a login has ended is that of nobody.
        let earlier = self.ended_times.take().filter(|it| it.stand(None));
        let earlier = earlier.unwrap_or_default();
        let ended = EndedTimes {
            ttl: self.changes.ttl.take().or(earlier.ttl),
            saved: self.saved_ttl.take().or(earlier.saved),
            stands_for: None,
        };
        let any = ended.ttl.is_some() || ended.saved.is_some();
        self.ended_times = (may_return && any).then(|| Box::new(ended));
    }

    /// Nobody was logged out. What was set since stands.
    pub(super) fn take_back_end(&mut self, ended: Option<Box<EndedTimes>>) {
        if let Some(ended) = ended {
            self.changes.ttl = self.changes.ttl.or(ended.ttl);
            self.saved_ttl = self.saved_ttl.or(ended.saved);
        }
    }

    pub(crate) fn principal(&self) -> Option<&str> {
        if self.names_nobody() {
            return None;
        }
        self.stored_principal()
    }

    /// The same, whatever was done to the entry since.
    fn stored_principal(&self) -> Option<&str> {
        if let Some(login) = &self.changes.login {
            return Some(&login.principal);
        }
        let named = self.named.as_ref();
        match self.visible() {
            Some(record) => record.principal(),
            None => named.map(|named| &*named.login.principal),
        }
    }

    /// Whose session it is, as a list of the principal's sessions knows it.
    pub(crate) fn identity(&self) -> Option<Identity> {
        if self.names_nobody() {
            return None;
        }
        Identity::of(self.present(), &self.changes)
    }

    /// The principal and the id of the session that the request came with, if they are this session's
    /// still.
    pub(crate) fn stored_identity(&self) -> Option<(&str, u128)> {
        let metadata = self.visible()?.metadata()?;
        let principal = metadata.principal()?;
        (self.principal() == Some(principal)).then_some((principal, metadata.id))
    }

    /// When the user last authenticated.
    pub(crate) fn authenticated_at(&self) -> Option<Millis> {
        if self.names_nobody() {
            return None;
        }
        if let Some(login) = &self.changes.login {
            return Some(login.proven.unwrap_or(login.at));
        }
        let stored = self.visible()?.metadata()?.auth.as_deref()?.at;
        Some(
            self.changes
                .reauthenticated
                .map_or(stored, |proof| proof.at.max(stored)),
        )
    }

    /// `ttl` is the login's own. It may also be set before the login in the same request, but not
    /// for a login before it.
    pub(crate) fn login(&mut self, mut login: LoginChange, ttl: Option<TtlChange>, epoch: u64) {
        self.note(
            |since| since.ttl = true,
            || Act::Login(Box::new(login.clone()), ttl, epoch),
        );
        let known = self.stored_principal();
        let another = known.is_some_and(|known| known != login.principal);
        let earlier = self.changes.login.take();
        let keeps = login.keep_times && !another;
        let set = self.changes.ttl.or(self.saved_ttl);
        // To set the entry that names the principal to the value that it has is no login.
        let mut named = self.named.take();
        named.take_if(|named| !self.is_to_be_loaded() && !named.is_renewed);
        let is_kept = earlier.is_none() && named.is_none() || keeps;
        let open = named.as_deref().filter(|_| earlier.is_none() && !is_kept);
        let ended = match open {
            Some(named) => named.time_before_another(set),
            None => self.ended_times.take().filter(|_| is_kept && !another),
        };
        let set = set.filter(|_| is_kept);
        if let Some(earlier) = earlier.filter(|_| keeps) {
            login.span = login.span.or(earlier.span);
            login.keep_times = earlier.keep_times;
        }
        if another {
            // A principal must not see the entries of another one.
            self.note_since(|since| since.all = true);
            self.start_empty(epoch);
        } else if self.is_to_be_loaded() {
            let before = named.map(|named| named.before);
            let first = || Box::new(before.unwrap_or_else(|| Before::of(&self.changes.effects)));
            let first = self.changes.before_login.take().unwrap_or_else(first);
            self.changes.before_login = Some(first);
        }
        self.ended_times = ended.filter(|_| ttl.is_none());
        self.changes.ttl = ttl.or(set);
        self.changes.login = Some(Box::new(login));
        self.changes.reauthenticated = None;
        self.changes.lowered = None;
        self.renew();
    }

    pub(crate) fn reauthenticated(&mut self, at: Millis, level: Level) {
        if let Some(login) = &mut self.changes.login {
            // The time of the login stays: it is what a revocation compares.
            let proven = login.proven.unwrap_or(login.at);
            login.proven = login.proven.max((at > proven).then_some(at));
            login.level = login.level.max(level);
            login.demand.clear();
            self.note(|_| {}, || Act::Reauthenticate(at, level));
        } else {
            let earlier = self.changes.reauthenticated.map(|proof| proof.level);
            self.changes.reauthenticated = Some(Proof {
                at,
                level: level.max(earlier.unwrap_or(level)),
                answers: self.demanded_at(),
            });
        }
        self.renew();
    }

    /// When an authentication was demanded that has not been answered.
    fn demanded_at(&self) -> Option<Millis> {
        let own = self.changes.lowered.as_deref();
        let stored = || {
            let auth = self.visible()?.metadata()?.auth.as_deref()?;
            auth.proofs.demand.as_ref().map(|demand| demand.at)
        };
        own.and_then(Lowered::demanded_at).or_else(stored)
    }

    /// If nobody is logged in, there is nothing to take back.
    pub(crate) fn lower(&mut self, lowered: Lowered) {
        self.note(|since| since.lowered = true, || Act::Lower(lowered.clone()));
        if self.principal().is_none() && !self.is_to_be_loaded() && !self.is_hidden_for_now() {
            return;
        }
        self.mark_changed();
        if let Some(login) = &mut self.changes.login {
            login.level = login.level.min(lowered.to);
            if !lowered.reason.is_empty() {
                login.demand = lowered.reason;
            }
            return;
        }
        if let Some(proof) = &mut self.changes.reauthenticated {
            proof.level = proof.level.min(lowered.to);
            proof.answers = proof.answers.filter(|_| proof.level > Level::Zero);
        }
        if let Some(named) = &mut self.named {
            named.login.level = named.login.level.min(lowered.to);
            if !lowered.reason.is_empty() {
                named.login.demand.clone_from(&lowered.reason);
            }
        }
        let earlier = self.changes.lowered.take().map(|earlier| *earlier);
        self.changes.lowered = Some(lowered.after(earlier).into());
    }

    /// Who is logged in once this request has committed, and what they have proven.
    pub(in crate::session) fn auth(&self) -> Option<Auth> {
        if self.names_nobody() {
            return None;
        }
        if let Some(login) = &self.changes.login {
            return Some(login.auth(None));
        }
        let mut auth = self.visible()?.metadata()?.auth.as_deref()?.clone();
        if let Some(lowered) = &self.changes.lowered {
            auth.lower(lowered);
        }
        if let Some(proof) = self.changes.reauthenticated {
            auth.prove(proof);
        }
        Some(auth)
    }
}
