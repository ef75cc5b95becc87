//! What Redis is asked for.

use std::collections::BTreeMap;

use anyhow::Context as _;
use servers::RedisServer;
use servers::resp::lines_of;

use super::{Part, name};
use crate::peers::Peers;
use crate::select::{Row, Selection, title};
use crate::table::{Table, whole};
use actix_session_benches::case::Kind;

/// The numbers of requests, whose difference is divided by how many there are between them.
const NUMBERS: (u32, u32) = (100, 1_100);

pub(super) fn measure(selection: &Selection) -> anyhow::Result<Part> {
    let rows = rows(selection);
    let peers = Peers::start(&rows)?;
    let head = [
        "library",
        "request",
        "round trips",
        "bytes to Redis",
        "bytes back",
        "commands",
    ];
    let mut table = Table::new(head);
    for row in &rows {
        for column in selection.columns() {
            let case = row.case(column.0, column.1);
            let count = |n| {
                let before = counts(peers.redis()?)?;
                peers.repeat(&case, n)?;
                Ok::<_, anyhow::Error>(difference(&before, &counts(peers.redis()?)?, 1.0))
            };
            let (few, many) = (count(NUMBERS.0)?, count(NUMBERS.1)?);
            let one = difference(&few, &many, f64::from(NUMBERS.1 - NUMBERS.0));
            let get = |name: &str| one.get(name).copied().unwrap_or_default();
            table.push(vec![
                name(row.peer).to_owned(),
                title(column),
                format!("{:.2}", get("total_reads_processed")),
                whole(get("total_net_input_bytes")),
                whole(get("total_net_output_bytes")),
                commands(&one),
            ]);
        }
    }
    let mut part = Part::default();
    part.table("", &table);
    Ok(part)
}

pub(super) fn rows(selection: &Selection) -> Vec<Row> {
    let wanted = |row: &Row| row.store.kind == Kind::Redis && row.group == "Redis";
    selection.rows().into_iter().filter(wanted).collect()
}

type Counts = BTreeMap<String, f64>;

/// The server's own counters.
fn counts(server: &RedisServer) -> anyhow::Result<Counts> {
    let mut counts = Counts::new();
    for section in ["stats", "commandstats"] {
        for line in lines_of(server.port(), &format!("INFO {section}"))? {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let number = value.strip_prefix("calls=").unwrap_or(value);
            let number = number.split(',').next().context("a counter is empty")?;
            if let Ok(number) = number.parse() {
                counts.insert(name.to_owned(), number);
            }
        }
    }
    Ok(counts)
}

fn difference(before: &Counts, after: &Counts, by: f64) -> Counts {
    let minus = |(name, number): (&String, &f64)| {
        let before = before.get(name).copied().unwrap_or_default();
        (name.clone(), (number - before) / by)
    };
    after.iter().map(minus).collect()
}

/// The commands, those that scripts call among them.
fn commands(one: &Counts) -> String {
    let named = one.iter().filter_map(|(name, count)| {
        let name = name.strip_prefix("cmdstat_")?;
        (*count > 0.005).then(|| match (count.round() - 1.0).abs() < 0.005 {
            true if (count - 1.0).abs() < 0.05 => name.to_uppercase(),
            _ => format!("{} {count:.2}", name.to_uppercase()),
        })
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() {
        "-".to_owned()
    } else {
        named.join(", ")
    }
}
