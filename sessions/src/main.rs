//! An operator's command: whose sessions there are, and what ends them.
//!
//! It goes by the index of the store alone: no command looks at all sessions, and none prints what
//! opens one. [`HELP`](cli::HELP) lists the commands.

mod cli;
mod print;
mod store;
mod task;

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use cli::{Command, Wanted};
use print::plain;
use task::Outcome;

/// What the process ends with. 0: it was done. 1: there is no such session. 2: the words on the
/// command line are wrong. 3: the store failed, or what it knows cannot be had.
#[derive(Debug, Clone, Copy)]
enum Exit {
    Done = 0,
    NotFound = 1,
    Usage = 2,
    Failed = 3,
}

fn main() -> ExitCode {
    let variable = env::var("SESSION_STORE").ok();
    let words = env::args_os().skip(1);
    let exit = match cli::parse(words, variable) {
        Ok(Wanted::Help) => show(cli::HELP, Exit::Done),
        Ok(Wanted::Command(command)) => run(&command),
        Err(error) => complain(
            &format!("{error}; `sessions help` lists the commands"),
            Exit::Usage,
        ),
    };
    ExitCode::from(exit as u8)
}

fn run(command: &Command) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(task::run(command)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(Outcome::Done(text)) => show(&text, Exit::Done),
        Ok(Outcome::NotFound) => complain("this user has no such session", Exit::NotFound),
        Err(error) => complain(&command.store.hide(&told(&error)), Exit::Failed),
    }
}

/// The messages of an error and its causes. Some errors show their cause themselves.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let message = cause.to_string();
        if text.is_empty() {
            text = message;
        } else if !text.ends_with(&message) {
            text = format!("{text}: {message}");
        }
    }
    text
}

fn show(text: &str, exit: Exit) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => exit,
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit,
        Err(error) => complain(
            &format!("the output cannot be written: {error}"),
            Exit::Failed,
        ),
    }
}

fn complain(text: &str, exit: Exit) -> Exit {
    // There is nobody left to tell if that fails.
    let _ = writeln!(io::stderr(), "sessions: {}", plain(text));
    exit
}
