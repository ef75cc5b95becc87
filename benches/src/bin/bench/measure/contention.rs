//! Many clients of one session, which all write.

use std::time::Duration;

use super::{Part, cells};
use crate::load::{Load, Seen, get, seed};
use crate::peers::Peers;
use crate::plot::Curves;
use crate::select::{Row, Selection};
use crate::table::{Table, whole};
use actix_session_benches::case::{Kind, Peer};

const CLIENTS: [usize; 4] = [1, 4, 16, 64];
const TIME: Duration = Duration::from_secs(3);

pub(super) fn measure(selection: &Selection) -> anyhow::Result<Part> {
    let wanted = |row: &Row| {
        matches!(row.store.kind, Kind::Memory | Kind::Redis | Kind::Postgres)
            && row.peer != Peer::OursLazy
            && !row.group.ends_with("signed")
    };
    let rows: Vec<Row> = selection.rows().into_iter().filter(wanted).collect();
    let peers = Peers::start(&rows)?;
    let head = [
        "store",
        "library",
        "clients",
        "requests a second",
        "failed",
        "lost",
        "p50",
        "p99",
        "slowest client",
    ];
    let (mut table, mut curves) = (Table::new(head), Vec::new());
    for row in &rows {
        let mut points = Vec::new();
        for clients in CLIENTS {
            let (seen, lost) = once(&peers, row, clients)?;
            eprintln!(
                "{} {} {clients}: {seen:?}, lost {lost}",
                row.group, row.peer
            );
            points.push((clients as f64, seen.a_second));
            table.push(line(row, clients, &seen, lost));
        }
        curves.push((format!("{}, {}", row.group, super::name(row.peer)), points));
    }
    let mut part = Part::default();
    part.table("", &table);
    curves.retain(|(name, _)| name.starts_with("Redis") || name.starts_with("memory, this"));
    part.curves(
        "clients",
        &Curves {
            title: "requests a second of one session, each a change".into(),
            over: "clients at once".into(),
            curves,
        },
    );
    Ok(part)
}

fn line(row: &Row, clients: usize, seen: &Seen, lost: i64) -> Vec<String> {
    let time = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
    let mut line = cells(row);
    line.extend([
        clients.to_string(),
        whole(seen.a_second),
        format!("{} of {}", seen.failures, seen.answers),
        format!("{:.0} %", 100.0 * lost as f64 / (seen.all.max(1)) as f64),
        time(seen.p50),
        time(seen.p99),
        format!("{:.2} of the median", seen.slowest),
    ]);
    line
}

/// What the clients saw, and how many acknowledged increments are not in the session.
fn once(peers: &Peers, row: &Row, clients: usize) -> anyhow::Result<(Seen, i64)> {
    let served = peers.serve(row, 2)?;
    let cookies = seed(served.port, 1)?;
    let load = Load {
        port: served.port,
        paths: (0..clients).map(|n| format!("/own/client_{n}")).collect(),
        cookies: cookies.clone(),
        clients,
        time: TIME,
    };
    let seen = load.run()?;
    let mut counted = 0;
    for path in &load.paths {
        let next: i64 = get(served.port, path, &cookies[0])?.parse()?;
        counted += next - 1;
    }
    let lost = i64::try_from(seen.all)? - counted;
    Ok((seen, lost))
}
