//! Values as text: the end, a word, and what it says.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Millis,
    digest,
    protocol::{Name, NotBefore, Owner, Redirect, Stored, TOMBSTONE},
    record::Record,
};

const RECORD: &str = "record";
const MOVED: &str = "moved";
const PRINCIPAL: &str = "principal";

/// The name of what belongs to a key.
pub(super) fn session_name(key: &str) -> Name {
    format!("s.{}", digest::base64(key)).into()
}

/// The name of what is known of a principal.
pub(super) fn principal_name(principal: &str) -> Name {
    let digest = digest::base64(&format!("actix-session principal\0{principal}"));
    format!("p.{digest}").into()
}

/// What lies under the name of a key.
#[derive(Debug)]
pub(super) enum Held {
    Record(Record),
    Unreadable,
    Redirect(Redirect),
    Tombstone,
    Nothing,
}

impl Held {
    /// What a value says at this time.
    pub(super) fn of(value: Option<&[u8]>, now: Millis) -> Self {
        let Some(value) = value else {
            return Self::Nothing;
        };
        let Some((end, rest)) = split_end(value) else {
            return Self::Unreadable;
        };
        if end <= now {
            return Self::Nothing;
        }
        Self::read(end, rest).unwrap_or(Self::Unreadable)
    }

    fn read(end: Millis, rest: &str) -> Option<Self> {
        if rest == TOMBSTONE {
            return Some(Self::Tombstone);
        }
        let (word, rest) = rest.split_once(' ')?;
        match word {
            RECORD => {
                let (epoch, text) = rest.split_once(' ')?;
                let epoch = u64::from_str_radix(epoch, 16).ok()?;
                let record = Record::decode(text.to_owned()).ok()?;
                let epoch = Some(epoch).filter(|epoch| *epoch != 0);
                let record = record.with_epoch_beside(epoch);
                Some(Self::Record(record.with_end(Some(end))))
            }
            MOVED => Some(Self::Redirect(Redirect::decode(rest)?)),
            _ => None,
        }
    }

    /// As the protocol sees it.
    pub(super) fn stored(self) -> Stored {
        match self {
            Self::Record(record) => Stored::Record(record),
            Self::Unreadable => Stored::Unreadable,
            Self::Redirect(redirect) => Stored::Redirect(redirect),
            Self::Tombstone | Self::Nothing => Stored::Nothing,
        }
    }
}

pub(super) fn record(record: &Record, end: Millis) -> Vec<u8> {
    let text = record.as_text().unwrap_or_default();
    format!("{} {RECORD} {:x} {text}", end.0, record.epoch()).into_bytes()
}

pub(super) fn redirect(redirect: &Redirect, end: Millis) -> Vec<u8> {
    format!("{} {MOVED} {}", end.0, redirect.encode()).into_bytes()
}

pub(super) fn tombstone(end: Millis) -> Vec<u8> {
    format!("{} {TOMBSTONE}", end.0).into_bytes()
}

/// An end as a database keeps it.
pub(super) fn end(end: Millis) -> u64 {
    u64::try_from(end.0).unwrap_or_default()
}

/// When a value ends.
pub(super) fn end_of(value: &[u8]) -> Option<Millis> {
    Some(split_end(value)?.0)
}

fn split_end(value: &[u8]) -> Option<(Millis, &str)> {
    let (end, rest) = str::from_utf8(value).ok()?.split_once(' ')?;
    Some((Millis(end.parse().ok()?), rest))
}

/// What is known of a principal: which sessions there are, and which have ended together.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sessions {
    pub(super) not_before: Option<NotBefore>,
    pub(super) all: Vec<Session>,
}

/// A session of a principal, and the name of its record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Session {
    pub(super) id: u128,
    pub(super) login: Millis,
    pub(super) at: Name,
}

/// The same as JSON. Ids have more digits than JSON's numbers.
#[derive(Serialize, Deserialize)]
struct Written {
    v: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<(i64, Vec<String>)>,
    sessions: Vec<(String, i64, String)>,
}

const VERSION: u8 = 1;

impl Sessions {
    /// What a value says at this time; `None` if it cannot be read.
    pub(super) fn of(value: Option<&[u8]>, now: Millis) -> Option<Self> {
        let Some(value) = value else {
            return Some(Self::default());
        };
        let (end, rest) = split_end(value)?;
        if end <= now {
            return Some(Self::default());
        }
        let json = rest.strip_prefix(PRINCIPAL)?;
        let written: Written = serde_json::from_str(json).ok()?;
        if written.v != VERSION {
            return None;
        }
        let sessions = written.sessions.into_iter().map(|(id, login, at)| {
            Some(Session {
                id: parse_id(&id)?,
                login: Millis(login),
                at: at.into(),
            })
        });
        let not_before = match written.not_before {
            Some((at, spared)) => Some(NotBefore {
                at: Millis(at),
                spared: spared
                    .iter()
                    .map(|id| parse_id(id))
                    .collect::<Option<_>>()?,
            }),
            None => None,
        };
        Some(Self {
            not_before,
            all: sessions.collect::<Option<_>>()?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.not_before.is_none()
    }

    /// # Errors
    /// JSON takes all of it, so there are none.
    pub(super) fn encode(&self, end: Millis) -> anyhow::Result<Vec<u8>> {
        let all = self.all.iter();
        let not_before = self.not_before.as_ref();
        let written = Written {
            v: VERSION,
            not_before: not_before
                .map(|it| (it.at.0, it.spared.iter().copied().map(id_text).collect())),
            sessions: all
                .map(|it| (id_text(it.id), it.login.0, it.at.as_str().to_owned()))
                .collect(),
        };
        let json = serde_json::to_string(&written)?;
        Ok(format!("{} {PRINCIPAL} {json}", end.0).into_bytes())
    }

    /// Whether a session has ended together with others.
    pub(super) fn ends(&self, owner: &Owner) -> bool {
        let mark = self.not_before.as_ref();
        mark.is_some_and(|mark| mark.ends(owner.id, owner.login))
    }

    /// Notes where a session lies now.
    pub(super) fn enter(&mut self, owner: &Owner, at: &Name) {
        let session = Session {
            id: owner.id,
            login: owner.login,
            at: at.clone(),
        };
        match self.all.iter_mut().find(|known| known.id == owner.id) {
            Some(known) => *known = session,
            None => self.all.push(session),
        }
    }

    /// Forgets a session, if it lies there still. Answers whether it did.
    pub(super) fn leave(&mut self, id: u128, at: &str) -> bool {
        let before = self.all.len();
        self.all.retain(|known| known.id != id || *known.at != *at);
        self.all.len() < before
    }
}

fn id_text(id: u128) -> String {
    format!("{id:032x}")
}

fn parse_id(text: &str) -> Option<u128> {
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Flag;

    const NOW: Millis = Millis(1_000);

    #[test]
    fn what_is_written_is_read() {
        let text = r#"{"v":1,"state":{"a":"b c"}}"#;
        let written = Record::decode(text.to_owned()).unwrap();
        let value = record(&written, Millis(2_000));
        match Held::of(Some(&value), NOW) {
            Held::Record(read) => {
                assert_eq!(read.as_text(), Some(text));
                assert_eq!(read.end(), Some(Millis(2_000)));
            }
            held => panic!("{held:?}"),
        }
        assert!(matches!(
            Held::of(Some(&value), Millis(2_000)),
            Held::Nothing
        ));
        let moved = Redirect {
            target: "s.a b|c".into(),
            flag: Flag::Login,
            made_at: Millis(3),
        };
        let value = redirect(&moved, Millis(2_000));
        assert!(matches!(Held::of(Some(&value), NOW), Held::Redirect(read) if read == moved));
        assert!(matches!(
            Held::of(Some(&tombstone(Millis(2_000))), NOW),
            Held::Tombstone
        ));
    }

    #[test]
    fn a_principal_is_read_as_it_was_written() {
        let owner = |id, login| Owner {
            principal: "ferris".to_owned(),
            id,
            login: Millis(login),
        };
        let mut sessions = Sessions::default();
        assert_eq!(Sessions::of(None, NOW), Some(Sessions::default()));
        sessions.enter(&owner(u128::MAX, 7), &"s.a".into());
        sessions.enter(&owner(3, 8), &"s.b".into());
        sessions.enter(&owner(3, 8), &"s.c".into());
        sessions.not_before = Some(NotBefore {
            at: Millis(7),
            spared: vec![3],
        });
        let value = sessions.encode(Millis(2_000)).unwrap();
        let mut read = Sessions::of(Some(&value), NOW).unwrap();
        assert_eq!(read, sessions);
        assert!(read.ends(&owner(u128::MAX, 7)) && !read.ends(&owner(3, 7)));
        assert!(!read.leave(3, "s.b") && read.leave(3, "s.c"));
        assert_eq!(read.all.len(), 1);
    }

    #[test]
    fn garbage_is_unreadable_and_panics_nowhere() {
        let garbage: [&[u8]; 8] = [
            b"",
            b"\xff\xfe",
            b"x",
            b"9999999999999 ",
            b"9999999999999 record",
            b"9999999999999 record 0 {",
            b"9999999999999 moved x|y|z",
            b"99999999999999999999999999 ended",
        ];
        for value in garbage {
            assert!(
                matches!(Held::of(Some(value), NOW), Held::Unreadable),
                "{value:?}"
            );
            assert!(Sessions::of(Some(value), NOW).is_none(), "{value:?}");
        }
        let newer = br#"9999999999999 principal {"v":2,"sessions":[]}"#;
        assert!(Sessions::of(Some(newer), NOW).is_none());
    }
}
