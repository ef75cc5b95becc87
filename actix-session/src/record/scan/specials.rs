//! Where the bytes of a text are that mean something in a JSON string.

/// So many bytes are looked at at once.
const BLOCK: usize = 64;

/// The places of a text's quotation marks, backslashes and control characters, in order.
///
/// It is a value that each step replaces, so that it stays in registers.
#[derive(Clone, Copy)]
pub(super) struct Specials {
    /// Where the block begins that is looked at.
    block: usize,
    /// One bit for each byte of the block: whether it is special, and has not been returned.
    left: u64,
}

impl Specials {
    /// Those at or behind a place.
    pub(super) fn of(text: &[u8], from: usize) -> Self {
        Self {
            block: from,
            left: look(text, from).unwrap_or_default(),
        }
    }

    #[inline]
    pub(super) fn next(&mut self, text: &[u8]) -> Option<usize> {
        self.find(text)?;
        let at = self.block + self.left.trailing_zeros() as usize;
        self.left &= self.left - 1;
        Some(at)
    }

    /// Passes over the next one, whose place is known.
    #[inline]
    pub(super) fn skip(&mut self, text: &[u8]) -> Option<()> {
        self.find(text)?;
        self.left &= self.left - 1;
        Some(())
    }

    /// Goes on to a block that has one.
    #[inline]
    fn find(&mut self, text: &[u8]) -> Option<()> {
        while self.left == 0 {
            self.block += BLOCK;
            self.left = look(text, self.block)?;
        }
        Some(())
    }
}

/// The special bytes of the block at a place. `None`: the text ends before it.
#[inline(never)]
fn look(text: &[u8], at: usize) -> Option<u64> {
    let rest = text.get(at..)?;
    if let Some(block) = rest.first_chunk() {
        return Some(specials(block));
    }
    let mut block = [b' '; BLOCK];
    block.get_mut(..rest.len())?.copy_from_slice(rest);
    Some(specials(&block))
}

/// One bit for each byte.
#[inline]
fn specials(block: &[u8; BLOCK]) -> u64 {
    // Without a branch, the compiler compares many bytes at once.
    let mut flags = [0; BLOCK];
    for (flag, byte) in flags.iter_mut().zip(block) {
        *flag = u8::from(is_special(*byte));
    }
    let (words, _) = flags.as_chunks::<8>();
    words.iter().rev().fold(0, |bits, word| {
        // The product's highest byte has the lowest bit of each of the eight.
        let packed = u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits << 8 | packed
    })
}

/// Whether a byte ends a string, or needs an escape in one.
#[inline]
pub(in crate::record) fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}
