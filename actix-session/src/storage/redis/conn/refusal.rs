//! What a server's refusal says and means, whoever has wrapped it.
//!
//! Redis 6.2 reports what refused a command in a script as an error of the script: `ERR Error
//! running script (call to f_...): @user_script:1: @user_script: 1: -READONLY ...`. Some proxies
//! put `ERR` before whatever they pass on.

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

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

/// The refusal that was wrapped, or the one at hand.
pub(super) fn unwrapped(error: RedisError) -> RedisError {
    let inner = match (error.code(), error.detail()) {
        (Some("ERR"), Some(detail)) => inner(detail).and_then(read),
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
    let code = said.split_ascii_whitespace().next()?;
    CODES.contains(&code).then_some(said)
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
    unwrapped(error)
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
