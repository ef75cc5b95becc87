//! What requests do to their session.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    Clock, Login, Session,
    clock::{Millis, SharedClock},
    contract::Terms,
    record::Record,
    session::{Served, Shown, Snapshot, Times},
};

/// The entry that the session has from the start.
pub(super) const OLD: &str = "old";
/// The counter that every `modify` increments.
pub(super) const COUNT: &str = "n";
/// The names of all entries that there may be.
pub(super) const NAMES: [&str; 4] = [OLD, COUNT, "x", "y"];
/// The value of [`OLD`].
pub(super) const OLD_VALUE: &str = "7";
/// The principal that is logged in from the start, if any, and that most logins name.
pub(super) const SOMEBODY: &str = "alice";
const ANOTHER: &str = "bob";

/// What one request's handler does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// Asks whether its key is current, and extends the session.
    Read,
    InsertX,
    InsertY,
    InsertXY,
    RemoveX,
    RemoveOld,
    Modify,
    ModifyInsertX,
    SetTtl,
    Clear,
    ClearInsertY,
    Renew,
    RenewInsertX,
    RenewModify,
    ClearRenew,
    ClearRenewInsertY,
    Login,
    LoginInsertX,
    LoginModify,
    LoginAnother,
    Reauthenticate,
    Purge,
    PurgeInsertX,
    /// A second user logs in.
    PurgeLogin,
    /// The same by hand: the entry says who it is.
    PurgeRenewInsertX,
    /// These have no response head.
    InsertXNoHead,
    LoginInsertXNoHead,
    PurgeInsertXNoHead,
    /// Whoever is logged in must authenticate again.
    Demand,
    DemandRenew,
}

/// What an acknowledged request has done to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// The request's own value is there.
    Set,
    Absent,
    /// The request is counted, once.
    Counted,
}

impl Kind {
    /// A session's own TTL belongs to its login.
    pub(super) fn ends_a_ttl(self) -> bool {
        use Kind::*;
        let logs_out = matches!(self, Clear | ClearInsertY | ClearRenew | ClearRenewInsertY);
        logs_out || self.purges() || self.logs_in()
    }

    pub(super) const ALL: [Self; 30] = [
        Self::Read,
        Self::InsertX,
        Self::InsertY,
        Self::InsertXY,
        Self::RemoveX,
        Self::RemoveOld,
        Self::Modify,
        Self::ModifyInsertX,
        Self::SetTtl,
        Self::Clear,
        Self::ClearInsertY,
        Self::Renew,
        Self::RenewInsertX,
        Self::RenewModify,
        Self::ClearRenew,
        Self::ClearRenewInsertY,
        Self::Login,
        Self::LoginInsertX,
        Self::LoginModify,
        Self::LoginAnother,
        Self::Reauthenticate,
        Self::Purge,
        Self::PurgeInsertX,
        Self::PurgeLogin,
        Self::PurgeRenewInsertX,
        Self::InsertXNoHead,
        Self::LoginInsertXNoHead,
        Self::PurgeInsertXNoHead,
        Self::Demand,
        Self::DemandRenew,
    ];

    /// Those of which three meet. For the others, two have to do.
    pub(super) fn in_threes() -> &'static [Self] {
        &Self::ALL[..23]
    }

    /// The handler.
    fn handle(self, session: &Session, who: usize) {
        let insert = |name| session.insert(name, value(who)).unwrap();
        let modify = || {
            let one = one(who);
            session
                .modify(COUNT, move |n: Option<u64>| Some(n.unwrap_or(0) + one))
                .unwrap();
        };
        let login = |principal| {
            let login = Login::new(principal).device(who.to_string());
            session.login_with(login).unwrap();
        };
        match self {
            Self::Read => {}
            Self::InsertX | Self::InsertXNoHead => insert("x"),
            Self::InsertY => insert("y"),
            Self::InsertXY => {
                insert("x");
                insert("y");
            }
            Self::RemoveX => drop(session.remove("x")),
            Self::RemoveOld => drop(session.remove(OLD)),
            Self::Modify => modify(),
            Self::ModifyInsertX => {
                modify();
                insert("x");
            }
            Self::SetTtl => session.set_ttl(actix_web::cookie::time::Duration::from(own_ttl(who))),
            Self::Clear => session.clear(),
            Self::ClearInsertY => {
                session.clear();
                insert("y");
            }
            Self::Renew => session.renew(),
            Self::RenewInsertX => {
                insert("x");
                session.renew();
            }
            Self::RenewModify => {
                modify();
                session.renew();
            }
            Self::ClearRenew => {
                session.clear();
                session.renew();
            }
            Self::ClearRenewInsertY => {
                session.clear();
                session.renew();
                insert("y");
            }
            Self::Login => login(SOMEBODY),
            Self::LoginInsertX | Self::LoginInsertXNoHead => {
                login(SOMEBODY);
                insert("x");
            }
            Self::LoginModify => {
                login(SOMEBODY);
                modify();
            }
            Self::LoginAnother => login(ANOTHER),
            // If nobody is logged in, this is an error, and the request changes nothing.
            Self::Reauthenticate => drop(session.reauthenticated()),
            Self::Purge => session.purge(),
            Self::PurgeInsertX | Self::PurgeInsertXNoHead => {
                session.purge();
                insert("x");
            }
            Self::PurgeLogin => {
                session.purge();
                login(ANOTHER);
            }
            Self::PurgeRenewInsertX => {
                session.purge();
                insert("x");
                session.renew();
            }
            Self::Demand => session.demand_reauth(who.to_string()),
            Self::DemandRenew => {
                session.demand_reauth(who.to_string());
                session.renew();
            }
        }
    }

    /// The entries that the handler names, and what becomes of each.
    pub(super) fn wants(self) -> &'static [(&'static str, Want)] {
        match self {
            Self::InsertX
            | Self::RenewInsertX
            | Self::LoginInsertX
            | Self::PurgeInsertX
            | Self::PurgeRenewInsertX
            | Self::InsertXNoHead
            | Self::LoginInsertXNoHead
            | Self::PurgeInsertXNoHead => &[("x", Want::Set)],
            Self::InsertY | Self::ClearInsertY | Self::ClearRenewInsertY => &[("y", Want::Set)],
            Self::InsertXY => &[("x", Want::Set), ("y", Want::Set)],
            Self::RemoveX => &[("x", Want::Absent)],
            Self::RemoveOld => &[(OLD, Want::Absent)],
            Self::Modify | Self::RenewModify | Self::LoginModify => &[(COUNT, Want::Counted)],
            Self::ModifyInsertX => &[(COUNT, Want::Counted), ("x", Want::Set)],
            _ => &[],
        }
    }

    pub(super) fn names(self, name: &str) -> bool {
        self.wants().iter().any(|(named, _)| *named == name)
    }

    pub(super) fn clears(self) -> bool {
        matches!(
            self,
            Self::Clear | Self::ClearInsertY | Self::ClearRenew | Self::ClearRenewInsertY
        )
    }

    pub(super) fn purges(self) -> bool {
        use Kind::*;
        let goes_on = matches!(self, PurgeInsertX | PurgeLogin | PurgeRenewInsertX);
        goes_on || matches!(self, Purge | PurgeInsertXNoHead)
    }

    pub(super) fn logs_in(self) -> bool {
        matches!(
            self,
            Self::Login
                | Self::LoginInsertX
                | Self::LoginModify
                | Self::LoginAnother
                | Self::PurgeLogin
        )
    }

    pub(super) fn demands(self) -> bool {
        matches!(self, Self::Demand | Self::DemandRenew)
    }

    /// Whether the answer can carry a cookie.
    pub(super) fn has_a_head(self) -> bool {
        !matches!(
            self,
            Self::InsertXNoHead | Self::LoginInsertXNoHead | Self::PurgeInsertXNoHead
        )
    }

    /// Whether it must write nothing: a login whose cookie reaches nobody would be half done, and so
    /// would a new session.
    pub(super) fn writes_nothing(self) -> bool {
        matches!(self, Self::LoginInsertXNoHead | Self::PurgeInsertXNoHead)
    }

    /// What a request of this kind asks for after it has loaded `base`.
    pub(super) fn snapshot(self, who: usize, base: Option<&Record>) -> &'static Snapshot {
        /// Everything that a handler may react to.
        type Seen = (Kind, usize, Option<String>, bool, bool, bool);
        static KNOWN: LazyLock<Mutex<HashMap<Seen, &'static Snapshot>>> =
            LazyLock::new(Mutex::default);

        let principal = base.and_then(Record::principal).map(str::to_owned);
        let has = |name| base.is_some_and(|base| base.state().contains(name));
        let demanded = base.is_some_and(|base| demand(base).is_some());
        let seen = (self, who, principal, has(OLD), has("x"), demanded);
        // Leaked, because machines borrow their changes. There are only a few hundred small ones.
        KNOWN
            .lock()
            .unwrap()
            .entry(seen)
            .or_insert_with(|| Box::leak(Box::new(self.record(who, base))))
    }

    fn record(self, who: usize, base: Option<&Record>) -> Snapshot {
        let session = Session::of_request(
            Served::unnamed(
                SharedClock::new(Still),
                Times::from(&Terms::default()),
                false,
            ),
            Shown::default(),
        );
        if let Some(base) = base {
            session.lock().load(Shown {
                record: Some(base.clone()),
                ..Shown::default()
            });
        }
        self.handle(&session, who);
        let mut snapshot = session.lock().take_snapshot();
        // Counted values replace the random ones that the handle has drawn.
        let changes = &mut snapshot.changes;
        changes.cleared = changes.cleared.map(|_| epoch(who));
        if let Some(login) = &mut changes.login {
            login.id = 100 + u128::try_from(who).unwrap();
        }
        snapshot
    }
}

/// Why whoever is logged in must authenticate again.
pub(super) fn demand(record: &Record) -> Option<&str> {
    record.metadata()?.auth.as_deref()?.demand()
}

/// The value that a request gives to the entries that it sets.
pub(super) fn value(who: usize) -> usize {
    10 + who
}

/// The TTL that a request gives to the session.
pub(super) fn own_ttl(who: usize) -> Millis {
    Millis::secs(3600 * i64::try_from(who + 1).unwrap())
}

/// What a request adds to the counter: it counts in a hexadecimal digit of its own.
fn one(who: usize) -> u64 {
    16_u64.pow(u32::try_from(who).unwrap())
}

/// How often a request is counted.
pub(super) fn counted(count: &str, who: usize) -> u64 {
    let count: u64 = count.parse().expect("a counter is a number");
    count / one(who) % 16
}

/// The epoch that a request's `clear` draws.
pub(super) fn epoch(who: usize) -> u64 {
    1 + u64::try_from(who).unwrap()
}

/// Time stands still.
pub(super) struct Still;

impl Clock for Still {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000)
    }
}
