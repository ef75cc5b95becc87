//! A record with some entries replaced in place. The others are copied in whole runs.

use std::borrow::Cow;

use super::{scan::is_special, spans::Starts, state::Text};

/// An entry and its new JSON text; `None` removes it.
pub(crate) type Value<'a> = (&'a str, Option<Cow<'a, str>>);
pub(crate) type Values<'a> = [Value<'a>];

/// The text behind another head, with these values; new ones come last. `None` if the text or a
/// name is not of the usual form.
pub(super) fn splice(text: &Text, head: &str, values: &Values<'_>) -> Option<Text> {
    let is_usual = text.spans().is_tight() && values.iter().all(|(name, _)| needs_no_escape(name));
    if !is_usual {
        return None;
    }
    let (mut few, mut many) = ([(0, None); 4], Vec::new());
    let room = match few.get_mut(..values.len()) {
        Some(room) => room,
        None => {
            many.resize(values.len(), (0, None));
            &mut many
        }
    };
    let (changed, added) = sorted(text, values, room);
    let size = size(text, changed, &added);
    let mut splice = Splice {
        old: text,
        new: Tight::new(head, size, text.spans().len() + added.len()),
        next: 0,
    };
    for (place, json) in changed {
        splice.copy_until(*place);
        if let Some(json) = json {
            splice.new.put(text.name(*place), json);
        }
        splice.next = place + 1;
    }
    splice.copy_until(text.spans().len());
    let mut new = splice.new;
    for (name, json) in added {
        new.put(name, json);
    }
    new.finish()
}

/// The text of a record with these values alone. `None` if a name is not of the usual form.
pub(super) fn fresh(head: &str, values: &Values<'_>) -> Option<Text> {
    if !values.iter().all(|(name, _)| needs_no_escape(name)) {
        return None;
    }
    let set = || {
        let all = values.iter();
        all.filter_map(|(name, json)| Some((*name, json.as_deref()?)))
    };
    let size: usize = set().map(|(name, json)| name.len() + json.len() + 4).sum();
    // The last one has no comma. A text that fits exactly is not moved once it is finished.
    let size = size.saturating_sub(1) + END;
    let mut new = Tight::new(head, size, values.len());
    for (name, json) in set() {
        new.put(name, json);
    }
    new.finish()
}

pub(super) fn needs_no_escape(text: &str) -> bool {
    !text.bytes().fold(false, |any, byte| any | is_special(byte))
}

/// The length of the braces at the end of a record.
const END: usize = 2;

type Changed<'a> = [(usize, Option<&'a str>)];
type Added<'a> = Vec<(&'a str, &'a str)>;

/// The values of entries that are there, by their places, and those of new ones. There is room for all.
fn sorted<'a, 'r>(
    text: &Text,
    values: &'a Values<'_>,
    room: &'r mut Changed<'a>,
) -> (&'r Changed<'a>, Added<'a>) {
    let (mut count, mut added) = (0, Vec::new());
    for (name, json) in values {
        match (text.place(name), json.as_deref()) {
            (Some(place), json) => {
                room[count] = (place, json);
                count += 1;
            }
            (None, Some(json)) => added.push((*name, json)),
            (None, None) => {}
        }
    }
    let changed = &mut room[..count];
    changed.sort_unstable_by_key(|(place, _)| *place);
    (changed, added)
}

/// How long the entries become at most. Unless one is removed, they become as long.
fn size(text: &Text, changed: &Changed<'_>, added: &Added<'_>) -> usize {
    let before = text
        .entry_start(0)
        .map_or(0, |from| text.as_str().len() - from);
    let shrinks = |place: usize| text.value(place).len();
    let changes = changed
        .iter()
        .filter_map(|(place, json)| Some((*place, json.as_ref()?)));
    let (less, more) = changes.fold((0, 0), |(less, more), (place, json)| {
        (less + shrinks(place), more + json.len())
    });
    let new: usize = added
        .iter()
        .map(|(name, json)| name.len() + json.len() + 4)
        .sum();
    before.max(2) - less + more + new
}

struct Splice<'a> {
    old: &'a Text,
    new: Tight,
    /// The first entry that is not copied yet.
    next: usize,
}

impl Splice<'_> {
    /// Copies what lies before this place, with the comma behind it.
    fn copy_until(&mut self, place: usize) {
        let from = self.old.entry_start(self.next);
        let Some(from) = from.filter(|_| self.next < place) else {
            return;
        };
        self.new.separate();
        let end = self.old.entry_start(place);
        let end = end.unwrap_or_else(|| self.old.spans().end(place - 1, self.old.as_str()));
        let to = self.new.text.len();
        let starts = &mut self.new.starts;
        starts.copy(self.old.spans(), self.next..place, (from, to));
        let copied = self.old.as_str().get(from..end).unwrap_or_default();
        self.new.text.push_str(copied);
    }
}

/// A text of the usual form, and where its names and values start.
struct Tight {
    text: String,
    head: usize,
    starts: Starts,
}

impl Tight {
    fn new(head: &str, size: usize, entries: usize) -> Self {
        let mut text = String::with_capacity(head.len() + size);
        text.push_str(head);
        Self {
            text,
            head: head.len(),
            starts: Starts::new(entries, head.len() + size),
        }
    }

    fn put(&mut self, name: &str, json: &str) {
        self.separate();
        let from = self.text.len() + 1;
        self.starts.push(from, from + name.len() + 2);
        self.text.push('"');
        self.text.push_str(name);
        self.text.push_str("\":");
        self.text.push_str(json);
    }

    fn separate(&mut self) {
        if self.text.len() > self.head && !self.text.ends_with(',') {
            self.text.push(',');
        }
    }

    fn finish(mut self) -> Option<Text> {
        // No entry ends with a comma: the last ones were removed.
        if self.text.ends_with(',') {
            self.text.pop();
        }
        self.text.push_str("}}");
        u32::try_from(self.text.len()).ok()?;
        let spans = self.starts.into_spans(self.text.len());
        Some(Text::new(self.text, spans))
    }
}

#[cfg(test)]
mod tests;
