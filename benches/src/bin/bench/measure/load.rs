//! Requests over loopback: how many a second, how long they take, and the server's CPU time.

use std::time::Duration;

use super::{Part, cells, median};
use crate::load::{Load, seed};
use crate::peers::Peers;
use crate::select::{Row, Selection};
use crate::table::{Table, whole};
use actix_session_benches::case::{Peer, Route};

const CLIENTS: usize = 32;
const THREADS: usize = 2;
const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_secs(2);

pub(super) fn measure(selection: &Selection) -> anyhow::Result<Part> {
    let rows = with_floors(selection.rows());
    let peers = Peers::start(&rows)?;
    let mut part = Part::default();
    for (route, sessions) in columns(selection) {
        let head = [
            "store",
            "library",
            "requests a second",
            "of the framework's",
            "p99",
            "server's CPU",
        ];
        let mut table = Table::new(head);
        let figures = round_about(&peers, &rows, route, sessions)?;
        for (row, one) in rows.iter().zip(&figures) {
            let floor = rows
                .iter()
                .position(|bare| bare.peer == row.peer.framework());
            let floor = floor.map_or(f64::NAN, |place| figures[place][0]);
            let mut line = cells(row);
            line.push(whole(one[0]));
            line.push(format!("{:.2}", one[0] / floor));
            line.push(format!("{:.1} ms", one[1] * 1e3));
            line.push(format!("{:.1} µs", one[2] * 1e6));
            table.push(line);
        }
        let of = match sessions {
            0 => "without a cookie".to_owned(),
            1 => "one session".to_owned(),
            many => format!("{many} sessions"),
        };
        part.table(&format!("{}, {of}", route.path()), &table);
    }
    Ok(part)
}

/// The frameworks come first, and what is like something else is left out.
fn with_floors(rows: Vec<Row>) -> Vec<Row> {
    let mut all: Vec<Row> = Vec::new();
    for row in &rows {
        let peer = row.peer.framework();
        if all.iter().all(|bare| bare.peer != peer) {
            all.push(Row {
                group: "no session",
                peer,
                store: row.case(Route::Read, false).bare().store,
            });
        }
    }
    let wanted = |row: &Row| !row.group.ends_with("signed") && row.group != "five methods";
    all.extend(rows.into_iter().filter(wanted));
    all
}

/// A route, and how many sessions the clients have.
fn columns(selection: &Selection) -> Vec<(Route, usize)> {
    let all = [
        (Route::Static, 256),
        (Route::Read, 1),
        (Route::Read, 256),
        (Route::Write, 256),
        (Route::Login, 0),
    ];
    let routes: Vec<Route> = selection
        .columns()
        .into_iter()
        .map(|(route, _)| route)
        .collect();
    all.into_iter()
        .filter(|(route, _)| routes.contains(route))
        .collect()
}

/// The medians of all rows, which take turns: requests a second, p99, CPU time.
fn round_about(
    peers: &Peers,
    rows: &[Row],
    route: Route,
    sessions: usize,
) -> anyhow::Result<Vec<[f64; 3]>> {
    let mut samples = vec![Vec::new(); rows.len()];
    for _ in 0..ROUNDS {
        for (row, samples) in rows.iter().zip(&mut samples) {
            let one = once(peers, row, route, sessions)?;
            eprintln!("{} {} {}: {one:?}", row.group, row.peer, route.path());
            samples.push(one);
        }
    }
    let column =
        |samples: &[[f64; 3]], n: usize| median(samples.iter().map(|one| one[n]).collect());
    Ok(samples
        .iter()
        .map(|all| [0, 1, 2].map(|n| column(all, n)))
        .collect())
}

fn once(peers: &Peers, row: &Row, route: Route, sessions: usize) -> anyhow::Result<[f64; 3]> {
    let mut served = peers.serve(row, THREADS)?;
    let bare = matches!(row.peer, Peer::Bare | Peer::BareAxum);
    let load = Load {
        port: served.port,
        paths: vec![route.path().to_owned()],
        cookies: if bare {
            Vec::new()
        } else {
            seed(served.port, sessions)?
        },
        clients: CLIENTS,
        time: TIME,
    };
    let before = served.cpu()?;
    let seen = load.run()?;
    let used = served.cpu()? - before;
    anyhow::ensure!(
        seen.failures == 0,
        "{} of {} answers failed",
        seen.failures,
        seen.answers
    );
    let all = seen.all as f64;
    Ok([
        seen.a_second,
        seen.p99.as_secs_f64(),
        used.as_secs_f64() / all,
    ])
}
