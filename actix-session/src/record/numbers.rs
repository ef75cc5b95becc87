//! Numbers of metadata, read and written without the machinery of `fmt`.

/// Values of hexadecimal digits; 16 stands for whatever is none.
const VALUES: [u8; 256] = {
    let mut values = [16; 256];
    let mut value = 0;
    while value < 16 {
        values[HEX[value as usize] as usize] = value;
        values[HEX[value as usize].to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    values
};
const HEX: &[u8; 16] = b"0123456789abcdef";
/// 1 in each byte of a word.
const ONES: u64 = u64::MAX / 255;
/// As many decimal digits always fit.
const SAFE: usize = 18;

/// Appends a number with at least so many hexadecimal digits.
pub(super) fn push_hex(out: &mut String, number: u64, least: usize) {
    if number == 0 && least <= 1 {
        out.push('0');
        return;
    }
    let digits = hex_digits(number);
    let needed = (67 - number.leading_zeros() as usize) / 4;
    push_digits(out, &digits[16 - needed.max(least).clamp(1, 16)..]);
}

/// Appends 16 hexadecimal digits, a dot, and 32 more.
pub(super) fn push_ids(out: &mut String, first: u64, second: u128) {
    let mut digits = [b'.'; 16 + 1 + 32];
    let halves = [second >> 64, second & u128::from(u64::MAX)];
    let [high, low] = halves.map(|half| hex_digits(u64::try_from(half).unwrap_or_default()));
    digits[..16].copy_from_slice(&hex_digits(first));
    digits[17..33].copy_from_slice(&high);
    digits[33..].copy_from_slice(&low);
    push_digits(out, &digits);
}

fn hex_digits(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (four, half) in digits.chunks_exact_mut(8).zip([number >> 32, number]) {
        four.copy_from_slice(&eight_hex_digits(half & 0xffff_ffff).to_be_bytes());
    }
    digits
}

/// The digits of 32 bits, one in each byte of a word.
const fn eight_hex_digits(number: u64) -> u64 {
    let fours = (number << 16 | number) & 0x0000_ffff_0000_ffff;
    let pairs = (fours << 8 | fours) & 0x00ff_00ff_00ff_00ff;
    let values = (pairs << 4 | pairs) & (ONES * 15);
    // 6 more than a value has the bit 16 if the value is a letter's.
    let letters = (values + ONES * 6) >> 4 & ONES;
    values + ONES * b'0' as u64 + letters * (b'a' - b'0' - 10) as u64
}

pub(super) fn push_decimal(out: &mut String, number: i64) {
    out.push_str(itoa::Buffer::new().format(number));
}

fn push_digits(out: &mut String, digits: &[u8]) {
    out.push_str(std::str::from_utf8(digits).unwrap_or_default());
}

/// Reads at most 32 hexadecimal digits, or more if the first ones are zeros.
pub(super) fn hex(digits: &str) -> Option<u128> {
    match digits.len() {
        0 => None,
        1..=16 => short_hex(digits.as_bytes()).map(u128::from),
        17..=32 => {
            let (high, low) = digits.as_bytes().split_at(digits.len() - 16);
            Some(u128::from(short_hex(high)?) << 64 | u128::from(short_hex(low)?))
        }
        _ => u128::from_str_radix(digits, 16).ok(),
    }
}

/// At most 16 digits.
fn short_hex(digits: &[u8]) -> Option<u64> {
    if digits.len() == 16 {
        // No `map` of arrays: the compiler calls a function for each.
        let (high, low) = digits.split_at(8);
        return Some(eight_digits(high)? << 32 | eight_digits(low)?);
    }
    let (mut number, mut all) = (0, 0);
    for digit in digits {
        let value = VALUES[usize::from(*digit)];
        all |= value;
        number = number << 4 | u64::from(value & 15);
    }
    (all < 16).then_some(number)
}

/// Eight digits at once: each step works on all bytes of a word.
#[inline]
fn eight_digits(digits: &[u8]) -> Option<u64> {
    const HIGH: u64 = ONES * 0x80;
    let word = u64::from_be_bytes(digits.try_into().ok()?);
    // Sets the high bit of each byte in the range, for bytes below 0x80.
    let within = |word: u64, first: u8, last: u8| {
        let from_first = word + ONES * u64::from(0x80 - first);
        let past_last = word + ONES * u64::from(0x7f - last);
        from_first & !past_last
    };
    let lower = word | (ONES * 0x20);
    let letters = within(lower & !HIGH, b'a', b'f');
    let decimals = within(word & !HIGH, b'0', b'9');
    if (letters | decimals) & !word & HIGH != HIGH {
        return None;
    }
    // The low half of a letter is 9 less than its value.
    let values = (word & (ONES * 15)) + ((letters & HIGH) >> 7) * 9;
    let pairs = (values >> 4 | values) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs >> 8 | pairs) & 0x0000_ffff_0000_ffff;
    Some((fours >> 16 | fours) & 0xffff_ffff)
}

pub(super) fn decimal(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || digits.len() > SAFE {
        return text.parse().ok();
    }
    let (mut number, mut rest) = (0, digits.as_bytes());
    if let Some((eight, behind)) = rest.split_first_chunk() {
        (number, rest) = (eight_decimals(*eight)?, behind);
    }
    for digit in rest {
        let value = digit.wrapping_sub(b'0');
        if value > 9 {
            return None;
        }
        number = number * 10 + i64::from(value);
    }
    Some(if digits.len() < text.len() {
        -number
    } else {
        number
    })
}

/// Each step joins the values of neighbours.
#[inline]
const fn eight_decimals(digits: [u8; 8]) -> Option<i64> {
    const HIGH: u64 = ONES * 0xf0;
    let word = u64::from_le_bytes(digits);
    // 6 more than a digit has the same high half.
    if word & HIGH != ONES * 0x30 || word.wrapping_add(ONES * 6) & HIGH != ONES * 0x30 {
        return None;
    }
    let pairs = (word & (ONES * 15)).wrapping_mul(10 << 8 | 1) >> 8 & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100 << 16 | 1) >> 16 & 0x0000_ffff_0000_ffff;
    Some((fours.wrapping_mul(10_000 << 32 | 1) >> 32).cast_signed())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_written_as_fmt_does(number: i64, bits in 0..64_u32, least in 0..=16_usize) {
            for number in [number, number >> bits, 0, i64::MIN, i64::MAX] {
                let mut text = String::new();
                push_decimal(&mut text, number);
                prop_assert_eq!(&text, &number.to_string());
                prop_assert_eq!(decimal(&text), Some(number));
                text.clear();
                push_hex(&mut text, number.cast_unsigned(), least);
                prop_assert_eq!(&text, &format!("{number:0least$x}"));
                prop_assert_eq!(hex(&text), Some(u128::from(number.cast_unsigned())));
            }
        }

        #[test]
        fn ids_are_written_as_fmt_does(first: u64, second: u128, bits in 0..128_u32) {
            for (first, second) in [(first, second), (first >> (bits / 2), second >> bits)] {
                let mut text = String::new();
                push_ids(&mut text, first, second);
                prop_assert_eq!(text, format!("{first:016x}.{second:032x}"));
            }
        }

        #[test]
        fn they_are_read_as_the_standard_library_does(text in "0{0,3}[0-9a-fA-F_.-]{0,40}") {
            let signed = text.contains('-') && text.len() > 1;
            if !signed {
                prop_assert_eq!(hex(&text), u128::from_str_radix(&text, 16).ok());
            }
            prop_assert_eq!(decimal(&text), text.parse().ok());
        }

        #[test]
        fn decimals_are_read_as_the_standard_library_does(text in "-{0,2}0{0,3}[0-9]{0,20}") {
            prop_assert_eq!(decimal(&text), text.parse().ok());
        }
    }
}
