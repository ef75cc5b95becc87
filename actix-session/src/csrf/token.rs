//! A token for forms that proves that the session's own pages made them.
//!
//! The session holds up to four random secrets, usually one. A token is the MAC of the principal under
//! a secret, masked with random bytes so that no two responses show the same text.
//!
//! Clients can read what their signed cookie holds, and one client may have planted the session that
//! another logs in with. So each secret is bound to whom it was made for, and counts for nobody else.

use actix_web::{HttpRequest, HttpResponse, ResponseError, http::StatusCode};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;

use crate::{
    Session, SessionGetError, SessionUpdateError,
    error::{Contended, Degraded},
    random,
};

/// The entry that holds the secrets, in base64.
const ENTRY: &str = "__csrf";

/// The header field that scripts put a token in.
const HEADER: &str = "x-csrf-token";

/// The length of a secret and of a MAC, in bytes.
const LENGTH: usize = 32;

/// The length of what binds a secret to its principal, in bytes.
const BINDING: usize = 16;

/// How many parallel requests may make the first token of a session.
const MOST: usize = 4;

impl Session {
    /// A token for a form or a script of this session (a synchronizer token), in 86 characters that
    /// need no escaping. Each call gives another one, so that a compressed page does not betray it
    /// (BREACH); all are valid for as long as the session belongs to the same principal.
    ///
    /// A token from before a login does not count after it. An application that notes the user in an
    /// entry of its own calls [`reset_csrf_tokens`](Self::reset_csrf_tokens) beside
    /// [`renew`](Self::renew), or sets
    /// [`principal_entry`](crate::config::SessionMiddlewareBuilder::principal_entry).
    ///
    /// The first token of a session is a write (the entry `__csrf`), also for visitors who are not
    /// logged in. Up to four parallel requests of a session can make the first one: all of their tokens
    /// count, except with cookie-stored sessions, in stores of five methods, and if the visitor has
    /// no session yet: there, those of the last answer alone do.
    /// [`CrossSiteGuard`](crate::csrf::CrossSiteGuard) needs no token; use this where one is asked
    /// for, or for very old browsers.
    ///
    /// # Errors
    /// The session is not loaded or could not be ([`Session::is_degraded`]: the response is a 503), its
    /// response was sent, or the operating system gives no random numbers. Another request renewed the
    /// session less than 10 s ago, so that no token of this one could ever be valid: it is a 503 too.
    ///
    /// # Examples
    /// ```
    /// use actix_session::Session;
    /// use actix_web::{HttpResponse, web};
    /// use serde::Deserialize;
    ///
    /// async fn form(session: Session) -> actix_web::Result<String> {
    ///     let token = session.csrf_token()?;
    ///     Ok(format!(r#"<input type="hidden" name="csrf_token" value="{token}">"#))
    /// }
    ///
    /// #[derive(Deserialize)]
    /// struct Transfer {
    ///     csrf_token: String,
    /// }
    ///
    /// async fn transfer(
    ///     session: Session,
    ///     form: web::Form<Transfer>,
    /// ) -> actix_web::Result<HttpResponse> {
    ///     session.verify_csrf_token(&form.csrf_token)?;
    ///     Ok(HttpResponse::Ok().finish())
    /// }
    /// # actix_web::web::to(form);
    /// # actix_web::web::to(transfer);
    /// # let session = Session::new();
    /// # let (one, other) = (session.csrf_token()?, session.csrf_token()?);
    /// # assert_ne!(one, other);
    /// # session.verify_csrf_token(&one)?;
    /// # session.verify_csrf_token(&other)?;
    /// # assert!(session.verify_csrf_token("").is_err());
    /// # Ok::<(), actix_web::Error>(())
    /// ```
    pub fn csrf_token(&self) -> Result<String, SessionUpdateError> {
        if self.is_degraded() {
            return Err(SessionUpdateError(Degraded.into()));
        }
        let whose = self.csrf_message();
        let secrets = self
            .csrf_secrets(&whose)
            .map_err(|error| SessionUpdateError(error.0))?;
        let secret = match secrets.into_iter().next() {
            Some(secret) => secret,
            None if self.hides_secrets() => return Err(SessionUpdateError(Contended.into())),
            None => self.new_csrf_secret(&whose)?,
        };
        token_of(&secret, &whose).map_err(SessionUpdateError)
    }

    /// Checks a token that a form has sent, in constant time.
    ///
    /// # Errors
    /// None of this session's pages had this token, or they had it before the login: the response is a
    /// 403. The session could not be loaded, or another request renewed it a moment ago: it is a 503.
    /// Nobody has loaded it ([`lazy`](crate::config::SessionMiddlewareBuilder::lazy)), or its entry
    /// `__csrf` is another program's: it is a 500.
    ///
    /// # Examples
    /// ```
    /// use actix_session::Session;
    ///
    /// let session = Session::new();
    /// let token = session.csrf_token()?;
    /// assert!(session.verify_csrf_token(&token).is_ok());
    /// assert!(Session::new().verify_csrf_token(&token).is_err());
    /// session.login("user-42")?;
    /// assert!(session.verify_csrf_token(&token).is_err());
    /// # Ok::<(), actix_web::Error>(())
    /// ```
    pub fn verify_csrf_token(&self, token: &str) -> Result<(), CsrfTokenError> {
        if self.is_degraded() {
            return Err(CsrfTokenError::Degraded);
        }
        let mac = unmasked(token).ok_or(CsrfTokenError::Invalid)?;
        let whose = self.csrf_message();
        let secrets = self.csrf_secrets(&whose);
        let secrets = secrets.map_err(|_| CsrfTokenError::NotLoaded)?;
        let is_ours = |secret: &hmac::Key| hmac::verify(secret, &whose, &mac).is_ok();
        if secrets.iter().any(is_ours) {
            Ok(())
        } else if self.hides_secrets() {
            Err(CsrfTokenError::Degraded)
        } else {
            Err(CsrfTokenError::Invalid)
        }
    }

    /// Checks the token that a script has sent in the field `X-CSRF-Token`, in constant time.
    ///
    /// # Errors
    /// There is no such field, or more than one; otherwise, as for
    /// [`verify_csrf_token`](Self::verify_csrf_token).
    ///
    /// # Examples
    /// ```
    /// use actix_session::Session;
    /// use actix_web::test::TestRequest;
    ///
    /// let session = Session::new();
    /// let token = session.csrf_token()?;
    /// let request = TestRequest::post().insert_header(("X-CSRF-Token", token));
    /// assert!(session.verify_csrf_header(&request.to_http_request()).is_ok());
    /// assert!(session.verify_csrf_header(&TestRequest::post().to_http_request()).is_err());
    /// # Ok::<(), actix_web::Error>(())
    /// ```
    pub fn verify_csrf_header(&self, req: &HttpRequest) -> Result<(), CsrfTokenError> {
        let mut fields = req.headers().get_all(HEADER);
        let field = fields.next().ok_or(CsrfTokenError::Missing)?;
        let token = field.to_str().map_err(|_| CsrfTokenError::Invalid)?;
        if fields.next().is_some() {
            return Err(CsrfTokenError::Invalid);
        }
        self.verify_csrf_token(token)
    }

    /// Makes all tokens of this session invalid. After [`clear`](Self::clear), or a
    /// [`login`](Self::login) of another principal, you need not call it.
    ///
    /// # Examples
    /// ```
    /// # let session = actix_session::Session::new();
    /// let token = session.csrf_token()?;
    /// session.renew();
    /// session.reset_csrf_tokens();
    /// assert!(session.verify_csrf_token(&token).is_err());
    /// # Ok::<(), actix_web::Error>(())
    /// ```
    pub fn reset_csrf_tokens(&self) {
        let _ = self.remove(ENTRY);
    }

    fn csrf_secrets(&self, whose: &[u8]) -> Result<Vec<hmac::Key>, SessionGetError> {
        let texts: Option<Vec<String>> = self.get(ENTRY)?;
        let texts = texts.unwrap_or_default();
        let secrets = texts.iter().filter_map(|text| secret_of(text, whose));
        Ok(secrets.take(MOST).collect())
    }

    /// Parallel requests each add theirs. What is no secret of ours, or another principal's, goes.
    fn new_csrf_secret(&self, whose: &[u8]) -> Result<hmac::Key, SessionUpdateError> {
        let mut bytes = [0; LENGTH + BINDING];
        let (secret, binding) = bytes.split_at_mut(LENGTH);
        random::fill(secret).map_err(SessionUpdateError)?;
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        binding.copy_from_slice(&binding_of(&secret, whose));
        let text = URL_SAFE_NO_PAD.encode(bytes);
        let whose = whose.to_vec();
        self.modify(ENTRY, move |secrets: Option<Vec<String>>| {
            let mut secrets = secrets.unwrap_or_default();
            secrets.retain(|text| secret_of(text, &whose).is_some());
            if !secrets.contains(&text) && secrets.len() < MOST {
                secrets.push(text.clone());
            }
            Some(secrets)
        })?;
        Ok(secret)
    }

    /// Whether the record may have secrets that do not show, and what this request makes would not
    /// reach it. A login makes a session of its own, even behind a renewal.
    fn hides_secrets(&self) -> bool {
        let session = self.lock();
        session.is_hidden_for_now() && session.principal().is_none()
    }

    /// What a token says: whose it is.
    fn csrf_message(&self) -> Vec<u8> {
        let mut message = b"actix-session csrf v1\0".to_vec();
        if let Some(principal) = self.principal() {
            message.push(1);
            message.extend_from_slice(principal.as_bytes());
        }
        message
    }
}

/// The secret that a text of the entry holds, if it was made for this principal.
fn secret_of(text: &str, whose: &[u8]) -> Option<hmac::Key> {
    let bytes: [u8; LENGTH + BINDING] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    let (secret, binding) = bytes.split_at(LENGTH);
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
    (binding_of(&secret, whose) == binding).then_some(secret)
}

/// Not a token's MAC: it stands where clients may read it.
fn binding_of(secret: &hmac::Key, whose: &[u8]) -> [u8; BINDING] {
    let message = [b"made for ", whose].concat();
    let mac = hmac::sign(secret, &message);
    let binding = mac.as_ref().first_chunk();
    *binding.expect("a MAC is longer than what is kept of it")
}

fn token_of(secret: &hmac::Key, whose: &[u8]) -> anyhow::Result<String> {
    let mac = hmac::sign(secret, whose);
    let mut token = [0; 2 * LENGTH];
    let (mask, masked) = token.split_at_mut(LENGTH);
    random::fill(mask)?;
    for ((to, mask), mac) in masked.iter_mut().zip(mask.iter()).zip(mac.as_ref()) {
        *to = *mask ^ *mac;
    }
    Ok(URL_SAFE_NO_PAD.encode(token))
}

fn unmasked(token: &str) -> Option<[u8; LENGTH]> {
    let bytes: [u8; 2 * LENGTH] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
    let (mask, masked) = bytes.split_at(LENGTH);
    let mut mac = [0; LENGTH];
    for ((to, mask), masked) in mac.iter_mut().zip(mask).zip(masked) {
        *to = *mask ^ *masked;
    }
    Some(mac)
}

/// A form without a valid token: a 403.
///
/// # Examples
/// ```
/// use actix_session::{Session, csrf::CsrfTokenError};
///
/// let refused = Session::new().verify_csrf_token("junk").unwrap_err();
/// assert_eq!(refused, CsrfTokenError::Invalid);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, derive_more::Display)]
#[non_exhaustive]
pub enum CsrfTokenError {
    /// The request has no `X-CSRF-Token`.
    #[display("the request has no CSRF token")]
    Missing,

    /// No page of this session had this token since its login.
    #[display("the CSRF token is invalid: the form must be loaded again")]
    Invalid,

    /// The store failed to load the session ([`Session::is_degraded`]), or another request renewed it a
    /// moment ago, so that nobody knows the token here. The response is a 503.
    #[display("the session could not be loaded, so the CSRF token cannot be checked")]
    Degraded,

    /// The session is not loaded ([`lazy`](crate::config::SessionMiddlewareBuilder::lazy)), or its
    /// entry `__csrf` is another program's. The response is a 500.
    #[display("the session's CSRF secrets cannot be read")]
    NotLoaded,
}

impl std::error::Error for CsrfTokenError {}

impl ResponseError for CsrfTokenError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Missing | Self::Invalid => StatusCode::FORBIDDEN,
            Self::Degraded => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotLoaded => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        clock::SharedClock,
        contract::Terms,
        record::Record,
        session::{Served, Shown, Times},
    };

    #[test]
    fn every_changed_character_is_noticed() {
        let session = Session::new();
        let token = session.csrf_token().unwrap();
        assert_eq!(token.len(), 86);
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(session.verify_csrf_token(&changed).is_err(), "{place}");
            assert!(session.verify_csrf_token(&token[..place]).is_err());
        }
        assert!(session.verify_csrf_token(&token).is_ok());
    }

    #[test]
    fn a_token_is_of_one_principal() {
        let session = Session::new();
        let of_nobody = session.csrf_token().unwrap();
        session.login("ada").unwrap();
        let of_ada = session.csrf_token().unwrap();
        assert!(session.verify_csrf_token(&of_nobody).is_err());
        assert!(session.verify_csrf_token(&of_ada).is_ok());
        session.login("bob").unwrap();
        assert!(session.verify_csrf_token(&of_ada).is_err());
        session.clear();
        assert!(session.verify_csrf_token(&of_nobody).is_err());
    }

    /// The texts of the entry.
    fn texts(session: &Session) -> Vec<String> {
        session.get(ENTRY).unwrap().unwrap_or_default()
    }

    /// What a client makes of a text that its signed cookie shows.
    fn forged(text: &str, principal: &str) -> String {
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &bytes[..LENGTH]);
        let of_principal = Session::new();
        of_principal.login(principal).unwrap();
        token_of(&secret, &of_principal.csrf_message()).unwrap()
    }

    /// Whoever has planted the session of a guest must not have a token for whoever logs in.
    #[test]
    fn a_secret_from_before_a_login_makes_no_token_after_it() {
        let session = Session::new();
        session.csrf_token().unwrap();
        let of_nobody = texts(&session);
        session.login("ada").unwrap();
        let forged = forged(&of_nobody[0], "ada");
        assert!(session.verify_csrf_token(&forged).is_err());
        let of_ada = session.csrf_token().unwrap();
        assert!(session.verify_csrf_token(&forged).is_err());
        assert_eq!(texts(&session).len(), 1);
        assert_ne!(texts(&session), of_nobody);
        // To prove again who one is leaves forms alone.
        session.reauthenticated().unwrap();
        session.login("ada").unwrap();
        assert!(session.verify_csrf_token(&of_ada).is_ok());
    }

    /// Their entries stay where the principal's entry alone is removed.
    #[test]
    fn a_secret_of_one_person_makes_no_token_for_the_next() {
        let served = Served {
            principal_entry: Some("user".into()),
            clock: SharedClock::default(),
            times: Times::from(&Terms::default()),
            knows_ends: true,
        };
        let served = Arc::new(served);
        let session = Session::of_request(Arc::clone(&served), Shown::default());
        session.insert("user", "ada").unwrap();
        let token = session.csrf_token().unwrap();
        let of_ada = texts(&session);
        session.remove("user");
        assert!(session.verify_csrf_token(&token).is_err());
        assert_eq!(texts(&session), of_ada);
        // The next request's.
        let left = serde_json::json!({ "v": 1, "state": { ENTRY: of_ada } });
        let shown = Shown {
            record: Some(Record::decode(left.to_string()).unwrap()),
            ..Shown::default()
        };
        let session = Session::of_request(served, shown);
        session.insert("user", "bob").unwrap();
        assert_eq!(texts(&session), of_ada);
        let forged = forged(&of_ada[0], "bob");
        assert!(session.verify_csrf_token(&forged).is_err());
        let token = session.csrf_token().unwrap();
        assert!(session.verify_csrf_token(&token).is_ok());
        assert!(session.verify_csrf_token(&forged).is_err());
    }

    #[test]
    fn behind_a_renewal_of_a_moment_ago_there_is_no_token_and_none_is_refused_for_good() {
        let served = || Served::unnamed(SharedClock::default(), (&Terms::default()).into(), true);
        let hidden = || {
            let shown = Shown {
                moved: true,
                in_flight: true,
                ..Shown::default()
            };
            Session::of_request(served(), shown)
        };
        let token = Session::new().csrf_token().unwrap();
        let session = hidden();
        let refused = session.csrf_token().unwrap_err();
        assert_eq!(refused.status_code(), StatusCode::SERVICE_UNAVAILABLE);
        let refused = session.verify_csrf_token(&token).unwrap_err();
        assert_eq!(refused.status_code(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(session.is_empty());
        // A login makes a session of its own, and so does whatever follows a purge.
        let ends: [fn(&Session); 2] = [|it| it.login("ada").unwrap(), Session::purge];
        for end in ends {
            let session = hidden();
            end(&session);
            let own = session.csrf_token().unwrap();
            assert!(session.verify_csrf_token(&own).is_ok());
            let refused = session.verify_csrf_token(&token).unwrap_err();
            assert_eq!(refused, CsrfTokenError::Invalid);
        }
    }

    #[test]
    fn what_another_program_wrote_is_an_error_or_ignored() {
        let session = Session::new();
        session.insert(ENTRY, 7).unwrap();
        let token = Session::new().csrf_token().unwrap();
        let refused = session.verify_csrf_token(&token).unwrap_err();
        assert_eq!(refused, CsrfTokenError::NotLoaded);
        assert!(session.csrf_token().is_err());
        let long = URL_SAFE_NO_PAD.encode([7; LENGTH + BINDING]);
        let foreign = ["", "x", "short", &long, &long];
        for count in 1..=foreign.len() {
            session.insert(ENTRY, &foreign[..count]).unwrap();
            let tokens: Vec<_> = (0..2).map(|_| session.csrf_token().unwrap()).collect();
            for token in tokens {
                assert!(session.verify_csrf_token(&token).is_ok(), "{count}");
            }
            assert_eq!(texts(&session).len(), 1, "{count}");
        }
    }

    proptest! {
        #[test]
        fn no_text_passes(text in ".*") {
            let session = Session::new();
            session.csrf_token().unwrap();
            prop_assert!(session.verify_csrf_token(&text).is_err());
        }
    }
}
