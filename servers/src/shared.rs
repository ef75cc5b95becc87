//! One server of a kind for all tests of a process.

use std::env;
use std::sync::{Mutex, PoisonError};

use crate::Error;

/// The server that a variable names, or one that is started when it is first asked for. It is never
/// dropped, being static: its watchdog ends it.
#[derive(Debug)]
pub(crate) struct Shared<S> {
    variable: &'static str,
    server: Mutex<Option<S>>,
}

impl<S> Shared<S> {
    pub(crate) const fn new(variable: &'static str) -> Self {
        Self {
            variable,
            server: Mutex::new(None),
        }
    }

    /// Its address.
    pub(crate) fn url(
        &self,
        start: fn() -> Result<S, Error>,
        url: fn(&S) -> String,
    ) -> Result<String, Error> {
        if let Ok(url) = env::var(self.variable) {
            return Ok(url);
        }
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = &*server {
            return Ok(url(server));
        }
        Ok(url(server.insert(start()?)))
    }
}
