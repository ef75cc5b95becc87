//! Base64 of cookie values, by the processor's vector instructions if it has them. A short value is
//! written by a table: what vectors leave over costs more than the whole of a session key.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Up to this many bytes, a table is faster.
const SHORT: usize = 96;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// The symbols of each twelve bits, the first one in the low byte.
static PAIRS: [u16; 4096] = {
    let mut pairs = [0; 4096];
    let mut bits = 0;
    while bits < pairs.len() {
        pairs[bits] = u16::from_le_bytes([ALPHABET[bits >> 6], ALPHABET[bits & 63]]);
        bits += 1;
    }
    pairs
};

/// Appends a text in the standard alphabet, with padding.
pub(crate) fn push(data: &[u8], out: &mut Vec<u8>) -> anyhow::Result<()> {
    let start = out.len();
    out.resize(start + encoded_length(data.len()), 0);
    let out = &mut out[start..];
    if data.len() > SHORT {
        standard().encode_slice(data, out)?;
        return Ok(());
    }
    let (groups, rest) = data.as_chunks::<6>();
    let (quads, last) = out.split_at_mut(groups.len() * 8);
    for ([a, b, c, d, e, f], quads) in groups.iter().zip(quads.as_chunks_mut().0) {
        let bits = u64::from_be_bytes([0, 0, *a, *b, *c, *d, *e, *f]);
        let pair = |from: u32| u64::from(PAIRS[usize::try_from(bits >> from & 0xfff).unwrap_or(0)]);
        let symbols = pair(36) | pair(24) << 16 | pair(12) << 32 | pair(0) << 48;
        *quads = symbols.to_le_bytes();
    }
    STANDARD.encode_slice(rest, last)?;
    Ok(())
}

pub(crate) const fn encoded_length(length: usize) -> usize {
    length.div_ceil(3) * 4
}

/// The standard alphabet, with padding. A text that no encoder writes is refused.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) fn standard() -> &'static impl base64::Engine {
    use std::sync::LazyLock;

    use base64::engine::{Simd, general_purpose::PAD};

    static ENGINE: LazyLock<Simd> = LazyLock::new(|| Simd::standard(PAD));
    &*ENGINE
}

/// The standard alphabet, with padding. A text that no encoder writes is refused.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn standard() -> &'static impl base64::Engine {
    &STANDARD
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(bytes: &[u8]) -> Vec<u8> {
        let mut text = b"id=".to_vec();
        push(bytes, &mut text).unwrap();
        text.split_off(3)
    }

    proptest! {
        #[test]
        fn it_is_the_usual_base64(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let text = encode(&bytes);
            prop_assert_eq!(&text, &STANDARD.encode(&bytes).into_bytes());
            prop_assert_eq!(&text, &standard().encode(&bytes).into_bytes());
            prop_assert_eq!(standard().decode(text), Ok(bytes));
        }

        #[test]
        fn what_is_refused_is_refused(text in "([A-D+/]{4}){0,70}[A-D=é]{0,4}") {
            prop_assert_eq!(standard().decode(&text).ok(), STANDARD.decode(&text).ok());
        }
    }

    #[test]
    fn lengths_around_the_limit_are_written() {
        for length in [
            0,
            1,
            2,
            3,
            4,
            SHORT - 1,
            SHORT,
            SHORT + 1,
            SHORT + 2,
            SHORT + 3,
        ] {
            let bytes = vec![0xa5; length];
            assert_eq!(encode(&bytes), STANDARD.encode(&bytes).as_bytes());
        }
    }
}
