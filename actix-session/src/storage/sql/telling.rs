//! The statements of a store, with messages for other processes or without.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use sqlx::Error;

use super::{database::Database, failure::refuses_to_tell, statements::Statements, table::Table};
use crate::sync::lock;

/// How long nothing is told after a message was refused.
const SILENCE: Duration = Duration::from_secs(1);

/// How often that is logged.
const REMINDER: Duration = Duration::from_secs(60);

/// A message rides on the statement that ends a session, and must not make it fail. So whatever is
/// refused for its message is done without one.
pub(super) struct Telling {
    telling: Statements,
    /// `None` if the database cannot tell anyway.
    silent: Option<Statements>,
    refused: Mutex<Refusals>,
}

#[derive(Default)]
struct Refusals {
    last: Option<Instant>,
    logged: Option<Instant>,
}

impl Telling {
    pub(super) fn new<D: Database>(table: &Table, are_prepared: bool) -> Self {
        Self {
            telling: Statements::new::<D>(table, are_prepared, D::TELL),
            silent: D::TELL.map(|_| Statements::new::<D>(table, are_prepared, None)),
            refused: Mutex::default(),
        }
    }

    /// The statements to use now.
    pub(super) fn now(&self) -> &Statements {
        match &self.silent {
            Some(silent) if is_within(lock(&self.refused).last, SILENCE) => silent,
            _ => &self.telling,
        }
    }

    /// Those that tell, even if that was refused a moment ago.
    pub(super) fn telling(&self) -> &Statements {
        &self.telling
    }

    /// Notes an error: if it refuses a message, none is sent for a while.
    pub(super) fn failed<D: Database>(&self, error: &Error) {
        if self.silent.is_none() || !refuses_to_tell::<D>(error) {
            return;
        }
        let is_news = lock(&self.refused).note(Instant::now());
        if is_news {
            tracing::warn!(
                %error,
                "{} refuses to tell other processes which sessions end: whoever waits for that finds \
                 it by looking",
                D::NAME
            );
        }
    }
}

impl Refusals {
    /// Whether it is to be logged.
    fn note(&mut self, now: Instant) -> bool {
        self.last = Some(now);
        let is_news = !is_within(self.logged, REMINDER);
        if is_news {
            self.logged = Some(now);
        }
        is_news
    }
}

fn is_within(since: Option<Instant>, span: Duration) -> bool {
    since.is_some_and(|since| since.elapsed() < span)
}
