//! A snapshot of all entries.

use std::{collections::HashMap, fmt, marker::PhantomData, ops::Deref};

/// All entries of a session with their values as JSON text, as they were when asked for.
///
/// Derefs to the map.
pub struct Entries<'a> {
    map: HashMap<String, String>,
    // As published: the borrow lets code that names the lifetime go on to compile.
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

// No `Clone`: `entries().clone()` has to clone the map, as with the guard that was published.
impl Deref for Entries<'_> {
    type Target = HashMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.map
    }
}

/// Shows how many there are: values may be secrets.
impl fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries")
            .field("len", &self.map.len())
            .finish_non_exhaustive()
    }
}
