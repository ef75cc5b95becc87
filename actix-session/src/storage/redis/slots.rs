//! The hash slots of a cluster, and session keys whose records fall into a given slot.

use super::naming::TAG;
use crate::{key::SessionKey, random};

pub(crate) const SLOTS: usize = 16_384;

/// How many keys are drawn for a slot before the search gives up. If names contain the key, each
/// draw covers 3,844 candidates, so all of them miss once in 10^13 searches.
const MAX_DRAWS: usize = 128;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The slot of a name.
pub(crate) fn slot(name: &str) -> u16 {
    crc(0, hashed(name).as_bytes()) % 16_384
}

/// The part of a name that is hashed: between the first `{` and the next `}`, or all of it.
fn hashed(name: &str) -> &str {
    let tag = name
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    match tag {
        Some((tag, _)) if !tag.is_empty() => tag,
        _ => name,
    }
}

/// Draws a key whose record falls into a slot. `None`: no key was found, because names hide it.
pub(crate) fn key_in(
    wanted: u16,
    name: &dyn Fn(&str) -> String,
) -> anyhow::Result<Option<SessionKey>> {
    for _ in 0..MAX_DRAWS {
        let drawn = random::session_key()?;
        if slot(&name(drawn.as_ref())) == wanted {
            return Ok(Some(drawn));
        }
        let Some(found) = neighbour_in(wanted, drawn.as_ref(), name) else {
            continue;
        };
        return Ok(Some(SessionKey::generated(found)));
    }
    Ok(None)
}

/// Searches the keys that differ from a drawn one in the last two characters only.
///
/// It looks at 16,384 keys on average, so it computes the sum of what stands before these only
/// once.
fn neighbour_in(wanted: u16, drawn: &str, name: &dyn Fn(&str) -> String) -> Option<String> {
    let own = name(drawn);
    let hashed = hashed(&own);
    // All of the key, or what it ends with.
    let parts = [drawn.len(), TAG].map(|length| &drawn[drawn.len() - length..]);
    let mut found = parts
        .into_iter()
        .filter_map(|part| Some((part, hashed.split_once(part)?)));
    let (part, (before, after)) = found.next()?;
    let (fixed, fixed_part) = (&drawn[..drawn.len() - 2], &part[..part.len() - 2]);
    let sum = crc(crc(0, before.as_bytes()), fixed_part.as_bytes());
    for one in ALPHABET {
        let sum = crc(sum, &[*one]);
        for two in ALPHABET {
            let sum = crc(crc(sum, &[*two]), after.as_bytes());
            if sum % 16_384 == wanted {
                let found = format!("{fixed}{}{}", char::from(*one), char::from(*two));
                // The `cache_keygen` may do more than put text around the key.
                return (slot(&name(&found)) == wanted).then_some(found);
            }
        }
    }
    None
}

/// CRC-16/XMODEM, continued from an earlier sum.
fn crc(sum: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(sum, |sum, byte| {
        let [high, low] = sum.to_be_bytes();
        (u16::from(low) << 8) ^ TABLE[usize::from(high ^ byte)]
    })
}

const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut high: u16 = 0;
    let mut index = 0;
    while index < 256 {
        let mut sum = high << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = sum & 0x8000 != 0;
            sum <<= 1;
            if carry {
                sum ^= 0x1021;
            }
            bit += 1;
        }
        table[index] = sum;
        index += 1;
        high += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // From the documentation of Redis Cluster, and `CLUSTER KEYSLOT` of a server.
        assert_eq!(crc(0, b"123456789"), 0x31C3);
        for (name, wanted) in [
            ("", 0),
            ("a}b", 7866),
            ("{a}b}:moved", 15495),
            ("{}foo", 9500),
            ("{}foo:moved", 5945),
        ] {
            assert_eq!(slot(name), wanted, "{name}");
        }
        assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
        assert_eq!(slot("foo{{bar}}zap"), slot("{bar"));
        assert_eq!(slot("foo{bar}{zap}"), slot("bar"));
    }

    #[test]
    fn a_key_is_found_for_every_slot() {
        let prefix = |key: &str| format!("shop:{key}");
        let tagged = |key: &str| format!("s:{{{key}}}:x");
        let suffix = |key: &str| format!("{key}:session");
        let end = |key: &str| format!("s:{{{}}}{:x}", &key[60..], crc(1, key.as_bytes()));
        let names: [&dyn Fn(&str) -> String; 5] = [&str::to_owned, &prefix, &tagged, &suffix, &end];
        for (n, name) in names.into_iter().enumerate() {
            for wanted in (0..16_384_u16).step_by(1_365 + n) {
                let key = key_in(wanted, name).unwrap().expect("a key");
                assert_eq!(slot(&name(key.as_ref())), wanted);
                assert_eq!(key.as_ref().len(), random::KEY_LENGTH);
            }
        }
    }

    #[test]
    fn the_keys_of_one_slot_differ() {
        let keys: HashSet<String> = (0..50)
            .map(|_| key_in(7, &str::to_owned).unwrap().expect("a key"))
            .map(|key| key.as_ref()[..60].to_owned())
            .collect();
        assert_eq!(keys.len(), 50);
    }

    #[test]
    fn names_that_hide_the_key_are_given_up_in_bounded_time() {
        let hidden = |key: &str| format!("{:x}", crc(1, key.as_bytes()));
        let lucky = (0..16_384).step_by(4_000);
        for wanted in lucky {
            if let Some(key) = key_in(wanted, &hidden).unwrap() {
                assert_eq!(slot(&hidden(key.as_ref())), wanted);
            }
        }
        let constant = |key: &str| format!("{{all}}:{key}");
        assert!(key_in(slot("{all}"), &constant).unwrap().is_some());
        assert!(key_in(slot("{other}"), &constant).unwrap().is_none());
    }
}
