//! `cargo xtask bench`: what the session layer costs, side by side.
//!
//! ```text
//! bench                            every measure, and the page with tables and plots
//! bench MEASURE...                 these measures, and their parts of the page
//! bench [MEASURE]... WORD...       what words select, only printed: `ours memory read +cookie`;
//!                                  without a measure, instructions and allocations
//! bench --check                    the guard: a few counts must not have grown
//! bench --accept                   writes the guard's file anew
//! ```

mod callgrind;
mod guard;
mod load;
mod measure;
mod page;
mod peers;
mod plot;
mod proxy;
mod select;
mod table;

use measure::{ALL, Measure};
use select::Selection;

fn main() -> anyhow::Result<()> {
    let (mut measures, mut selection): (Vec<Measure>, _) = (Vec::new(), Selection::default());
    for word in std::env::args().skip(1) {
        match (&*word, word.parse()) {
            ("--check", _) => return guard::check(),
            ("--accept", _) => return guard::accept(),
            (_, Ok(measure)) => measures.push(measure),
            _ if selection.take(&word) => {}
            _ => anyhow::bail!("unknown word `{word}`; {}", known()),
        }
    }
    let chosen = match (&measures[..], selection.is_all()) {
        ([], true) => &ALL[..],
        ([], false) => &ALL[..1],
        (named, _) => named,
    };
    chosen
        .iter()
        .try_for_each(|measure| measure.run(&selection))
}

fn known() -> String {
    let measures: Vec<String> = ALL.iter().map(Measure::to_string).collect();
    format!(
        "the measures are {}; a peer, a store, a route, `+cookie` and `-cookie` select",
        measures.join(", ")
    )
}
