//! The one form of a record that this library writes, read in one pass.
//!
//! Whatever differs from it in a single byte goes to the general reader in `format.rs`. The scanner
//! refuses more than that reader does, and never reads anything in another way: a property and a
//! fuzz target compare them.

mod specials;

use std::{collections::HashSet, ops::Range};

use self::specials::Specials;
pub(super) use self::specials::is_special;
use super::{metadata::RESERVED, spans::Starts};

pub(super) const HEAD: &str = "{\"v\":1,\"f\":\"";
pub(super) const STATE: &str = "\",\"state\":{";
/// Deeper values are for the general reader, which does not recurse.
const DEPTH: u32 = 64;
/// Up to this many names, comparing them with one another is faster than a set.
const FEW: usize = 16;

/// Where the parts of a record lie.
pub(super) struct Scanned {
    pub(super) metadata: Range<usize>,
    pub(super) starts: Starts,
}

/// Reads `{"v":1,"f":"<metadata>","state":{"name":value,...}}` without a blank, an escaped name, the
/// reserved name, or a name that comes twice.
pub(super) fn scan(text: &str) -> Option<Scanned> {
    // All places are below the length.
    u32::try_from(text.len()).ok()?;
    let bytes = text.as_bytes();
    let metadata = literal(bytes, 0, HEAD)?;
    let mut specials = Specials::of(bytes, metadata);
    // Without escapes: what stands there is what it says.
    let metadata = metadata..specials.next(bytes)?;
    let at = literal(bytes, metadata.end, STATE)?;
    // The other two marks in it.
    specials.skip(bytes)?;
    specials.skip(bytes)?;
    let starts = Starts::new(0, text.len());
    let starts = entries(bytes, at, specials, starts)?;
    are_distinct(bytes, &starts).then_some(Scanned { metadata, starts })
}

fn byte(text: &[u8], at: usize) -> Option<u8> {
    text.get(at).copied()
}

/// The place behind a literal.
#[inline]
fn literal(text: &[u8], at: usize, literal: &str) -> Option<usize> {
    let end = at + literal.len();
    (text.get(at..end)? == literal.as_bytes()).then_some(end)
}

/// What is open around a value. The outermost are the entries.
#[derive(Clone, Copy)]
struct Open {
    depth: u32,
    /// One bit each: whether it is an object. The last one opened is the lowest.
    objects: u64,
}

impl Open {
    #[inline]
    fn push(self, is_object: bool) -> Option<Self> {
        (self.depth < DEPTH).then_some(Self {
            depth: self.depth + 1,
            objects: self.objects << 1 | u64::from(is_object),
        })
    }

    #[inline]
    fn pop(self) -> Self {
        Self {
            depth: self.depth - 1,
            objects: self.objects >> 1,
        }
    }

    #[inline]
    fn is_object(self) -> bool {
        self.objects & 1 != 0
    }
}

/// Collects the entries of the state, up to the end of the text.
///
/// Nothing passes over a special byte without taking it from `specials`, so the next of them is the
/// next in the text.
fn entries(
    text: &[u8],
    mut at: usize,
    mut specials: Specials,
    mut starts: Starts,
) -> Option<Starts> {
    let mut open = Open {
        depth: 0,
        objects: 0,
    };
    if byte(text, at)? == b'}' {
        return (text.get(at..) == Some(b"}}")).then_some(starts);
    }
    // Whether the name of an entry comes next, of a member, or a value.
    let mut next = Next::Entry;
    loop {
        match next {
            Next::Entry => {
                if byte(text, at)? != b'"' {
                    return None;
                }
                specials.skip(text)?;
                let value = literal(text, specials.next(text)?, "\":")?;
                starts.push(at + 1, value);
                at = value;
            }
            Next::Member => {
                if byte(text, at)? != b'"' {
                    return None;
                }
                (at, specials) = string(text, specials)?;
                if byte(text, at)? != b':' {
                    return None;
                }
                at += 1;
            }
            Next::Value => {}
        }
        match byte(text, at)? {
            b'"' => (at, specials) = string(text, specials)?,
            opening @ (b'{' | b'[') => {
                let is_object = opening == b'{';
                open = open.push(is_object)?;
                at += 1;
                // Both closing brackets lie two behind the opening ones.
                if byte(text, at)? != opening + 2 {
                    next = if is_object { Next::Member } else { Next::Value };
                    continue;
                }
                open = open.pop();
                at += 1;
            }
            other => at = plain(text, at, other)?,
        }
        loop {
            let behind = byte(text, at)?;
            at += 1;
            if open.depth == 0 {
                match behind {
                    b',' => next = Next::Entry,
                    b'}' => return (text.get(at..) == Some(b"}")).then_some(starts),
                    _ => return None,
                }
                break;
            }
            let is_object = open.is_object();
            match behind {
                b',' => {
                    next = if is_object { Next::Member } else { Next::Value };
                    break;
                }
                b'}' if is_object => open = open.pop(),
                b']' if !is_object => open = open.pop(),
                _ => return None,
            }
        }
    }
}

enum Next {
    Entry,
    Member,
    Value,
}

/// The place behind a string that begins with the next special byte.
#[inline]
fn string(text: &[u8], mut specials: Specials) -> Option<(usize, Specials)> {
    specials.skip(text)?;
    let end = specials.next(text)?;
    if byte(text, end)? == b'"' {
        return Some((end + 1, specials));
    }
    escaped(text, end, specials)
}

/// The rest of a string, from its first escape on.
#[cold]
fn escaped(text: &[u8], mut special: usize, mut specials: Specials) -> Option<(usize, Specials)> {
    loop {
        match byte(text, special)? {
            b'"' => return Some((special + 1, specials)),
            b'\\' => {}
            _ => return None,
        }
        let at = special + 1;
        match byte(text, at)? {
            b'"' | b'\\' => specials.skip(text)?,
            b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
            b'u' => {
                let digits = text.get(at + 1..at + 5)?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
            }
            _ => return None,
        }
        special = specials.next(text)?;
    }
}

/// The place behind a value that neither is a string nor holds other values.
fn plain(text: &[u8], at: usize, first: u8) -> Option<usize> {
    match first {
        b't' => literal(text, at, "true"),
        b'f' => literal(text, at, "false"),
        b'n' => literal(text, at, "null"),
        _ => number(text, at),
    }
}

fn number(text: &[u8], mut at: usize) -> Option<usize> {
    if byte(text, at)? == b'-' {
        at += 1;
    }
    at = match byte(text, at)? {
        b'0' => at + 1,
        _ => digits(text, at)?,
    };
    if byte(text, at)? == b'.' {
        at = digits(text, at + 1)?;
    }
    if let b'e' | b'E' = byte(text, at)? {
        let sign = byte(text, at + 1)?;
        at = digits(text, at + 1 + usize::from(matches!(sign, b'+' | b'-')))?;
    }
    Some(at)
}

/// One digit or more.
fn digits(text: &[u8], at: usize) -> Option<usize> {
    let digits = text.get(at..)?.iter();
    let count = digits.take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then_some(at + count)
}

/// Whether no name comes twice, and none is the reserved one.
fn are_distinct(text: &[u8], starts: &Starts) -> bool {
    let reserved = RESERVED.as_bytes();
    let count = starts.len();
    if count > FEW {
        // Keyed: a hostile record must not cost the square of its size.
        let mut known =
            HashSet::with_capacity_and_hasher(count, foldhash::fast::RandomState::default());
        return (0..count).all(|place| {
            let name = starts.name(place, text);
            name != reserved && known.insert(name)
        });
    }
    // Names with other bits are other names.
    let mut bits = 0_u64;
    (0..count).all(|place| {
        let wanted = starts.name(place, text);
        let bit = bit_of(wanted);
        let is_new = bits & bit == 0 || (0..place).all(|other| starts.name(other, text) != wanted);
        bits |= bit;
        is_new && wanted != reserved
    })
}

fn bit_of(name: &[u8]) -> u64 {
    let ends = name.first().zip(name.last());
    let (first, last) = ends.map_or((0, 0), |(first, last)| {
        (usize::from(*first), usize::from(*last))
    });
    1 << ((name.len() * 5 + first * 3 + last) % 64)
}

#[cfg(test)]
mod tests;
