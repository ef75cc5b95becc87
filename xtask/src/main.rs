//! The project's own commands: `cargo xtask help` lists them.

mod check;
mod features;
mod fuzz;
mod request;
mod runner;
mod servers;
mod soak;
mod step;
mod test;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use request::Request;

/// What commands return: any error, told to the person in front of the terminal.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let request = match Request::parse(std::env::args().skip(1)) {
        Ok(request) => request,
        Err(told) => {
            eprintln!("{told}\n\n{}", request::HELP);
            return ExitCode::from(2);
        }
    };
    obey(request).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn obey(request: Request) -> Result<ExitCode> {
    match request {
        Request::Test { only, extra } => test::run(&only, extra),
        Request::Check { only } => check::run(&only),
        Request::Soak(seconds) => soak::run(seconds),
        Request::Fuzz { seconds, targets } => fuzz::run(seconds, &targets),
        Request::Servers => servers::run(),
        Request::Help => {
            say(request::HELP);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints a line. If nobody reads it, as after `| head`, nothing is lost; `println!` would panic, and
/// leave the running step to itself.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
