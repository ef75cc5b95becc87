//! The project's own commands: `cargo xtask help` lists them.

mod api;
mod bench;
mod check;
mod cli;
mod deny;
mod features;
mod fuzz;
#[cfg(test)]
mod links;
mod minimal;
mod mutants;
mod powerset;
mod runner;
mod servers;
mod soak;
mod step;
mod test;
mod tool;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use cli::Task;

/// What commands return. An error is shown to the person at the terminal.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    if let Some(done) = api::stand_in(std::env::args_os().skip(1)) {
        return done.unwrap_or_else(failed);
    }
    let task = match Task::parse(std::env::args().skip(1)) {
        Ok(task) => task,
        Err(error) => {
            eprintln!("error: {error}\n\n{}", cli::HELP);
            return ExitCode::from(2);
        }
    };
    run(task).unwrap_or_else(failed)
}

#[expect(clippy::needless_pass_by_value, reason = "it ends with the program")]
fn failed(error: Box<dyn Error>) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Test { only, extra } => test::run(&only, extra),
        Task::Check { only } => check::run(&only),
        Task::Soak { seconds, modes } => soak::run(&modes, seconds),
        Task::Fuzz { seconds, targets } => fuzz::run(seconds, &targets),
        Task::Api { accept } => api::run(accept),
        Task::Deny { advisories } => deny::run(advisories),
        Task::Powerset => powerset::run(),
        Task::Minimal => minimal::run(),
        Task::Mutants(extra) => mutants::run(extra),
        Task::Bench(words) => bench::run(words),
        Task::Servers => servers::run(),
        Task::Help => {
            say(cli::HELP);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints a line. If nobody reads it, as after `| head`, nothing is lost; `println!` would panic
/// and leave the running step behind.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
