//! Compares a history with what sessions promise.
//!
//! Everything is judged by what is certain: the order of two requests only where one had its answer
//! before the other began, the way from key to key only by the marks that lie in the store. Where
//! both of two outcomes are right, neither is demanded.

use std::collections::{HashMap, HashSet};

use super::{
    history::{CookieSent, Entries, Event, History},
    script::{Op, Plan},
};

/// How much was checked: what is zero would prove nothing.
#[derive(Debug, Default, Clone)]
pub(crate) struct Checked {
    rounds: usize,
    acknowledged: usize,
    /// Answered with an error: whether it happened is not known.
    pub(crate) failed: usize,
    /// Changes that had to be found, and modifies that had to be counted.
    found: usize,
    counted: usize,
    /// Keys that had to be dead after a purge, and those among them behind a mark.
    dead: usize,
    dead_behind_a_mark: usize,
    /// Writes that a `clear` had to undo or keep out.
    cleared: usize,
    /// Writes that came through a mark to an entry that had been changed, and were to be dropped.
    yielded: usize,
    marks: usize,
    /// Writes of requests that ran alone, which nothing may keep from succeeding.
    alone: usize,
}

impl Checked {
    fn fields(&mut self) -> [&mut usize; 11] {
        [
            &mut self.rounds,
            &mut self.acknowledged,
            &mut self.failed,
            &mut self.found,
            &mut self.counted,
            &mut self.dead,
            &mut self.dead_behind_a_mark,
            &mut self.cleared,
            &mut self.yielded,
            &mut self.marks,
            &mut self.alone,
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let mut other = other.clone();
        for (mine, other) in self.fields().into_iter().zip(other.fields()) {
            *mine += *other;
        }
    }

    pub(crate) fn assert_enough(&self) {
        let all = self.clone();
        let Self {
            found,
            counted,
            dead,
            dead_behind_a_mark,
            cleared,
            yielded,
            marks,
            alone,
            ..
        } = all;
        let parts = [
            found,
            counted,
            dead,
            dead_behind_a_mark,
            cleared,
            yielded,
            marks,
            alone,
        ];
        for much in parts {
            assert!(much > 0, "too little to check: {self:?}");
        }
    }
}

type Broken = Result<(), String>;

macro_rules! must {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}

pub(crate) fn check(plan: &Plan, history: &History) -> Result<Checked, String> {
    let mut checker = Checker::new(history);
    checker.answers(plan)?;
    checker.nothing_from_nowhere()?;
    checker.what_ended_is_dead()?;
    checker.no_cookie_for_the_dead()?;
    checker.what_was_cleared_is_gone()?;
    checker.principals()?;
    checker.no_change_is_lost()?;
    checker.modifies_count()?;
    checker.forwarded_writes_yield()?;
    Ok(checker.checked)
}

/// Entries as somebody saw them, or as they are at last.
struct View<'a> {
    key: &'a str,
    entries: &'a Entries,
    /// Who saw it: what began after `loaded` cannot be in it, and what began after `start` may.
    seen: Option<&'a Event>,
}

impl View<'_> {
    fn start(&self) -> u64 {
        self.seen.map_or(u64::MAX, |event| event.start)
    }

    fn loaded(&self) -> u64 {
        let seen = self.seen.and_then(|event| event.seen.as_ref());
        seen.map_or(u64::MAX, |seen| seen.loaded)
    }

    fn name(&self) -> String {
        self.seen.map_or_else(
            || format!("the record {}", &self.key[..5]),
            |event| format!("what {} saw", event.who),
        )
    }
}

struct Checker<'a> {
    history: &'a History,
    /// Who writes a value or a token.
    writers: HashMap<&'a str, &'a Event>,
    /// New key to old key.
    parents: HashMap<&'a str, &'a str>,
    checked: Checked,
}

impl<'a> Checker<'a> {
    fn new(history: &'a History) -> Self {
        let mut writers = HashMap::new();
        for event in &history.events {
            for op in &event.ops {
                if let Op::Set(_, value) | Op::Modify(value) = op {
                    let before = writers.insert(value.as_str(), event);
                    assert!(before.is_none(), "values are unique");
                }
            }
        }
        let marks = history.left.marks.iter();
        let parents: HashMap<_, _> = marks.map(|(f, t)| (t.as_str(), f.as_str())).collect();
        let checked = Checked {
            rounds: 1,
            marks: parents.len(),
            ..Checked::default()
        };
        Self {
            history,
            writers,
            parents,
            checked,
        }
    }

    fn events(&self) -> impl Iterator<Item = &'a Event> + use<'a> {
        self.history.events.iter()
    }

    /// The key and all that it was renewed to.
    fn forward(&self, key: &'a str) -> Vec<&'a str> {
        let next = |key: &&'a str| self.history.left.marks.get(*key).map(String::as_str);
        std::iter::successors(Some(key), next).collect()
    }

    /// The key and all that were renewed to it.
    fn back(&self, key: &'a str) -> Vec<&'a str> {
        let before = |key: &&'a str| self.parents.get(*key).copied();
        std::iter::successors(Some(key), before).collect()
    }

    fn related(&self, one: &'a str, other: &'a str) -> bool {
        self.back(one).last() == self.back(other).last()
    }

    fn views(&self) -> Vec<View<'a>> {
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

    /// Nothing fails without a reason, and what fails sets no cookie.
    fn answers(&mut self, plan: &Plan) -> Broken {
        for event in self.events() {
            let who = &event.who;
            if event.acknowledged() {
                self.checked.acknowledged += 1;
            } else {
                self.checked.failed += 1;
                must!(plan.losses > 0, "{who} failed, and nothing was lost");
                must!(matches!(event.status, 500 | 503), "{who}: {}", event.status);
                must!(
                    event.cookie == CookieSent::None,
                    "{who} failed with a cookie"
                );
            }
            // A lost answer alone keeps no write from succeeding.
            if event.seen.is_some() && writes(event) && !self.meets_others(event) {
                self.checked.alone += 1;
                must!(event.acknowledged(), "{who} ran alone, and failed");
            }
            // Nobody hands a new key to who did not ask for one.
            if event.is_plain() && event.found_live() {
                let same = event
                    .set()
                    .is_none_or(|key| Some(key) == event.sent.as_deref());
                must!(same, "{who} got a new key for a plain write");
            }
        }
        Ok(())
    }

    fn meets_others(&self, event: &Event) -> bool {
        let mut others = self.events().filter(|other| other.start != event.start);
        others.any(|other| overlap(event, other))
    }

    /// Every value has a writer that could write it there, and no value lives twice.
    fn nothing_from_nowhere(&self) -> Broken {
        for view in self.views() {
            let (back, name) = (self.back(view.key), view.name());
            let values = values(view.entries);
            let made_by = |writer: &Event| writer.set().is_some_and(|key| back.contains(&key));
            let came = |writer: &Event| writer.sent.as_deref().is_some_and(|k| back.contains(&k));
            for (entry, value) in &values {
                let writer = self.writers.get(value.as_str());
                must!(writer.is_some(), "{name} holds {value} from nowhere");
                let writer = writer.expect("just checked");
                let set = Op::Set(entry.clone(), value.clone());
                let wrote = writer.does(&set) || entry == "log";
                must!(wrote, "{name} holds {value} under {entry}");
                must!(
                    writer.start < view.loaded(),
                    "{name} holds {value} of later"
                );
                // A session that was made, and whose cookie was lost with the answer.
                let untold = || {
                    let own =
                        |(_, v): &(String, String)| self.writers[v.as_str()].who == writer.who;
                    !writer.acknowledged() && values.iter().all(own)
                };
                must!(
                    came(writer) || made_by(writer) || untold(),
                    "{name} holds {value} of {}, who never was in this session",
                    writer.who
                );
            }
        }
        let mut known = HashSet::new();
        for (key, entries) in &self.history.left.records {
            for (_, value) in values(entries) {
                let twice = !known.insert(value.clone());
                must!(
                    !twice,
                    "{value} lives twice, the second time in {}",
                    &key[..5]
                );
            }
        }
        Ok(())
    }

    /// A purge that was answered: who carried it out, and the keys that are dead since.
    fn purges(&self) -> Vec<(&'a Event, Vec<&'a str>)> {
        let purges = self
            .events()
            .filter(|e| e.acknowledged() && e.does(&Op::Purge));
        purges
            .filter_map(|event| Some((event, self.forward(event.sent.as_deref()?))))
            .collect()
    }

    fn what_ended_is_dead(&mut self) -> Broken {
        for (purge, dead) in self.purges() {
            self.checked.dead += 1;
            self.checked.dead_behind_a_mark += usize::from(dead.len() > 1);
            for key in &dead {
                let lives = self.history.left.records.contains_key(*key);
                must!(
                    !lives,
                    "{} lives after the purge of {}",
                    &key[..5],
                    purge.who
                );
            }
            for view in self.views() {
                let late = view.start() > purge.end && dead.contains(&view.key);
                let back = late && !view.entries.is_empty();
                must!(
                    !back,
                    "{} came back after the purge of {}",
                    view.name(),
                    purge.who
                );
            }
        }
        Ok(())
    }

    /// A handler that was still busy when the purge was answered hands out nothing of it.
    fn no_cookie_for_the_dead(&self) -> Broken {
        for (purge, dead) in self.purges() {
            for event in self.events() {
                let late = event.seen.as_ref().is_some_and(|s| s.left > purge.end);
                let handed_out = event.set().is_some_and(|key| dead.contains(&key));
                must!(
                    !(late && handed_out),
                    "{} handed out a key that the purge of {} had ended",
                    event.who,
                    purge.who
                );
            }
        }
        Ok(())
    }

    /// Clears that were answered, of a session that nobody renewed at that time: what had been loaded
    /// before they began is not there afterwards.
    fn clears(&self) -> Vec<&'a Event> {
        let disturbs = |event: &Event, other: &Event| {
            let renews = other.does(&Op::Renew) || other.does(&Op::Login);
            renews && overlap(event, other)
        };
        let clears = self.events().filter(|event| {
            let undisturbed = !self.events().any(|other| disturbs(event, other));
            let alone = undisturbed && !event.does(&Op::Purge);
            event.does(&Op::Clear) && event.acknowledged() && event.found_live() && alone
        });
        clears.collect()
    }

    fn what_was_cleared_is_gone(&mut self) -> Broken {
        for clear in self.clears() {
            let Some(key) = clear.sent.as_deref() else {
                continue;
            };
            let keys = self.forward(key);
            for view in self.views() {
                if !keys.contains(&view.key) || view.start() < clear.end {
                    continue;
                }
                for (_, value) in values(view.entries) {
                    let writer = self.writers[value.as_str()];
                    let loaded = writer.seen.as_ref().map_or(u64::MAX, |seen| seen.loaded);
                    // Of two clears at a time either may count as the first.
                    let clears = writer.does(&Op::Clear) && overlap(writer, clear);
                    let before = loaded < clear.start && !clears;
                    must!(
                        !before,
                        "{} holds {value} of {}, from before the clear of {}",
                        view.name(),
                        writer.who,
                        clear.who
                    );
                }
                self.checked.cleared += 1;
            }
        }
        Ok(())
    }

    /// Nobody is logged in who did not log in, or who was logged out.
    fn principals(&self) -> Broken {
        let logins = || self.events().filter(|event| event.does(&Op::Login));
        for event in self.events() {
            let Some(seen) = &event.seen else { continue };
            if seen.principal.is_none() {
                continue;
            }
            let who = &event.who;
            let login = logins().any(|login| login.start < seen.loaded);
            must!(login, "{who} is logged in, and nobody ever logged in");
            for clear in self.clears() {
                let same = match (&clear.sent, &event.sent) {
                    (Some(cleared), Some(sent)) => self.forward(cleared).contains(&sent.as_str()),
                    _ => false,
                };
                if same && event.start > clear.end {
                    let again = logins().any(|login| login.end > clear.start);
                    must!(again, "{who} is logged in after the clear of {}", clear.who);
                }
            }
        }
        Ok(())
    }

    /// The key under which an answered request's changes have to be, if they have to be anywhere.
    fn home(&self, event: &'a Event) -> Option<&'a str> {
        if !event.acknowledged() || event.does(&Op::Clear) || event.does(&Op::Purge) {
            return None;
        }
        // Behind the mark of a login a modify is refused, and all that came with it.
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
    fn later_views(&self, event: &'a Event, home: &'a str) -> Result<Vec<View<'a>>, String> {
        let keys = self.forward(home);
        let mut views = self.views();
        views.retain(|view| {
            let later = keys.contains(&view.key) && view.start() > event.end;
            // One who came with an old key saw nothing.
            let blind = view.seen.is_some() && view.entries.is_empty();
            later && !blind && !self.disturbed(event, home, view)
        });
        let last = View {
            key: keys[keys.len() - 1],
            entries: &Entries::new(),
            seen: None,
        };
        let lives = self.history.left.records.contains_key(last.key);
        must!(
            lives || self.disturbed(event, home, &last),
            "the session of {} is lost",
            event.who
        );
        Ok(views)
    }

    /// An answered change shows, unless somebody who did not come before it changed the same entry.
    fn no_change_is_lost(&mut self) -> Broken {
        for event in self.events() {
            let Some(home) = self.home(event) else {
                continue;
            };
            for view in self.later_views(event, home)? {
                for (name, value) in last_effects(event) {
                    self.shows(event, &view, name, value)?;
                    self.checked.found += 1;
                }
            }
        }
        Ok(())
    }

    fn shows(&self, event: &Event, view: &View<'_>, name: &str, value: Option<&str>) -> Broken {
        let stored = view.entries.get(name).map(|json| unquoted(json));
        if stored == value {
            return Ok(());
        }
        let excused = match stored {
            Some(stored) => {
                let writer = self.writers[stored];
                writer.end > event.start && writer.who != event.who
            }
            None => self.events().any(|other| {
                let removes = other.does(&Op::Remove(name.to_owned()));
                removes && other.end > event.start && other.who != event.who
            }),
        };
        must!(
            excused,
            "{} lost a change of {}: {name} is {stored:?}, not {value:?}",
            view.name(),
            event.who
        );
        Ok(())
    }

    /// Every answered modify counts once, and no modify twice.
    fn modifies_count(&mut self) -> Broken {
        for view in self.views() {
            let log = log(view.entries);
            let distinct: HashSet<_> = log.iter().collect();
            let twice = distinct.len() < log.len();
            must!(!twice, "a modify counts twice in {}: {log:?}", view.name());
        }
        for event in self.events() {
            let Some(home) = self.home(event) else {
                continue;
            };
            for view in self.later_views(event, home)? {
                let log = log(view.entries);
                for op in &event.ops {
                    let Op::Modify(token) = op else { continue };
                    let counted = log.contains(token);
                    must!(counted, "{} lost the modify {token}", view.name());
                    self.checked.counted += 1;
                }
            }
        }
        Ok(())
    }

    /// A write that comes through a mark is dropped where somebody has changed the entry meanwhile.
    fn forwarded_writes_yield(&mut self) -> Broken {
        let ends = |event: &Event| event.does(&Op::Clear) || event.does(&Op::Purge);
        if self.events().any(ends) {
            return Ok(());
        }
        for event in self.events().filter(|e| e.is_plain() && e.found_live()) {
            let (Some(seen), Some(sent)) = (&event.seen, event.sent.as_deref()) else {
                continue;
            };
            let renewed = &self.forward(sent)[1..];
            // Those who had their answer while this handler was still busy, under a newer key.
            let ahead = |other: &&Event| {
                let newer = self.home(other).is_some_and(|home| renewed.contains(&home));
                newer && other.end < seen.left
            };
            let ahead: Vec<_> = self.events().filter(ahead).collect();
            for (name, value) in last_effects(event) {
                let base = seen.entries.get(name).map(|json| unquoted(json));
                let changed = |other: &&Event| {
                    let effects = last_effects(other).into_iter();
                    effects.into_iter().any(|(n, v)| n == name && v != base)
                };
                // What was removed may be as it was before.
                let removal = Op::Remove(name.to_owned());
                let removed = self.events().any(|other| other.does(&removal));
                if removed || !ahead.iter().any(changed) {
                    continue;
                }
                self.checked.yielded += 1;
                for view in self.views() {
                    let stored = view.entries.get(name).map(|json| unquoted(json));
                    must!(
                        stored != value,
                        "{} holds a write of {} that came too late",
                        view.name(),
                        event.who
                    );
                }
            }
        }
        Ok(())
    }
}

/// Whether there is something to write for sure.
fn writes(event: &Event) -> bool {
    let sets = |op: &Op| matches!(op, Op::Set(..) | Op::Modify(_));
    let undoes = |op: &Op| matches!(op, Op::Remove(_) | Op::Clear | Op::Purge);
    event.ops.iter().any(sets) && !event.ops.iter().any(undoes)
}

fn overlap(one: &Event, other: &Event) -> bool {
    one.start < other.end && other.start < one.end
}

/// What an event did last to each entry that it set or removed: the value, or none.
fn last_effects(event: &Event) -> Vec<(&str, Option<&str>)> {
    let mut effects: HashMap<&str, Option<&str>> = HashMap::new();
    for op in &event.ops {
        match op {
            Op::Set(name, value) => drop(effects.insert(name, Some(value))),
            Op::Remove(name) => drop(effects.insert(name, None)),
            _ => {}
        }
    }
    effects.into_iter().collect()
}

/// Entries' names with each value in them.
fn values(entries: &Entries) -> Vec<(String, String)> {
    let single = entries.iter().filter(|(name, _)| *name != "log");
    let single = single.map(|(name, json)| (name.clone(), unquoted(json).to_owned()));
    let tokens = log(entries).into_iter().map(|t| ("log".to_owned(), t));
    single.chain(tokens).collect()
}

fn log(entries: &Entries) -> Vec<String> {
    entries
        .get("log")
        .map_or_else(Vec::new, |json| serde_json::from_str(json).unwrap())
}

fn unquoted(json: &str) -> &str {
    let inner = json.strip_prefix('"').and_then(|j| j.strip_suffix('"'));
    inner.expect("a string without escapes")
}
