//! Starts a Redis, prints its process id and its folder, and waits. One test kills this program to
//! see what becomes of the server.

use std::error::Error;
use std::io::{self, Write};

use servers::RedisServer;

fn main() -> Result<(), Box<dyn Error>> {
    let redis = RedisServer::start()?;
    let id = redis
        .process_id()
        .ok_or("a server that has just started has a process")?;
    writeln!(io::stdout(), "{id}\n{}", redis.folder().display())?;
    // Until whoever started this is gone.
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
