//! What lies under a name.

use crate::{
    clock::Millis,
    protocol::{Owner, Redirect, Stored, TOMBSTONE},
    record::{Kind, Packed, Record},
    storage::{
        lease,
        upstream::{ANSWERED, ENTRY, NOTICED},
    },
};

pub(super) struct Entry {
    held: Held,
    pub(super) end: Millis,
}

/// The small fields lie where there is room for them: a store holds many of these.
enum Held {
    Packed(Rank, Kind, Packed),
    /// One that cannot be packed.
    Record(Rank, Box<Record>),
    Redirect(Rank, Box<Redirect>),
    Tombstone,
}

/// What an entry is worth in a full store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    Tombstone,
    /// A session without a principal, or the redirect to one.
    Guest,
    /// The redirect to a session with a principal.
    UsersRedirect,
    /// Whose sessions come from an upstream, and what it was answered.
    Upstream,
    User,
    /// What an upstream says is over.
    Notice,
    /// A principal's lock that is held. It counts for nothing, since it goes with its login.
    Lock,
}

/// How many ranks there are.
pub(super) const RANKS: usize = 7;

impl Rank {
    /// Those that make room for an entry of this rank, first the one that goes first.
    pub(super) const fn gives_way(self) -> &'static [Self] {
        match self {
            Self::Tombstone | Self::Guest => &[Self::Tombstone, Self::Guest],
            Self::UsersRedirect => &[Self::Tombstone, Self::Guest, Self::UsersRedirect],
            Self::Upstream | Self::User | Self::Notice | Self::Lock => &[
                Self::Tombstone,
                Self::Guest,
                Self::UsersRedirect,
                Self::Upstream,
                Self::User,
            ],
        }
    }

    fn of(name: &str, record: &Record) -> Self {
        let kind = |kind: &str| {
            name.strip_prefix(kind)
                .is_some_and(|it| it.starts_with('.'))
        };
        match record.principal() {
            Some(_) => Self::User,
            None if kind(ENTRY) || kind(ANSWERED) => Self::Upstream,
            None if kind(NOTICED) => Self::Notice,
            None if kind(lease::LOCK) && lease::is_free(record) => Self::Tombstone,
            None if kind(lease::LOCK) => Self::Lock,
            None => Self::Guest,
        }
    }
}

impl Entry {
    pub(super) fn record(name: &str, record: &Record, end: Millis) -> Self {
        let rank = Rank::of(name, record);
        let held = match Packed::new(record) {
            Some((packed, kind)) => Held::Packed(rank, kind, packed),
            None => Held::Record(rank, record.clone().into()),
        };
        Self { held, end }
    }

    /// The redirect to a record.
    pub(super) fn redirect(redirect: &Redirect, to: &Self, end: Millis) -> Self {
        let rank = match to.rank() {
            Rank::User | Rank::UsersRedirect => Rank::UsersRedirect,
            _ => Rank::Guest,
        };
        let held = Held::Redirect(rank, redirect.clone().into());
        Self { held, end }
    }

    /// Until `end`, the name is not used again.
    pub(super) const fn tombstone(end: Millis) -> Self {
        Self {
            held: Held::Tombstone,
            end,
        }
    }

    pub(super) const fn rank(&self) -> Rank {
        match self.held {
            Held::Packed(rank, ..) | Held::Record(rank, _) | Held::Redirect(rank, _) => rank,
            Held::Tombstone => Rank::Tombstone,
        }
    }

    pub(super) const fn is_record(&self) -> bool {
        matches!(self.held, Held::Packed(..) | Held::Record(..))
    }

    /// A record's text.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.held {
            Held::Packed(_, _, packed) => Some(packed.text()),
            Held::Record(_, record) => record.as_text(),
            Held::Redirect(..) | Held::Tombstone => None,
        }
    }

    pub(super) fn stored(&self) -> Stored {
        let record = |record: Record| Stored::Record(record.with_end(Some(self.end)));
        match &self.held {
            Held::Packed(_, kind, packed) => {
                let packed = packed.record(*kind);
                packed.map_or(Stored::Unreadable, record)
            }
            Held::Record(_, held) => record((**held).clone()),
            Held::Redirect(_, redirect) => Stored::Redirect((**redirect).clone()),
            Held::Tombstone => Stored::Nothing,
        }
    }

    /// Whose session the record is.
    pub(super) fn owner(&self) -> Option<Owner> {
        if self.rank() != Rank::User {
            return None;
        }
        match self.stored() {
            Stored::Record(record) => Owner::of(&record),
            _ => None,
        }
    }

    /// Whether it is the record of this session.
    pub(super) fn is_session(&self, id: u128) -> bool {
        self.owner().is_some_and(|owner| owner.id == id)
    }

    /// What is dumped.
    pub(super) fn to_text(&self) -> String {
        match &self.held {
            Held::Redirect(_, redirect) => redirect.encode(),
            Held::Tombstone => TOMBSTONE.to_owned(),
            Held::Packed(..) | Held::Record(..) => self.text().unwrap_or_default().to_owned(),
        }
    }
}
