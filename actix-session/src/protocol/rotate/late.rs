//! A renewal that comes too late: its base has moved or is gone, or its load found a redirect.

use super::{Phase, RotateMachine};
use crate::{
    changes::{own_record, written},
    contract::{Committed, End, Rotated},
    protocol::{
        CommitMachine, Draw, Flag, Machine as _, Name, Next, Redirect, Step, Stored, or_fail,
        stamp, trail::Trail,
    },
};

impl RotateMachine<'_> {
    /// The base has moved or is gone, so at most this request's own changes remain.
    pub(super) fn too_late(
        &mut self,
        redirect: Option<Redirect>,
        draw: &mut impl Draw,
    ) -> Next<Rotated> {
        let forwards = self.changes.login.is_none();
        let clears = forwards && self.changes.take_rights_away();
        match redirect {
            Some(redirect) if clears && redirect.flag != Flag::Ended => {
                self.clear_behind(redirect, draw)
            }
            _ => self.own_session(draw),
        }
    }

    fn clear_behind(&mut self, redirect: Redirect, draw: &mut impl Draw) -> Next<Rotated> {
        let clear = self.changes.without_rights();
        let base = self.base.clone();
        let mut machine = CommitMachine::behind(redirect, base, clear, self.terms);
        let next = machine.start(draw);
        self.phase = Phase::Clearing(Box::new(machine));
        self.cleared(next, draw)
    }

    pub(super) fn cleared(&mut self, next: Next<Committed>, draw: &mut impl Draw) -> Next<Rotated> {
        match next {
            Next::Do(step) => Next::Do(step),
            Next::Fail(error) => Next::Fail(error),
            Next::Answer(_) if self.base.is_some() => self.own_session(draw),
            // What the load found is decided on as without the `clear`.
            Next::Answer(_) => {
                let at = self.at.clone();
                self.look(at, Trail::default())
            }
        }
    }

    fn look(&mut self, at: Name, trail: Trail) -> Next<Rotated> {
        let next = Next::read(&at);
        self.phase = Phase::Lookup { at, trail };
        next
    }

    fn look_behind(&mut self, at: Name, draw: &mut impl Draw) -> Next<Rotated> {
        let mut trail = match &self.phase {
            Phase::Lookup { trail, .. } => trail.clone(),
            _ => Trail::default(),
        };
        if trail.comes_back_to(&at) {
            return self.own_session(draw);
        }
        self.look(at, trail)
    }

    /// Makes a session from this request's own changes, if it may have one.
    pub(super) fn own_session(&mut self, draw: &mut impl Draw) -> Next<Rotated> {
        self.changes.note_alone();
        if !self.changes.may_live_alone(self.base.as_ref()) {
            return Next::Answer(Rotated::Gone);
        }
        let at = or_fail!(self.target(draw));
        let stamp = or_fail!(stamp(self.terms, &at, draw));
        let own = self.changes.alone(self.base.as_ref());
        let Some(new) = or_fail!(written(own_record(&own, stamp))) else {
            return Next::Answer(Rotated::Gone);
        };
        let until = self.terms.until(&new);
        let end = End::of(&new, until);
        let step = Step::Insert { at, new, until };
        self.phase = Phase::Creating {
            step: step.clone(),
            end,
            lost: false,
        };
        Next::Do(step)
    }

    pub(super) fn found_while_looking(
        &mut self,
        found: Stored,
        draw: &mut impl Draw,
    ) -> Next<Rotated> {
        match found.live(self.terms) {
            // The cookie of the logged-in session is on its way. Another one would replace it.
            Stored::Record(record) if record.principal().is_some() => Next::Answer(Rotated::Gone),
            Stored::Redirect(redirect) => {
                let first = !std::mem::replace(&mut self.cleared, true);
                let clears = first && self.changes.cleared.is_some();
                if clears && redirect.flag != Flag::Ended {
                    self.clear_behind(redirect, draw)
                } else {
                    self.look_behind(redirect.target, draw)
                }
            }
            Stored::Record(_) | Stored::Unreadable | Stored::Nothing => self.own_session(draw),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        changes::{Changes, Effect},
        contract::Terms,
        error::CommitError,
        key::SessionKey,
        protocol::Reply,
    };

    /// Notes where each key was to lie.
    #[derive(Default)]
    struct Noting(Vec<(Option<String>, Option<String>)>);

    impl Draw for Noting {
        fn commit_id(&mut self) -> Result<u64, CommitError> {
            Ok(1)
        }

        fn session_id(&mut self) -> Result<u128, CommitError> {
            Ok(2)
        }

        fn key(
            &mut self,
            beside: Option<&str>,
            owner: Option<&str>,
        ) -> Result<(SessionKey, Name), CommitError> {
            self.0
                .push((beside.map(str::to_owned), owner.map(str::to_owned)));
            let name = format!("new{}", self.0.len());
            Ok((SessionKey::generated(name.clone()), name.into()))
        }
    }

    /// In a cluster, names beside the old one count as taken while their slot is being moved.
    #[test]
    fn a_session_of_its_own_lies_anywhere_if_its_first_name_is_taken() {
        let mut changes = Changes::default();
        changes.effects.set("a", Effect::Set("1".to_owned()));
        let (terms, mut draw) = (Terms::default(), Noting::default());
        let mut machine = RotateMachine::new("old".into(), None, &changes, &terms);
        machine.start(&mut draw);
        machine.on(Reply::Found(Stored::Nothing), &mut draw);
        let next = machine.on(Reply::Taken, &mut draw);
        assert!(matches!(next, Next::Do(Step::Insert { at, .. }) if &*at == "new2"));
        assert_eq!(draw.0, [(Some("old".to_owned()), None), (None, None)]);
    }
}
