//! What is measured. Each measure fills one part of the page.

mod contention;
mod ends;
mod growth;
mod instructions;
mod load;
mod redis;
mod stored;
mod times;

use std::fmt;
use std::str::FromStr;

use crate::page;
use crate::plot::{Bars, Curves};
use crate::select::{Row, Selection};
use crate::table::Table;
use actix_session_benches::case::Peer;

/// A measure's name and what it does.
type Run = fn(&Selection) -> anyhow::Result<Part>;

/// A measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    name: &'static str,
    run: Run,
}

/// All of them, in the order of the page.
pub(crate) const ALL: [Measure; 8] = [
    Measure {
        name: "instructions",
        run: instructions::measure,
    },
    Measure {
        name: "times",
        run: times::measure,
    },
    Measure {
        name: "load",
        run: load::measure,
    },
    Measure {
        name: "contention",
        run: contention::measure,
    },
    Measure {
        name: "redis-commands",
        run: redis::measure,
    },
    Measure {
        name: "stored",
        run: stored::measure,
    },
    Measure {
        name: "ends",
        run: ends::measure,
    },
    Measure {
        name: "growth",
        run: growth::measure,
    },
];

impl Measure {
    /// Measures what was selected and prints it. With everything selected, the page and the plots
    /// are written, too.
    ///
    /// # Errors
    /// Something is missing and cannot be installed, or a peer fails.
    pub(crate) fn run(self, selection: &Selection) -> anyhow::Result<()> {
        eprintln!("measuring: {}", self.name);
        let part = (self.run)(selection)?;
        actix_session_benches::say(&part.text);
        if selection.is_all() {
            page::replace(self.name, &part.text)?;
            if let Some(table) = &part.readme {
                page::replace_in_readme(&table.to_string())?;
            }
            for (name, svg) in &part.plots {
                page::plot(name, svg)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl FromStr for Measure {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> anyhow::Result<Self> {
        let found = ALL.into_iter().find(|measure| measure.name == word);
        found.ok_or_else(|| anyhow::anyhow!("`{word}` is no measure"))
    }
}

/// A part of the page, and its plots.
#[derive(Debug, Default)]
struct Part {
    text: String,
    plots: Vec<(String, String)>,
    /// What the README shows of it.
    readme: Option<Table>,
}

impl Part {
    /// Adds a table, with a title if it is not empty.
    fn table(&mut self, title: &str, table: &Table) {
        if !title.is_empty() {
            self.text += &format!("**{title}**\n\n");
        }
        self.text += &format!("{table}\n");
    }

    /// Adds a picture.
    fn plot(&mut self, name: &str, title: &str, svg: String) {
        self.text += &format!("![{title}](performance/{name}.svg)\n\n");
        self.plots.push((name.to_owned(), svg));
    }

    fn curves(&mut self, name: &str, curves: &Curves) {
        self.plot(name, &curves.title, curves.svg());
    }

    fn bars(&mut self, name: &str, bars: &Bars) {
        self.plot(name, &bars.title, bars.svg());
    }
}

/// The first two cells of a row.
fn cells(row: &Row) -> Vec<String> {
    vec![row.group.to_owned(), name(row.peer).to_owned()]
}

/// What people call a peer.
fn name(peer: Peer) -> &'static str {
    match peer {
        Peer::Bare => "actix-web",
        Peer::BareAxum => "axum",
        Peer::Ours => "this library",
        Peer::OursLazy => "this library, lazy",
        Peer::Upstream => "actix-session 0.11.0",
        Peer::Tower => "tower-sessions 0.14",
    }
}

/// Bars for one column: a group for each store, a bar for each peer.
fn bars(title: &str, rows: &[(Row, f64)]) -> Bars {
    let order = [Peer::Ours, Peer::OursLazy, Peer::Upstream, Peer::Tower];
    let present = |peer: &Peer| rows.iter().any(|(row, _)| row.peer == *peer);
    let series: Vec<Peer> = order.into_iter().filter(present).collect();
    let mut groups: Vec<(String, Vec<Option<f64>>)> = Vec::new();
    for (row, number) in rows {
        if groups.last().is_none_or(|(group, _)| group != row.group) {
            groups.push((row.group.to_owned(), vec![None; series.len()]));
        }
        let place = series.iter().position(|peer| *peer == row.peer);
        if let (Some((_, bars)), Some(place)) = (groups.last_mut(), place) {
            bars[place] = Some(*number);
        }
    }
    Bars {
        title: title.to_owned(),
        series: series
            .into_iter()
            .map(|peer| name(peer).to_owned())
            .collect(),
        groups,
    }
}

/// The middle of these numbers.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}
