//! The lines that a thread logs, for tests.

use std::sync::{Arc, Mutex};

use tracing::{
    Event, Level, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

use crate::sync::lock;

/// The levels of what this library logs while it is the subscriber.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<Level>>>);

impl Lines {
    pub(crate) fn levels(&self) -> Vec<Level> {
        lock(&self.0).clone()
    }

    pub(crate) fn count(&self, level: Level) -> usize {
        let levels = self.levels();
        levels.iter().filter(|it| **it == level).count()
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("actix_session")
    }
    fn event(&self, event: &Event<'_>) {
        lock(&self.0).push(*event.metadata().level());
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
