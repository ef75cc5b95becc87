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
    pub(crate) insert: Statement,
    /// The same for a session of somebody, unless it has ended with others.
    pub(crate) insert_owned: Statement,
    /// Leaves a redirect, or a tombstone.
    pub(crate) move_away: Expecting,
    /// Moves and inserts at once, if the database can.
    pub(crate) rotate: Option<Expecting>,
    pub(crate) end: Statement,
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

const FOREVER: i64 = i64::MAX;

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
    pub(crate) fn new<D: Database>(table: &Table, are_prepared: bool) -> Self {
        let make = |template: &str| {
            let template = table.fill(template, D::QUOTE);
            Statement::new(&template, D::placeholder).prepared(are_prepared)
        };
        let expecting =
            |template: fn(&str) -> String| Expecting::new(|version| make(&template(version)));
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
            replace: expecting(replace::<D>),
            insert_owned: make(&insert_owned::<D>()),
            insert: make(&format!(
                "INSERT INTO {{table}} ({NEW_COLUMNS}) VALUES ({NEW_VALUES})"
            )),
            move_away: expecting(move_away::<D>),
            rotate: D::ROTATES_AT_ONCE.then(|| expecting(rotate::<D>)),
            end: make(&format!(
                "UPDATE {{table}} SET {REDIRECT} WHERE id = :id AND moved_to IS NULL"
            )),
            delete_expired: make("DELETE FROM {table} WHERE id = :id AND expires <= :now"),
            sweep: make(D::SWEEP),
            index: IndexStatements::new::<D>(make),
            upkeep: UpkeepStatements::new(make),
        }
    }
}

impl Expecting {
    fn new(make: impl Fn(&str) -> Statement) -> Self {
        // The prefix as well: whoever edits the text by hand leaves the revision as it was.
        let by_revision = format!(
            "revision = :expect AND substr(state, 1, {}) = :prefix",
            version_prefix(0).len()
        );
        Self {
            by_revision: make(&by_revision),
            by_text: make("state = :whole"),
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
         COALESCE(absolute_end, COALESCE(authenticated, created) + :absolute, {FOREVER})) \
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
    let least = D::LEAST;
    format!(
        "UPDATE {{table}} SET {WRITE}, expires = {least}(COALESCE(:expires, expires), :idle_end) \
         WHERE {} AND {version}",
        live::<D>()
    )
}

fn insert_owned<D: Database>() -> String {
    let (nothing, ended) = (D::FROM_NOTHING, new_ended::<D>());
    format!("INSERT INTO {{table}} ({NEW_COLUMNS}) SELECT {NEW_VALUES}{nothing} WHERE NOT {ended}")
}

fn move_away<D: Database>(version: &str) -> String {
    format!(
        "UPDATE {{table}} SET {REDIRECT} WHERE {} AND {version}",
        live::<D>()
    )
}

fn rotate<D: Database>(version: &str) -> String {
    let (move_away, ended) = (move_away::<D>(version), new_ended::<D>());
    format!(
        "WITH moved AS ({move_away} AND NOT {ended} RETURNING 1) INSERT INTO {{table}} ({NEW_COLUMNS}) \
         SELECT {NEW_VALUES} FROM moved"
    )
}
