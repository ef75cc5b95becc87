//! Which login at an upstream a session comes from.

use std::fmt::Write as _;

use super::numbers::{decimal, hex};
use crate::{clock::Millis, digest};

/// A login at an upstream, by digests: of the user there, and of the session there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct UpstreamLogin {
    /// When the user authenticated, by the upstream's clock.
    pub(crate) at: Millis,
    pub(crate) user: u128,
    pub(crate) session: Option<u128>,
}

/// What an upstream says is over: the sessions of a user there, one session there, or both. It names
/// one of them at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Whoever authenticated later goes on. By the upstream's clock.
    pub(crate) at: Millis,
    pub(crate) user: Option<u128>,
    pub(crate) session: Option<u128>,
}

impl UpstreamLogin {
    /// The digest of a user at an issuer.
    pub(crate) fn user(issuer: &str, subject: &str) -> u128 {
        digest_of("user", issuer, subject)
    }

    /// The digest of a session at an issuer.
    pub(crate) fn session(issuer: &str, session: &str) -> u128 {
        digest_of("session", issuer, session)
    }

    /// Appends `at~user~session`, which needs no escaping.
    pub(super) fn encode(&self, out: &mut String) {
        // Writing to a `String` cannot fail.
        let _ = write!(out, "{}~{:032x}~", self.at.0, self.user);
        if let Some(session) = self.session {
            let _ = write!(out, "{session:032x}");
        }
    }

    pub(super) fn decode(field: &str) -> Option<Self> {
        let (at, rest) = field.split_once('~')?;
        let (user, session) = rest.split_once('~')?;
        Some(Self {
            at: Millis(decimal(at)?),
            user: hex(user)?,
            session: match session {
                "" => None,
                session => Some(hex(session)?),
            },
        })
    }
}

impl Ended {
    /// Whether a session is among what is over. One whose session at the upstream is not known may be
    /// the one that is meant, if the user is.
    pub(crate) fn names(&self, login: &UpstreamLogin) -> bool {
        let is_user = self.user.is_none_or(|user| user == login.user);
        let is_session = match (self.session, login.session) {
            (None, _) => true,
            (Some(session), Some(of)) => session == of,
            (Some(_), None) => self.user.is_some(),
        };
        login.at <= self.at && is_user && is_session
    }
}

/// The length keeps two texts apart that might both hold any character.
fn digest_of(kind: &str, issuer: &str, name: &str) -> u128 {
    let length = issuer.len();
    digest::id(&format!(
        "actix-session upstream {kind}\0{length}\0{issuer}{name}"
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn upstreams() -> impl Strategy<Value = UpstreamLogin> {
        (any::<i64>(), any::<u128>(), any::<Option<u128>>()).prop_map(|(at, user, session)| {
            UpstreamLogin {
                at: Millis(at),
                user,
                session,
            }
        })
    }

    #[test]
    fn what_is_written_is_read() {
        for session in [None, Some(0), Some(u128::MAX)] {
            for at in [0, -5, i64::MAX] {
                let login = UpstreamLogin {
                    at: Millis(at),
                    user: 7,
                    session,
                };
                let mut text = String::new();
                login.encode(&mut text);
                assert_eq!(UpstreamLogin::decode(&text), Some(login), "{text}");
            }
        }
        for text in [
            "", "5", "5~", "5~7", "~7~", "5~~", "5~x~", "5~7~x", "5~7~8~",
        ] {
            assert_eq!(UpstreamLogin::decode(text), None, "{text}");
        }
    }

    #[test]
    fn names_run_into_each_other_nowhere() {
        assert_ne!(
            UpstreamLogin::user("a", "bc"),
            UpstreamLogin::user("ab", "c")
        );
        assert_ne!(
            UpstreamLogin::user("a", "b"),
            UpstreamLogin::session("a", "b")
        );
        assert_eq!(UpstreamLogin::user("a", "b"), UpstreamLogin::user("a", "b"));
    }

    #[test]
    fn it_ends_what_it_names_and_what_authenticated_by_then() {
        let login = |at, session| UpstreamLogin {
            at: Millis(at),
            user: 1,
            session,
        };
        let ended = |user, session| Ended {
            at: Millis(5),
            user,
            session,
        };
        for (at, is_named) in [(4, true), (5, true), (6, false)] {
            let login = login(at, Some(2));
            assert_eq!(ended(Some(1), None).names(&login), is_named, "{at}");
            assert_eq!(ended(None, Some(2)).names(&login), is_named, "{at}");
            assert_eq!(ended(Some(1), Some(2)).names(&login), is_named, "{at}");
        }
        for other in [
            ended(Some(9), None),
            ended(None, Some(9)),
            ended(Some(9), Some(2)),
            ended(Some(1), Some(9)),
        ] {
            assert!(!other.names(&login(5, Some(2))), "{other:?}");
        }
        // Nobody knows which session it is there.
        assert!(ended(Some(1), Some(9)).names(&login(5, None)));
        assert!(!ended(None, Some(9)).names(&login(5, None)));
    }
}
