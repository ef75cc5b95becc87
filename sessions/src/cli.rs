//! The command line.

use std::ffi::{OsStr, OsString};

use actix_session::SessionHandle;
use anyhow::{Context as _, Result, bail, ensure};
use pico_args::Arguments;

use crate::store::Store;

/// The answer to `sessions help`.
pub(crate) const HELP: &str = "\
sessions list USER [--json]             the user's live sessions, the latest login first
sessions show USER HANDLE [--json]      one of them
sessions end USER HANDLE                ends one of them
sessions end-user USER                  ends all of them, and logins that are under way
sessions export USER                    what is kept of the user's sessions, as JSON for the user
sessions erase USER                     ends all of them, and takes the user's name out of the store
sessions stats [--json]                 how many sessions the store holds, as far as it knows
sessions sweep                          deletes what has expired (Redis does so by itself)
sessions help                           this list

USER is the principal that the application logs in. HANDLE is in the list; it opens nothing. If a word begins with a
hyphen, put two hyphens before the first such word: sessions list -- -user

The store:
    --store URL                         redis://HOST:PORT, rediss://, redis+cluster://, redis+sentinel://, redis+unix:///PATH,
                                        sqlite://FILE, postgres://USER@HOST/DATABASE or mysql://USER@HOST/DATABASE;
                                        without it, the variable SESSION_STORE, which no list of processes shows
    --prefix TEXT                       Redis: the application's `key_prefix`
    --hashed-keys                       Redis: the application's names are hashed (`hashed_keys`)
    --table NAME                        SQL: the application's table, if it is not actix_sessions
    --schema NAME                       SQL: its schema

The exit code is 0 if it was done, 1 if there is no such session, 2 if the command line or the store's address is wrong,
and 3 if the store fails.
";

/// What the user wants.
#[derive(Debug)]
pub(crate) enum Wanted {
    Help,
    Command(Command),
}

/// Something to do with a store.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) task: Task,
    pub(crate) store: Store,
    pub(crate) json: bool,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    List(String),
    Show(String, SessionHandle),
    End(String, SessionHandle),
    EndUser(String),
    Export(String),
    Erase(String),
    Stats,
    Sweep,
}

/// Reads the words after `sessions`, and the value of `SESSION_STORE`.
pub(crate) fn parse(
    words: impl IntoIterator<Item = OsString>,
    variable: Option<String>,
) -> Result<Wanted> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let hyphens = words.iter().position(|word| word == "--");
    let behind = words.split_off(hyphens.unwrap_or(words.len()));
    let mut words = Arguments::from_vec(words.into_iter().flat_map(halves).collect());
    if words.contains(["-h", "--help"]) {
        return Ok(Wanted::Help);
    }
    let json = words.contains("--json");
    let url = words.opt_value_from_str("--store")?;
    let store = Store {
        url: url.or(variable).unwrap_or_default(),
        prefix: words.opt_value_from_str("--prefix")?,
        hashed_keys: words.contains("--hashed-keys"),
        table: words.opt_value_from_str("--table")?,
        schema: words.opt_value_from_str("--schema")?,
    };
    // Options may come before it.
    let name = words.subcommand()?;
    let free = words.finish();
    if let Some(option) = free.iter().find(|word| is_an_option(word)) {
        bail!("the option {} is unknown, or comes twice", shown(option));
    }
    let mut free = free.into_iter().chain(behind.into_iter().skip(1));
    let Some(task) = task(name.as_deref(), &mut free)? else {
        return Ok(Wanted::Help);
    };
    if let Some(word) = free.next() {
        bail!("the word {} is one too many", shown(&word));
    }
    store.check()?;
    Ok(Wanted::Command(Command { task, store, json }))
}

/// An option and its value, if they are one word (`--store=URL`).
fn halves(word: OsString) -> Vec<OsString> {
    match word.to_str().and_then(|word| word.split_once('=')) {
        Some((option @ ("--store" | "--prefix" | "--table" | "--schema"), value)) => {
            vec![option.into(), value.into()]
        }
        _ => vec![word],
    }
}

/// A word in an error: without what may be an address, since that may hold a password.
fn shown(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let option = word.split_once('=').filter(|_| word.starts_with('-'));
    match option.or_else(|| word.split_once(':')) {
        Some((first, _)) => format!("{first}…"),
        None => word.into_owned(),
    }
}

/// Whether a word that stands for itself looks like an option. One handle in 64 begins with a hyphen.
fn is_an_option(word: &OsStr) -> bool {
    let word = word.to_string_lossy();
    word.starts_with('-') && word.parse::<SessionHandle>().is_err()
}

fn task(name: Option<&str>, words: &mut impl Iterator<Item = OsString>) -> Result<Option<Task>> {
    Ok(Some(match name {
        Some("list") => Task::List(user(words)?),
        Some("show") => Task::Show(user(words)?, handle(words)?),
        Some("end") => Task::End(user(words)?, handle(words)?),
        Some("end-user") => Task::EndUser(user(words)?),
        Some("export") => Task::Export(user(words)?),
        Some("erase") => Task::Erase(user(words)?),
        Some("stats") => Task::Stats,
        Some("sweep") => Task::Sweep,
        None | Some("help") => return Ok(None),
        Some(other) => bail!("the command `{}` is unknown", shown(other.as_ref())),
    }))
}

fn user(words: &mut impl Iterator<Item = OsString>) -> Result<String> {
    let word = words.next().context("the user is missing")?;
    let name = word.into_string().ok();
    let name = name.context("the user must be a text in UTF-8")?;
    ensure!(!name.is_empty(), "the user must not be empty");
    Ok(name)
}

fn handle(words: &mut impl Iterator<Item = OsString>) -> Result<SessionHandle> {
    let word = words.next().context("the session's handle is missing")?;
    Ok(word.to_string_lossy().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "redis://127.0.0.1:6379";
    const HANDLE: &str = "uU0nuZNNPgilLlLX2n2r-sSE7-N6U4DukIj3rOLvzek";

    /// A handle that begins as an option does.
    const HYPHENS: &str = "--0nuZNNPgilLlLX2n2r-sSE7-N6U4DukIj3rOLvzek";

    fn parsed(words: &[&str], variable: Option<&str>) -> Result<Wanted> {
        let words = words.iter().map(OsString::from);
        parse(words, variable.map(str::to_owned))
    }

    fn command(words: &[&str]) -> Command {
        match parsed(words, Some(URL)) {
            Ok(Wanted::Command(command)) => command,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    fn error(words: &[&str]) -> String {
        parsed(words, Some(URL)).unwrap_err().to_string()
    }

    #[test]
    fn each_command_takes_its_words() {
        let handle = || HANDLE.parse().unwrap();
        let ada = || "ada".to_owned();
        for (words, task) in [
            (&["list", "ada"][..], Task::List(ada())),
            (&["show", "ada", HANDLE], Task::Show(ada(), handle())),
            (&["end", "ada", HANDLE], Task::End(ada(), handle())),
            (
                &["show", "ada", HYPHENS],
                Task::Show(ada(), HYPHENS.parse().unwrap()),
            ),
            (&["end-user", "ada"], Task::EndUser(ada())),
            (&["export", "ada"], Task::Export(ada())),
            (&["erase", "ada"], Task::Erase(ada())),
            (&["stats"], Task::Stats),
            (&["sweep"], Task::Sweep),
            (&["list", "--", "-ada"], Task::List("-ada".to_owned())),
            (
                &["--prefix", "shop:", "--json", "list", "ada"],
                Task::List(ada()),
            ),
        ] {
            assert_eq!(command(words).task, task, "{words:?}");
        }
        for words in [&["help"][..], &[], &["--help"], &["list", "-h"]] {
            assert!(matches!(parsed(words, None), Ok(Wanted::Help)), "{words:?}");
        }
    }

    #[test]
    fn a_wrong_word_is_named() {
        for (words, says) in [
            (&["lst", "ada"][..], "`lst` is unknown"),
            (&["list"], "the user is missing"),
            (&["erase"], "the user is missing"),
            (&["list", ""], "the user must not be empty"),
            (&["list", "ada", "bob"], "the word bob is one too many"),
            (&["list", "ada", "--jsn"], "the option --jsn is unknown"),
            (&["--jsn", "list"], "the option --jsn is unknown"),
            (&["stats", "--table", "a", "--table", "b"], "comes twice"),
            (&["end", "ada"], "the session's handle is missing"),
            (&["end", "ada", "x"], "invalid as the handle"),
            (&["stats", "--table", "t"], "are for SQL databases"),
            (
                &["stats", "--store", "sqlite://x", "--table", "a;b"],
                "\"a;b\" is not a valid name",
            ),
            (
                &["stats", "--store", "postgres://h/d", "--schema", "1"],
                "must not begin with a digit",
            ),
            (&["stats", "--store", "mongodb://x"], "is not a kind"),
            (&["stats", "--store", "memory:"], "lies in the application"),
        ] {
            let error = error(words);
            assert!(error.contains(says), "{words:?}: {error}");
        }
        let error = parsed(&["stats"], None).unwrap_err().to_string();
        assert!(error.contains("SESSION_STORE"), "{error}");
    }

    #[test]
    fn no_error_shows_an_address() {
        let address = "redis://me:secret@127.0.0.1:6379";
        for words in [
            &["stats", address][..],
            &["list", "ada", address],
            &[address, "list"],
            &["stats", &format!("--stroe={address}")],
            &["stats", &format!("--STORE={address}")],
        ] {
            let error = error(words);
            assert!(!error.contains("secret"), "{words:?}: {error}");
        }
    }

    #[test]
    fn an_option_and_its_value_may_be_one_word() {
        let store = command(&["stats", "--store=sqlite://file?mode=ro", "--table=t"]).store;
        assert_eq!(store.url, "sqlite://file?mode=ro");
        assert_eq!(store.table.as_deref(), Some("t"));
        // A user may look like that too.
        assert_eq!(
            command(&["list", "--", "--table=t"]).task,
            Task::List("--table=t".to_owned())
        );
    }

    #[test]
    fn the_command_line_comes_before_the_variable() {
        let store = command(&["stats", "--store", "sqlite://file", "--table", "t"]).store;
        assert_eq!(store.url, "sqlite://file");
        assert_eq!(store.table.as_deref(), Some("t"));
        assert_eq!(command(&["stats"]).store.url, URL);
    }
}
