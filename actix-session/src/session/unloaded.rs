//! Sessions that nobody has loaded yet, under lazy loading.

use super::{Session, Shown, lock::Running, update::MOST_RUNS};
use crate::{
    changes::{Changes, Modify},
    record::Record,
    sync::FirstTime,
};

const REMEDY: &str = "under `lazy()`, take the `Session` extractor in the handler, or name the \
                      request in `load_when(..)`";

/// What reading such a session leads to.
pub(super) fn error() -> anyhow::Error {
    anyhow::anyhow!("the session is not loaded: {REMEDY}")
}

pub(super) fn warn() {
    static FIRST: FirstTime = FirstTime::new();
    if FIRST.is_now() {
        tracing::warn!(
            "a session is read that is not loaded, and shows what this request itself has set: {REMEDY}"
        );
    }
}

impl Session {
    /// Shows what was loaded, under the changes that have been made meanwhile.
    pub(crate) fn fill(&self, shown: Shown) {
        let mut pending = self.lock();
        if pending.is_finished() {
            return;
        }
        pending.load(shown);
        drop(pending);
        self.compute_all();
    }

    /// Goes on from the record that these changes have left.
    pub(crate) fn go_on_from(&self, record: Record, saved: &Changes) {
        let mut pending = self.lock();
        pending.saved(saved, record);
        drop(pending);
        self.compute_all();
    }

    /// Runs the closures of `modify` on what is known now. If one fails, so does the commit.
    fn compute_all(&self) {
        let names = self.lock().modified();
        for name in names {
            // Again, if other threads have added some meanwhile.
            for _ in 0..MOST_RUNS {
                if self.compute(&name) {
                    break;
                }
            }
        }
    }

    fn compute(&self, name: &str) -> bool {
        let pending = self.lock();
        let closures = pending.closures(name).to_vec();
        let stored = pending.loaded_value(name);
        drop(pending);
        let result = {
            let _running = Running::new(self, name);
            Modify::run_all(&closures, stored.as_deref())
        };
        let result = result.ok().flatten();
        self.lock().compute(name, &closures, result)
    }
}
