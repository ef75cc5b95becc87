//! Starts a Redis, prints its process and its folder, and stays: the test of what happens to a server
//! whose owner is killed needs an owner to kill.

use std::error::Error;
use std::io::{self, Write};

use servers::RedisServer;

fn main() -> Result<(), Box<dyn Error>> {
    let redis = RedisServer::start()?;
    let id = redis
        .process_id()
        .ok_or("a server that was just started has a process")?;
    writeln!(io::stdout(), "{id}\n{}", redis.folder().display())?;
    // Until whoever started this goes away.
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
