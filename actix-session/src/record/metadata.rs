//! What the library itself knows of a session, and its one textual form.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::clock::Millis;

/// The name of the entry that holds the metadata if a record is a flat map of strings.
///
/// Old servers and wrapped stores keep it because it looks like any other entry to them.
pub(crate) const RESERVED: &str = "__actix_session";

/// What the library knows of a session, apart from its state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Metadata {
    /// Random. It names the session outside of cookies, and renewals keep it.
    pub(crate) id: u128,
    pub(crate) created: Millis,
    /// The end that no activity moves.
    pub(crate) absolute_end: Option<Millis>,
    /// This session's own time to live, in place of the policy's.
    pub(crate) ttl: Option<Millis>,
    /// Each `clear` draws a new one. It is 0 before the first.
    pub(crate) epoch: u64,
    /// The idle end, only if the store keeps no time of its own (cookie-stored sessions).
    pub(crate) idle_end: Option<Millis>,
    pub(crate) auth: Option<Auth>,
}

/// Who is logged in, since when, and on what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Auth {
    pub(crate) principal: String,
    /// When the principal last authenticated.
    pub(crate) at: Millis,
    pub(crate) device: Option<String>,
    /// When `login` was called, if that was at another time.
    pub(crate) login: Option<Millis>,
    /// This login's own absolute timeout, in place of the policy's.
    pub(crate) span: Option<Millis>,
}

impl Auth {
    /// When `login` was called. Revocations are compared with this.
    pub(crate) fn login(&self) -> Millis {
        self.login.unwrap_or(self.at)
    }
}

impl Metadata {
    pub(crate) fn new(id: u128, created: Millis) -> Self {
        Self {
            id,
            created,
            absolute_end: None,
            ttl: None,
            epoch: 0,
            idle_end: None,
            auth: None,
        }
    }

    /// Nobody is logged in any more, and nothing that a login brought stays.
    pub(crate) fn clear(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.auth = None;
        self.ttl = None;
        self.absolute_end = None;
    }

    /// Forgets the life of the session's last owner.
    pub(crate) fn start_over(&mut self, id: u128, created: Millis) {
        self.id = id;
        self.created = created;
        self.absolute_end = None;
    }

    pub(crate) fn reauthenticate(&mut self, at: Millis) {
        if let Some(auth) = self.auth.as_mut().filter(|auth| at > auth.at) {
            auth.login = Some(auth.login());
            auth.at = at;
        }
    }

    /// When the absolute timeout starts: at the last authentication, or else at the creation.
    pub(crate) fn since(&self) -> Millis {
        self.auth.as_ref().map_or(self.created, |auth| auth.at)
    }

    /// The absolute timeout that the login set in place of the policy's.
    pub(crate) fn own_span(&self) -> Option<Millis> {
        self.auth.as_ref().and_then(|auth| auth.span)
    }

    pub(crate) fn principal(&self) -> Option<&str> {
        self.auth.as_ref().map(|auth| auth.principal.as_str())
    }

    /// Writes the metadata as
    /// `commit.id.created.absolute.ttl.epoch.idle[.at.principal.device[.login]]`.
    ///
    /// The text needs no escaping in JSON, however often it is nested. The numbers that a Redis
    /// script looks for come first, in a fixed order.
    pub(crate) fn encode(&self, commit: u64, out: &mut String) {
        use std::fmt::Write as _;

        let number = |value: Option<Millis>| value.map_or_else(String::new, |v| v.0.to_string());
        // Writing to a `String` cannot fail.
        let _ = write!(
            out,
            "{commit:016x}.{:032x}.{}.{}.{}.{:x}.{}",
            self.id,
            self.created.0,
            number(self.absolute_end),
            number(self.ttl),
            self.epoch,
            number(self.idle_end),
        );
        if let Some(auth) = &self.auth {
            let _ = write!(out, ".{}.", auth.at.0);
            URL_SAFE_NO_PAD.encode_string(&auth.principal, out);
            out.push('.');
            if let Some(device) = &auth.device {
                // The `~` tells an empty device from a missing one.
                out.push('~');
                URL_SAFE_NO_PAD.encode_string(device, out);
            }
            if auth.login.is_some() || auth.span.is_some() {
                let _ = write!(out, ".{}", number(auth.login));
            }
            if let Some(span) = auth.span {
                let _ = write!(out, ".{}", span.0);
            }
        }
    }

    /// Reads what [`encode`](Self::encode) wrote. Further fields, from a later version, are
    /// ignored.
    pub(crate) fn decode(text: &str) -> Option<(u64, Self)> {
        let mut fields = text.split('.');
        let commit = u64::from_str_radix(fields.next()?, 16).ok()?;
        let metadata = Self {
            id: u128::from_str_radix(fields.next()?, 16).ok()?,
            created: Millis(fields.next()?.parse().ok()?),
            absolute_end: optional(fields.next()?)?,
            ttl: optional(fields.next()?)?,
            epoch: u64::from_str_radix(fields.next()?, 16).ok()?,
            idle_end: optional(fields.next()?)?,
            auth: match fields.next() {
                None => None,
                Some(at) => Some(Auth {
                    at: Millis(at.parse().ok()?),
                    principal: text_field(fields.next()?)?,
                    device: match fields.next()?.strip_prefix('~') {
                        None => None,
                        Some(device) => Some(text_field(device)?),
                    },
                    login: match fields.next() {
                        None => None,
                        Some(login) => optional(login)?,
                    },
                    span: match fields.next() {
                        None => None,
                        Some(span) => optional(span)?,
                    },
                }),
            },
        };
        Some((commit, metadata))
    }
}

fn optional(field: &str) -> Option<Option<Millis>> {
    if field.is_empty() {
        return Some(None);
    }
    Some(Some(Millis(field.parse().ok()?)))
}

fn text_field(field: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(field).ok()?).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn metadata() -> impl Strategy<Value = Metadata> {
        let millis = || any::<i64>().prop_map(Millis);
        let auth = (
            ".*",
            millis(),
            proptest::option::of(".*"),
            proptest::option::of(millis()),
            proptest::option::of(millis()),
        )
            .prop_map(|(principal, at, device, login, span)| Auth {
                principal,
                at,
                device,
                login,
                span,
            });
        (
            any::<u128>(),
            millis(),
            proptest::option::of(millis()),
            proptest::option::of(millis()),
            any::<u64>(),
            proptest::option::of(millis()),
            proptest::option::of(auth),
        )
            .prop_map(
                |(id, created, absolute_end, ttl, epoch, idle_end, auth)| Metadata {
                    id,
                    created,
                    absolute_end,
                    ttl,
                    epoch,
                    idle_end,
                    auth,
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(metadata in metadata(), commit: u64) {
            let mut text = String::new();
            metadata.encode(commit, &mut text);
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-~".contains(&b)));
            prop_assert_eq!(Metadata::decode(&text), Some((commit, metadata)));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".*") {
            let _ = Metadata::decode(&text);
        }
    }
}
