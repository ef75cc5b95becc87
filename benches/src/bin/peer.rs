//! One peer, with one store: `repeat` prints the CPU time of all requests in nanoseconds, `fill` the
//! bytes of a session and two times, and `serve` a port.
//!
//!
//! ```text
//! peer repeat <peer> <store> <route> <cookie|none> <n> [entries=100|bytes=1024]
//! peer fill <peer> <store> <n>
//! peer serve <peer> <store> <threads>
//! ```

use std::fmt::Debug;
use std::str::FromStr;

use actix_session_benches::{Done, Job, case::Case, run, say, seed::Seed};
use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let job = words
        .next()
        .context("`repeat`, `fill` or `serve` is missing")?;
    let case = match &*job {
        "repeat" => Case::read(&mut words)?,
        _ => Case::read_peer(&mut words)?,
    };
    let job = match &*job {
        "repeat" => Job::Repeat(number(&mut words)?),
        "fill" => Job::Fill(number(&mut words)?),
        "serve" => Job::Serve(number(&mut words)?),
        other => anyhow::bail!("`{other}` must be `repeat`, `fill` or `serve`"),
    };
    let seed = words
        .next()
        .map_or(Ok(Seed::default()), |word| word.parse())?;
    match run(&case, &seed, job)? {
        Done::Repeated(took) => say(&took.as_nanos().to_string()),
        Done::Filled(filled) => {
            let (read, longest) = (filled.read.as_nanos(), filled.longest.as_nanos());
            say(&format!("{} {read} {longest}", filled.bytes));
        }
        Done::Served => {}
    }
    Ok(())
}

fn number<T>(words: &mut impl Iterator<Item = String>) -> anyhow::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + Debug + 'static>,
{
    let word = words.next().context("the number is missing")?;
    word.parse()
        .with_context(|| format!("`{word}` must be a number"))
}
