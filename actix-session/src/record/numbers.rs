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
/// As many decimal digits always fit.
const SAFE: usize = 18;

/// Appends a number with at least so many hexadecimal digits.
pub(super) fn push_hex(out: &mut String, number: u64, least: usize) {
    let mut digits = [b'0'; 16];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    let needed = (67 - number.leading_zeros() as usize) / 4;
    push_digits(out, &digits[16 - needed.max(least).clamp(1, 16)..]);
}

pub(super) fn push_decimal(out: &mut String, number: i64) {
    let mut digits = [b'0'; 20];
    let mut from = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        from -= 1;
        digits[from] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push('-');
    }
    push_digits(out, &digits[from..]);
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
    let (mut number, mut all) = (0, 0);
    for digit in digits {
        let value = VALUES[usize::from(*digit)];
        all |= value;
        number = number << 4 | u64::from(value & 15);
    }
    (all < 16).then_some(number)
}

pub(super) fn decimal(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || digits.len() > SAFE {
        return text.parse().ok();
    }
    let mut number = 0;
    for digit in digits.bytes() {
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
