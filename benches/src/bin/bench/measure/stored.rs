//! What one stored session takes.

use anyhow::Context as _;
use servers::resp::lines_of;

use super::{Part, cells};
use crate::peers::Peers;
use crate::select::{Row, Selection};
use crate::table::{Table, whole};
use actix_session_benches::case::{Kind, Peer, Route};

/// Sessions in memory: enough that nothing else shows.
const SESSIONS: u32 = 50_000;

pub(super) fn measure(selection: &Selection) -> anyhow::Result<Part> {
    let wanted = |row: &Row| {
        let plain = row.group == "Redis" || row.group == "memory";
        plain && row.peer != Peer::OursLazy
    };
    let rows: Vec<Row> = selection.rows().into_iter().filter(wanted).collect();
    let peers = Peers::start(&rows)?;
    let mut table = Table::new(["store", "library", "bytes"]);
    for row in &rows {
        let mut line = cells(row);
        line.push(match row.store.kind {
            Kind::Redis => in_redis(&peers, row)?,
            _ => whole(peers.fill(row, SESSIONS)?[0]),
        });
        table.push(line);
    }
    let mut part = Part::default();
    part.table("", &table);
    Ok(part)
}

/// The bytes of the only key, with what Redis takes for it.
fn in_redis(peers: &Peers, row: &Row) -> anyhow::Result<String> {
    let port = peers.redis()?.port();
    lines_of(port, "FLUSHALL")?;
    peers.repeat(&row.case(Route::Read, true), 1)?;
    let keys = lines_of(port, "KEYS *")?;
    let key = keys.get(2).context("the session is not in Redis")?;
    let number = |command: &str| {
        let lines = lines_of(port, &format!("{command} {key}"))?;
        let number = lines[0].trim_start_matches(':').parse::<f64>();
        number.with_context(|| format!("{command}: {lines:?}"))
    };
    let (value, all) = (number("STRLEN")?, number("MEMORY USAGE")?);
    Ok(format!("{} (value {})", whole(all), whole(value)))
}
