//! An application behind a real socket, for as long as whoever started it wants.

use std::io::{self, BufRead as _};
use std::net::SocketAddr;

use crate::pages::cpu_time;
use crate::say;

/// Says where the server listens, and then, for each line on the standard input, how much CPU time
/// the server has used. Returns once the input ends.
pub(crate) fn answer_questions(address: SocketAddr) {
    say(&address.port().to_string());
    for _ in io::stdin().lock().lines() {
        say(&cpu_time().as_nanos().to_string());
    }
}
