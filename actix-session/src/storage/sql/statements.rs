//! Every statement of a store.

use super::{
    database::Database,
    index_statements::{IndexStatements, ended, new_ended},
    statement::{Statement, Values},
    table::Table,
    upkeep::UpkeepStatements,
};
use crate::record::version_prefix;

/// Every statement of a store, as its database takes it.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) probe: Statement,
    pub(crate) read: Statement,
    pub(crate) touch: Statement,
    pub(crate) set_end: Statement,
    pub(crate) replace: Expecting,
    /// The same where the record may become another session.
    pub(crate) replace_other: Expecting,
    pub(crate) insert: Statement,
    /// The same for a session of somebody, unless it has ended with others.
    pub(crate) insert_owned: Statement,
    /// Leaves a redirect, or a tombstone.
    pub(crate) move_away: Expecting,
    /// Moves and inserts at once, if the database can.
    pub(crate) rotate: Option<Rotating>,
    pub(crate) end: Statement,
    /// The same of a record that is the expected version.
    pub(crate) revoke: Expecting,
    /// The same, and tells that the principal has too many.
    pub(crate) revoke_over_limit: Expecting,
    /// Tells nothing on a channel, if the database can.
    pub(crate) tell: Statement,
    pub(crate) delete_expired: Statement,
    pub(crate) sweep: Statement,
    pub(crate) index: IndexStatements,
    pub(crate) upkeep: UpkeepStatements,
}

/// A statement that changes a record only while it is the expected version.
#[derive(Debug)]
pub(crate) struct Expecting {
    by_revision: Statement,
    by_text: Statement,
}

/// Renewals in one statement.
#[derive(Debug)]
pub(crate) struct Rotating {
    pub(crate) same: Expecting,
    /// Of what becomes another session.
    pub(crate) other: Expecting,
}

const FOREVER: i64 = i64::MAX;
/// From when the policy's absolute timeout counts. A record without an id has no metadata, and counts as made
/// at first sight, however old its row is.
const SINCE: &str =
    "COALESCE(authenticated, CASE WHEN session_id IS NULL THEN :now ELSE created END)";

pub(super) const COLUMNS: &str = "state, expires, moved_to, moved_flag, moved_at, epoch, revision";

/// Of the table that says which sessions of a principal have ended, by the time of their logins.
const NOT_BEFORE: &str = "principal, ended_at, spared, expires";

const UNEXPIRED: &str = "id = :id AND expires > :now";

/// A record that has not ended together with its owner's others.
fn live<D: Database>() -> String {
    format!("{UNEXPIRED} AND moved_to IS NULL AND NOT {}", ended::<D>())
}

const WRITE: &str = "state = :state, revision = :revision, epoch = :epoch, \
    session_id = :session_id, principal = :principal, created = :created, logged_in = :logged_in, \
    authenticated = :authenticated, ttl = :ttl, absolute_end = :absolute_end";

const NEW_COLUMNS: &str = "id, state, revision, epoch, session_id, principal, created, logged_in, \
    authenticated, ttl, absolute_end, expires";

const NEW_VALUES: &str = ":target, :state, :revision, :epoch, :session_id, :principal, :created, \
    :logged_in, :authenticated, :ttl, :absolute_end, :expires";

pub(super) const REDIRECT: &str = "state = NULL, revision = NULL, epoch = NULL, session_id = NULL, \
    principal = NULL, logged_in = NULL, authenticated = NULL, ttl = NULL, absolute_end = NULL, moved_to = :target, moved_flag = :flag, \
    moved_at = :moved_at, expires = :redirect_end";

impl Statements {
    /// `tell` is the call that tells other processes what a statement ends, if it is to tell.
    pub(crate) fn new<D: Database>(
        table: &Table,
        are_prepared: bool,
        tell: Option<&'static str>,
    ) -> Self {
        let make = |template: &str| {
            let template = table.fill(template, D::QUOTE);
            Statement::new(&template, D::placeholder).prepared(are_prepared)
        };
        let expecting = |template: &dyn Fn(&str) -> String| {
            Expecting::new::<D>(|version| make(&template(version)))
        };
        Self {
            probe: make(&format!(
                "SELECT {NEW_COLUMNS}, {COLUMNS} FROM {{table}} WHERE id = '' AND EXISTS \
                 (SELECT {NOT_BEFORE} FROM {{not_before}})"
            )),
            read: make(&format!(
                "SELECT {COLUMNS} FROM {{table}} WHERE {UNEXPIRED} AND NOT {}",
                ended::<D>()
            )),
            touch: make(&touch::<D>()),
            set_end: make(&set_end::<D>()),
            replace: expecting(&replace::<D>),
            replace_other: expecting(&|version| replace_other::<D>(tell, version)),
            insert_owned: make(&insert_owned::<D>()),
            insert: make(&format!(
                "INSERT INTO {{table}} ({NEW_COLUMNS}) VALUES ({NEW_VALUES})"
            )),
            move_away: expecting(&move_away::<D>),
            rotate: D::ROTATES_AT_ONCE.then(|| Rotating {
                same: expecting(&rotate::<D>),
                other: expecting(&|version| rotate_other::<D>(tell, version)),
            }),
            end: make(&end(tell)),
            revoke: expecting(&|version| revoke::<D>(tell, "r", version)),
            revoke_over_limit: expecting(&|version| revoke::<D>(tell, "l", version)),
            tell: make(tell.map_or("SELECT 1", |_| "SELECT pg_notify(:id, '')")),
            delete_expired: make("DELETE FROM {table} WHERE id = :id AND expires <= :now"),
            sweep: make(D::SWEEP),
            index: IndexStatements::new::<D>(tell, make),
            upkeep: UpkeepStatements::new::<D>(make),
        }
    }
}

impl Expecting {
    fn new<D: Database>(make: impl Fn(&str) -> Statement) -> Self {
        // The prefix as well: whoever edits the text by hand leaves the revision as it was.
        let by_revision = format!(
            "revision = :expect AND substr({}, 1, {}) = :prefix",
            D::STATE,
            version_prefix(0).len()
        );
        Self {
            by_revision: make(&by_revision),
            by_text: make(&format!("{} = :whole", D::STATE)),
        }
    }

    /// The statement that compares what these values expect: a revision or the whole text.
    pub(crate) fn of(&self, values: &Values<'_>) -> &Statement {
        match values.expect {
            Some(_) => &self.by_revision,
            None => &self.by_text,
        }
    }
}

/// Extends a record. Its own TTL and absolute end take precedence over the policy's.
fn touch<D: Database>() -> String {
    let least = D::LEAST;
    let returning = if D::RETURNS {
        format!(" RETURNING {COLUMNS}")
    } else {
        String::new()
    };
    format!(
        "UPDATE {{table}} SET expires = {least}(COALESCE(:now + ttl, :idle_end), \
         COALESCE(absolute_end, {SINCE} + :absolute, {FOREVER})) \
         WHERE {}{returning}",
        live::<D>()
    )
}

fn set_end<D: Database>() -> String {
    let least = D::LEAST;
    format!(
        "UPDATE {{table}} SET expires = {least}(:idle_end, COALESCE(absolute_end, {FOREVER})) \
         WHERE {}",
        live::<D>()
    )
}

fn replace<D: Database>(version: &str) -> String {
    replace_from::<D>("", version)
}

/// Not if the owner that the record gets has ended such sessions, or was erased.
fn replace_other<D: Database>(tell: Option<&str>, version: &str) -> String {
    let version = format!("{version} AND NOT {}", new_ended::<D>());
    let Some(tells) = Tells::of(tell, "o") else {
        return replace::<D>(&version);
    };
    let Tells { old, is_it, tell } = &tells;
    let replace = replace_from::<D>(old, &version);
    let is_other = "old.old_session IS DISTINCT FROM :session_id";
    format!("{replace}{is_it} RETURNING CASE WHEN {is_other} THEN {tell} END")
}

fn replace_from<D: Database>(from: &str, version: &str) -> String {
    let least = D::LEAST;
    format!(
        "UPDATE {{table}} SET {WRITE}, expires = {least}(COALESCE(:expires, expires), :idle_end)\
         {from} WHERE {} AND {version}",
        live::<D>()
    )
}

/// What a statement needs to tell other processes which session it has ended.
pub(super) struct Tells {
    /// The row as it was before, after the assignments.
    pub(super) old: String,
    /// Its condition.
    pub(super) is_it: &'static str,
    pub(super) tell: String,
}

impl Tells {
    /// What to tell about the record of a name.
    fn of(tell: Option<&str>, letter: &str) -> Option<Self> {
        Self::of_rows(tell, letter, "id = :id AND moved_to IS NULL")
    }

    /// `None` if nothing is to be told.
    pub(super) fn of_rows(tell: Option<&str>, letter: &str, rows: &str) -> Option<Self> {
        let tell = tell?.replace("{letter}", letter);
        Some(Self {
            old: format!(
                " FROM (SELECT id AS old_id, session_id AS old_session FROM {{table}} \
                 WHERE {rows} FOR UPDATE) AS old"
            ),
            is_it: " AND id = old.old_id",
            tell,
        })
    }
}

fn end(tell: Option<&str>) -> String {
    let rows = "WHERE id = :id AND moved_to IS NULL";
    match Tells::of(tell, "o") {
        None => format!("UPDATE {{table}} SET {REDIRECT} {rows}"),
        Some(Tells { old, is_it, tell }) => {
            format!("UPDATE {{table}} SET {REDIRECT}{old} {rows}{is_it} RETURNING {tell}")
        }
    }
}

fn insert_owned<D: Database>() -> String {
    let (nothing, ended) = (D::FROM_NOTHING, new_ended::<D>());
    format!("INSERT INTO {{table}} ({NEW_COLUMNS}) SELECT {NEW_VALUES}{nothing} WHERE NOT {ended}")
}

fn move_away<D: Database>(version: &str) -> String {
    move_away_from::<D>("", version)
}

fn move_away_from<D: Database>(from: &str, version: &str) -> String {
    format!(
        "UPDATE {{table}} SET {REDIRECT}{from} WHERE {} AND {version}",
        live::<D>()
    )
}

fn revoke<D: Database>(tell: Option<&str>, letter: &str, version: &str) -> String {
    let Some(Tells { old, is_it, tell }) = Tells::of(tell, letter) else {
        return move_away::<D>(version);
    };
    let move_away = move_away_from::<D>(&old, version);
    format!("{move_away}{is_it} RETURNING {tell}")
}

fn rotate<D: Database>(version: &str) -> String {
    rotate_from::<D>(&move_away::<D>(version), "1")
}

fn rotate_other<D: Database>(tell: Option<&str>, version: &str) -> String {
    let Some(Tells { old, is_it, tell }) = Tells::of(tell, "o") else {
        return rotate::<D>(version);
    };
    let move_away = move_away_from::<D>(&old, version);
    rotate_from::<D>(&format!("{move_away}{is_it}"), &tell)
}

fn rotate_from<D: Database>(move_away: &str, returning: &str) -> String {
    let ended = new_ended::<D>();
    format!(
        "WITH moved AS ({move_away} AND NOT {ended} RETURNING {returning}) INSERT INTO {{table}} \
         ({NEW_COLUMNS}) SELECT {NEW_VALUES} FROM moved"
    )
}
