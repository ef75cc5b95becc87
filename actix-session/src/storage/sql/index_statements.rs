//! The statements about a principal's sessions.

use super::{
    database::Database,
    statement::Statement,
    statements::{COLUMNS, REDIRECT, Tells},
};

/// Statements that go by the principal, through its index.
#[derive(Debug)]
pub(crate) struct IndexStatements {
    pub(crate) first_page: Statement,
    pub(crate) page: Statement,
    pub(crate) mark: Statement,
    pub(crate) insert_mark: Statement,
    pub(crate) end_marked: Statement,
    /// Finds a row if a login has ended with others.
    pub(crate) has_ended: Statement,
    /// Deletes what a principal's mark has ended.
    pub(crate) sweep_ended: Statement,
    pub(crate) sweep_mark: Statement,
}

impl IndexStatements {
    pub(super) fn new<D: Database>(tell: Option<&str>, make: impl Fn(&str) -> Statement) -> Self {
        let login = D::LOGIN;
        let page = |after: &str| {
            let ended = ended::<D>();
            make(&format!(
                "SELECT id, session_id, COALESCE(logged_in, authenticated, created), {COLUMNS} FROM {{table}} \
                 WHERE principal = :principal AND session_id IS NOT NULL AND moved_to IS NULL \
                 AND expires > :now AND NOT {ended}{after} \
                 ORDER BY {login} DESC, session_id DESC LIMIT :batch"
            ))
        };
        let not_spared = not_spared::<D>(":spared", "session_id");
        let by_ended = format!(
            "(ended_at >= :by_login AND {})",
            self::not_spared::<D>("spared", ":by_id")
        );
        let greatest = D::GREATEST;
        Self {
            first_page: page(""),
            page: page(&format!(
                " AND ({login} < :after_login \
                 OR ({login} = :after_login AND session_id < :after_id))"
            )),
            mark: make(&format!(
                "UPDATE {{not_before}} SET spared = :spared, \
                 ended_at = {greatest}(ended_at, :mark), expires = {greatest}(expires, :expires) \
                 WHERE principal = :principal AND NOT {by_ended}"
            )),
            insert_mark: make(
                "INSERT INTO {not_before} (principal, ended_at, spared, expires) \
                 VALUES (:principal, :mark, :spared, :expires)",
            ),
            end_marked: make(&end_marked::<D>(tell, &not_spared)),
            has_ended: make(&format!(
                "SELECT {COLUMNS} FROM {{table}} WHERE id = :id AND {}",
                new_ended::<D>()
            )),
            sweep_ended: make(&format!(
                "DELETE FROM {{table}} WHERE principal = :principal AND {}",
                ended::<D>()
            )),
            sweep_mark: make(
                "DELETE FROM {not_before} WHERE principal = :principal AND expires <= :now",
            ),
        }
    }
}

/// The mark that is stored may be of a later time, by a clock that is ahead, and have ended more.
fn end_marked<D: Database>(tell: Option<&str>, not_spared: &str) -> String {
    let (ended, login) = (ended::<D>(), D::LOGIN);
    let rows = format!(
        "principal = :principal AND moved_to IS NULL AND expires > :now \
         AND (({login} <= :mark AND {not_spared}) OR {ended})"
    );
    match Tells::of_rows(tell, "r", &rows) {
        None => format!("UPDATE {{table}} SET {REDIRECT} WHERE {rows}"),
        Some(Tells { old, is_it, tell }) => {
            format!("UPDATE {{table}} SET {REDIRECT}{old} WHERE {rows}{is_it} RETURNING {tell}")
        }
    }
}

/// Whether the row of a session has ended together with its owner's others. One that belongs to nobody
/// has not.
///
/// Not by `EXISTS`, of which PostgreSQL makes a join: whoever has waited for the row's lock looks again at
/// the row as it is then, but not at what it is joined with, and the owner may be another one. A principal
/// has one mark at most.
pub(super) fn ended<D: Database>() -> String {
    let not_spared = not_spared::<D>("marks.spared", "session_id");
    let login = D::LOGIN;
    format!(
        "((SELECT 1 FROM {{not_before}} AS marks WHERE marks.principal = {{bare}}.principal \
         AND marks.ended_at >= {login} AND {not_spared}) IS NOT NULL)"
    )
}

/// The same of a session that is about to be written. Its owner may have been erased, too. Nothing here is
/// the row's.
pub(super) fn new_ended<D: Database>() -> String {
    let not_spared = not_spared::<D>("marks.spared", ":session_id");
    format!(
        "EXISTS (SELECT 1 FROM {{not_before}} AS marks \
         WHERE marks.principal IN (:principal, :erased) \
         AND marks.ended_at >= :logged_in AND {not_spared})"
    )
}

/// Whether an id is not among those that a mark spares. `NULL` is not.
fn not_spared<D: Database>(spared: &str, id: &str) -> String {
    let find = D::FIND.replace("{whole}", spared).replace("{part}", id);
    format!("COALESCE({find}, 0) = 0")
}
