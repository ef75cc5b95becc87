//! One SQL statement with named parameters, written once for all databases.

use super::row::{RecordColumns, RedirectColumns};

/// A parameter of a statement: `:name` in its template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Param {
    Id,
    Now,
    Expect,
    Prefix,
    Whole,
    State,
    Revision,
    Epoch,
    SessionId,
    Principal,
    Created,
    LoggedIn,
    Authenticated,
    Ttl,
    AbsoluteEnd,
    Expires,
    Target,
    Flag,
    MovedAt,
    RedirectEnd,
    IdleEnd,
    Absolute,
    Batch,
    Mark,
    Spared,
    ByLogin,
    ById,
    AfterLogin,
    AfterId,
    Erased,
}

const PARAMS: [(&str, Param); 30] = [
    ("id", Param::Id),
    ("now", Param::Now),
    ("expect", Param::Expect),
    ("prefix", Param::Prefix),
    ("whole", Param::Whole),
    ("state", Param::State),
    ("revision", Param::Revision),
    ("epoch", Param::Epoch),
    ("session_id", Param::SessionId),
    ("principal", Param::Principal),
    ("created", Param::Created),
    ("logged_in", Param::LoggedIn),
    ("authenticated", Param::Authenticated),
    ("ttl", Param::Ttl),
    ("absolute_end", Param::AbsoluteEnd),
    ("expires", Param::Expires),
    ("target", Param::Target),
    ("flag", Param::Flag),
    ("moved_at", Param::MovedAt),
    ("redirect_end", Param::RedirectEnd),
    ("idle_end", Param::IdleEnd),
    ("absolute", Param::Absolute),
    ("batch", Param::Batch),
    ("mark", Param::Mark),
    ("spared", Param::Spared),
    ("by_login", Param::ByLogin),
    ("by_id", Param::ById),
    ("after_login", Param::AfterLogin),
    ("after_id", Param::AfterId),
    ("erased", Param::Erased),
];

/// What is bound to a parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Text(Option<&'a str>),
    Int(Option<i64>),
    Bytes(Option<&'a [u8]>),
    /// A text of any characters: bytes where the database's own texts cannot hold all of them.
    Unicode(Option<&'a str>),
}

/// How a database writes a parameter, given its number from 1 on.
pub(crate) type Placeholder = fn(Param, usize) -> String;

/// A statement as its database takes it, and the order in which its parameters are bound.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) params: Vec<Param>,
    /// The SQL around the parameters, if their values are to be written into it.
    pieces: Option<Vec<String>>,
}

impl Statement {
    pub(crate) fn new(template: &str, placeholder: Placeholder) -> Self {
        let mut sql = String::with_capacity(template.len());
        let mut params = Vec::new();
        let mut parts = template.split(':');
        let first = parts.next().unwrap_or_default();
        let mut pieces = vec![first.to_owned()];
        sql.push_str(first);
        for part in parts {
            let length = part
                .find(|c: char| !c.is_ascii_lowercase() && c != '_')
                .unwrap_or(part.len());
            let (name, rest) = part.split_at(length);
            let param = PARAMS
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, param)| *param)
                .expect("the templates are constants, and each is made in a test");
            params.push(param);
            sql.push_str(&placeholder(param, params.len()));
            sql.push_str(rest);
            pieces.push(rest.to_owned());
        }
        Self {
            sql,
            params,
            pieces: Some(pieces),
        }
    }

    /// Says whether the statement is sent with its parameters apart, and so may be prepared.
    pub(crate) fn prepared(self, is_prepared: bool) -> Self {
        let pieces = self.pieces.filter(|_| !is_prepared);
        Self { pieces, ..self }
    }

    /// The statement with its values written out, as PostgreSQL reads them, unless it is sent with
    /// its parameters apart.
    pub(crate) fn written_out(&self, values: &Values<'_>) -> Option<String> {
        let mut pieces = self.pieces.as_ref()?.iter();
        let mut sql = pieces.next()?.clone();
        for (param, piece) in self.params.iter().zip(pieces) {
            sql.push_str(&literal(values.of(*param)));
            sql.push_str(piece);
        }
        Some(sql)
    }
}

/// A value as PostgreSQL reads it under any of its settings: nothing in it can end the literal.
fn literal(value: Value<'_>) -> String {
    let of_bytes = |bytes: &[u8]| format!("decode('{}', 'hex')", hex(bytes));
    match value {
        Value::Int(Some(number)) => format!("'{number}'::bigint"),
        Value::Bytes(Some(bytes)) => of_bytes(bytes),
        Value::Unicode(Some(text)) => of_bytes(text.as_bytes()),
        Value::Text(Some(text)) => {
            let text = text.replace('\\', r"\\").replace('\'', "''");
            format!("E'{text}'::text")
        }
        Value::Int(None) => "NULL::bigint".to_owned(),
        Value::Bytes(None) | Value::Unicode(None) => "NULL::bytea".to_owned(),
        Value::Text(None) => "NULL::text".to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digit = |half: u8| DIGITS[usize::from(half & 0xf)];
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.extend([digit(byte >> 4), digit(*byte)]);
    }
    text
}

/// The values of one call. Those that its statements do not name keep their defaults.
#[derive(Debug, Default)]
pub(crate) struct Values<'a> {
    pub(crate) id: &'a str,
    pub(crate) now: i64,
    pub(crate) expect: Option<i64>,
    pub(crate) prefix: Option<&'a [u8]>,
    pub(crate) whole: Option<&'a [u8]>,
    pub(crate) record: RecordColumns<'a>,
    pub(crate) expires: Option<i64>,
    pub(crate) redirect: RedirectColumns<'a>,
    pub(crate) idle_end: i64,
    pub(crate) absolute: Option<i64>,
    pub(crate) batch: i64,
    pub(crate) mark: i64,
    pub(crate) spared: &'a [u8],
    pub(crate) by: (i64, [u8; 16]),
    pub(crate) after: (i64, [u8; 16]),
}

impl Values<'_> {
    pub(crate) fn of(&self, param: Param) -> Value<'_> {
        let record = &self.record;
        match param {
            Param::Id => Value::Text(Some(self.id)),
            Param::Now => Value::Int(Some(self.now)),
            Param::Expect => Value::Int(self.expect),
            Param::Prefix => Value::Bytes(self.prefix),
            Param::Whole => Value::Bytes(self.whole),
            Param::State => Value::Bytes(record.state),
            Param::Revision => Value::Int(record.revision),
            Param::Epoch => Value::Int(record.epoch),
            Param::SessionId => Value::Bytes(record.session_id.as_ref().map(|id| id.as_slice())),
            Param::Principal => Value::Unicode(record.principal.as_deref()),
            Param::Created => Value::Int(Some(record.created)),
            Param::LoggedIn => Value::Int(record.logged_in),
            Param::Authenticated => Value::Int(record.authenticated),
            Param::Ttl => Value::Int(record.ttl),
            Param::AbsoluteEnd => Value::Int(record.absolute_end),
            Param::Expires => Value::Int(self.expires),
            Param::Target => Value::Text(self.redirect.target),
            Param::Flag => Value::Text(self.redirect.flag.as_deref()),
            Param::MovedAt => Value::Int(self.redirect.moved_at),
            Param::RedirectEnd => Value::Int(Some(self.redirect.end)),
            Param::IdleEnd => Value::Int(Some(self.idle_end)),
            Param::Absolute => Value::Int(self.absolute),
            Param::Batch => Value::Int(Some(self.batch)),
            Param::Mark => Value::Int(Some(self.mark)),
            Param::Spared => Value::Bytes(Some(self.spared)),
            Param::ByLogin => Value::Int(Some(self.by.0)),
            Param::ById => Value::Bytes(Some(&self.by.1)),
            Param::AfterLogin => Value::Int(Some(self.after.0)),
            Param::AfterId => Value::Bytes(Some(&self.after.1)),
            Param::Erased => Value::Unicode(record.erased.as_deref()),
        }
    }
}

impl Param {
    /// A value of the parameter's type, for databases that need to know it.
    pub(crate) fn kind(self) -> Value<'static> {
        match self {
            Self::Id | Self::Target | Self::Flag => Value::Text(None),
            Self::Principal | Self::Erased => Value::Unicode(None),
            Self::Prefix
            | Self::Whole
            | Self::State
            | Self::SessionId
            | Self::Spared
            | Self::ById
            | Self::AfterId => Value::Bytes(None),
            _ => Value::Int(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_and_bound_in_their_order() {
        let statement = Statement::new(
            "UPDATE t SET state = :state WHERE id = :id AND expires > :now",
            |_, number| format!("${number}"),
        );
        assert_eq!(
            statement.sql,
            "UPDATE t SET state = $1 WHERE id = $2 AND expires > $3"
        );
        assert_eq!(statement.params, [Param::State, Param::Id, Param::Now]);
    }

    #[test]
    fn values_are_written_out_where_no_statement_may_be_prepared() {
        let template = "UPDATE t SET state = :state, expires = :expires WHERE id = :id";
        let statement = Statement::new(template, |_, number| format!("${number}"));
        let values = Values {
            id: r"it's \' OR 1",
            record: RecordColumns {
                state: Some(b"'\xff"),
                ..RecordColumns::default()
            },
            ..Values::default()
        };
        let sql = statement.clone().prepared(false).written_out(&values);
        let expected = "UPDATE t SET state = decode('27ff', 'hex'), expires = NULL::bigint \
                        WHERE id = E'it''s \\\\'' OR 1'::text";
        assert_eq!(sql.as_deref(), Some(expected));
        assert_eq!(statement.prepared(true).written_out(&values), None);
    }
}
