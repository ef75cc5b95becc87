//! What the library itself knows of a session, and its one textual form.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    numbers::{decimal, hex, push_decimal, push_hex, push_ids},
    origin::Origin,
    proofs::Proofs,
    upstream::UpstreamLogin,
};
use crate::{clock::Millis, digest};

/// The name of the entry that holds the metadata if a record is a flat map of strings.
///
/// Old servers and wrapped stores keep it because it looks like any other entry to them.
pub(crate) const RESERVED: &str = "__actix_session";

/// How many fields the metadata's text has here. Those of a later version follow them.
const KNOWN_FIELDS: usize = 19;

/// What the library knows of a session, apart from its state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Metadata {
    /// Random. It names the session outside of cookies. Renewals keep it; a logout draws another.
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
    /// Apart: most sessions are nobody's, and all copy the rest.
    pub(crate) auth: Option<Box<Auth>>,
    /// The fields of a later version, as they were read.
    pub(crate) rest: Option<Box<str>>,
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
    pub(crate) proofs: Proofs,
    pub(crate) origin: Option<Box<Origin>>,
    /// When the list of the principal's sessions was last told of this one, if that was long after the
    /// login.
    pub(crate) listed: Option<Millis>,
}

impl Auth {
    /// A login of which nothing else is known.
    pub(crate) fn new(principal: impl Into<String>, at: Millis) -> Self {
        Self {
            principal: principal.into(),
            at,
            device: None,
            login: None,
            span: None,
            proofs: Proofs::default(),
            origin: None,
            listed: None,
        }
    }

    /// When `login` was called. Revocations are compared with this.
    pub(crate) fn login(&self) -> Millis {
        self.login.unwrap_or(self.at)
    }

    /// When the list of the principal's sessions was last told of this one, or later: a login does, and
    /// so does the renewal of an authentication.
    pub(crate) fn listed(&self) -> Millis {
        let told = self.login().max(self.at);
        self.listed.map_or(told, |listed| listed.max(told))
    }

    /// The login at an upstream that it comes from.
    pub(crate) fn upstream(&self) -> Option<UpstreamLogin> {
        self.origin.as_ref()?.upstream
    }

    /// Another proof of the same person makes it no session of this server's own.
    pub(crate) fn keep_upstream(&mut self, before: Option<&Self>) {
        let kept = self.upstream().or_else(|| before?.upstream());
        if kept != self.upstream() {
            self.origin.get_or_insert_default().upstream = kept;
        }
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
            rest: None,
        }
    }

    /// Gives the session another id. What a later version knows of the old one does not follow.
    pub(crate) fn set_id(&mut self, id: u128) {
        if id != self.id {
            self.id = id;
            self.rest = None;
        }
    }

    /// Nobody is logged in any more, and nothing that a login brought stays.
    pub(crate) fn clear(&mut self, epoch: u64) {
        self.set_id(id_after_clear(self.id, epoch));
        self.epoch = epoch;
        self.auth = None;
        self.ttl = None;
        self.absolute_end = None;
    }

    /// Forgets the life of the session's last owner.
    pub(crate) fn start_over(&mut self, id: u128, created: Millis) {
        self.set_id(id);
        self.created = created;
        self.absolute_end = None;
    }

    /// Whether they say more than the defaults do, apart from the epoch.
    pub(crate) fn say_more(&self) -> bool {
        self.say_more_than_an_end() || self.idle_end.is_some()
    }

    /// The same, apart from the idle end too, which can be told without them.
    pub(crate) fn say_more_than_an_end(&self) -> bool {
        self.auth.is_some()
            || self.ttl.is_some()
            || self.absolute_end.is_some()
            || self.rest.is_some()
    }

    /// Whether the five methods need the reserved entry to carry them.
    pub(crate) fn need_entry(&self) -> bool {
        self.say_more() || self.epoch != 0
    }

    /// When the absolute timeout starts: at the last authentication, or else at the creation.
    pub(crate) fn since(&self) -> Millis {
        self.auth.as_deref().map_or(self.created, |auth| auth.at)
    }

    /// The absolute timeout that the login set in place of the policy's.
    pub(crate) fn own_span(&self) -> Option<Millis> {
        self.auth.as_deref().and_then(|auth| auth.span)
    }

    pub(crate) fn principal(&self) -> Option<&str> {
        self.auth.as_deref().map(|auth| auth.principal.as_str())
    }

    /// Writes the metadata as
    /// `commit.id.created.absolute.ttl.epoch.idle.at.principal.device.login.span.two.three.demand`
    /// and `.method.address.upstream.listed`, without the empty fields at the end, or with all of them and what a
    /// later version has added after them.
    ///
    /// The text needs no escaping in JSON, however often it is nested. The numbers that a Redis
    /// script looks for come first, in a fixed order.
    pub(crate) fn encode(&self, commit: u64, out: &mut String) {
        push_ids(out, commit, self.id);
        out.push('.');
        push_decimal(out, self.created.0);
        push_next(out, self.absolute_end);
        push_next(out, self.ttl);
        out.push('.');
        push_hex(out, self.epoch, 1);
        push_next(out, self.idle_end);
        let least = out.len();
        self.encode_auth(out);
        match &self.rest {
            Some(rest) => {
                out.push('.');
                out.push_str(rest);
            }
            None => out.truncate(out.trim_end_matches('.').len().max(least)),
        }
    }

    fn encode_auth(&self, out: &mut String) {
        let Some(auth) = &self.auth else {
            if self.rest.is_some() {
                out.push_str("............");
            }
            return;
        };
        push_next(out, Some(auth.at));
        out.push('.');
        URL_SAFE_NO_PAD.encode_string(&auth.principal, out);
        out.push('.');
        if let Some(device) = &auth.device {
            // The `~` tells an empty device from a missing one.
            out.push('~');
            URL_SAFE_NO_PAD.encode_string(device, out);
        }
        push_next(out, auth.login);
        push_next(out, auth.span);
        let has_more = self.rest.is_some() || auth.origin.is_some() || auth.listed.is_some();
        if has_more || !auth.proofs.are_plain() {
            auth.proofs.encode(out);
        }
        if has_more {
            Origin::encode(auth.origin.as_deref(), out);
            push_next(out, auth.listed);
        }
    }

    /// Reads what [`encode`](Self::encode) wrote, here or in a later version, which only ever
    /// appends fields.
    pub(crate) fn decode(text: &str) -> Option<(u64, Self)> {
        let (commit, text) = hex_field(text, 16)?;
        let (id, text) = hex_field(text, 32)?;
        if !is_plain(text) {
            return None;
        }
        let mut fields = Fields::new(text, KNOWN_FIELDS - 2);
        let metadata = Self {
            id,
            created: Millis(decimal(fields.next()?)?),
            absolute_end: optional(fields.next()?)?,
            ttl: optional(fields.next()?)?,
            epoch: u64::try_from(hex(fields.next()?)?).ok()?,
            idle_end: optional(fields.next()?)?,
            auth: match fields.left {
                None => None,
                Some(_) => Auth::decode(|| fields.next().unwrap_or_default())?.map(Box::new),
            },
            rest: fields.rest().map(Into::into),
        };
        Some((u64::try_from(commit).ok()?, metadata))
    }
}

impl Auth {
    /// Reads what follows the session's times. Nobody has none of it.
    fn decode<'a>(mut next: impl FnMut() -> &'a str) -> Option<Option<Self>> {
        let [at, rest @ ..]: [&str; 12] = std::array::from_fn(|_| next());
        let Some(at) = optional(at)? else {
            return rest.iter().all(|field| field.is_empty()).then_some(None);
        };
        let [
            principal,
            device,
            login,
            span,
            two,
            three,
            demand,
            method,
            address,
            upstream,
            listed,
        ] = rest;
        Some(Some(Self {
            at,
            principal: text_field(principal)?,
            device: match device.strip_prefix('~') {
                None => None,
                Some(device) => Some(text_field(device)?),
            },
            login: optional(login)?,
            span: optional(span)?,
            proofs: Proofs::decode([two, three, demand])?,
            origin: Origin::decode([method, address, upstream])?,
            listed: optional(listed)?,
        }))
    }
}

/// Fields between dots. They are so short that searching for a dot byte by byte is fastest.
struct Fields<'a> {
    left: Option<&'a str>,
    known: usize,
}

impl<'a> Fields<'a> {
    const fn new(text: &'a str, known: usize) -> Self {
        let left = Some(text);
        Self { left, known }
    }

    /// The next one of the known fields.
    fn next(&mut self) -> Option<&'a str> {
        self.known = self.known.checked_sub(1)?;
        let left = self.left?;
        let mut bytes = left.bytes();
        let Some(dot) = bytes.position(|byte| byte == b'.') else {
            return self.left.take();
        };
        self.left = left.get(dot + 1..);
        left.get(..dot)
    }

    /// What lies behind all of the known fields.
    fn rest(self) -> Option<&'a str> {
        self.left
    }
}

/// A number with usually so many digits, and what comes behind its dot.
fn hex_field(text: &str, usual: usize) -> Option<(u128, &str)> {
    let usual = text.split_at_checked(usual);
    let usual = usual.and_then(|(digits, rest)| Some((hex(digits)?, rest.strip_prefix('.')?)));
    usual.or_else(|| {
        let (digits, rest) = text.split_once('.')?;
        Some((hex(digits).filter(|_| is_plain(digits))?, rest))
    })
}

/// Whether a text can stand in JSON as it is.
pub(super) fn is_plain(text: &str) -> bool {
    // Without an early exit, the compiler makes this many bytes at a time.
    let other = |byte: u8| {
        let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let digit = byte.wrapping_sub(b'0') < 10;
        let mark = (byte == b'.') | (byte == b'_') | (byte == b'-') | (byte == b'~');
        !(letter | digit | mark)
    };
    !text.bytes().fold(false, |any, byte| any | other(byte))
}

/// The id of what a `clear` leaves. The request that clears can compute it, and nobody who does not
/// know the epoch.
pub(crate) fn id_after_clear(id: u128, epoch: u64) -> u128 {
    digest::id(&format!("actix-session cleared\0{id:032x}{epoch:016x}"))
}

/// Appends a dot, and the number if there is one.
pub(super) fn push_next(out: &mut String, value: Option<Millis>) {
    out.push('.');
    if let Some(value) = value {
        push_decimal(out, value.0);
    }
}

pub(super) fn optional(field: &str) -> Option<Option<Millis>> {
    if field.is_empty() {
        return Some(None);
    }
    Some(Some(Millis(decimal(field)?)))
}

pub(super) fn text_field(field: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(field).ok()?).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{origin::tests::origins, proofs::tests::proofs};

    pub(crate) fn metadata() -> impl Strategy<Value = Metadata> {
        let millis = || any::<i64>().prop_map(Millis);
        let auth = (
            ".*",
            millis(),
            proptest::option::of(".*"),
            proptest::option::of(millis()),
            proptest::option::of(millis()),
            proofs(),
            origins(),
            proptest::option::of(millis()),
        )
            .prop_map(
                |(principal, at, device, login, span, proofs, origin, listed)| Auth {
                    principal,
                    at,
                    device,
                    login,
                    span,
                    proofs,
                    origin,
                    listed,
                },
            );
        (
            any::<u128>(),
            millis(),
            proptest::option::of(millis()),
            proptest::option::of(millis()),
            prop_oneof![Just(0), any::<u64>()],
            proptest::option::of(prop_oneof![millis(), (0..1_i64 << 48).prop_map(Millis)]),
            proptest::option::of(auth),
            proptest::option::of("[a-zA-Z0-9._~-]{0,9}"),
        )
            .prop_map(
                |(id, created, absolute_end, ttl, epoch, idle_end, auth, rest)| Metadata {
                    id,
                    created,
                    absolute_end,
                    ttl,
                    epoch,
                    idle_end,
                    auth: auth.map(Box::new),
                    rest: rest.map(Into::into),
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(metadata in metadata(), commit: u64) {
            let mut text = String::new();
            metadata.encode(commit, &mut text);
            prop_assert!(is_plain(&text));
            prop_assert_eq!(Metadata::decode(&text), Some((commit, metadata)));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".*") {
            let _ = Metadata::decode(&text);
        }
    }

    const KNOWN: [&str; 11] = [
        "1.7.5...0.",
        "1.7.5...0..9.YQ",
        "1.7.5..60.2.8.9.YQ.~Yg.4",
        "1.7.5..60.2.8.9.YQ.~Yg..6",
        "1.7.5..60.2.8.9.YQ....8",
        "1.7.5..60.2.8.9.YQ.....8",
        "1.7.5..60.2.8.9.YQ......9~Yg",
        "1.7.5..60.2.8.9.YQ.......cGFzc2tleQ",
        "1.7.5..60.2.8.9.YQ........c00002",
        "1.7.5..60.2.8.9.YQ.........9~00000000000000000000000000000007~",
        "1.7.5..60.2.8.9.YQ..........99",
    ];

    /// A later version appends its fields to all of ours.
    #[test]
    fn fields_of_a_later_version_are_kept_byte_by_byte() {
        for known in KNOWN {
            let fill = ".".repeat(KNOWN_FIELDS - 1 - known.matches('.').count());
            let (_, before) = Metadata::decode(known).unwrap();
            for rest in ["x", "", ".", "~aGk..-7._", "....."] {
                let text = format!("{known}{fill}.{rest}");
                let (commit, metadata) = Metadata::decode(&text).unwrap();
                assert_eq!(metadata.rest.as_deref(), Some(rest));
                let mut again = String::new();
                metadata.encode(commit, &mut again);
                let (_, ending) = again.split_at(again.len() - rest.len());
                assert_eq!((commit, ending), (1, rest), "{text}");
                assert_eq!(Metadata::decode(&again).unwrap(), (1, metadata.clone()));
                assert_eq!(
                    Metadata {
                        rest: None,
                        ..metadata
                    },
                    before
                );
            }
        }
    }

    #[test]
    fn what_could_break_out_of_the_text_is_refused() {
        for rest in ["\"", "\\", " ", "\u{e9}", ":", "\n"] {
            let text = format!("1.7.5...0..............{rest}");
            assert_eq!(Metadata::decode(&text), None, "{text}");
        }
        for half in [
            "1.7.5...0...YQ..",
            "1.7.5...0...",
            "1.7.5...0....4",
            "1.7.5...0.....4",
            "1.7.5...0......4",
            "1.7.5...0.......4",
            "1.7.5...0.........4~",
            "1.7.5...0..........YQ",
            "1.7.5...0...........c00002",
            "1.7.5...0..9.YQ........c0",
            "1.7.5...0..9.YQ.......~",
            "1.7.5...0..9.YQ......4",
            "1.7.5...0..9.YQ......~",
            "1.7.5...0..........4~7~",
            "1.7.5...0..9.YQ..........x",
            "1.7.5...0............9",
            "1.7.5...0..9.YQ.......4",
            "1.7.5...0..9.YQ.......4~7",
            "1.7.5...0..9.YQ....x",
            "1.7.5...0",
        ] {
            let nobody = half == "1.7.5...0...";
            assert_eq!(Metadata::decode(half).is_some(), nobody, "{half}");
        }
    }

    #[test]
    fn another_id_drops_what_a_later_version_knows_of_the_old_one() {
        let (_, metadata) = Metadata::decode("1.7.5...0..............x").unwrap();
        let mut same = metadata.clone();
        same.set_id(7);
        assert_eq!(same, metadata);
        let mut cleared = metadata.clone();
        cleared.clear(3);
        assert_ne!(cleared.id, metadata.id);
        assert_eq!((cleared.epoch, cleared.rest), (3, None));
        let mut others = metadata;
        others.start_over(8, Millis(9));
        assert_eq!((others.id, others.rest), (8, None));
    }
}
