//! What the commands do.

use actix_session::{ExportedSession, ListedSession, SessionOperator};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    cli::{Command, Task},
    print::{self, plain},
};

/// How many sessions are asked for at once.
const PAGE: usize = 200;

/// What came of a command.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// What there is to say.
    Done(String),
    NotFound,
}

/// Does what was asked.
pub(crate) async fn run(command: &Command) -> Result<Outcome> {
    let operator = command.store.open().await;
    let operator = operator.context("the store cannot be opened")?;
    let text = match &command.task {
        Task::List(user) => list(&all(&operator, user).await?, command.json),
        Task::Show(user, handle) => match operator.find(user, handle).await? {
            Some(found) => show(&found, command.json),
            None => return Ok(Outcome::NotFound),
        },
        Task::End(user, handle) => match operator.find(user, handle).await? {
            Some(found) if operator.end(&found).await? => "the session has ended\n".to_owned(),
            _ => return Ok(Outcome::NotFound),
        },
        Task::EndUser(user) => ended(operator.end_principal(user).await?),
        Task::Export(user) => export(&all(&operator, user).await?)?,
        Task::Erase(user) => ended(operator.erase(user).await?) + "the user is erased\n",
        Task::Stats => stats(&operator, command.json).await?,
        Task::Sweep => match operator.sweep().await? {
            Some(swept) => format!("{swept} expired rows are deleted\n"),
            None => "this store deletes by itself what has expired\n".to_owned(),
        },
    };
    Ok(Outcome::Done(text))
}

fn ended(count: u64) -> String {
    match count {
        1 => "1 session has ended\n".to_owned(),
        count => format!("{count} sessions have ended\n"),
    }
}

/// For the user: without the handles, which are for whoever ends sessions.
fn export(sessions: &[ListedSession]) -> Result<String> {
    let exported: Vec<_> = sessions.iter().map(ExportedSession::from).collect();
    Ok(print::json(&serde_json::to_value(exported)?))
}

async fn all(operator: &SessionOperator, user: &str) -> Result<Vec<ListedSession>> {
    let mut all = Vec::new();
    let mut list = operator.list(user).await?;
    loop {
        let next = list.next_page();
        all.extend(list);
        match next {
            Some(next) => list = operator.list_page(user, next, PAGE).await?,
            None => return Ok(all),
        }
    }
}

/// What is known of a session, under the names that it has in JSON.
fn known(session: &ListedSession) -> Value {
    let exported = serde_json::to_value(ExportedSession::from(session));
    let mut known = exported.unwrap_or_else(|_| json!({}));
    known["handle"] = session.handle().as_str().into();
    known
}

/// One value as a cell of a table. Times are cut to seconds.
fn cell(known: &Value, name: &str) -> String {
    match &known[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) if name == "device" || name == "method" => plain(text),
        Value::String(text) if is_time(text) => text[..19].replacen('T', " ", 1),
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

fn is_time(text: &str) -> bool {
    text.is_ascii() && text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T'
}

const COLUMNS: [&str; 8] = [
    "handle",
    "last_seen",
    "logged_in",
    "ends",
    "level",
    "method",
    "address",
    "device",
];

fn list(listed: &[ListedSession], as_json: bool) -> String {
    if as_json {
        return print::json(&listed.iter().map(known).collect());
    }
    if listed.is_empty() {
        return "no sessions\n".to_owned();
    }
    let row = |session| {
        let known = known(session);
        COLUMNS.map(|name| cell(&known, name))
    };
    let rows: Vec<_> = listed.iter().map(row).collect();
    let headings = [
        "HANDLE",
        "LAST SEEN (UTC)",
        "LOGGED IN",
        "ENDS",
        "LEVEL",
        "METHOD",
        "ADDRESS",
        "DEVICE",
    ];
    print::table(headings, &rows)
}

fn show(session: &ListedSession, as_json: bool) -> String {
    let known = known(session);
    if as_json {
        return print::json(&known);
    }
    let lines = [
        ("handle", "handle"),
        ("created (UTC)", "created"),
        ("logged in", "logged_in"),
        ("authenticated", "authenticated"),
        ("last seen", "last_seen"),
        ("ends", "ends"),
        ("level", "level"),
        ("method", "method"),
        ("address", "address"),
        ("device", "device"),
    ];
    let line = |(title, name)| format!("{title:14} {}\n", cell(&known, name));
    lines.into_iter().map(line).collect()
}

async fn stats(operator: &SessionOperator, as_json: bool) -> Result<String> {
    let stats = operator.stats().await?;
    let known = [
        ("live", "live sessions", stats.live()),
        ("of_users", "of users", stats.of_principals()),
        ("expired", "expired", stats.expired()),
    ];
    if as_json {
        let fields = known
            .into_iter()
            .map(|(name, _, count)| (name.to_owned(), count.into()));
        return Ok(print::json(&Value::Object(fields.collect())));
    }
    let line = |(_, title, count): (_, _, Option<u64>)| {
        let count = count.map_or_else(|| "not known".to_owned(), |count| count.to_string());
        format!("{title:14} {count}\n")
    };
    Ok(known.into_iter().map(line).collect())
}
