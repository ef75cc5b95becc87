//! What may go wrong between requests of one session, an anomaly a function. *Lost update* and
//! *aborted read* are the literature's names.

use std::collections::{HashMap, HashSet};

use super::{
    check::{Broken, Checked, must},
    history::{CookieSent, Event},
    index::{Index, View, log, overlap, unquoted, values},
    script::Op,
};

/// A request failed although nothing was lost, or failed and set a cookie all the same.
pub(super) fn unexplained_failure(index: &Index<'_>, checked: &mut Checked) -> Broken {
    for event in index.events() {
        let who = &event.who;
        if event.acknowledged() {
            checked.acknowledged += 1;
            continue;
        }
        checked.failed += 1;
        must!(index.lossy, "{who} failed, and nothing was lost");
        let overtaken = event.status == 401 && is_overtaken_login(index, event);
        let failed = matches!(event.status, 500 | 503) || overtaken;
        must!(failed, "{who}: {}", event.status);
        let silent = event.cookie == CookieSent::None;
        must!(silent, "{who} failed with a cookie");
    }
    Ok(())
}

/// Whether a login whose answer was lost may have been ended before its repeat found that out.
fn is_overtaken_login(index: &Index<'_>, event: &Event) -> bool {
    let ends = |other: &Event| other.does(&Op::Purge) && other.who != event.who;
    let during = |other: &Event| other.start < event.end && other.end > event.start;
    event.does(&Op::Login) && index.events().any(|other| ends(other) && during(other))
}

/// A lost answer alone keeps no write from succeeding.
pub(super) fn refusal_without_a_rival(index: &Index<'_>, checked: &mut Checked) -> Broken {
    let alone = index
        .events()
        .filter(|event| event.seen.is_some() && writes(event) && !index.meets_others(event));
    for event in alone {
        checked.alone += 1;
        let modifies = event.ops.iter().any(|op| matches!(op, Op::Modify(_)));
        if index.lossy && index.without_ids && modifies {
            continue;
        }
        must!(event.acknowledged(), "{} ran alone, and failed", event.who);
    }
    Ok(())
}

/// Whether there is something to write for sure.
fn writes(event: &Event) -> bool {
    let sets = |op: &Op| matches!(op, Op::Set(..) | Op::Modify(_));
    let undoes = |op: &Op| matches!(op, Op::Remove(_) | Op::Clear | Op::Purge);
    event.ops.iter().any(sets) && !event.ops.iter().any(undoes)
}

/// A request got a new key without asking for one.
pub(super) fn unasked_renewal(index: &Index<'_>, _: &mut Checked) -> Broken {
    for event in index.events().filter(|e| e.is_plain() && e.found_live()) {
        let own = event.sent.as_deref();
        let same = event.set().is_none_or(|key| Some(key) == own);
        must!(same, "{} got a new key for a plain write", event.who);
    }
    Ok(())
}

/// A value that nobody wrote, or that was written to another entry.
pub(super) fn value_out_of_thin_air(index: &Index<'_>, _: &mut Checked) -> Broken {
    for view in index.views() {
        for (entry, value) in values(view.entries) {
            let set = Op::Set(entry.clone(), value.clone());
            let writer = index.writers.get(value.as_str());
            let written = writer.is_some_and(|writer| writer.does(&set) || entry == "log");
            must!(written, "{} holds {value} under {entry}", view.name());
        }
    }
    Ok(())
}

/// A value whose writer began after it was read.
pub(super) fn read_of_the_future(index: &Index<'_>, _: &mut Checked) -> Broken {
    for view in index.views() {
        for (_, value) in values(view.entries) {
            let written = index.writers[value.as_str()].start < view.loaded();
            must!(written, "{} holds {value} of later", view.name());
        }
    }
    Ok(())
}

/// A value whose writer was in another session.
pub(super) fn leak_between_sessions(index: &Index<'_>, _: &mut Checked) -> Broken {
    for view in index.views() {
        let (back, values) = (index.back(view.key), values(view.entries));
        for (_, value) in &values {
            let writer = index.writers[value.as_str()];
            let was_here = |key: Option<&str>| key.is_some_and(|key| back.contains(&key));
            // A session that was made, and whose cookie was lost with the answer.
            let untold = || {
                let own = |(_, v): &(String, String)| index.writers[v.as_str()].who == writer.who;
                !writer.acknowledged() && values.iter().all(own)
            };
            must!(
                was_here(writer.sent.as_deref()) || was_here(writer.set()) || untold(),
                "{} holds {value} of {}, who never was in this session",
                view.name(),
                writer.who
            );
        }
    }
    Ok(())
}

/// One value lives in two records.
pub(super) fn split_session(index: &Index<'_>, _: &mut Checked) -> Broken {
    let mut known = HashSet::new();
    for (key, entries) in &index.history.left.records {
        for (_, value) in values(entries) {
            let first = known.insert(value.clone());
            let at = &key[..5];
            must!(first, "{value} lives twice, the second time in {at}");
        }
    }
    Ok(())
}

/// A session is there after its purge was answered.
pub(super) fn resurrection(index: &Index<'_>, checked: &mut Checked) -> Broken {
    for (purge, dead) in index.purges() {
        checked.dead += 1;
        checked.dead_behind_a_redirect += usize::from(dead.len() > 1);
        let who = &purge.who;
        for key in &dead {
            let at = &key[..5];
            must!(!index.lives(key), "{at} lives after the purge of {who}");
        }
        for view in index.views() {
            let late = view.start() > purge.end && dead.contains(&view.key);
            let back = late && !view.entries.is_empty();
            must!(!back, "{} came back after the purge of {who}", view.name());
        }
    }
    Ok(())
}

/// A handler that was still busy when the purge was answered hands out a key of what it ended.
pub(super) fn stale_renewal(index: &Index<'_>, _: &mut Checked) -> Broken {
    for (purge, dead) in index.purges() {
        for event in index.events() {
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

/// What had been loaded before a clear is there after it.
pub(super) fn undone_clear(index: &Index<'_>, checked: &mut Checked) -> Broken {
    for (clear, keys) in index.clears() {
        let after = |view: &View<'_>| keys.contains(&view.key) && view.start() >= clear.end;
        for view in index.views().into_iter().filter(after) {
            for (_, value) in values(view.entries) {
                let writer = index.writers[value.as_str()];
                let loaded = writer.seen.as_ref().map_or(u64::MAX, |seen| seen.loaded);
                // Of two clears at a time either may count as the first.
                let clears = writer.does(&Op::Clear) && overlap(writer, clear);
                must!(
                    loaded >= clear.start || clears,
                    "{} holds {value} of {}, from before the clear of {}",
                    view.name(),
                    writer.who,
                    clear.who
                );
            }
            checked.cleared += 1;
        }
    }
    Ok(())
}

/// A user is logged in without a login, or after it was cleared.
pub(super) fn phantom_login(index: &Index<'_>, _: &mut Checked) -> Broken {
    let logins = || index.events().filter(|event| event.does(&Op::Login));
    for event in index.events() {
        let Some(seen) = event.seen.as_ref().filter(|s| s.principal.is_some()) else {
            continue;
        };
        let who = &event.who;
        let login = logins().any(|login| login.start < seen.loaded);
        must!(login, "{who} is logged in, and nobody ever logged in");
        for (clear, keys) in index.clears() {
            let same = event.sent.as_deref().is_some_and(|s| keys.contains(&s));
            if same && event.start > clear.end {
                let again = logins().any(|login| login.end > clear.start);
                must!(again, "{who} is logged in after the clear of {}", clear.who);
            }
        }
    }
    Ok(())
}

/// An answered change does not show, and no later or overlapping request changed the same entry.
pub(super) fn lost_update(index: &Index<'_>, checked: &mut Checked) -> Broken {
    for event in index.events() {
        let Some(home) = index.home(event) else {
            continue;
        };
        for view in index.later_views(event, home)? {
            for (name, value) in last_effects(event) {
                shows(index, event, &view, name, value)?;
                checked.found += 1;
            }
        }
    }
    Ok(())
}

fn shows(
    index: &Index<'_>,
    event: &Event,
    view: &View<'_>,
    name: &str,
    value: Option<&str>,
) -> Broken {
    let stored = view.entries.get(name).map(|json| unquoted(json));
    let not_before = |other: &Event| other.end > event.start && other.who != event.who;
    let removal = Op::Remove(name.to_owned());
    let excused = match stored {
        Some(stored) => not_before(index.writers[stored]),
        None => index
            .events()
            .any(|other| other.does(&removal) && not_before(other)),
    };
    must!(
        stored == value || excused,
        "{} lost a change of {}: {name} is {stored:?}, not {value:?}",
        view.name(),
        event.who
    );
    Ok(())
}

/// What an event did last to each entry that it set or removed: the value, or nothing.
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

/// An answered modify does not count.
pub(super) fn lost_modify(index: &Index<'_>, checked: &mut Checked) -> Broken {
    for event in index.events() {
        let Some(home) = index.home(event) else {
            continue;
        };
        for view in index.later_views(event, home)? {
            let log = log(view.entries);
            for op in &event.ops {
                let Op::Modify(token) = op else { continue };
                let counted = log.contains(token);
                must!(counted, "{} lost the modify {token}", view.name());
                checked.counted += 1;
            }
        }
    }
    Ok(())
}

/// A modify counts twice.
pub(super) fn doubled_modify(index: &Index<'_>, _: &mut Checked) -> Broken {
    for view in index.views() {
        let log = log(view.entries);
        let distinct: HashSet<_> = log.iter().collect();
        let once = distinct.len() == log.len();
        must!(once, "a modify counts twice in {}: {log:?}", view.name());
    }
    Ok(())
}

/// A write that came through a redirect shows, although somebody had changed the entry meanwhile: it was
/// to be dropped.
pub(super) fn aborted_read(index: &Index<'_>, checked: &mut Checked) -> Broken {
    let ends = |event: &Event| event.does(&Op::Clear) || event.does(&Op::Purge);
    if index.events().any(ends) {
        return Ok(());
    }
    for event in index.events().filter(|e| e.is_plain() && e.found_live()) {
        for (name, value) in dropped(index, event) {
            checked.yielded += 1;
            for view in index.views() {
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

/// What a request set or removed too late: under a newer key, others had their answers for other
/// values of the same entries while its handler was still busy.
fn dropped<'a>(index: &Index<'a>, event: &'a Event) -> Vec<(&'a str, Option<&'a str>)> {
    let (Some(seen), Some(sent)) = (&event.seen, event.sent.as_deref()) else {
        return Vec::new();
    };
    let renewed = &index.forward(sent)[1..];
    let ahead = |other: &&'a Event| {
        let newer = index
            .home(other)
            .is_some_and(|home| renewed.contains(&home));
        newer && other.end < seen.left
    };
    let ahead: Vec<&Event> = index.events().filter(ahead).collect();
    let is_late = |name: &str| {
        let base = seen.entries.get(name).map(|json| unquoted(json));
        let changed = |other: &&Event| {
            let mut effects = last_effects(other).into_iter();
            effects.any(|(n, v)| n == name && v != base)
        };
        // What was removed may be as it was before.
        let removal = Op::Remove(name.to_owned());
        let removed = index.events().any(|other| other.does(&removal));
        !removed && ahead.iter().any(changed)
    };
    let mut effects = last_effects(event);
    effects.retain(|(name, _)| is_late(name));
    effects
}
