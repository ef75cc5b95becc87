//! A history, prepared for questions.

use std::collections::HashMap;

use actix_session::config::WireFormat;

use super::{
    check::must,
    history::{Entries, Event, History},
    script::{Op, Plan},
};

/// Entries as somebody saw them, or as they are at last.
pub(super) struct View<'a> {
    pub(super) key: &'a str,
    pub(super) entries: &'a Entries,
    /// Who saw it: what began after `loaded` cannot be in it, and what began after `start` may.
    pub(super) seen: Option<&'a Event>,
}

impl View<'_> {
    pub(super) fn start(&self) -> u64 {
        self.seen.map_or(u64::MAX, |event| event.start)
    }

    pub(super) fn loaded(&self) -> u64 {
        let seen = self.seen.and_then(|event| event.seen.as_ref());
        seen.map_or(u64::MAX, |seen| seen.loaded)
    }

    pub(super) fn name(&self) -> String {
        self.seen.map_or_else(
            || format!("the record {}", &self.key[..5]),
            |event| format!("what {} saw", event.who),
        )
    }
}

pub(super) struct Index<'a> {
    pub(super) history: &'a History,
    /// Commands or answers got lost.
    pub(super) lossy: bool,
    /// Records keep no id of the last commit, so that the repeat of a `modify` whose answer was lost
    /// cannot know what became of it.
    pub(super) without_ids: bool,
    /// Who writes a value or a token.
    pub(super) writers: HashMap<&'a str, &'a Event>,
    /// New key to old key.
    parents: HashMap<&'a str, &'a str>,
}

impl<'a> Index<'a> {
    pub(super) fn of(plan: &Plan, history: &'a History) -> Self {
        let mut writers = HashMap::new();
        for event in &history.events {
            for op in &event.ops {
                if let Op::Set(_, value) | Op::Modify(value) = op {
                    let before = writers.insert(value.as_str(), event);
                    assert!(before.is_none(), "values are unique");
                }
            }
        }
        let redirects = history.left.redirects.iter();
        Self {
            history,
            lossy: plan.losses > 0,
            without_ids: plan.format == WireFormat::V0_11,
            writers,
            parents: redirects.map(|(f, t)| (t.as_str(), f.as_str())).collect(),
        }
    }

    pub(super) fn events(&self) -> impl Iterator<Item = &'a Event> + use<'a> {
        self.history.events.iter()
    }

    pub(super) fn lives(&self, key: &str) -> bool {
        self.history.left.records.contains_key(key)
    }

    /// The key and all that it was renewed to.
    pub(super) fn forward(&self, key: &'a str) -> Vec<&'a str> {
        let next = |key: &&'a str| self.history.left.redirects.get(*key).map(String::as_str);
        std::iter::successors(Some(key), next).collect()
    }

    /// The key and all that were renewed to it.
    pub(super) fn back(&self, key: &'a str) -> Vec<&'a str> {
        let before = |key: &&'a str| self.parents.get(*key).copied();
        std::iter::successors(Some(key), before).collect()
    }

    fn related(&self, one: &'a str, other: &'a str) -> bool {
        self.back(one).last() == self.back(other).last()
    }

    pub(super) fn views(&self) -> Vec<View<'a>> {
        let records = self.history.left.records.iter();
        let records = records.map(|(key, entries)| View {
            key,
            entries,
            seen: None,
        });
        let seen = self.events().filter_map(|event| {
            Some(View {
                key: event.sent.as_deref()?,
                entries: &event.seen.as_ref()?.entries,
                seen: Some(event),
            })
        });
        records.chain(seen).collect()
    }

    pub(super) fn meets_others(&self, event: &Event) -> bool {
        let mut others = self.events().filter(|other| other.start != event.start);
        others.any(|other| overlap(event, other))
    }

    /// A purge that was answered: who carried it out, and the keys that are dead since.
    pub(super) fn purges(&self) -> Vec<(&'a Event, Vec<&'a str>)> {
        let purges = self
            .events()
            .filter(|e| e.acknowledged() && e.does(&Op::Purge));
        purges
            .filter_map(|event| Some((event, self.forward(event.sent.as_deref()?))))
            .collect()
    }

    /// Clears that were answered, of a session that nobody renewed at that time: what had been loaded
    /// before they began is not there afterwards. With the keys of what they cleared.
    pub(super) fn clears(&self) -> Vec<(&'a Event, Vec<&'a str>)> {
        let disturbs = |event: &Event, other: &Event| {
            let renews = other.does(&Op::Renew) || other.does(&Op::Login);
            renews && overlap(event, other)
        };
        let clears = self.events().filter(|event| {
            let undisturbed = !self.events().any(|other| disturbs(event, other));
            let alone = undisturbed && !event.does(&Op::Purge);
            event.does(&Op::Clear) && event.acknowledged() && event.found_live() && alone
        });
        clears
            .filter_map(|event| Some((event, self.forward(event.sent.as_deref()?))))
            .collect()
    }

    /// The key under which an answered request's changes have to be, if they have to be anywhere.
    pub(super) fn home(&self, event: &'a Event) -> Option<&'a str> {
        if !event.acknowledged() || event.does(&Op::Clear) || event.does(&Op::Purge) {
            return None;
        }
        // Behind the redirect of a login a modify is refused, and all that came with it.
        let modifies = event.ops.iter().any(|op| matches!(op, Op::Modify(_)));
        let login = |other: &Event| other.does(&Op::Login) && overlap(event, other);
        if modifies && self.events().any(login) {
            return None;
        }
        match (event.set(), event.is_plain() && event.found_live()) {
            (Some(new), _) => Some(new),
            (None, true) => event.sent.as_deref(),
            // Dropped: it found nothing, or a session that another request had renewed.
            (None, false) => None,
        }
    }

    /// Whether the session was ended or cleared after this began and before that was seen.
    fn disturbed(&self, event: &Event, home: &'a str, view: &View<'_>) -> bool {
        self.events().any(|other| {
            let ends = other.does(&Op::Purge) || other.does(&Op::Clear);
            let sent = other.sent.as_deref();
            let related = sent.is_some_and(|sent| self.related(sent, home));
            ends && related && other.end > event.start && other.start < view.loaded()
        })
    }

    /// The views in which the changes of an event have to show.
    pub(super) fn later_views(
        &self,
        event: &'a Event,
        home: &'a str,
    ) -> Result<Vec<View<'a>>, String> {
        let keys = self.forward(home);
        let mut views = self.views();
        views.retain(|view| {
            let later = keys.contains(&view.key) && view.start() > event.end;
            // Whoever came with an old key saw nothing.
            let blind = view.seen.is_some() && view.entries.is_empty();
            later && !blind && !self.disturbed(event, home, view)
        });
        let last = View {
            key: keys[keys.len() - 1],
            entries: &Entries::new(),
            seen: None,
        };
        must!(
            self.lives(last.key) || self.disturbed(event, home, &last),
            "the session of {} is lost",
            event.who
        );
        Ok(views)
    }
}

pub(super) fn overlap(one: &Event, other: &Event) -> bool {
    one.start < other.end && other.start < one.end
}

/// Entries' names with each value in them.
pub(super) fn values(entries: &Entries) -> Vec<(String, String)> {
    let single = entries.iter().filter(|(name, _)| *name != "log");
    let single = single.map(|(name, json)| (name.clone(), unquoted(json).to_owned()));
    let tokens = log(entries).into_iter().map(|t| ("log".to_owned(), t));
    single.chain(tokens).collect()
}

pub(super) fn log(entries: &Entries) -> Vec<String> {
    entries
        .get("log")
        .map_or_else(Vec::new, |json| serde_json::from_str(json).unwrap())
}

pub(super) fn unquoted(json: &str) -> &str {
    let inner = json.strip_prefix('"').and_then(|j| j.strip_suffix('"'));
    inner.expect("a string without escapes")
}
