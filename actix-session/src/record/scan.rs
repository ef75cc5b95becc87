//! The one form of a record that this library writes, read in one pass.
//!
//! Whatever differs from it in a single byte goes to the general reader in `format.rs`. The scanner
//! refuses more than that reader does, and never reads anything in another way: a property and a
//! fuzz target compare them.

use std::{collections::HashSet, ops::Range};

use super::metadata::RESERVED;

pub(super) const HEAD: &str = "{\"v\":1,\"f\":\"";
pub(super) const STATE: &str = "\",\"state\":{";
/// Deeper values are for the general reader, which does not recurse.
const DEPTH: u32 = 64;
/// Up to this many names, comparing them with one another is faster than a set.
const FEW: usize = 16;

/// From so many bytes on, a string is long.
const LONG: usize = 32;

/// Where the parts of a record lie.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    pub(super) metadata: Range<usize>,
    /// The starts of each entry's name and of its value.
    pub(super) starts: Vec<[u32; 2]>,
}

/// Reads `{"v":1,"f":"<metadata>","state":{"name":value,...}}` without a blank, an escaped name, the
/// reserved name, or a name that comes twice.
pub(super) fn scan(text: &str) -> Option<Scanned> {
    // All places are below the length.
    u32::try_from(text.len()).ok()?;
    let bytes = text.as_bytes();
    let scanner = Scanner(bytes);
    // Without escapes: what stands there is what it says.
    let metadata = scanner.literal(0, HEAD.as_bytes())?;
    let metadata = metadata..scanner.special(metadata)?;
    let at = scanner.literal(metadata.end, STATE.as_bytes())?;
    let (starts, end) = scanner.entries(at)?;
    let is_whole = bytes.get(end..) == Some(b"}");
    (is_whole && are_distinct(text, &starts)).then_some(Scanned { metadata, starts })
}

/// Each method takes the place where something begins, and returns the place behind it.
struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    #[inline]
    fn byte(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    #[inline]
    fn literal(&self, at: usize, literal: &[u8]) -> Option<usize> {
        let end = at + literal.len();
        (self.0.get(at..end)? == literal).then_some(end)
    }

    /// The entries of the state, and the brace behind them.
    fn entries(&self, mut at: usize) -> Option<(Vec<[u32; 2]>, usize)> {
        let mut starts = Vec::with_capacity(FEW);
        if self.byte(at)? == b'}' {
            return Some((starts, at + 1));
        }
        loop {
            let value = self.name(at)?;
            starts.push([place(at + 1), place(value)]);
            at = self.value(value, DEPTH)?;
            match self.byte(at)? {
                b',' => at += 1,
                b'}' => return Some((starts, at + 1)),
                _ => return None,
            }
        }
    }

    /// A name without escapes, and the colon.
    #[inline]
    fn name(&self, at: usize) -> Option<usize> {
        self.literal(at, b"\"")?;
        let end = self.special(at + 1)?;
        self.literal(end, b"\":")
    }

    fn value(&self, at: usize, depth: u32) -> Option<usize> {
        match self.byte(at)? {
            b'"' => self.string(at + 1),
            b'{' => self.members(at + 1, depth.checked_sub(1)?),
            b'[' => self.elements(at + 1, depth.checked_sub(1)?),
            b't' => self.literal(at, b"true"),
            b'f' => self.literal(at, b"false"),
            b'n' => self.literal(at, b"null"),
            _ => self.number(at),
        }
    }

    fn elements(&self, mut at: usize, depth: u32) -> Option<usize> {
        if self.byte(at)? == b']' {
            return Some(at + 1);
        }
        loop {
            at = self.value(at, depth)?;
            match self.byte(at)? {
                b',' => at += 1,
                b']' => return Some(at + 1),
                _ => return None,
            }
        }
    }

    fn members(&self, mut at: usize, depth: u32) -> Option<usize> {
        if self.byte(at)? == b'}' {
            return Some(at + 1);
        }
        loop {
            at = self.literal(at, b"\"")?;
            at = self.string(at)?;
            at = self.literal(at, b":")?;
            at = self.value(at, depth)?;
            match self.byte(at)? {
                b',' => at += 1,
                b'}' => return Some(at + 1),
                _ => return None,
            }
        }
    }

    /// A string, from behind its first quotation mark.
    #[inline]
    fn string(&self, mut at: usize) -> Option<usize> {
        loop {
            at = self.special(at)?;
            match self.byte(at)? {
                b'"' => return Some(at + 1),
                b'\\' => at = self.escape(at + 1)?,
                _ => return None,
            }
        }
    }

    fn escape(&self, at: usize) -> Option<usize> {
        match self.byte(at)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 1),
            b'u' => {
                let digits = self.0.get(at + 1..at + 5)?;
                let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
                is_hex.then_some(at + 5)
            }
            _ => None,
        }
    }

    /// The next quotation mark, backslash or control character: 8 bytes at a time, in a long text 16.
    #[inline]
    fn special(&self, mut at: usize) -> Option<usize> {
        let long = at + LONG;
        while let Some(word) = self.chunk(at) {
            let found = specials(u64::from_le_bytes(*word));
            if found != 0 {
                return Some(at + (found.trailing_zeros() / 8) as usize);
            }
            at += 8;
            while at >= long && self.chunk(at).is_some_and(has_no_special) {
                at += 16;
            }
        }
        let rest = self.0.get(at..)?;
        Some(at + rest.iter().position(|byte| is_special(*byte))?)
    }

    #[inline]
    fn chunk<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.0.get(at..)?.first_chunk()
    }

    fn number(&self, mut at: usize) -> Option<usize> {
        if self.byte(at)? == b'-' {
            at += 1;
        }
        at = match self.byte(at)? {
            b'0' => at + 1,
            _ => self.digits(at)?,
        };
        if self.byte(at)? == b'.' {
            at = self.digits(at + 1)?;
        }
        if let b'e' | b'E' = self.byte(at)? {
            let sign = self.byte(at + 1)?;
            at = self.digits(at + 1 + usize::from(matches!(sign, b'+' | b'-')))?;
        }
        Some(at)
    }

    /// One digit or more.
    fn digits(&self, at: usize) -> Option<usize> {
        let digits = self.0.get(at..)?.iter();
        let count = digits.take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then_some(at + count)
    }
}

/// Whether a byte ends a string, or needs an escape in one.
pub(super) fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// Without an early exit, the compiler tests all bytes at once.
fn has_no_special(bytes: &[u8; 16]) -> bool {
    !bytes
        .iter()
        .fold(false, |any, byte| any | is_special(*byte))
}

/// Of the bytes of a word, the first to have its high bit set is the first that is special.
#[inline]
const fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    // Makes a blank of the quotation mark, and of a blank the character behind the mark: then what is
    // up to a blank is a mark or a control character.
    let marked = word ^ (ONES * 0x02);
    let quotes_and_controls = marked.wrapping_sub(ONES * 0x21) & !marked;
    let backslash = word ^ (ONES * 0x5c);
    let backslashes = backslash.wrapping_sub(ONES) & !backslash;
    (quotes_and_controls | backslashes) & (ONES * 0x80)
}

fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Whether no name comes twice, and none is the reserved one.
fn are_distinct(text: &str, starts: &[[u32; 2]]) -> bool {
    let name = |[from, value]: [u32; 2]| &text.as_bytes()[from as usize..value as usize - 2];
    let reserved = RESERVED.as_bytes();
    if starts.len() > FEW {
        // Keyed: a hostile record must not cost the square of its size.
        let count = starts.len();
        let mut known =
            HashSet::with_capacity_and_hasher(count, foldhash::fast::RandomState::default());
        return starts
            .iter()
            .all(|start| name(*start) != reserved && known.insert(name(*start)));
    }
    // Names with other bits are other names.
    let mut bits = 0_u64;
    starts.iter().enumerate().all(|(index, start)| {
        let wanted = name(*start);
        let bit = bit_of(wanted);
        let is_new = bits & bit == 0 || starts[..index].iter().all(|other| name(*other) != wanted);
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
