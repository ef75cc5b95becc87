//! A commit: compare-and-set, merges, forwarding, and repeats after lost answers.

use std::borrow::Cow;

use super::{
    Draw, Errand, Flag, Machine, Name, Next, OwnerBefore, Redirect, Reply, Step, Stored, Until,
    batch, or_fail, stamp, trail::Trail,
};
use crate::{
    changes::{
        Applied, ApplyError, Changes, forwarded_clear, overwrite, reduce, refused_behind_login,
        write_reduced,
    },
    clock::Millis,
    contract::{Committed, End, Stamp, Terms},
    error::CommitError,
    record::{Place, Record, WireFormat},
};

#[derive(Clone)]
pub(crate) struct CommitMachine<'a> {
    at: Name,
    trail: Trail,
    /// `None` if the load found a redirect, and showed nothing.
    base: Option<Record>,
    changes: Cow<'a, Changes>,
    terms: &'a Terms,
    route: Route,
    attempt: Option<Attempt>,
    /// What another commit has just written: this one goes on from there.
    handed: Option<Record>,
    /// The attempt was another commit's, which carried this one along.
    resumed: bool,
    /// The last attempt was done.
    done: bool,
    /// It tells the list of the owner's sessions of the record again, if nobody has done so for long.
    lists: bool,
    /// An answer was lost: from here on an effect happens only if the record shows that it has not
    /// happened yet.
    careful: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Route {
    Direct,
    /// Behind a redirect. `login` says whether a login left one of those on the route.
    Forward {
        login: bool,
    },
}

/// A write, and what it answers.
#[derive(Clone)]
pub(crate) struct Attempt {
    at: Name,
    /// The record that the attempt was made on.
    on: Record,
    new: Record,
    until: Until,
    answer: Answer,
}

/// What an attempt answers if it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    Saved(End),
    Forwarded,
    Gone,
}

impl From<Answer> for Committed {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Saved(end) => Self::Saved(end),
            Answer::Forwarded => Self::Forwarded,
            Answer::Gone => Self::Gone,
        }
    }
}

impl<'a> CommitMachine<'a> {
    pub(crate) fn new(
        at: Name,
        base: Option<Record>,
        changes: &'a Changes,
        terms: &'a Terms,
    ) -> Self {
        Self::on_route(Route::Direct, at, base, Cow::Borrowed(changes), terms)
    }

    /// Tells the list of the owner's sessions of the record again, if nobody has done so for long.
    pub(crate) const fn listing(mut self) -> Self {
        self.lists = true;
        self
    }

    /// A machine that carries changes through a redirect that is already known.
    pub(crate) fn behind(
        redirect: Redirect,
        base: Option<Record>,
        changes: Changes,
        terms: &'a Terms,
    ) -> Self {
        let login = redirect.flag == Flag::Login;
        let route = Route::Forward { login };
        Self::on_route(route, redirect.target, base, Cow::Owned(changes), terms)
    }

    fn on_route(
        route: Route,
        at: Name,
        base: Option<Record>,
        changes: Cow<'a, Changes>,
        terms: &'a Terms,
    ) -> Self {
        Self {
            at,
            trail: Trail::default(),
            base,
            changes,
            terms,
            route,
            attempt: None,
            handed: None,
            resumed: false,
            done: false,
            lists: false,
            careful: false,
        }
    }

    fn found(&mut self, found: Stored, draw: &mut impl Draw) -> Next<Committed> {
        match (found.live(self.terms), self.route) {
            (Stored::Nothing, _) => Next::Answer(Committed::Gone),
            (Stored::Redirect(redirect), _) => self.follow(redirect),
            (Stored::Unreadable, Route::Direct) => Next::Fail(CommitError::unreadable()),
            (Stored::Unreadable, Route::Forward { .. }) => Next::Answer(Committed::Gone),
            (Stored::Record(record), _) if self.applied(&record) => {
                if self.is_ambiguous(&record) {
                    return Next::Fail(CommitError::OutcomeUnknown);
                }
                self.note_logout();
                Next::Answer(self.answered(&record))
            }
            (Stored::Record(record), Route::Direct) => self.merge(record, draw),
            (Stored::Record(record), Route::Forward { login }) => self.forward(record, login, draw),
        }
    }

    /// Whether the record shows an earlier attempt of this commit.
    fn applied(&self, record: &Record) -> bool {
        let own_write = self.attempt.as_ref().is_some_and(|attempt| {
            let same = record.is_same_commit(&attempt.new);
            // Without an id, others' equal writes look the same.
            same && (record.commit_id() != 0 || self.careful)
        });
        let own_epoch = self
            .changes
            .cleared
            .is_some_and(|epoch| epoch == record.epoch());
        own_write || own_epoch
    }

    /// Whether nobody can know if a `modify` has happened: another's may have had the same result.
    fn is_ambiguous(&self, record: &Record) -> bool {
        let without_proof = record.commit_id() == 0 && self.changes.cleared.is_none();
        without_proof && self.changes.has_modify()
    }

    /// Tells whom the last attempt has logged out.
    fn note_logout(&self) {
        if let (Some(logout), Some(attempt)) = (&self.changes.logout, &self.attempt) {
            logout.note(&attempt.on, &attempt.new, false);
        }
    }

    fn answered(&self, record: &Record) -> Committed {
        match self.route {
            Route::Direct => Committed::Saved(self.end_of(record)),
            Route::Forward { .. } if self.changes.cleared.is_some() => Committed::Gone,
            Route::Forward { .. } => Committed::Forwarded,
        }
    }

    fn end_of(&self, record: &Record) -> End {
        End::of_stored(record, self.terms)
    }

    fn follow(&mut self, redirect: Redirect) -> Next<Committed> {
        if redirect.flag == Flag::Ended || self.trail.comes_back_to(&redirect.target) {
            return Next::Answer(Committed::Gone);
        }
        let login = self.route == Route::Forward { login: true } || redirect.flag == Flag::Login;
        self.route = Route::Forward { login };
        self.at = redirect.target;
        Next::read(&self.at)
    }

    /// Another request has committed since: these changes go on top of its changes.
    fn merge(&mut self, stored: Record, draw: &mut impl Draw) -> Next<Committed> {
        let Some(base) = &self.base else {
            return Next::Answer(Committed::Gone);
        };
        if base.is_from_before_clear(&stored) {
            return self.merge_after_clear(stored, draw);
        }
        if self.careful && self.changes.cleared.is_none() {
            return self.repeat(stored, draw);
        }
        self.attempt(stored, overwrite, draw)
    }

    /// After a lost answer nothing happens twice.
    fn repeat(&mut self, stored: Record, draw: &mut impl Draw) -> Next<Committed> {
        if self.changes.has_modify() {
            return Next::Fail(CommitError::OutcomeUnknown);
        }
        self.changes = Cow::Owned(reduce(&self.changes, &stored, self.attempted_on()));
        self.attempt(stored, write_reduced, draw)
    }

    /// The record that the changes were last made on. What another commit went on from may be older
    /// than the base.
    fn attempted_on(&self) -> Option<&Record> {
        match self.resumed {
            true => self.base.as_ref(),
            false => self.attempt.as_ref().map(|attempt| &attempt.on),
        }
    }

    /// This request's base was read before a `clear`, so its changes count as older.
    ///
    /// Its own `clear` still counts: the other one may have come through a redirect, and have left
    /// entries that this request saw and cleared.
    fn merge_after_clear(&mut self, stored: Record, draw: &mut impl Draw) -> Next<Committed> {
        if self.changes.cleared.is_none() {
            self.changes.nothing_taken();
            return Next::Answer(Committed::Saved(self.end_of(&stored)));
        }
        if self.careful {
            // It was applied before the other one, or never: another try could clear twice.
            return Next::Fail(CommitError::OutcomeUnknown);
        }
        self.attempt(stored, overwrite, draw)
    }

    fn forward(&mut self, stored: Record, login: bool, draw: &mut impl Draw) -> Next<Committed> {
        if let Some(epoch) = self.changes.cleared {
            return self.forward_clear(stored, epoch, draw);
        }
        let Some(base) = self.base.clone() else {
            return Next::Answer(Committed::Gone);
        };
        if base.is_from_before_clear(&stored) {
            self.changes.nothing_taken();
            return Next::Answer(Committed::Forwarded);
        }
        if self.careful && self.changes.has_modify() {
            return Next::Fail(CommitError::OutcomeUnknown);
        }
        if login && refused_behind_login(&stored, Some(&base), &self.changes) {
            return Next::Answer(Committed::Gone);
        }
        let at = self.attempt.as_ref().map(|attempt| &attempt.at);
        let before = match self.attempted_on() {
            Some(on) if self.careful && at == Some(&self.at) => on.clone(),
            _ => base,
        };
        let mut left = reduce(&self.changes, &stored, Some(&before));
        left.ttl = None;
        // A dropped effect stays dropped, whatever the entry's value becomes. After a lost answer
        // the comparison is with this record, in which a dropped effect would look as if it still
        // applied.
        self.changes = Cow::Owned(left.clone());
        let make = move |stored: &_, _: &_, stamp: Stamp<'_>| write_reduced(stored, &left, stamp);
        self.attempt(stored, make, draw)
    }

    /// A `clear` is forwarded even if another one came first: that one may have come through a
    /// redirect too, and have left entries that this request saw.
    fn forward_clear(
        &mut self,
        stored: Record,
        epoch: u64,
        draw: &mut impl Draw,
    ) -> Next<Committed> {
        let on = self.attempt.as_ref().map(|attempt| attempt.on.epoch());
        if self.careful && on != Some(stored.epoch()) {
            // It was applied before the other one, or never: another try could clear twice.
            return Next::Fail(CommitError::OutcomeUnknown);
        }
        let base = self.base.clone();
        let make = |stored: &_, _: &_, stamp: Stamp<'_>| {
            let new = forwarded_clear(stored, base.as_ref(), epoch, stamp);
            Ok(Applied::Write(new))
        };
        self.attempt(stored, make, draw)
    }

    /// Tries to write the record that `make` makes from the stored one.
    fn attempt(
        &mut self,
        on: Record,
        make: impl FnOnce(&Record, &Changes, Stamp<'_>) -> Result<Applied, ApplyError>,
        draw: &mut impl Draw,
    ) -> Next<Committed> {
        let lists = on.is_unlisted() || self.lists && on.was_listed_long_ago(self.terms.now);
        let is_due = on.is_undated() || on.is_by_previous_key();
        if self.changes.is_empty() && !is_due && !lists {
            return Next::Answer(self.without_a_write(&on));
        }
        let stamp = or_fail!(stamp(self.terms, &self.at, draw));
        let stamp = Stamp { lists, ..stamp };
        match make(&on, &self.changes, stamp) {
            Err(ApplyError(error)) => Next::Fail(CommitError::Serialization(error)),
            Ok(Applied::Gone) => Next::Answer(Committed::Gone),
            Ok(Applied::Nothing) => Next::Answer(self.without_a_write(&on)),
            Ok(Applied::Write(new)) => self.write(on, new),
        }
    }

    fn without_a_write(&self, on: &Record) -> Committed {
        match self.route {
            Route::Direct => Committed::Saved(self.end_of(on)),
            Route::Forward { .. } => Committed::Forwarded,
        }
    }

    fn write(&mut self, on: Record, new: Record) -> Next<Committed> {
        let (until, answer) = self.until_and_answer(&on, &new);
        let attempt = Attempt {
            at: self.at.clone(),
            on,
            new,
            until,
            answer,
        };
        let step = attempt.step();
        self.attempt = Some(attempt);
        self.resumed = false;
        Next::Do(step)
    }

    fn at_most(&self, end: Millis) -> Until {
        Until::AtMost(end.max(self.terms.now + Millis(1)))
    }

    /// What only writes metadata down, for a request without changes, moves no idle end.
    fn until_and_answer(&self, on: &Record, new: &Record) -> (Until, Answer) {
        let end = self.terms.until(new);
        match self.route {
            Route::Direct if self.changes.is_empty() => {
                let cap = self.terms.absolute_end_of(new);
                let capped = |kept: Millis| cap.map_or(kept, |cap| kept.min(cap));
                let kept = on.end().map_or(end, capped);
                (Until::Same, Answer::Saved(End::of(new, kept)))
            }
            // What is over already ends at once.
            Route::Direct if self.terms.keeps_end() => {
                let kept = self.terms.until_over(new, on.end());
                (self.at_most(end), Answer::Saved(End::of(new, kept)))
            }
            Route::Direct => {
                let (until, end) = self.terms.until_written(on, new, end);
                (Until::At(until), Answer::Saved(End::of(new, end)))
            }
            // A logout ends the times of the login, so what is left is at most what the policy gives.
            // A record that is past its end already ends at once.
            Route::Forward { .. } if self.changes.cleared.is_some() => {
                (self.at_most(end), Answer::Gone)
            }
            Route::Forward { .. } if on.principal().is_some() && new.principal().is_none() => {
                (self.at_most(end), Answer::Forwarded)
            }
            Route::Forward { .. } => (Until::Same, Answer::Forwarded),
        }
    }
}

/// What tells two machines apart, for the model checker.
#[cfg(test)]
impl CommitMachine<'_> {
    pub(super) fn fingerprint(&self, to: &mut super::tests::model::Fingerprint) {
        to.text(&self.at);
        to.record(self.base.as_ref());
        to.changes(&self.changes);
        to.number(match self.route {
            Route::Direct => 0,
            Route::Forward { login } => 1 + u64::from(login),
        });
        to.flag(self.careful);
        if let Some(attempt) = &self.attempt {
            to.step(&attempt.step());
            to.record(Some(&attempt.on));
        }
    }
}

impl Attempt {
    /// What whoever reads the record finds, once this is done.
    fn as_read(&self, terms: &Terms) -> Option<Record> {
        let end = match self.until {
            Until::At(end) => Some(end),
            Until::AtMost(end) => self.on.end().map(|kept| kept.min(end)),
            Until::Same => self.on.end(),
        };
        let new = &self.new;
        let read = Record::decode(new.as_text()?.to_owned()).ok()?;
        let epoch = Some(new.epoch()).filter(|epoch| *epoch != 0);
        let read = read.with_epoch_beside(epoch).with_end(end);
        Some(terms.prove(read, Place::Named(&self.at)))
    }

    /// Whether it only sets and removes entries of a session that goes on, where a commit id tells
    /// what became of it.
    fn is_usual(&self) -> bool {
        let formats = [&self.on, &self.new].map(Record::format);
        let is_known = self.new.commit_id() != 0 && self.on.commit_id() != 0;
        let same_owner = OwnerBefore::of(&self.on, &self.new) == OwnerBefore::Same;
        let until = matches!(self.until, Until::At(_));
        formats == [WireFormat::V1; 2] && is_known && same_owner && until
    }

    /// The same write for a commit that it carries.
    pub(super) fn of_carried(&self, end: End) -> Self {
        Self {
            answer: Answer::Saved(end),
            ..self.clone()
        }
    }

    /// Made anew for a repeat, which seldom comes.
    pub(super) fn step(&self) -> Step {
        Step::Cas {
            at: self.at.clone(),
            expect: self.on.version(),
            epoch: self.new.epoch_since(&self.on),
            owner_before: OwnerBefore::of(&self.on, &self.new),
            new: self.new.clone(),
            until: self.until,
        }
    }
}

impl CommitMachine<'_> {
    /// Whether it may share a write with others.
    fn is_shareable(&self) -> bool {
        let entry = self.terms.principal_entry.as_deref();
        let is_direct = self.route == Route::Direct && !self.careful;
        is_direct && !self.terms.keeps_end() && self.changes.are_entries_alone(entry)
    }
}

impl Machine for CommitMachine<'_> {
    type Answer = Committed;

    fn errand(&self) -> Option<Errand> {
        let base = self.base.as_ref().filter(|_| self.is_shareable())?;
        let changes = self.changes.clone().into_owned();
        Some(Errand::new(base.clone(), changes, self.terms.clone()))
    }

    fn can_carry(&self) -> bool {
        self.is_shareable() && self.attempt.as_ref().is_some_and(Attempt::is_usual)
    }

    fn carry(&mut self, errand: &Errand, draw: &mut impl Draw) -> Option<End> {
        if !self.terms.write_alike(&errand.terms) {
            return None;
        }
        let own = self.attempt.as_mut()?;
        let base = Some(errand.base.clone());
        let mut other = CommitMachine::new(self.at.clone(), base, &errand.changes, &errand.terms);
        other.take_up(own.as_read(self.terms)?);
        let (Next::Do(Step::Cas { .. }), Some(added)) = (other.start(draw), other.attempt) else {
            return None;
        };
        let (Until::At(end), Until::At(own_end), Answer::Saved(answer)) =
            (added.until, own.until, added.answer)
        else {
            return None;
        };
        if !added.is_usual() || added.new.size() > batch::LARGEST {
            return None;
        }
        own.new = added.new;
        own.until = Until::At(end.max(own_end));
        Some(answer)
    }

    fn attempt(&self) -> Option<&Attempt> {
        self.attempt.as_ref()
    }

    fn is_shown_by(&self, reply: &Reply) -> bool {
        let Reply::Found(Stored::Record(record)) = reply else {
            return false;
        };
        let is_known = |attempt: &Attempt| attempt.at == self.at && record.commit_id() != 0;
        let attempt = self.attempt.as_ref().filter(|attempt| is_known(attempt));
        attempt.is_some_and(|attempt| record.is_same_commit(&attempt.new))
    }

    fn carried(end: End) -> Option<Committed> {
        Some(Committed::Saved(end))
    }

    fn go_alone(&mut self, own: Attempt) {
        self.attempt = Some(own);
    }

    fn resume(&mut self, attempt: Attempt) {
        self.attempt = Some(attempt);
        self.resumed = true;
    }

    fn take_up(&mut self, stored: Record) {
        self.handed = Some(stored);
    }

    fn written(&self) -> Option<Record> {
        let attempt = self.attempt.as_ref().filter(|_| self.done)?;
        let direct = self.route == Route::Direct;
        attempt.as_read(self.terms).filter(|_| direct)
    }

    fn start(&mut self, draw: &mut impl Draw) -> Next<Committed> {
        self.changes.note_nobody();
        if self.attempt.is_some() {
            return self.on(Reply::Lost, draw);
        }
        match (&self.route, self.base.clone(), self.handed.take()) {
            (Route::Direct, Some(_), Some(stored)) => self.found(Stored::Record(stored), draw),
            (Route::Direct, Some(base), None) if !self.terms.is_over(&base) => {
                self.attempt(base, overwrite, draw)
            }
            // What has come to its end since the load would get another one.
            _ => Next::read(&self.at),
        }
    }

    fn on(&mut self, reply: Reply, draw: &mut impl Draw) -> Next<Committed> {
        match (reply, &self.attempt) {
            (Reply::Done, Some(attempt)) => {
                self.done = true;
                self.note_logout();
                Next::Answer(attempt.answer.into())
            }
            (Reply::Found(found), _) => self.found(found, draw),
            (Reply::Lost, Some(attempt)) if self.at == attempt.at => {
                self.careful = true;
                Next::Do(attempt.step())
            }
            (Reply::Lost, _) => Next::read(&self.at),
            (Reply::Ended, _) => Next::Answer(Committed::Gone),
            (Reply::Done | Reply::Taken, _) => Next::Fail(CommitError::unexpected()),
        }
    }
}
