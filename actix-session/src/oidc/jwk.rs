//! Public keys of an OpenID Provider, and the signatures that they verify.
//!
//! Only asymmetric algorithms are here, and a key says by its own type which of them it serves. So a
//! token can choose neither `none` nor a MAC that is made with a public key.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use derive_more::Display;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;

use super::object::Object;

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
        let Object(set): Object<Set> = serde_json::from_str(json).map_err(InvalidJwkSet)?;
        let told = set.keys.into_iter().map(serde_json::from_value);
        let keys = told
            .flatten()
            .filter_map(|Object(told): Object<Told>| told.jwk());
        Ok(Self(keys.collect()))
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
            is_kid && jwk.alg.as_deref().is_none_or(|own| is_one(own, alg))
        };
        let mut named = self.0.iter().filter(is_named);
        named.any(|jwk| jwk.key.verify(alg, message, signature))
    }
}

/// Whether two names mean one algorithm. Ed25519 has two (RFC 9864).
fn is_one(own: &str, alg: &str) -> bool {
    let is_edwards = |name| matches!(name, "EdDSA" | "Ed25519");
    own == alg || is_edwards(own) && is_edwards(alg)
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

#[cfg(test)]
mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING},
        signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
    };

    use super::*;

    const MESSAGE: &[u8] = b"header.claims";
    /// A key that was made for this test, and what it has signed.
    const N: &str = "qfPqNs1FiOsVSWZPUBZJZvEnw-mQwxnLrfQG_fSlrth7VvO45aQaLS5i7h020E9IfkkHYKIg\
    znCgluelgrI0Nr0L66CAqt0Q4-VfYB8fOIjNe1imdMvhr3UUR4YPXYoiyTz_ftjycEKxLPbW\
    myANQr59dXqe2o0glMfPSihqMhKiH0SU0FulX9LSZ_4HtKzzaYDv4fFuTZgmzN60gcFYqzkC\
    QhbKXAPV056Y2PPbMfWM-Fu9OHrDxj1YBUCiHIq9TuTKJ_-tITQn8x1MkzP3zBVYR19NJhb0\
    Hg8QK-b-1RV8wx3E7ceF7f1UCAm-e_l7cFSA-pKsi68lAxj6Op-jyw";
    const RS256: &str = "oL--pKUFvsjKUZcbKEcwjbEYLjUjwVZqHaedUVN_lOCZQpEi0wdzSRdWQ5_G5hgv49bJtvWO\
    SdSZMOgf9sOfTPTZnO5bMq64Tse79DwQmQWvLaBA2AruRWHXfTw96iFqICJaPEFeYZnM7aho\
    InHuGqh2bUMumbNOenq-7YPsp6oRLTGK-Z9iqZRrV_o9UJUHj8Icpkg0zVV0bYmbH7AnsDYU\
    LHI2ItFY9zwjqfeJzR7RY0LnW5F7bufQsMv6Etrk67sassvpkJfAU9HG47bGjoJqdsLsMJxQ\
    UMnWiKodZ95g4XnJBj5V_NsypM77NQi9r76B1hRGGx0pM3d3MGnANA";
    const PS256: &str = "notfdd-EMshoFDg-w233Si1t8EjEZWokztSMnv0ObuE3kkJHLnCbnTOW3YXp0kyG7hZATi7z\
    l6617G646WbFJArwX9Vdj_JxSZjSQjU_2j6JCn2AJ-lD3WUqLsaaRbvmpLNonQhVHMqG0fQ3\
    Mrg2wh-P9NCJxGdKnjSWX2_ainqnXtI7N4AOFd0pwE83V7JlA8_no-FmVIhNgvjGdUROvfpH\
    ajZq6vuamOYW8N_w6eKV53cRTJpXgMnKw_aL5Ff3Fg2iGGpbp4DzTd0sVsbOuVkkmX3le2YJ\
    W59s5mezVqu7WW1hbC7uscKgaMuz1qEsrifLRxtFnAxf4Ng8dydk-Q";

    fn set(json: &str) -> JwkSet {
        format!("{{\"keys\":[{json}]}}").parse().unwrap()
    }

    fn base64(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    #[test]
    fn an_rsa_key_verifies_what_it_has_signed() {
        let signatures = [("RS256", RS256), ("PS256", PS256)];
        let signatures = signatures.map(|(alg, it)| (alg, URL_SAFE_NO_PAD.decode(it).unwrap()));
        for more in ["", r#","kid":"a","use":"sig","key_ops":["verify"]"#] {
            let keys = set(&format!(r#"{{"kty":"RSA","n":"{N}","e":"AQAB"{more}}}"#));
            for (alg, signature) in &signatures {
                assert!(keys.verify((alg, None), MESSAGE, signature), "{alg}");
                assert!(!keys.verify((alg, None), b"header.other", signature));
                assert!(!keys.verify((alg, None), MESSAGE, &signature[1..]));
                assert!(!keys.verify((alg, Some("b")), MESSAGE, signature));
                let is_named = keys.verify((alg, Some("a")), MESSAGE, signature);
                assert_eq!(is_named, !more.is_empty());
            }
            let [(_, rs), (_, ps)] = &signatures;
            for other in [
                "RS384", "RS512", "PS256", "ES256", "EdDSA", "HS256", "none", "", "rs256",
            ] {
                assert!(!keys.verify((other, None), MESSAGE, rs), "{other}");
            }
            assert!(!keys.verify(("RS256", None), MESSAGE, ps));
        }
        let of_one = set(&format!(
            r#"{{"kty":"RSA","alg":"PS256","n":"{N}","e":"AQAB"}}"#
        ));
        let [(_, rs), (_, ps)] = &signatures;
        assert!(of_one.verify(("PS256", None), MESSAGE, ps));
        assert!(!of_one.verify(("RS256", None), MESSAGE, rs));
    }

    #[test]
    fn curves_verify_what_they_have_signed() {
        let random = SystemRandom::new();
        for (crv, alg, signing) in [
            ("P-256", "ES256", &ECDSA_P256_SHA256_FIXED_SIGNING),
            ("P-384", "ES384", &ECDSA_P384_SHA384_FIXED_SIGNING),
        ] {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(signing, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(signing, pkcs8.as_ref(), &random).unwrap();
            let (x, y) = pair.public_key().as_ref()[1..].split_at(signing_length(crv));
            let (x, y) = (base64(x), base64(y));
            let keys = set(&format!(
                r#"{{"kty":"EC","crv":"{crv}","x":"{x}","y":"{y}"}}"#
            ));
            let signature = pair.sign(&random, MESSAGE).unwrap();
            for other in ["ES256", "ES384", "RS256", "none"] {
                let verified = keys.verify((other, None), MESSAGE, signature.as_ref());
                assert_eq!(verified, other == alg, "{crv} {other}");
            }
        }
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let x = base64(pair.public_key().as_ref());
        let signature = pair.sign(MESSAGE);
        for named in ["", r#","alg":"EdDSA""#, r#","alg":"Ed25519""#] {
            let keys = set(&format!(
                r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"{named}}}"#
            ));
            for (alg, verifies) in [("EdDSA", true), ("Ed25519", true), ("ES256", false)] {
                let verified = keys.verify((alg, None), MESSAGE, signature.as_ref());
                assert_eq!(verified, verifies, "{alg} {named}");
            }
        }
    }

    fn signing_length(crv: &str) -> usize {
        if crv == "P-256" { 32 } else { 48 }
    }

    #[test]
    fn keys_of_no_use_are_passed_over() {
        let all = [
            r#"{"kty":"oct","k":"c2VjcmV0","alg":"HS256"}"#.to_owned(),
            format!(r#"{{"kty":"RSA","use":"enc","n":"{N}","e":"AQAB"}}"#),
            format!(r#"{{"kty":"RSA","key_ops":["sign"],"n":"{N}","e":"AQAB"}}"#),
            r#"{"kty":"RSA","n":"","e":"AQAB"}"#.to_owned(),
            r#"{"kty":"RSA","n":"***","e":"AQAB"}"#.to_owned(),
            r#"{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}"#.to_owned(),
            r#"{"kty":"EC","crv":"secp256k1","x":"AAAA","y":"AAAA"}"#.to_owned(),
            r#"{"kty":"OKP","crv":"X25519","x":"AAAA"}"#.to_owned(),
            r#"{"kty":7}"#.to_owned(),
            format!(
                r#"["OKP",null,null,null,null,"Ed25519",null,null,"{}",null]"#,
                base64(&[7; 32])
            ),
            "5".to_owned(),
        ];
        let keys = set(&all.join(","));
        assert_eq!(keys.0.len(), 0);
        assert_eq!(format!("{keys:?}"), "JwkSet { keys: 0, .. }");
        for json in ["", "[]", "[[]]", "{}", r#"{"keys":{}}"#] {
            let refused = json.parse::<JwkSet>().unwrap_err();
            assert!(refused.to_string().contains("must be an object"));
        }
    }
}
