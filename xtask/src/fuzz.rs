//! `cargo xtask fuzz`: what is in `fuzz/`, built for libFuzzer by the stable compiler.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use servers::install;
use servers::software::Software;

use crate::runner::Runner;
use crate::step::{Step, cargo};
use crate::{Result, say};

/// Shows libFuzzer which code an input reaches. The library has no unsafe code, so it needs no
/// sanitizer, and thus no unstable compiler.
const FLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// How many seconds an input may take, how much memory a target, and how long an input may be.
const LIMITS: [&str; 3] = ["-timeout=20", "-rss_limit_mb=1024", "-max_len=2048"];

/// libFuzzer itself is written in C++.
const COMPILER: Software = Software {
    name: "a C++ compiler",
    programs: &["c++", "g++", "clang++"],
    variable: "CXX",
    debian_packages: &["g++", "clang"],
    elsewhere: "macOS: xcode-select --install",
};

/// Runs the named targets, or all of them, for so many seconds each. It fails if one finds
/// something.
pub(crate) fn run(seconds: u32, named: &[String]) -> Result<ExitCode> {
    let runner = Runner::new()?;
    let fuzz = Fuzz::find("release")?;
    let targets = fuzz.chosen(named)?;
    ensure_compiler()?;
    let built = runner.run(vec![fuzz.build()], &[])?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    let mut steps = Vec::new();
    for target in &targets {
        steps.push(fuzz.search(target, seconds)?);
    }
    let code = runner.run(steps, &[])?;
    let found: Vec<Found> = targets.iter().map(|target| fuzz.found(target)).collect();
    say(&table(&found));
    found.iter().for_each(|found| fuzz.report(found));
    Ok(code)
}

/// Installs a C++ compiler if there is none. One that `CXX` names is left to the build.
pub(crate) fn ensure_compiler() -> Result<()> {
    if std::env::var_os("CXX").is_none_or(|named| named.is_empty()) {
        install::ensure(&COMPILER)?;
    }
    Ok(())
}

/// Builds the targets, and runs each on the inputs in the repository.
pub(crate) fn replays() -> Result<Vec<Step>> {
    let fuzz = Fuzz::find("replay")?;
    let mut steps = vec![fuzz.build()];
    for target in fuzz.targets()? {
        steps.push(fuzz.replay(&target)?);
    }
    Ok(steps)
}

/// Checks the format and lints of the targets, which are a workspace of their own.
pub(crate) fn checks() -> Result<Vec<Step>> {
    // In the profile of the build, which needs the same macros and build scripts.
    let fuzz = Fuzz::find("replay")?;
    let format = ["fmt", "--manifest-path", MANIFEST, "--check"];
    let lints = [
        "clippy",
        "--profile",
        fuzz.profile,
        "--manifest-path",
        MANIFEST,
    ];
    let strictly = ["--target", &fuzz.host, "--", "-D", "warnings"];
    let lints = lints.iter().chain(&strictly);
    Ok(vec![
        Step::cargo("fuzz format", format),
        fuzz.with_flags(Step::cargo("fuzz lints", lints)),
    ])
}

const MANIFEST: &str = "fuzz/Cargo.toml";

/// The folders, the platform and how the targets are built.
#[derive(Debug)]
struct Fuzz {
    /// The profile, which is the name of the programs' folder too.
    profile: &'static str,
    /// The repository.
    root: PathBuf,
    /// The compiler's own platform. It is named as the target, so that build scripts are not built
    /// for libFuzzer.
    host: String,
}

impl Fuzz {
    fn find(profile: &'static str) -> Result<Self> {
        let output = Command::new("rustc").arg("-vV").output()?;
        let version = String::from_utf8(output.stdout)?;
        let host = version
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .ok_or("rustc -vV names no host")?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        Ok(Self {
            profile,
            root: root.parent().ok_or("xtask has no folder above")?.to_owned(),
            host: host.to_owned(),
        })
    }

    /// The names of all targets. Each is a file.
    fn targets(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for file in fs::read_dir(self.root.join("fuzz/targets"))? {
            let path = file?.path();
            if let Some(name) = path.file_stem().and_then(|name| name.to_str()) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn chosen(&self, named: &[String]) -> Result<Vec<String>> {
        let all = self.targets()?;
        if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
            return Err(format!(
                "unknown target `{unknown}`; the targets are: {}",
                all.join(", ")
            )
            .into());
        }
        Ok(if named.is_empty() {
            all
        } else {
            named.to_vec()
        })
    }

    fn with_flags(&self, mut step: Step) -> Step {
        step.command.current_dir(&self.root);
        // It would take precedence over `RUSTFLAGS`.
        step.command.env_remove("CARGO_ENCODED_RUSTFLAGS");
        step.with("RUSTFLAGS", FLAGS)
            .with("CARGO_TARGET_DIR", self.folder(""))
    }

    fn build(&self) -> Step {
        let mut command = cargo();
        command.args(["build", "--profile", self.profile, "--bins"]);
        command.args(["--manifest-path", MANIFEST, "--target", &self.host]);
        self.with_flags(named("fuzz corpus: build", command))
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.root.join("target/fuzz").join(name)
    }

    fn program(&self, target: &str) -> Command {
        let folder = self.folder(&self.host).join(self.profile);
        let mut command = Command::new(folder.join(target));
        command.current_dir(&self.root).stdin(Stdio::null());
        command.args(LIMITS);
        command
    }

    fn replay(&self, target: &str) -> Result<Step> {
        let mut command = self.program(target);
        command
            .args(["-runs=0", "-verbosity=0", &self.artifacts(target)?])
            .arg(corpus(target));
        Ok(named(&format!("fuzz corpus: {target}"), command))
    }

    /// The folder for inputs that make a target fail. libFuzzer expects it to exist.
    fn artifacts(&self, target: &str) -> Result<String> {
        let folder = format!("fuzz/artifacts/{target}/");
        fs::create_dir_all(self.root.join(&folder))?;
        Ok(format!("-artifact_prefix={folder}"))
    }

    /// New inputs go to a folder of their own, and libFuzzer's output to a file beside it.
    fn search(&self, target: &str, seconds: u32) -> Result<Step> {
        let new = self.folder("new").join(target);
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        fs::create_dir_all(&new)?;
        let mut command = self.program(target);
        command
            .arg(format!("-max_total_time={seconds}"))
            .args(["-print_final_stats=1", &self.artifacts(target)?]);
        let dictionary = format!("fuzz/dict/{target}.dict");
        if self.root.join(&dictionary).exists() {
            command.arg(format!("-dict={dictionary}"));
        }
        command.arg(new).arg(corpus(target));
        let log = File::create(self.log(target))?;
        command.stdout(Stdio::null()).stderr(log);
        Ok(named(target, command))
    }

    fn log(&self, target: &str) -> PathBuf {
        self.folder("new").join(format!("{target}.log"))
    }

    fn found(&self, target: &str) -> Found {
        let log = fs::read(self.log(target)).unwrap_or_default();
        Found::read(target, &String::from_utf8_lossy(&log))
    }

    /// Says what was found and how to reproduce it.
    fn report(&self, found: &Found) {
        let program = self.program(&found.target);
        for input in &found.inputs {
            say(&format!("{}: {}", found.target, found.failure));
            say(&format!("    kept in {input}; to reproduce it:"));
            say(&format!("    {} {input}", program.get_program().display()));
        }
        if found.executions == 0 || !found.inputs.is_empty() {
            let log = self.log(&found.target);
            say(&format!("    its whole output: {}", log.display()));
        }
    }
}

fn named(name: &str, command: Command) -> Step {
    Step {
        name: name.to_owned(),
        command,
    }
}

fn corpus(target: &str) -> OsString {
    format!("fuzz/corpus/{target}").into()
}

/// The results of a target, from libFuzzer's output.
#[derive(Debug, Default, PartialEq)]
struct Found {
    target: String,
    executions: u64,
    seconds: u64,
    edges: u64,
    features: u64,
    /// The files that made it fail.
    inputs: Vec<String>,
    /// What it printed then.
    failure: String,
}

impl Found {
    fn read(target: &str, log: &str) -> Self {
        let number_after = |line: &str, word: &str| {
            let rest = line.split(word).nth(1)?.trim_start();
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        };
        let last = |word: &str| log.lines().rev().find_map(|line| number_after(line, word));
        let executions = last("stat::number_of_executed_units:").unwrap_or_default();
        let a_second = last("stat::average_exec_per_sec:").unwrap_or_default();
        let inputs = log
            .lines()
            .filter_map(|line| line.split("Test unit written to ").nth(1));
        let mut lines = log
            .lines()
            .skip_while(|line| !line.contains(" panicked at "));
        let failure = match (lines.next(), lines.next()) {
            (Some(place), Some(why)) => format!("{why} ({place})"),
            _ => log
                .lines()
                .find(|line| line.contains("ERROR: libFuzzer"))
                .unwrap_or("")
                .into(),
        };
        Self {
            target: target.to_owned(),
            executions,
            // Below one a second, libFuzzer says 0.
            seconds: executions.checked_div(a_second).unwrap_or_default(),
            edges: last("cov:").unwrap_or_default(),
            features: last("ft:").unwrap_or_default(),
            inputs: inputs.map(str::to_owned).collect(),
            failure,
        }
    }
}

fn table(found: &[Found]) -> String {
    let mut lines = vec![format!(
        "{:<16}{:>14}{:>9}{:>11}{:>9}{:>8}{:>10}",
        "target", "executions", "seconds", "a second", "crashes", "edges", "features"
    )];
    for row in found {
        lines.push(format!(
            "{:<16}{:>14}{:>9}{:>11}{:>9}{:>8}{:>10}",
            row.target,
            row.executions,
            row.seconds,
            row.executions.checked_div(row.seconds).unwrap_or_default(),
            row.inputs.len(),
            row.edges,
            row.features,
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
#2      INITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 27Mb
#3189   NEW    cov: 24 ft: 31 corp: 3/11b lim: 33 exec/s: 0 rss: 27Mb

thread '<unnamed>' (1) panicked at src/lib.rs:3:87:
found
==1== ERROR: libFuzzer: deadly signal
artifact_prefix='fuzz/artifacts/x/'; Test unit written to fuzz/artifacts/x/crash-1a
stat::number_of_executed_units: 3200
stat::average_exec_per_sec:     1600";

    #[test]
    fn the_output_of_libfuzzer_is_read() {
        let expected = Found {
            target: "x".into(),
            executions: 3200,
            seconds: 2,
            edges: 24,
            features: 31,
            inputs: vec!["fuzz/artifacts/x/crash-1a".into()],
            failure: "found (thread '<unnamed>' (1) panicked at src/lib.rs:3:87:)".into(),
        };
        assert_eq!(Found::read("x", LOG), expected);
        let none = Found::read("y", "");
        assert_eq!((none.executions, none.seconds), (0, 0));
        let table = table(&[expected, none]);
        assert!(
            table.lines().nth(1).unwrap().contains("1600        1"),
            "{table}"
        );
    }

    #[test]
    fn every_target_has_inputs_to_start_from_and_an_entry_in_the_manifest() {
        let fuzz = Fuzz::find("dev").unwrap();
        let manifest = fs::read_to_string(fuzz.root.join(MANIFEST)).unwrap();
        let targets = fuzz.targets().unwrap();
        assert!(targets.contains(&"session".to_owned()), "{targets:?}");
        for target in targets {
            let corpus = fuzz.root.join(corpus(&target));
            assert!(
                fs::read_dir(corpus).is_ok_and(|mut files| files.next().is_some()),
                "{target}"
            );
            assert!(
                manifest.contains(&format!("targets/{target}.rs")),
                "{target}"
            );
        }
    }

    #[test]
    fn an_unknown_target_is_named_with_the_known_ones() {
        let fuzz = Fuzz::find("dev").unwrap();
        let error = fuzz.chosen(&["sesion".into()]).unwrap_err().to_string();
        assert!(
            error.contains("sesion") && error.contains("session"),
            "{error}"
        );
    }
}
