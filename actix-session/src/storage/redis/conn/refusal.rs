//! What a server's refusal says and means, whoever has wrapped it.
//!
//! Redis 6.2 reports what refused a command in a script as an error of the script: `ERR Error
//! running script (call to f_...): @user_script:1: @user_script: 1: -READONLY ...`. Some proxies
//! put `ERR` before whatever they pass on. If the script has caught it and answers it, the place stands
//! where the code would: `@user_script: 17: -READONLY ...`.

use memchr::memmem;
use redis::{Arg, Cmd, ErrorKind, RedisError, ServerErrorKind, Value};

/// The codes that may be wrapped, and mean something to this store.
const CODES: [&str; 15] = [
    "ASK",
    "BUSY",
    "CLUSTERDOWN",
    "CROSSSLOT",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOPERM",
    "NOREPLICAS",
    "NOSCRIPT",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "WRONGTYPE",
];

/// How many bytes of what was sent are its own: no word of an error is as long by chance.
const TELLING: usize = 16;

/// What a server writes before it repeats a command that it does not know.
const REPEATS: &str = "with args beginning with";

/// The refusal without what it repeats of the command: the name of a record is a key that opens a
/// session, and what logs in is a password.
pub(super) fn without_what_was_sent<'a>(
    error: RedisError,
    sent: impl IntoIterator<Item = &'a Cmd>,
) -> RedisError {
    let Some(detail) = error.detail() else {
        return error;
    };
    let args = sent.into_iter().flat_map(Cmd::args_iter);
    let starts = args.filter_map(|arg| match arg {
        Arg::Simple(bytes) => bytes.get(..TELLING),
        _ => None,
    });
    let starts = starts.chain([REPEATS.as_bytes()]);
    let repeated = starts.filter_map(|start| memmem::find(detail.as_bytes(), start));
    match (repeated.min(), error.code()) {
        (Some(from), Some(code)) => {
            let kept = String::from_utf8_lossy(&detail.as_bytes()[..from]);
            let shortened = read(&format!("{code} {kept}..."));
            let unread = || (ErrorKind::Server(ServerErrorKind::ResponseError), "refused").into();
            shortened.unwrap_or_else(unread)
        }
        _ => error,
    }
}

/// The refusal that was wrapped, or the one at hand.
pub(super) fn unwrapped(error: RedisError) -> RedisError {
    let inner = match (error.code(), error.detail()) {
        (Some("ERR"), Some(detail)) => inner(detail).and_then(read),
        (Some(place), Some(detail)) if place.starts_with("@user_script") => {
            let said = detail.split_once(": -").map(|(_, said)| said);
            said.filter(|said| is_known(said)).and_then(read)
        }
        _ => None,
    };
    inner.unwrap_or(error)
}

/// What comes after `ERR`, if it is another refusal.
fn inner(detail: &str) -> Option<&str> {
    let said = detail.trim_start_matches("ERR ");
    let said = match said.strip_prefix("Error running script") {
        Some(wrapped) => wrapped.split_once(": -")?.1,
        None => said.strip_prefix('-').unwrap_or(said),
    };
    is_known(said).then_some(said)
}

fn is_known(said: &str) -> bool {
    let code = said.split_ascii_whitespace().next();
    code.is_some_and(|code| CODES.contains(&code))
}

/// Only the client library's parser makes errors of a server.
fn read(line: &str) -> Option<RedisError> {
    let line = line.lines().next()?;
    match redis::parse_redis_value(format!("-{line}\r\n").as_bytes()) {
        Ok(Value::ServerError(error)) => Some(error.into()),
        Ok(_) => None,
        Err(error) => Some(error).filter(|error| error.code().is_some()),
    }
}

/// Whether the same server will do it in a moment.
pub(super) fn is_not_now(error: &RedisError) -> bool {
    let kinds = [ServerErrorKind::BusyLoading, ServerErrorKind::TryAgain];
    is_one_of(error, &kinds) || error.code() == Some("BUSY") || is_without_room(error)
}

/// There is no connection for now, so that nothing was sent.
pub(in super::super) fn without_room(message: &'static str, why: String) -> RedisError {
    (ErrorKind::Client, message, why).into()
}

/// Whether there was no connection for now. The client library itself reports nothing of this kind once
/// a connection is there.
pub(super) fn is_without_room(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Client
}

/// What became of an attempt to connect. A server that has as many clients as it allows accepts another
/// one, says so and closes it, before it has read anything; so does a proxy whose server is away.
pub(in super::super) fn of_connecting(error: RedisError) -> RedisError {
    if error.is_connection_dropped() && !error.is_connection_refusal() {
        let message = "the server closes new connections at once: it may have too many clients";
        return without_room(message, error.to_string());
    }
    without_what_was_sent(unwrapped(error), [])
}

/// What a server says that was taken for the only one, and has but some slots of a cluster.
pub(super) fn of_a_cluster(error: RedisError) -> RedisError {
    let kinds = [ServerErrorKind::Moved, ServerErrorKind::CrossSlot];
    if !is_one_of(&error, &kinds) {
        return error;
    }
    let message = "the server belongs to a cluster: the address must begin with `redis+cluster://`, \
                   or the store must be made by `builder_cluster`; before a cluster's proxy, a \
                   `key_prefix` with a hash tag, such as `{sessions}:`, keeps all in one slot";
    (ErrorKind::InvalidClientConfig, message, error.to_string()).into()
}

/// Whether it has been taken so. The client library itself reports nothing of this kind once a
/// connection is there.
pub(in super::super) fn is_of_a_cluster(error: &RedisError) -> bool {
    error.kind() == ErrorKind::InvalidClientConfig
}

/// Whether the server does not let this user run the command, or has none of that name.
pub(in super::super) fn is_forbidden(error: &RedisError) -> bool {
    let is_unknown = |detail: &str| detail.starts_with("unknown command");
    error.code() == Some("NOPERM") || error.detail().is_some_and(is_unknown)
}

/// Whether keys of one slot lie on two nodes, since the slot is being moved.
pub(super) fn is_put_off(error: &RedisError) -> bool {
    is_one_of(error, &[ServerErrorKind::TryAgain])
}

/// Whether the server is a replica: another one is the master.
pub(super) fn is_not_here(error: &RedisError) -> bool {
    is_one_of(
        error,
        &[ServerErrorKind::ReadOnly, ServerErrorKind::MasterDown],
    )
}

/// Whether the server has too few replicas to take writes. If it has just been replaced, they follow the
/// next master.
pub(super) fn is_unreplicated(error: &RedisError) -> bool {
    error.code() == Some("NOREPLICAS")
}

fn is_one_of(error: &RedisError, kinds: &[ServerErrorKind]) -> bool {
    matches!(error.kind(), ErrorKind::Server(kind) if kinds.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> RedisError {
        unwrapped(read(text).unwrap())
    }

    fn code(text: &str) -> String {
        refused(text).code().unwrap().to_owned()
    }

    /// What Redis 6.2.14 says.
    fn from_6_2(inner: &str) -> String {
        let script = "f_f3e87d9ac2c449d3cdfe57df5da0b3173daf321d";
        let place = "@user_script:1: @user_script: 1";
        format!("ERR Error running script (call to {script}): {place}: -{inner}")
    }

    /// The same, if the script caught it and answers it.
    fn caught_by_6_2(inner: &str) -> String {
        format!("@user_script: 17: -{inner}")
    }

    #[test]
    fn what_refused_a_command_in_a_script_is_known() {
        for (wanted, inner) in [
            (
                "READONLY",
                "READONLY You can't write against a read only replica.",
            ),
            (
                "NOREPLICAS",
                "NOREPLICAS Not enough good replicas to write.",
            ),
            (
                "MISCONF",
                "MISCONF Redis is configured to save RDB snapshots, but it is currently not able \
                 to persist on disk. Commands that may modify the data set are disabled.",
            ),
            (
                "OOM",
                "OOM command not allowed when used memory > 'maxmemory'.",
            ),
        ] {
            assert_eq!(code(&from_6_2(inner)), wanted);
            assert_eq!(code(&caught_by_6_2(inner)), wanted);
            // What Redis 7.0 and Valkey 9.1 say.
            assert_eq!(code(&format!("{inner} script: on @user_script:1.")), wanted);
        }
    }

    #[test]
    fn what_a_proxy_passes_on_is_known() {
        for wanted in CODES {
            assert_eq!(code(&format!("ERR {wanted} and why")), wanted);
            assert_eq!(code(&format!("ERR -{wanted}")), wanted);
            assert_eq!(code(&format!("{wanted} and why")), wanted);
        }
        assert_eq!(code(&format!("ERR {}", from_6_2("OOM no"))), "OOM");
        let moved = refused("ERR MOVED 3999 127.0.0.1:6381");
        assert_eq!(moved.redirect_node(), Some(("127.0.0.1:6381", 3999)));
    }

    #[test]
    fn other_errors_stay_as_they_are() {
        for text in [
            "ERR unknown command 'READONLY'",
            "ERR value is not an integer or out of range",
            "ERR Error running script (call to f_1): @user_script:1: READONLY",
            &from_6_2("ERR wrong number of arguments"),
            &caught_by_6_2("ERR wrong number of arguments"),
            "@user_script: 17: READONLY",
            "WRONGPASS READONLY",
            "ERR",
        ] {
            let before = read(text).unwrap();
            let (code, detail) = (before.code().map(str::to_owned), before.detail());
            let after = refused(text);
            assert_eq!(after.code(), code.as_deref(), "{text}");
            assert_eq!(after.detail(), detail, "{text}");
        }
    }

    #[test]
    fn what_was_sent_is_not_repeated() {
        const KEY: &str = "OHyDpdrVTfW3d5ILprFskuDzCGUGIYLHqMpN4lBvkE4HL2Hk0ZJhIPkTDZ0mmyxM";
        for name in [KEY.to_owned(), format!("a:{KEY}"), format!("ä{KEY}")] {
            let mut command = redis::cmd("EVALSHA");
            command.arg("ef440cf4baeaa8312980a7bff79ff63386342b88");
            command.arg(1).arg(&name);
            let said = |text: &str| {
                let error = without_what_was_sent(refused(text), [&command]);
                let told = format!("{error} {error:?}");
                assert!(!told.contains(&KEY[..20]), "{told}");
                assert_eq!(error.code(), read(text).unwrap().code());
                told
            };
            let whole = format!("with args beginning with: 'ef440c' '1' '{name}' ");
            for told in [
                said(&format!("ERR unknown command 'EVALSHA', {whole}")),
                said(&format!("ERR Error running script: no `{name}` here")),
                said(&format!("NOPERM no access to {}", &name[..40])),
                said(&format!("MOVED {name}")),
            ] {
                assert!(told.contains("..."), "{told}");
            }
        }
        let moved = refused("MOVED 3999 127.0.0.1:6381");
        let moved = without_what_was_sent(moved, [&redis::cmd("GET")]);
        assert_eq!(moved.redirect_node(), Some(("127.0.0.1:6381", 3999)));
        // What old servers say to `HELLO`.
        let hello = "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `a`, `pw`";
        assert!(!of_connecting(refused(hello)).to_string().contains("pw"));
    }

    #[test]
    fn a_server_of_a_cluster_is_told_from_one_alone() {
        for text in ["MOVED 3999 127.0.0.1:6381", "CROSSSLOT Keys in request"] {
            let error = of_a_cluster(refused(text));
            assert!(is_of_a_cluster(&error));
            let told = error.to_string();
            assert!(told.contains("redis+cluster://"), "{told}");
        }
        let other = of_a_cluster(refused("NOPERM no"));
        assert_eq!(other.code(), Some("NOPERM"));
    }

    #[test]
    fn a_command_that_is_forbidden_is_known() {
        for text in ["NOPERM this user", "ERR unknown command 'EVAL', with"] {
            assert!(is_forbidden(&refused(text)), "{text}");
        }
        for text in ["NOSCRIPT No matching script", "ERR wrong number"] {
            assert!(!is_forbidden(&refused(text)), "{text}");
        }
    }

    #[test]
    fn whoever_is_turned_away_may_come_again() {
        use std::io;

        let of = |kind: io::ErrorKind| of_connecting(io::Error::from(kind).into());
        for kind in [
            io::ErrorKind::BrokenPipe,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::UnexpectedEof,
        ] {
            assert!(is_not_now(&of(kind)), "{kind}");
        }
        for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::TimedOut] {
            assert!(!is_not_now(&of(kind)), "{kind}");
            assert_eq!(of(kind).kind(), ErrorKind::Io);
        }
    }

    #[test]
    fn a_refusal_is_for_now_or_for_this_server_or_for_good() {
        let meaning = |text: &str| {
            let error = refused(text);
            (is_not_now(&error), is_not_here(&error))
        };
        for text in ["LOADING x", "ERR BUSY x", "TRYAGAIN x"] {
            assert_eq!(meaning(text), (true, false), "{text}");
        }
        for text in [&from_6_2("READONLY x"), "ERR READONLY x", "MASTERDOWN x"] {
            assert_eq!(meaning(text), (false, true), "{text}");
        }
        for text in ["NOREPLICAS x", "MISCONF x", "OOM x", "ERR x", "BUSYKEY x"] {
            assert_eq!(meaning(text), (false, false), "{text}");
        }
    }
}
