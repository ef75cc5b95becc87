//! An ending: a loop of atomic steps, one for each redirect and one for the record.

use super::{Draw, Machine, Name, Next, Owner, Reply, Step, Stored, trail::Trail};

/// Ends the record that a name leads to, through every redirect.
///
/// A renewal deletes the record and leaves the redirect in one step, so the live record is always
/// ahead of the loop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct EndMachine {
    at: Name,
    owner: Option<Box<Owner>>,
    trail: Trail,
}

impl EndMachine {
    pub(crate) fn new(at: Name) -> Self {
        Self {
            at,
            owner: None,
            trail: Trail::default(),
        }
    }

    /// The same for a record of which it is known whose it was.
    pub(crate) fn of(at: Name, owner: Option<Owner>) -> Self {
        Self {
            owner: owner.map(Box::new),
            ..Self::new(at)
        }
    }

    fn step(&self) -> Next<()> {
        Next::Do(Step::End {
            at: self.at.clone(),
            owner: self.owner.clone(),
        })
    }
}

impl Machine for EndMachine {
    type Answer = ();

    fn start(&mut self, _: &mut impl Draw) -> Next<()> {
        self.step()
    }

    fn on(&mut self, reply: Reply, _: &mut impl Draw) -> Next<()> {
        match reply {
            Reply::Found(Stored::Redirect(redirect)) => {
                if self.trail.comes_back_to(&redirect.target) {
                    return Next::Answer(());
                }
                self.at = redirect.target;
                self.step()
            }
            // To end twice is to end once.
            Reply::Lost => self.step(),
            Reply::Done | Reply::Taken | Reply::Ended | Reply::Found(_) => Next::Answer(()),
        }
    }
}
