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
        instructions.push(first);
        allocations.push(second);
    }
    let mut part = Part::default();
    part.table("Instructions", &instructions);
    part.table("Allocations", &allocations);
    let title = "instructions of /read with a session, above the bare framework";
    part.bars("read", &bars(title, &plotted));
    Ok(part)
}
