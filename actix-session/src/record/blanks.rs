//! A number in the blanks after a JSON text, where old servers do not see it.
//!
//! A cookie-stored session carries its end. For old servers that would be one entry more than the
//! program has set; but their parser, as every JSON parser, skips blanks. In a store, records before
//! and after a `clear` may have the same entries, and yet have to differ: what compares whole texts
//! would not notice the `clear`.

use crate::clock::Millis;

/// Two bits a blank.
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];
/// 48 bits of milliseconds last until the year 10889.
const LENGTH: usize = 24;
/// 40 bits tell the `clear`s of a minute apart. No time has this length.
const EPOCH_LENGTH: usize = 20;

/// The blanks for a time, unless it is out of range.
pub(super) fn of(time: Millis) -> Option<String> {
    let bits = u64::try_from(time.0).ok()?;
    (bits >> (2 * LENGTH) == 0).then(|| written(bits, LENGTH))
}

/// The blanks for an epoch that lies beside the record. Nobody reads them.
pub(super) fn of_epoch(epoch: u64) -> String {
    written(epoch, EPOCH_LENGTH)
}

fn written(bits: u64, length: usize) -> String {
    let places = (0..length).rev();
    places
        .map(|place| BLANKS[(bits >> (2 * place) & 3) as usize])
        .collect()
}

/// The time in the blanks at the end of a text.
pub(super) fn read(text: &str) -> Option<Millis> {
    let blanks = text.trim_end_matches(BLANKS).len()..;
    let blanks = text.get(blanks).filter(|blanks| blanks.len() == LENGTH)?;
    let bit = |blank| BLANKS.iter().position(|known| *known == blank);
    let digits = blanks.chars().filter_map(bit);
    let time = digits.fold(0_u64, |time, digit| time << 2 | digit as u64);
    i64::try_from(time).ok().map(Millis)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(time in 0..1_i64 << 48, text in "\\{.*\\}") {
            let blanks = of(Millis(time)).unwrap();
            prop_assert!(blanks.bytes().all(|byte| b" \t\n\r".contains(&byte)));
            prop_assert_eq!(read(&format!("{text}{blanks}")), Some(Millis(time)));
            prop_assert_eq!(read(&text), None);
            for other in [&blanks[1..], &format!("{blanks} ")] {
                prop_assert_eq!(read(&format!("{text}{other}")), None);
            }
        }
    }

    #[test]
    fn an_epoch_is_no_time() {
        let blanks = of_epoch(u64::MAX);
        assert_ne!(blanks, of_epoch(1));
        assert_eq!(read(&format!("{{}}{blanks}")), None);
    }

    #[test]
    fn a_time_out_of_range_has_no_blanks() {
        for time in [-1, 1 << 48, i64::MAX, i64::MIN] {
            assert_eq!(of(Millis(time)), None);
        }
    }
}
