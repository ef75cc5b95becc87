//! An ending: a loop of atomic steps, one a hop.

use super::{Draw, Machine, Name, Next, Op, Reply, Slot};

/// Ends what a name leads to, over every mark.
///
/// A renewal deletes and marks in one step, so what lives is always ahead of the loop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct EndMachine {
    at: Name,
}

impl EndMachine {
    pub(crate) fn new(at: Name) -> Self {
        Self { at }
    }

    fn step(&self) -> Next<()> {
        Next::Do(Op::End {
            at: self.at.clone(),
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
            Reply::Found(Slot::Mark(mark)) => {
                self.at = mark.target;
                self.step()
            }
            // Twice is once.
            Reply::Lost => self.step(),
            Reply::Done | Reply::Taken | Reply::Found(_) => Next::Answer(()),
        }
    }
}
