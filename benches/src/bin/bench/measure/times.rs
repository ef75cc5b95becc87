//! CPU time of a request, natively. Peers take turns, so that whatever else the machine does hits
//! all of them.

use super::{Part, cells, median};
use crate::peers::Peers;
use crate::select::{Row, Selection, title};
use crate::table::Table;
use actix_session_benches::case::{Case, Kind, Route};

const ROUNDS: usize = 7;

pub(super) fn measure(selection: &Selection) -> anyhow::Result<Part> {
    let (rows, columns) = (selection.rows(), selection.columns());
    let peers = Peers::start(&rows)?;
    let head = ["store", "library"].map(str::to_owned);
    let mut table = Table::new(head.into_iter().chain(columns.iter().copied().map(title)));
    let mut lines: Vec<Vec<String>> = rows.iter().map(cells).collect();
    for column in columns {
        eprintln!("{}", title(column));
        for (line, time) in lines.iter_mut().zip(column_of(&peers, &rows, column)?) {
            line.push(format!("{time:.2}"));
        }
    }
    lines.into_iter().for_each(|line| table.push(line));
    let mut part = Part::default();
    part.table("CPU time in µs, above the bare framework", &table);
    Ok(part)
}

/// The medians of one column, in µs above the framework's.
fn column_of(
    peers: &Peers,
    rows: &[Row],
    (route, cookie): (Route, bool),
) -> anyhow::Result<Vec<f64>> {
    let cases: Vec<Case> = rows.iter().map(|row| row.case(route, cookie)).collect();
    let mut samples = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for (samples, case) in samples.iter_mut().zip(&cases) {
            // A pair, so that both saw the same machine.
            let n = requests(case);
            let (bare, all) = (peers.repeat(&case.bare(), n)?, peers.repeat(case, n)?);
            samples.push((all.as_secs_f64() - bare.as_secs_f64()) * 1e6);
        }
    }
    Ok(samples.into_iter().map(median).collect())
}

/// Enough for a tenth of a second or so.
fn requests(case: &Case) -> u32 {
    match case.store.kind {
        Kind::Cookie | Kind::Memory | Kind::Five => 10_000,
        Kind::Redis => 3_000,
        Kind::Sqlite | Kind::Postgres => 1_000,
    }
}
