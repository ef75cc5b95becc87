//! A snapshot of all entries.

use std::{collections::HashMap, fmt, marker::PhantomData, ops::Deref};

/// All entries of a session with their values as JSON text, as they were at the time of the call.
///
/// Derefs to the map.
pub struct Entries<'a> {
    map: HashMap<String, String>,
    // As published: code that names the lifetime must still compile.
    session: PhantomData<&'a ()>,
}

impl Entries<'_> {
    pub(crate) fn new(map: HashMap<String, String>) -> Self {
        Self {
            map,
            session: PhantomData,
        }
    }
}

// No `Clone`: `entries().clone()` must clone the map, as it did with the published guard.
impl Deref for Entries<'_> {
    type Target = HashMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.map
    }
}

/// Shows only the number of entries: values may be secrets.
impl fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries")
            .field("len", &self.map.len())
            .finish_non_exhaustive()
    }
}
