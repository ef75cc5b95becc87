//! What grows with what.

use std::time::Duration;

use super::{Part, name};
use crate::callgrind::{Numbers, a_request};
use crate::load::{Load, seed};
use crate::peers::Peers;
use crate::plot::Curves;
use crate::select::{Row, Selection};
use crate::table::{Table, whole};
use actix_session_benches::case::{Kind, Peer, Route};

/// Setting up is much of the work here, and the requests differ by more than noise.
const NUMBERS: Numbers = Numbers(20, 120);

pub(super) fn measure(selection: &Selection) -> anyhow::Result<Part> {
    let wanted = |row: &Row| {
        let plain = ["memory", "Redis", "cookie, private"].contains(&row.group);
        plain && row.peer != Peer::OursLazy
    };
    let rows: Vec<Row> = selection.rows().into_iter().filter(wanted).collect();
    let peers = Peers::start(&rows)?;
    let mut part = Part::default();
    size(&mut part, &peers, &rows, "entries", &[3, 10, 100, 1_000])?;
    size(
        &mut part,
        &peers,
        &rows,
        "bytes",
        &[100, 1_024, 16_384, 65_536],
    )?;
    live(&mut part, &peers, &rows)?;
    workers(&mut part, &peers, &rows)?;
    Ok(part)
}

/// Instructions of a request over the number of entries or bytes in its session.
fn size(
    part: &mut Part,
    peers: &Peers,
    rows: &[Row],
    what: &str,
    sizes: &[usize],
) -> anyhow::Result<()> {
    let head = ["store", "library", "request"]
        .map(str::to_owned)
        .into_iter();
    let mut table = Table::new(head.chain(sizes.iter().map(|n| format!("{n} {what}"))));
    let mut curves = Vec::new();
    for row in rows {
        for route in [Route::Read, Route::Write] {
            let mut line = vec![
                row.group.to_owned(),
                name(row.peer).to_owned(),
                route.path().to_owned(),
            ];
            let mut points = Vec::new();
            for size in sizes {
                if row.store.kind == Kind::Cookie
                    && (*size > 1_024 || (what == "entries" && *size > 100))
                {
                    // A cookie has room for less than 4 KiB.
                    continue;
                }
                let more = format!("{what}={size}");
                let one = a_request(peers, &row.case(route, true), NUMBERS, &[more])?;
                points.push((*size as f64, one.instructions));
                line.push(whole(one.instructions));
            }
            eprintln!("{}", line.join(" | "));
            table.push(line);
            if row.store.kind == Kind::Redis && route == Route::Read {
                curves.push((name(row.peer).to_owned(), points));
            }
        }
    }
    part.table(
        &format!("Instructions of one request over {what} of the session, framework included"),
        &table,
    );
    let title = format!("instructions of /read with Redis, over {what} of the session");
    part.curves(
        what,
        &Curves {
            title,
            over: what.to_owned(),
            curves,
        },
    );
    Ok(())
}

/// A store in memory over the number of sessions in it.
fn live(part: &mut Part, peers: &Peers, rows: &[Row]) -> anyhow::Result<()> {
    let head = [
        "library",
        "live sessions",
        "bytes a session",
        "/read, CPU",
        "longest wait of a new one",
    ];
    let (mut table, mut curves) = (Table::new(head), Vec::new());
    for row in rows.iter().filter(|row| row.store.kind == Kind::Memory) {
        let mut points = Vec::new();
        for sessions in [10_000, 100_000, 1_000_000] {
            if row.peer == Peer::Tower && sessions > 100_000 {
                // It would take 10 GB.
                continue;
            }
            let [bytes, read, longest] = peers.fill(row, sessions)?;
            points.push((f64::from(sessions), read));
            table.push(vec![
                name(row.peer).to_owned(),
                whole(f64::from(sessions)),
                whole(bytes),
                format!("{:.2} µs", read / 1e3),
                format!("{:.2} ms", longest / 1e6),
            ]);
        }
        curves.push((name(row.peer).to_owned(), points));
    }
    part.table(
        "A store in memory over live sessions, read at random, framework included",
        &table,
    );
    let title = "CPU time of /read in ns over live sessions in memory".to_owned();
    part.curves(
        "live",
        &Curves {
            title,
            over: "live sessions".into(),
            curves,
        },
    );
    Ok(())
}

/// Requests a second over the server's threads.
fn workers(part: &mut Part, peers: &Peers, rows: &[Row]) -> anyhow::Result<()> {
    let mut table = Table::new(["store", "library", "1 worker", "2 workers"]);
    for row in rows {
        let mut line = super::cells(row);
        for threads in [1, 2] {
            let served = peers.serve(row, threads)?;
            let load = Load {
                port: served.port,
                paths: vec![Route::Read.path().to_owned()],
                cookies: seed(served.port, 256)?,
                clients: 32,
                time: Duration::from_secs(2),
            };
            line.push(whole(load.run()?.a_second));
        }
        table.push(line);
    }
    part.table(
        "Requests a second over workers, /read of 256 sessions",
        &table,
    );
    Ok(())
}
