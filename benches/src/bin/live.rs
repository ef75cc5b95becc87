//! One process of an application whose streams end with their sessions, and what subscriptions leave.
//!
//! ```text
//! live serve <redis|postgres>              prints its port
//! live subscribe <memory|redis> <n> <rounds>   prints the resident bytes of each round: held, let go
//! ```

use actix_session_benches::{live, say};
use actix_web::rt::System;
use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", store] => System::new().block_on(live::serve(store)),
        ["subscribe", store, n, rounds] => {
            let (n, rounds) = (number(n)?, number(rounds)?);
            let seen = System::new().block_on(live::subscribe(store, n, rounds))?;
            for [held, left] in seen {
                say(&format!("{held} {left}"));
            }
            Ok(())
        }
        _ => anyhow::bail!("`serve STORE` or `subscribe STORE N ROUNDS` is missing"),
    }
}

fn number(word: &str) -> anyhow::Result<usize> {
    word.parse()
        .with_context(|| format!("`{word}` must be a number"))
}
