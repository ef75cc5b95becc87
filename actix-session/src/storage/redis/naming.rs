//! How a session key becomes the name of its record.

use std::{borrow::Cow, sync::Arc};

use anyhow::ensure;

use super::slots::{key_in, slot};
use crate::{digest, error::CommitError, protocol::Drawn, random};

pub(super) type Keygen = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// The settings that make a name, from the inside out.
#[derive(Default, Clone)]
pub(super) struct Naming {
    pub(super) custom: Option<Keygen>,
    pub(super) hashed: bool,
    pub(super) prefix: String,
}

impl Naming {
    /// The names in a cluster. A digest hides where its record lies, so that no key could be drawn for a slot.
    /// What the key ends with stands before it, in the braces that say where.
    pub(super) fn into_keygen_with_slots(self) -> Keygen {
        let Self {
            custom: None,
            hashed: true,
            prefix,
        } = self
        else {
            return self.into_keygen();
        };
        Arc::new(move |key| {
            let digest = digest::hex(key);
            match tag_of(key).filter(|_| !prefix.contains('{')) {
                Some(tag) => format!("{prefix}{{{tag}}}{digest}"),
                None => format!("{prefix}{digest}"),
            }
        })
    }

    pub(super) fn into_keygen(self) -> Keygen {
        let Self {
            custom,
            hashed,
            prefix,
        } = self;
        let custom = custom.map(|custom| Arc::new(move |key: &str| custom(&whole(key))) as Keygen);
        match (custom, hashed, prefix.as_str()) {
            (None, false, "") => Arc::new(str::to_owned),
            (Some(custom), false, "") => custom,
            (None, false, _) => Arc::new(move |key| [&prefix, key].concat()),
            (Some(custom), false, _) => {
                Arc::new(move |key| [&prefix, custom(key).as_str()].concat())
            }
            (None, true, _) => Arc::new(move |key| format!("{}{}", &prefix, digest::hex(key))),
            (Some(custom), true, _) => {
                Arc::new(move |key| format!("{}{}", &prefix, digest::hex(&custom(key))))
            }
        }
    }
}

/// An application's names are for session keys, and may count on their length: what else it has to name is
/// no shorter.
pub(super) fn whole(key: &str) -> Cow<'_, str> {
    let length = random::KEY_LENGTH;
    match key.len() < length {
        true => format!("{key:.<length$}").into(),
        false => key.into(),
    }
}

/// How many characters of a key say where its record lies, if a digest hides the others: enough to draw from.
pub(super) const TAG: usize = 4;

/// Other names than those of sessions may end with anything.
fn tag_of(key: &str) -> Option<&str> {
    let tag = key.get(key.len().checked_sub(TAG)?..)?;
    let is_plain = tag.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_plain.then_some(tag)
}

/// The name of a record's redirect, which lies in the same slot of a cluster.
pub(super) fn redirect_name(name: &str) -> String {
    beside(name, "moved")
}

/// The name of what keeps the epoch of a record whose text does not.
pub(super) fn epoch_name(name: &str) -> String {
    beside(name, "cleared")
}

/// The name of a principal's index, which does not say who that is. No session key has a full stop, so
/// it lies beside no record.
pub(super) fn index_name(name: &dyn Fn(&str) -> String, principal: &str) -> String {
    let digest = digest::hex(&format!("actix-session index\0{principal}"));
    beside(&name(&format!("index.{digest}")), "sessions")
}

/// The channel on which ends of sessions are told.
pub(super) fn ends_channel(name: &dyn Fn(&str) -> String) -> String {
    beside(&name("ends."), "told")
}

fn beside(name: &str, what: &str) -> String {
    if name.contains('{') {
        [name, ":", what].concat()
    } else {
        ["{", name, "}:", what].concat()
    }
}

/// Refuses names whose redirect would lie in another slot: with a `}` alone, or an empty `{}`.
pub(super) fn check_for_cluster(name: &dyn Fn(&str) -> String) -> anyhow::Result<()> {
    // A session key has no braces, so they come from the `cache_keygen`. Names of several keys are
    // tried, because braces may depend on the key.
    for _ in 0..8 {
        let key = random::session_key()?;
        let name = name(key.as_ref());
        ensure!(
            slot(&name) == slot(&redirect_name(&name)),
            "the names of this `cache_keygen` have braces that are invalid for a cluster: use \
             none, or put some text between the first `{{` and the next `}}`"
        );
    }
    Ok(())
}

/// Draws a key. In a cluster its record falls into the slot of its owner's index, or else of the old
/// record, if possible.
pub(super) fn draw_key(
    name: &dyn Fn(&str) -> String,
    has_slots: bool,
    beside: Option<&str>,
    owner: Option<&str>,
) -> Result<Drawn, CommitError> {
    let wanted = match owner {
        _ if !has_slots => None,
        Some(owner) => Some(slot(&index_name(name, owner))),
        None => beside.map(slot),
    };
    let found = match wanted {
        Some(wanted) => key_in(wanted, name).map_err(CommitError::Other)?,
        None => None,
    };
    let (key, ids) = match found {
        Some(key) => (key, None),
        None => {
            let drawn = random::session_key_and_ids();
            drawn
                .map(|(key, ids)| (key, Some(ids)))
                .map_err(CommitError::Other)?
        }
    };
    let name = name(key.as_ref()).into();
    Ok(Drawn { key, name, ids })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(naming: Naming) -> String {
        naming.into_keygen()("abc")
    }

    #[test]
    fn names_are_made_from_the_inside_out() {
        let sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let naming = |custom: bool, hashed, prefix: &str| Naming {
            custom: custom.then(|| Arc::new(|_: &str| "abc".to_owned()) as Keygen),
            hashed,
            prefix: prefix.to_owned(),
        };
        for custom in [false, true] {
            assert_eq!(name(naming(custom, false, "")), "abc");
            assert_eq!(name(naming(custom, false, "shop:")), "shop:abc");
            assert_eq!(name(naming(custom, true, "")), sha);
            assert_eq!(name(naming(custom, true, "shop:")), format!("shop:{sha}"));
        }
        let twice = |key: &str| format!("{key}{key}");
        let twice = Naming {
            custom: Some(Arc::new(twice)),
            ..Naming::default()
        };
        let key = "a".repeat(random::KEY_LENGTH);
        assert_eq!(twice.into_keygen()(&key), key.repeat(2));
    }

    #[cfg(feature = "redis-actor-session")]
    #[test]
    fn both_stores_tell_ends_on_one_channel() {
        let naming = Naming {
            custom: Some(Arc::new(|key: &str| format!("s:{key}"))),
            ..Naming::default()
        };
        let actor = crate::storage::RedisActorSessionStore::builder("127.0.0.1:1");
        let actor = actor.cache_keygen(|key| format!("s:{key}"));
        assert_eq!(
            ends_channel(&*naming.into_keygen()),
            ends_channel(actor.keygen())
        );
    }

    #[test]
    fn an_applications_names_are_asked_for_nothing_shorter_than_a_key() {
        let custom: Keygen = Arc::new(|key: &str| format!("{}/{}", &key[..2], &key[63..]));
        let naming = Naming {
            custom: Some(custom),
            ..Naming::default()
        };
        let keygen = naming.into_keygen();
        assert_eq!(ends_channel(&*keygen), "{en/.}:told");
        assert_eq!(keygen("slots.7"), "sl/.");
    }

    /// A digest is what it is on one server, and in a cluster the same behind a tag.
    #[test]
    fn in_a_cluster_a_digest_has_the_end_of_its_key_as_its_tag() {
        let hashed = |prefix: &str, custom: Option<Keygen>| Naming {
            custom,
            hashed: true,
            prefix: prefix.to_owned(),
        };
        let key = "a".repeat(60) + "WXYZ";
        let sha = hashed("", None).into_keygen()(&key);
        for (prefix, named) in [
            ("", format!("{{WXYZ}}{sha}")),
            ("shop:", format!("shop:{{WXYZ}}{sha}")),
            ("{shop}:", format!("{{shop}}:{sha}")),
        ] {
            let keygen = hashed(prefix, None).into_keygen_with_slots();
            assert_eq!(keygen(&key), named);
            check_for_cluster(&*keygen).unwrap();
            // It can be drawn where its owner's index lies.
            let index = index_name(&*keygen, "user-42");
            let drawn = draw_key(&*keygen, true, Some("old"), Some("user-42")).unwrap();
            assert_eq!(slot(&drawn.name), slot(&index), "{index}");
            assert!(!drawn.name.contains(&drawn.key.as_ref()[..60]));
        }
        for odd in ["", "abc", "ab{c}", "ends.", "\u{1F980}", "x\u{1F980}y"] {
            let name = hashed("", None).into_keygen_with_slots()(odd);
            assert_eq!(name, digest::hex(odd), "{odd}");
        }
        // What an application's names hide stays hidden.
        let custom: Keygen = Arc::new(|key: &str| key.to_uppercase());
        let both = hashed("", Some(custom)).into_keygen_with_slots();
        assert_eq!(both(&key), digest::hex(&key.to_uppercase()));
    }

    /// Rights on channels are given by these names.
    #[test]
    fn the_channel_of_ends_has_the_prefix() {
        let channel = |prefix: &str| {
            let prefix = prefix.to_owned();
            let naming = Naming {
                prefix,
                ..Naming::default()
            };
            ends_channel(&*naming.into_keygen())
        };
        assert_eq!(channel(""), "{ends.}:told");
        assert_eq!(channel("shop:"), "{shop:ends.}:told");
    }

    #[test]
    fn odd_braces_are_refused() {
        let refused = |form: fn(&str) -> String| check_for_cluster(&form).is_err();
        assert!(refused(|key| format!("a}}{key}")));
        assert!(refused(|key| format!("{{}}{key}")));
        assert!(refused(|key| format!("{{{key}")));
        assert!(!refused(|key| key.to_owned()));
        assert!(!refused(|key| format!("{{shop}}:{key}")));
        assert!(!refused(|key| format!("s:{{{key}}}")));
    }

    #[test]
    fn a_redirect_lies_in_the_slot_of_its_record() {
        for name in ["abc", "shop:abc", "{shop}:abc", "s:{abc}:x"] {
            assert_eq!(slot(name), slot(&redirect_name(name)), "{name}");
        }
    }

    #[test]
    fn a_key_is_drawn_for_the_slot_of_its_owners_index() {
        let names: [fn(&str) -> String; 3] = [
            str::to_owned,
            |key| format!("shop:{key}"),
            |key| format!("s:{{{key}}}:x"),
        ];
        for name in names {
            let index = index_name(&name, "user-42");
            assert!(!index.contains("user-42") && index.ends_with(":sessions"));
            assert_ne!(index, index_name(&name, "user-43"));
            let drawn = draw_key(&name, true, Some("old"), Some("user-42")).unwrap();
            assert_eq!(slot(&drawn.name), slot(&index), "{index}");
        }
    }
}
