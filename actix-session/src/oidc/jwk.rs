//! Public keys of an OpenID Provider, and the signatures that they verify.
//!
//! Only asymmetric algorithms are here, and a key says by its own type which of them it serves. So a
//! token can choose neither `none` nor a MAC that is made with a public key.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use derive_more::Display;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;

/// The public keys of an OpenID Provider: what lies at its `jwks_uri` (RFC 7517).
///
/// It verifies `RS256`, `RS384`, `RS512`, `PS256`, `PS384` and `PS512` (keys of 2048 to 8192 bits),
/// `ES256`, `ES384` and `EdDSA` (Ed25519). Keys of other types and for other uses are passed over,
/// symmetric ones among them. A key with an `alg` verifies that algorithm alone.
///
/// # Examples
/// ```
/// use actix_session::JwkSet;
///
/// let keys: JwkSet = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"2026",
///     "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#.parse()?;
/// assert!("no keys".parse::<JwkSet>().is_err());
/// # let _ = keys;
/// # Ok::<(), actix_session::InvalidJwkSet>(())
/// ```
#[derive(Clone)]
pub struct JwkSet(Vec<Jwk>);

/// The text is no set of keys.
#[derive(Debug, Display)]
#[display("the JSON is invalid as a set of keys: it must be an object with a list `keys`")]
#[non_exhaustive]
pub struct InvalidJwkSet(serde_json::Error);

impl std::error::Error for InvalidJwkSet {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[derive(Clone)]
struct Jwk {
    kid: Option<String>,
    alg: Option<String>,
    key: Key,
}

#[derive(Clone)]
enum Key {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Told {
    kty: String,
    #[serde(rename = "use")]
    for_use: Option<String>,
    key_ops: Option<Vec<String>>,
    kid: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Told {
    /// `None` for a key that verifies nothing here.
    fn jwk(self) -> Option<Jwk> {
        let signs = self.for_use.as_deref().is_none_or(|it| it == "sig");
        let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        if !signs || !self.key_ops.as_ref().is_none_or(verifies) {
            return None;
        }
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => Key::Rsa {
                n: number(&self.n)?,
                e: number(&self.e)?,
            },
            ("EC", Some("P-256")) => Key::P256(point(&self.x, &self.y, 32)?),
            ("EC", Some("P-384")) => Key::P384(point(&self.x, &self.y, 48)?),
            ("OKP", Some("Ed25519")) => Key::Ed25519(bytes(&self.x).filter(|it| it.len() == 32)?),
            _ => return None,
        };
        Some(Jwk {
            kid: self.kid,
            alg: self.alg,
            key,
        })
    }
}

impl FromStr for JwkSet {
    type Err = InvalidJwkSet;

    fn from_str(json: &str) -> Result<Self, InvalidJwkSet> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_str(json).map_err(InvalidJwkSet)?;
        let told = set.keys.into_iter().map(serde_json::from_value::<Told>);
        Ok(Self(told.flatten().filter_map(Told::jwk).collect()))
    }
}

/// Shows no key.
impl fmt::Debug for JwkSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwkSet")
            .field("keys", &self.0.len())
            .finish_non_exhaustive()
    }
}

impl JwkSet {
    /// Whether one of the keys that a header names has made the signature.
    pub(super) fn verify(
        &self,
        (alg, kid): (&str, Option<&str>),
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let is_named = |jwk: &&Jwk| {
            let is_kid = kid.is_none_or(|kid| jwk.kid.as_deref() == Some(kid));
            is_kid && jwk.alg.as_deref().is_none_or(|own| own == alg)
        };
        let mut named = self.0.iter().filter(is_named);
        named.any(|jwk| jwk.key.verify(alg, message, signature))
    }
}

impl Key {
    fn verify(&self, alg: &str, message: &[u8], signature: &[u8]) -> bool {
        let verified = match (self, alg) {
            (Self::Rsa { n, e }, alg) => match rsa(alg) {
                Some(parameters) => {
                    RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
                }
                None => return false,
            },
            (Self::P256(point), "ES256") => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature)
            }
            (Self::P384(point), "ES384") => {
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point)
                    .verify(message, signature)
            }
            (Self::Ed25519(key), "EdDSA" | "Ed25519") => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature)
            }
            _ => return false,
        };
        verified.is_ok()
    }
}

fn rsa(alg: &str) -> Option<&'static RsaParameters> {
    Some(match alg {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn bytes(text: &Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.as_deref()?).ok()
}

/// A number without leading zeros, which some providers write.
fn number(text: &Option<String>) -> Option<Vec<u8>> {
    let bytes = bytes(text)?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    bytes.get(first..).map(<[u8]>::to_vec)
}

/// An uncompressed point.
fn point(x: &Option<String>, y: &Option<String>, length: usize) -> Option<Vec<u8>> {
    let (x, y) = (bytes(x)?, bytes(y)?);
    (x.len() == length && y.len() == length).then(|| [&[4], x.as_slice(), &y].concat())
}
