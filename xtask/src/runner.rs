//! Runs steps one after another, and ends them when the user or the system says so.

use std::io;
use std::process::{Child, ExitCode, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use servers::process::{Group, Watchdog, lead_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::step::Step;
use crate::{Result, say};

/// How long a step may take to end by itself after it was asked to.
const GRACE: Duration = Duration::from_secs(5);

/// Reported for a step that has no exit code, because a signal ended it or it never ran. It must
/// not be 0.
const NO_CODE: u8 = 1;

/// What the runner waits for.
#[derive(Debug)]
enum Event {
    /// Ctrl-C and its relatives, with the signal's number.
    Signal(i32),
    /// The running step ended.
    Ended(io::Result<ExitStatus>),
}

/// How a step went.
#[derive(Debug)]
enum Outcome {
    Ended(ExitStatus),
    /// It could not be started or waited for.
    NotRun(String),
    Interrupted(i32),
}

/// As soon as it exists, Ctrl-C, SIGTERM and a closed terminal no longer end this process. They end
/// the running step; then whatever the caller holds is dropped in order, servers included.
#[derive(Debug)]
pub(crate) struct Runner {
    events: Receiver<Event>,
    sender: Sender<Event>,
    grace: Duration,
    /// Where the runner's own lines go.
    say: fn(&str),
}

impl Runner {
    /// Takes over the signals.
    pub(crate) fn new() -> Result<Self> {
        let (sender, events) = mpsc::channel();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let forward = sender.clone();
        thread::spawn(move || {
            for signal in signals.forever() {
                // Nobody listens when the process is about to end.
                let _ = forward.send(Event::Signal(signal));
            }
        });
        Ok(Self {
            events,
            sender,
            grace: GRACE,
            say,
        })
    }

    /// Waits for a signal, and returns the exit code for it.
    pub(crate) fn wait_for_signal(&self) -> ExitCode {
        loop {
            if let Ok(Event::Signal(signal)) = self.events.recv() {
                return signalled(signal);
            }
        }
    }

    /// Runs the chosen steps in order, all of them even if one fails. The exit code is that of the
    /// first that failed. A step whose program cannot be started has failed too.
    pub(crate) fn run(&self, steps: Vec<Step>, only: &[String]) -> Result<ExitCode> {
        let names: Vec<String> = steps.iter().map(|step| step.name.clone()).collect();
        let chosen: Vec<Step> = steps
            .into_iter()
            .filter(|step| step.is_chosen(only))
            .collect();
        if chosen.is_empty() {
            return Err(format!(
                "--only matches no step; the steps are: {}",
                names.join(", ")
            )
            .into());
        }
        let mut failed = Vec::new();
        for step in chosen {
            let name = step.name.clone();
            match self.run_one(step) {
                Outcome::Ended(status) if status.success() => {}
                Outcome::Ended(status) => failed.push((name, code_of(status))),
                Outcome::NotRun(_) => failed.push((name, NO_CODE)),
                Outcome::Interrupted(signal) => return Ok(signalled(signal)),
            }
        }
        Ok(self.conclude(&failed))
    }

    fn run_one(&self, step: Step) -> Outcome {
        let name = step.name.clone();
        (self.say)(&format!("==> {name}"));
        let started = Instant::now();
        let outcome = self
            .outcome_of(step)
            .unwrap_or_else(|error| Outcome::NotRun(error.to_string()));
        let (result, took) = (describe(&outcome), started.elapsed());
        (self.say)(&format!("==> {name}: {result} after {took:.1?}"));
        outcome
    }

    fn outcome_of(&self, mut step: Step) -> Result<Outcome> {
        let program = step.command.get_program().to_owned();
        let failed = |error| format!("cannot run {}: {error}", program.display());
        let child = lead_group(&mut step.command).spawn().map_err(failed)?;
        let group = Group::of(&child);
        let _watchdog = Watchdog::over(group, None)?;
        self.report_end_of(child);
        let outcome = match self.next() {
            Event::Ended(status) => Outcome::Ended(status?),
            Event::Signal(signal) => {
                self.end(group);
                Outcome::Interrupted(signal)
            }
        };
        // What a step leaves running would keep its ports, and the pipe of whoever reads the
        // output.
        let _ = group.kill();
        Ok(outcome)
    }

    fn conclude(&self, failed: &[(String, u8)]) -> ExitCode {
        for (name, code) in failed {
            (self.say)(&format!("==> failed: {name} (exit code {code})"));
        }
        failed
            .first()
            .map_or(ExitCode::SUCCESS, |(_, code)| ExitCode::from(*code))
    }

    fn report_end_of(&self, mut child: Child) {
        let sender = self.sender.clone();
        thread::spawn(move || sender.send(Event::Ended(child.wait())));
    }

    fn next(&self) -> Event {
        self.events
            .recv()
            .expect("the runner itself holds a sender")
    }

    /// Asks the step to end, and kills it after the grace or at a second signal.
    fn end(&self, group: Group) {
        // Refused only if the group has ended already.
        let _ = group.terminate();
        if let Err(RecvTimeoutError::Timeout) | Ok(Event::Signal(_)) =
            self.events.recv_timeout(self.grace)
        {
            let _ = group.kill();
            while let Event::Signal(_) = self.next() {}
        }
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ended(status) if status.success() => "ok".to_owned(),
        Outcome::Ended(status) => format!("FAILED ({status})"),
        Outcome::NotRun(why) => format!("FAILED ({why})"),
        Outcome::Interrupted(signal) => format!("interrupted (signal {signal})"),
    }
}

fn code_of(status: ExitStatus) -> u8 {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(NO_CODE)
}

/// What shells report for a program that a signal ended.
fn signalled(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(NO_CODE))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Its lines about failed steps would look like failures in the log of tests that pass.
    fn quiet() -> Runner {
        Runner {
            say: |_: &str| {},
            // Longer than anybody waits: what needs it to be over hangs.
            grace: Duration::from_secs(86_400),
            ..Runner::new().unwrap()
        }
    }

    fn shell(name: &str, script: &str) -> Step {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Step {
            name: name.to_owned(),
            command,
        }
    }

    /// Both sleeps are in the step's group, and outlast every test.
    const LONG: &str = "sleep 86400 & sleep 86400; true";

    fn interrupted(script: &str, signals: &[i32]) -> ExitCode {
        let runner = quiet();
        for signal in signals {
            runner.sender.send(Event::Signal(*signal)).unwrap();
        }
        let steps = vec![shell("long", script), shell("never", "exit 9")];
        runner.run(steps, &[]).unwrap()
    }

    #[test]
    fn the_first_failure_gives_the_exit_code_and_the_rest_still_runs() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("ran");
        let last = format!("touch '{}'; exit 4", mark.display());
        let steps = vec![
            shell("good", "true"),
            shell("bad", "exit 3"),
            shell("last", &last),
        ];
        let code = quiet().run(steps, &[]).unwrap();
        assert_eq!(code, ExitCode::from(3));
        assert!(mark.exists());
    }

    #[test]
    fn a_step_that_cannot_be_started_has_failed_and_the_rest_still_runs() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("ran");
        let absent = Step {
            name: "absent".to_owned(),
            command: Command::new(folder.path().join("absent")),
        };
        let last = shell("last", &format!("touch '{}'", mark.display()));
        let code = quiet().run(vec![absent, last], &[]).unwrap();
        assert_eq!(code, ExitCode::from(NO_CODE));
        assert!(mark.exists());
    }

    #[test]
    fn a_step_that_a_signal_ended_has_failed() {
        let steps = vec![shell("killed", "kill -KILL $$")];
        assert_eq!(quiet().run(steps, &[]).unwrap(), ExitCode::from(NO_CODE));
    }

    #[test]
    fn a_choice_that_matches_no_step_is_an_error() {
        let steps = vec![shell("only one", "true")];
        let error = quiet().run(steps, &["other".into()]).unwrap_err();
        assert!(error.to_string().contains("only one"));
    }

    #[test]
    fn an_interruption_ends_the_step_and_all_that_would_follow() {
        assert_eq!(interrupted(LONG, &[SIGINT]), ExitCode::from(130));
    }

    #[test]
    fn a_second_interruption_ends_a_step_that_does_not_listen() {
        let deaf = format!("trap '' TERM; {LONG}");
        assert_eq!(interrupted(&deaf, &[SIGTERM, SIGTERM]), ExitCode::from(143));
    }
}
