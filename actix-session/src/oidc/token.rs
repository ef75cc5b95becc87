//! A logout token, and what makes it valid.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::{JwkSet, object::Object};
use crate::{UpstreamNotice, session::check_name};

/// How far the clocks of both servers may be apart.
const LEEWAY: Duration = Duration::from_secs(60);
/// The last second of the year 9999.
const LATEST: f64 = 253_402_300_799.0;

/// Why a token is invalid.
pub(super) type Invalid = &'static str;

/// A token that has been read, and not yet verified.
pub(super) struct Token<'a> {
    header: Header,
    claims: Claims,
    message: &'a [u8],
    signature: Vec<u8>,
}

/// Members that it does not name are ignored, as the specifications ask; those that it does must not
/// come twice.
#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    #[serde(deserialize_with = "time")]
    iat: SystemTime,
    #[serde(deserialize_with = "time")]
    exp: SystemTime,
    jti: String,
    events: Object<Events>,
    sub: Option<String>,
    sid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    nonce: bool,
}

/// The member that makes a token a logout token.
#[derive(Deserialize)]
struct Events {
    #[serde(rename = "http://schemas.openid.net/event/backchannel-logout")]
    logout: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn is(&self, client: &str) -> bool {
        match self {
            Self::One(audience) => audience == client,
            // Nobody else is trusted.
            Self::Many(all) => !all.is_empty() && all.iter().all(|it| it == client),
        }
    }
}

/// Whether a member is there, whatever it is.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// A `NumericDate`: seconds, perhaps with a fraction.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if !(0.0..=LATEST).contains(&seconds) {
        return Err(serde::de::Error::custom("no time"));
    }
    Ok(UNIX_EPOCH + Duration::from_secs_f64(seconds))
}

impl<'a> Token<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, Invalid> {
        let malformed = "the logout token must be a signed JWT of three parts";
        let (signed, signature) = text.rsplit_once('.').ok_or(malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(malformed)?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed);
        let Object(header) = serde_json::from_slice(&decoded(header)?)
            .map_err(|_| "the header of the logout token is invalid")?;
        let Object(claims) = serde_json::from_slice(&decoded(claims)?)
            .map_err(|_| "the logout token must have valid iss, aud, iat, exp, jti and events")?;
        Ok(Self {
            header,
            claims,
            message: signed.as_bytes(),
            signature: decoded(signature)?,
        })
    }

    /// Who claims to have issued it.
    pub(super) fn issuer(&self) -> &str {
        &self.claims.iss
    }

    /// Whether it claims to be for this client alone.
    pub(super) fn is_for(&self, client: &str) -> bool {
        self.claims.aud.is(client)
    }

    pub(super) fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// What it says, if it is valid: OpenID Connect Back-Channel Logout 1.0, 2.6.
    pub(super) fn verified(
        self,
        client: &str,
        keys: &JwkSet,
        now: SystemTime,
    ) -> Result<UpstreamNotice, Invalid> {
        self.check_header()?;
        let signed_by = (self.header.alg.as_str(), self.kid());
        if !keys.verify(signed_by, self.message, &self.signature) {
            return Err("the signature of the logout token is invalid");
        }
        self.claims.check(client, now)?;
        self.claims.notice()
    }

    fn check_header(&self) -> Result<(), Invalid> {
        let typ = self.header.typ.as_deref().unwrap_or("JWT");
        let typ = typ.to_ascii_lowercase();
        let typ = typ.strip_prefix("application/").unwrap_or(&typ);
        if !["logout+jwt", "jwt"].contains(&typ) {
            return Err("the typ of the logout token must be logout+jwt");
        }
        if self.header.crit {
            return Err("the logout token must have no critical headers (`crit`)");
        }
        Ok(())
    }
}

impl Claims {
    fn check(&self, client: &str, now: SystemTime) -> Result<(), Invalid> {
        if !self.aud.is(client) {
            return Err("the aud of the logout token must be this client alone");
        }
        if self.exp + LEEWAY <= now {
            return Err("the logout token has expired");
        }
        if self.iat > now + LEEWAY || self.iat > self.exp {
            return Err("the logout token must have been issued in the past");
        }
        let event = self.events.0.logout.as_ref();
        if !event.is_some_and(serde_json::Value::is_object) {
            return Err(
                "the events of the logout token must have the member for back-channel logout",
            );
        }
        if self.nonce {
            return Err("a logout token must have no nonce");
        }
        Ok(())
    }

    fn notice(self) -> Result<UpstreamNotice, Invalid> {
        let too_long = |name: &String| check_name("upstream", name).is_err();
        let optional = [&self.sub, &self.sid].into_iter().flatten();
        if [&self.iss, &self.jti]
            .into_iter()
            .chain(optional)
            .any(too_long)
        {
            return Err("the iss, jti, sub and sid of a logout token must have 1 to 1024 bytes");
        }
        let notice = UpstreamNotice::new(self.iss, self.iat).jti(self.jti, self.exp + LEEWAY);
        Ok(match (self.sub, self.sid) {
            (Some(sub), Some(sid)) => notice.subject(sub).sid(sid),
            (Some(sub), None) => notice.subject(sub),
            (None, Some(sid)) => notice.sid(sid),
            (None, None) => return Err("the logout token must have a sub or a sid"),
        })
    }
}
