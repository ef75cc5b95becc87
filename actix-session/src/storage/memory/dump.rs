//! A look at everything that the store holds.

use super::MemorySessionStore;

impl MemorySessionStore {
    /// Every record, redirect and tombstone as text under its name, for tests that search for
    /// secrets.
    pub fn dump(&self) -> Vec<(String, String)> {
        self.all()
    }

    /// The principals that the store names, for tests of what it forgets.
    pub fn principals(&self) -> Vec<String> {
        self.owners()
    }
}
