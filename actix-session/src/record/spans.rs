//! Where the entries lie in a record's text.
//!
//! As this library writes records, an entry's value begins two bytes behind its name, and the next
//! name two bytes behind that. So the starts say all, in four bytes an entry if the text is short.

use std::{borrow::Cow, ops::Range};

use super::{
    lookup::{FEW, Lookup},
    names::is_named,
};

/// The bytes between a name and its value, and between a value and the next name.
const GAP: u32 = 2;
/// The braces at the end of a record.
const END: u32 = 2;

pub(super) enum Spans {
    /// The starts of the only name and its value in a text of less than 64 KiB.
    One([[u16; 2]; 1]),
    /// The same of a few names and values, or of none.
    Few(Box<[[u16; 2]]>),
    Many(Box<Many>),
}

/// Collects the starts of a text as this library writes it.
pub(super) enum Starts {
    /// Those of a short text, and how many there are.
    Few([[u16; 2]; FEW], usize),
    Many(Vec<[u32; 2]>),
}

impl Starts {
    /// For at most so many entries in a text that gets no longer than that.
    pub(super) fn new(entries: usize, length: usize) -> Self {
        if entries > FEW || u16::try_from(length).is_err() {
            Self::Many(Vec::with_capacity(entries))
        } else {
            Self::Few([[0; 2]; FEW], 0)
        }
    }

    #[inline]
    pub(super) fn push(&mut self, name: usize, value: usize) {
        if let Self::Few(starts, count) = self {
            if let Some(start) = starts.get_mut(*count) {
                *start = [short(name), short(value)];
                *count += 1;
                return;
            }
            let few = starts.iter().map(|start| start.map(u32::from));
            *self = Self::Many(few.collect());
        }
        if let Self::Many(starts) = self {
            starts.push([long(name), long(value)]);
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(_, count) => *count,
            Self::Many(starts) => starts.len(),
        }
    }

    /// The name at a place below the length, in the text that the starts are of.
    #[inline]
    pub(super) fn name<'a>(&self, place: usize, text: &'a [u8]) -> &'a [u8] {
        let [from, value] = match self {
            Self::Few(starts, _) => starts[place].map(usize::from),
            Self::Many(starts) => starts[place].map(|start| start as usize),
        };
        &text[from..value - GAP as usize]
    }

    /// Appends those of some entries of another text, which have moved.
    pub(super) fn copy(
        &mut self,
        others: &Spans,
        places: Range<usize>,
        (from, to): (usize, usize),
    ) {
        match (self, others) {
            (Self::Few(starts, count), Spans::One(_) | Spans::Few(_)) => {
                // Both texts are short, so the difference is right modulo 2^16.
                let moved = short(to).wrapping_sub(short(from));
                let others = others.few().unwrap_or_default();
                let others = others.get(places).unwrap_or_default();
                let room = &mut starts[*count..*count + others.len()];
                for (start, [name, value]) in room.iter_mut().zip(others) {
                    *start = [name.wrapping_add(moved), value.wrapping_add(moved)];
                }
                *count += others.len();
            }
            (starts, others) => {
                for [name, value] in places.filter_map(|place| others.start(place)) {
                    starts.push(name - from + to, value - from + to);
                }
            }
        }
    }

    /// Of a text of this length.
    pub(super) fn into_spans(self, length: usize) -> Spans {
        match self {
            Self::Few(starts, count) => Spans::of_few(&starts[..count]),
            Self::Many(starts) => Spans::tight(starts, length),
        }
    }
}

/// Of a text whose length fits.
fn short(start: usize) -> u16 {
    u16::try_from(start).unwrap_or(u16::MAX)
}

fn long(start: usize) -> u32 {
    u32::try_from(start).unwrap_or(u32::MAX)
}

pub(super) struct Many {
    places: Places,
    lookup: Lookup,
}

enum Places {
    /// The starts of names and values.
    Tight(Box<[[u32; 2]]>),
    /// In a text of any other form.
    Loose {
        spans: Box<[Loose]>,
        /// Whether values are JSON strings that hold JSON text (the format up to 0.11).
        nested: bool,
    },
}

/// Where one entry lies. 32 bits are enough: no store holds a text of 4 GiB.
pub(super) struct Loose {
    name: NameAt,
    value: [u32; 2],
}

enum NameAt {
    Text([u32; 2]),
    /// The name was escaped in the text.
    Own(Box<str>),
}

#[derive(Clone, Copy)]
pub(super) enum NamePlace<'a> {
    At(usize, usize),
    Own(&'a str),
}

impl From<Places> for Spans {
    fn from(places: Places) -> Self {
        let lookup = Lookup::default();
        Self::Many(Box::new(Many { places, lookup }))
    }
}

impl Spans {
    fn of_few(starts: &[[u16; 2]]) -> Self {
        match starts {
            [only] => Self::One([*only]),
            _ => Self::Few(starts.into()),
        }
    }

    /// The starts of a few names and values in a short text, if that is what it has.
    #[inline]
    fn few(&self) -> Option<&[[u16; 2]]> {
        match self {
            Self::One(starts) => Some(starts),
            Self::Few(starts) => Some(starts),
            Self::Many(_) => None,
        }
    }

    /// For a text as this library writes it, of this length.
    pub(super) fn tight(starts: Vec<[u32; 2]>, length: usize) -> Self {
        if starts.len() > FEW || u16::try_from(length).is_err() {
            return Places::Tight(starts.into()).into();
        }
        // The length fits, so whatever is before it does.
        let short = |start: u32| u16::try_from(start).unwrap_or(u16::MAX);
        match &*starts {
            [only] => Self::One([only.map(short)]),
            few => Self::Few(few.iter().map(|start| start.map(short)).collect()),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Few(starts) => starts.len(),
            Self::Many(many) => match &many.places {
                Places::Tight(starts) => starts.len(),
                Places::Loose { spans, .. } => spans.len(),
            },
        }
    }

    fn loose(&self) -> Option<(&[Loose], bool)> {
        match self {
            Self::Many(many) => match &many.places {
                Places::Loose { spans, nested } => Some((spans, *nested)),
                Places::Tight(_) => None,
            },
            Self::One(_) | Self::Few(_) => None,
        }
    }

    pub(super) fn are_nested(&self) -> bool {
        let loose = self.loose();
        loose.is_some_and(|(spans, nested)| nested && !spans.is_empty())
    }

    pub(super) fn is_tight(&self) -> bool {
        self.loose().is_none()
    }

    /// The place of a name among the others.
    pub(super) fn find(&self, name: &str, text: &str) -> Option<usize> {
        match self {
            Self::One(only) => find_few(only, name, text),
            Self::Few(starts) => find_few(starts, name, text),
            Self::Many(many) => many
                .lookup
                .find(name, self.len(), |place| self.name(place, text)),
        }
    }

    /// The starts of a name and its value, if that says all.
    #[inline]
    pub(super) fn start(&self, place: usize) -> Option<[usize; 2]> {
        // No `map` of arrays: the compiler calls a function for each.
        if let Some(few) = self.few() {
            let [name, value] = *few.get(place)?;
            return Some([usize::from(name), usize::from(value)]);
        }
        match self {
            Self::One(_) | Self::Few(_) => None,
            Self::Many(many) => match &many.places {
                Places::Tight(starts) => {
                    let [name, value] = *starts.get(place)?;
                    Some([name as usize, value as usize])
                }
                Places::Loose { .. } => None,
            },
        }
    }

    /// Where a value ends whose start says all.
    pub(super) fn end(&self, place: usize, text: &str) -> usize {
        match self.start(place + 1) {
            Some([next, _]) => next - GAP as usize,
            None => text.len() - END as usize,
        }
    }

    /// The name at a place below the length.
    pub(super) fn name<'a>(&'a self, place: usize, text: &'a str) -> &'a str {
        if let Some([name, value]) = self.start(place) {
            return text.get(name..value - GAP as usize).unwrap_or_default();
        }
        let span = self.loose().and_then(|(spans, _)| spans.get(place));
        match span.map(|span| &span.name) {
            Some(NameAt::Text(name)) => slice(text, *name),
            Some(NameAt::Own(name)) => name,
            None => "",
        }
    }

    /// The JSON text at a place below the length.
    pub(super) fn value<'a>(&self, place: usize, text: &'a str) -> Cow<'a, str> {
        if let Some([_, value]) = self.start(place) {
            let range = value..self.end(place, text);
            return text.get(range).unwrap_or_default().into();
        }
        let Some((spans, nested)) = self.loose() else {
            return "".into();
        };
        let raw = spans.get(place).map_or("", |span| slice(text, span.value));
        if nested { unnest(raw) } else { raw.into() }
    }
}

/// Names of another length are not compared.
fn find_few(starts: &[[u16; 2]], name: &str, text: &str) -> Option<usize> {
    let length = name.len() + GAP as usize;
    starts.iter().position(|[from, value]| {
        let (from, value) = (usize::from(*from), usize::from(*value));
        from + length == value
            && text
                .get(from..value - GAP as usize)
                .is_some_and(|known| is_named(known, name))
    })
}

/// Spans are made only for the text that is kept with them.
fn slice(text: &str, [from, to]: [u32; 2]) -> &str {
    text.get(from as usize..to as usize).unwrap_or_default()
}

/// The content of a JSON string.
fn unnest(raw: &str) -> Cow<'_, str> {
    let inner = raw.strip_prefix('"').and_then(|r| r.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
        // The decoder has checked that this is a JSON string.
        _ => Cow::Owned(serde_json::from_str(raw).unwrap_or_default()),
    }
}

/// Collects spans while a text of any form is read or written.
#[derive(Default)]
pub(super) struct Collected {
    spans: Vec<Loose>,
    nested: bool,
}

impl Collected {
    pub(super) fn new(nested: bool) -> Self {
        Self {
            spans: Vec::new(),
            nested,
        }
    }

    /// Adds an entry whose name is known to be new; the ranges are in bytes of the text.
    pub(super) fn push(&mut self, name: NamePlace<'_>, (from, to): (usize, usize)) {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let name = match name {
            NamePlace::At(from, to) => NameAt::Text([small(from), small(to)]),
            NamePlace::Own(name) => NameAt::Own(name.into()),
        };
        let value = [small(from), small(to)];
        self.spans.push(Loose { name, value });
    }

    pub(super) fn into_spans(self, length: usize) -> Spans {
        match self.starts(length) {
            Some(starts) => Spans::tight(starts, length),
            None => Spans::from(Places::Loose {
                spans: self.spans.into(),
                nested: self.nested,
            }),
        }
    }

    /// The starts of names and values, if they say all.
    fn starts(&self, length: usize) -> Option<Vec<[u32; 2]>> {
        if self.nested {
            return None;
        }
        let mut starts = Vec::with_capacity(self.spans.len());
        for span in &self.spans {
            let NameAt::Text([name, behind]) = span.name else {
                return None;
            };
            starts.push([name, span.value[0]]);
            if behind.checked_add(GAP)? != span.value[0] {
                return None;
            }
        }
        let nexts = starts.iter().skip(1).map(|[name, _]| name.checked_sub(GAP));
        let last = u32::try_from(length)
            .ok()
            .and_then(|length| length.checked_sub(END));
        let mut ends = self.spans.iter().map(|span| Some(span.value[1]));
        let all_follow = nexts
            .chain([last])
            .all(|next| ends.next().is_none_or(|end| end == next));
        all_follow.then_some(starts)
    }
}
