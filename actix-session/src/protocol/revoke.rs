//! An ending of one principal's session, wherever renewals have moved it.

use super::{Draw, Machine, Name, Next, Owner, Reply, Step, Stored, trail::Trail};
use crate::{
    clock::Millis,
    error::CommitError,
    live::EndReason,
    record::{Ended, Record},
};

/// Ends the record that a name leads to if it is still this session of this principal, and answers
/// whether it was.
pub(crate) struct RevokeMachine<'a> {
    at: Name,
    trail: Trail,
    principal: &'a str,
    id: u128,
    /// Only a login of that time or before.
    latest: Option<Millis>,
    /// Only what an upstream has ended.
    told: Option<Ended>,
    why: EndReason,
    /// The ending that is under way.
    step: Option<Step>,
    /// An answer was lost.
    lost: bool,
}

impl<'a> RevokeMachine<'a> {
    pub(crate) fn new(at: Name, principal: &'a str, id: u128) -> Self {
        Self {
            at,
            trail: Trail::default(),
            principal,
            id,
            latest: None,
            told: None,
            why: EndReason::Revoked,
            step: None,
            lost: false,
        }
    }

    /// What whoever waits for the end is told.
    pub(crate) fn why(mut self, why: EndReason) -> Self {
        self.why = why;
        self
    }

    /// Ends the session only if its user has not logged in again since.
    pub(crate) fn no_later_than(mut self, login: Option<Millis>) -> Self {
        self.latest = login;
        self
    }

    /// Ends the session only if it comes from this login at an upstream.
    pub(crate) fn told(mut self, ended: Ended) -> Self {
        self.told = Some(ended);
        self
    }

    fn found(&mut self, found: Stored) -> Next<bool> {
        // Also one that is over by the timeout of whoever asks: others may give it longer.
        match found {
            Stored::Record(record) if self.is_meant(&record) => {
                let step = Step::EndIf {
                    at: self.at.clone(),
                    expect: record.version(),
                    why: self.why,
                    owner: Owner::of(&record).map(Box::new),
                };
                self.step = Some(step.clone());
                Next::Do(step)
            }
            Stored::Redirect(redirect) if !self.trail.comes_back_to(&redirect.target) => {
                self.at = redirect.target;
                self.step = None;
                Next::read(&self.at)
            }
            // Nobody can say whose it is. The index says that it was this one's.
            Stored::Unreadable => {
                let step = Step::End {
                    at: self.at.clone(),
                    owner: None,
                };
                self.step = Some(step.clone());
                Next::Do(step)
            }
            // Whatever ended it: an attempt of this one whose answer was lost, or another.
            _ => Next::Answer(self.lost),
        }
    }

    fn is_meant(&self, record: &Record) -> bool {
        let is_listed = |it: Owner| {
            let is_later = self.latest.is_some_and(|latest| it.login > latest);
            it.is(self.principal, self.id) && !is_later
        };
        let is_owners = Owner::of(record).is_some_and(is_listed);
        is_owners && self.told.is_none_or(|ended| ended.names_record(record))
    }
}

impl Machine for RevokeMachine<'_> {
    type Answer = bool;

    fn start(&mut self, _: &mut impl Draw) -> Next<bool> {
        Next::read(&self.at)
    }

    fn on(&mut self, reply: Reply, _: &mut impl Draw) -> Next<bool> {
        match (reply, &self.step) {
            (Reply::Done, Some(_)) => Next::Answer(true),
            (Reply::Found(found), _) => self.found(found),
            (Reply::Lost, Some(step)) => {
                self.lost = true;
                Next::Do(step.clone())
            }
            (Reply::Lost, None) => Next::read(&self.at),
            (Reply::Done | Reply::Taken | Reply::Ended, _) => Next::Fail(CommitError::unexpected()),
        }
    }
}
