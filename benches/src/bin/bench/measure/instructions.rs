//! Instructions and allocations of a request above the bare framework.

use super::{Part, bars, cells};
use crate::callgrind::{Above, Numbers};
use crate::peers::Peers;
use crate::select::{Selection, title};
use crate::table::{Table, whole};
use actix_session_benches::case::Route;

pub(super) fn measure(selection: &Selection) -> anyhow::Result<Part> {
    let (rows, columns) = (selection.rows(), selection.columns());
    let peers = Peers::start(&rows)?;
    let mut above = Above::new(&peers, Numbers::default());
    let head = || {
        ["store", "library"]
            .map(str::to_owned)
            .into_iter()
            .chain(columns.iter().copied().map(title))
    };
    let (mut instructions, mut allocations) = (Table::new(head()), Table::new(head()));
    let with_cookie: Vec<usize> = (0..columns.len()).filter(|n| columns[*n].1).collect();
    let mut short = short_table(&columns);
    let mut plotted = Vec::new();
    for row in &rows {
        let (mut first, mut second) = (cells(row), cells(row));
        for (route, cookie) in &columns {
            let one = above.measure(&row.case(*route, *cookie))?;
            first.push(whole(one.instructions));
            second.push(format!("{:.1}", one.allocations));
            if (*route, *cookie) == (Route::Read, true) {
                plotted.push((*row, one.instructions));
            }
        }
        eprintln!("{} | {}", first.join(" | "), second[2..].join(" | "));
        if ["cookie, private", "memory", "Redis"].contains(&row.group) {
            let cells = with_cookie.iter().map(|n| first[n + 2].clone());
            short.push(first[..2].iter().cloned().chain(cells).collect());
        }
        instructions.push(first);
        allocations.push(second);
    }
    let mut part = Part {
        readme: Some(short),
        ..Part::default()
    };
    part.table("Instructions", &instructions);
    part.table("Allocations", &allocations);
    let title = "instructions of /read with a session, above the bare framework";
    part.bars("read", &bars(title, &plotted));
    Ok(part)
}

/// The README's, which has only the requests with a session.
fn short_table(columns: &[(Route, bool)]) -> Table {
    let titles = columns.iter().copied().filter(|column| column.1).map(title);
    let words = ["store", "library"].map(str::to_owned);
    Table::new(words.into_iter().chain(titles))
}
