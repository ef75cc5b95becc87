//! The command line, read.

/// The answer to `cargo xtask help`.
pub(crate) const HELP: &str = "\
cargo xtask test [--only STEP]... [-- ARGUMENTS]   start the servers, run every test, stop the servers
cargo xtask check [--only STEP]...                 formatting, lints, documentation, each feature alone
cargo xtask soak [--seconds 60]                    load on a Redis that is killed, frozen and filled meanwhile
cargo xtask fuzz [--seconds 60] [TARGET]...        random input, found by what code it reaches, for each target
cargo xtask servers                                start the servers, print their URLs, stay until Ctrl-C
cargo xtask help                                   this list

STEP is a name as it is printed before the step runs, or its beginning. TARGET is a file in fuzz/targets.
ARGUMENTS go to `cargo test`:
    cargo xtask test -- login                      tests with `login` in their names
    cargo xtask test -- -p servers                 one package
    cargo xtask test -- -- --nocapture             two more dashes: for the test programs

A missing server is installed with apt-get where that needs no password; elsewhere the error says
what to install. REDIS_SERVER_BIN, POSTGRES_BIN, MARIADB_BIN and CHROMIUM_BIN name particular
programs. So is a missing C++ compiler, which fuzzing needs; CXX names one.";

/// What was asked for.
#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    /// Run the tests.
    Test {
        only: Vec<String>,
        extra: Vec<String>,
    },
    /// Run everything that judges the code without running it.
    Check { only: Vec<String> },
    /// Load a Redis while it fails, for so many seconds.
    Soak(u32),
    /// Throw random input at these targets, or at all, for so many seconds each.
    Fuzz { seconds: u32, targets: Vec<String> },
    /// Keep servers up.
    Servers,
    /// List the commands.
    Help,
}

impl Request {
    /// Reads the words after `cargo xtask`; the error says what is wrong with them.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut words = words.into_iter();
        let command = words.next().unwrap_or_else(|| "help".to_owned());
        if command == "soak" {
            return soak(words);
        }
        if command == "fuzz" {
            return fuzz(words);
        }
        let (only, extra) = options(words)?;
        match command.as_str() {
            "test" => Ok(Self::Test { only, extra }),
            "check" if extra.is_empty() => Ok(Self::Check { only }),
            "servers" if only.is_empty() && extra.is_empty() => Ok(Self::Servers),
            "help" | "-h" | "--help" => Ok(Self::Help),
            "check" | "servers" => Err(format!("`{command}` takes no such arguments")),
            other => Err(format!("no command `{other}`")),
        }
    }
}

/// For how long: a minute, unless told otherwise.
fn soak(mut words: impl Iterator<Item = String>) -> Result<Request, String> {
    let told = "`soak` takes --seconds and a number";
    match (words.next().as_deref(), words.next(), words.next()) {
        (None, None, None) => Ok(Request::Soak(60)),
        (Some("--seconds"), Some(number), None) => {
            number.parse().map(Request::Soak).map_err(|_| told.into())
        }
        _ => Err(told.into()),
    }
}

/// As `soak`, and for which targets: all, unless some are named.
fn fuzz(mut words: impl Iterator<Item = String>) -> Result<Request, String> {
    let (mut seconds, mut targets) = (60, Vec::new());
    while let Some(word) = words.next() {
        if word == "--seconds" {
            let number = words.next().and_then(|number| number.parse().ok());
            seconds = number.ok_or("`--seconds` needs a number")?;
        } else if word.starts_with('-') {
            return Err(format!(
                "`fuzz` takes --seconds and targets, and not `{word}`"
            ));
        } else {
            targets.push(word);
        }
    }
    Ok(Request::Fuzz { seconds, targets })
}

/// The values of `--only`, and what follows `--`.
fn options(mut words: impl Iterator<Item = String>) -> Result<(Vec<String>, Vec<String>), String> {
    let mut only = Vec::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--" => return Ok((only, words.collect())),
            "--only" => only.push(words.next().ok_or("--only needs the name of a step")?),
            other => {
                return Err(format!(
                    "`{other}` is not understood; arguments for cargo test follow `--`"
                ));
            }
        }
    }
    Ok((only, Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, String> {
        Request::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn commands_are_read() {
        assert_eq!(parse(""), Ok(Request::Help));
        assert_eq!(parse("soak"), Ok(Request::Soak(60)));
        assert_eq!(parse("soak --seconds 5"), Ok(Request::Soak(5)));
        assert_eq!(parse("servers"), Ok(Request::Servers));
        let (seconds, targets) = (60, vec![]);
        assert_eq!(parse("fuzz"), Ok(Request::Fuzz { seconds, targets }));
        let (seconds, targets) = (5, vec!["a".into(), "b".into()]);
        assert_eq!(
            parse("fuzz a --seconds 5 b"),
            Ok(Request::Fuzz { seconds, targets })
        );
        assert_eq!(
            parse("check --only fmt"),
            Ok(Request::Check {
                only: vec!["fmt".into()]
            })
        );
        assert_eq!(
            parse("test"),
            Ok(Request::Test {
                only: vec![],
                extra: vec![]
            })
        );
    }

    #[test]
    fn what_follows_two_dashes_is_handed_on_with_further_dashes() {
        let extra = ["a", "--", "--nocapture"].map(str::to_owned).to_vec();
        assert_eq!(
            parse("test -- a -- --nocapture"),
            Ok(Request::Test {
                only: vec![],
                extra
            })
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (line, named) in [
            ("tset", "tset"),
            ("test login", "login"),
            ("check --only", "name of a step"),
            ("servers -- x", "servers"),
            ("soak 60", "--seconds"),
            ("soak --seconds", "--seconds"),
            ("soak --seconds x", "--seconds"),
            ("fuzz --seconds", "--seconds"),
            ("fuzz a --seconds b", "--seconds"),
            ("fuzz --only a", "--only"),
        ] {
            let told = parse(line).unwrap_err();
            assert!(told.contains(named), "{told}");
        }
    }
}
