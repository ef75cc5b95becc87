//! The login at an upstream that a session comes from.

use std::time::SystemTime;

use super::Login;
use crate::record::UpstreamLogin;

/// How many bytes the name of an issuer, a user or a session there may have.
pub(crate) const LONGEST_NAME: usize = 1024;

/// A login at an upstream (an OpenID Provider, for example), which can end the session from there.
///
/// [`Login::upstream`] takes it. Only digests of the names are kept.
///
/// # Examples
/// ```
/// use std::time::{Duration, SystemTime};
/// use actix_session::{Login, Session, Upstream};
///
/// /// The claims of an ID token that has been validated.
/// struct IdToken {
///     iss: String,
///     sub: String,
///     sid: Option<String>,
///     iat: u64,
///     auth_time: Option<u64>,
/// }
///
/// fn login(session: &Session, user: &str, token: IdToken) -> actix_web::Result<()> {
///     let at = Duration::from_secs(token.auth_time.unwrap_or(token.iat));
///     let upstream = Upstream::new(token.iss, token.sub, SystemTime::UNIX_EPOCH + at);
///     let upstream = match token.sid {
///         Some(sid) => upstream.sid(sid),
///         None => upstream,
///     };
///     session.login_with(Login::new(user).upstream(upstream))?;
///     Ok(())
/// }
/// # let token = IdToken {
/// #     iss: "https://op.example".into(),
/// #     sub: "248289761001".into(),
/// #     sid: Some("08a5019c".into()),
/// #     iat: 1_311_280_970,
/// #     auth_time: None,
/// # };
/// # login(&Session::new(), "user-42", token).unwrap();
/// ```
#[derive(Clone)]
#[must_use]
pub struct Upstream {
    issuer: String,
    subject: String,
    session: Option<String>,
    at: SystemTime,
}

impl Upstream {
    /// Names the issuer (`iss`) and the user there (`sub`), as the ID token has them, and when the user
    /// authenticated there: `auth_time`, or `iat` if the token has none.
    ///
    /// The time is the issuer's. It decides between a login and a notice of the issuer that the user
    /// has logged out: do not take this server's own, which is later.
    pub fn new(issuer: impl Into<String>, subject: impl Into<String>, at: SystemTime) -> Self {
        Self {
            issuer: issuer.into(),
            subject: subject.into(),
            session: None,
            at,
        }
    }

    /// Names the session at the issuer (`sid`). Always set it if the ID token has one: without it, a
    /// notice about one session of the user ends this one too, and a notice that names the session
    /// alone does not end it.
    pub fn sid(mut self, session: impl Into<String>) -> Self {
        self.session = Some(session.into());
        self
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        check_name("issuer", &self.issuer)?;
        check_name("subject", &self.subject)?;
        match &self.session {
            Some(session) => check_name("session", session),
            None => Ok(()),
        }
    }

    pub(super) fn login(&self) -> UpstreamLogin {
        let session = self.session.as_deref();
        UpstreamLogin {
            at: self.at.into(),
            user: UpstreamLogin::user(&self.issuer, &self.subject),
            session: session.map(|session| UpstreamLogin::session(&self.issuer, session)),
        }
    }
}

/// # Errors
/// The name is empty, or too long.
pub(crate) fn check_name(what: &str, name: &str) -> anyhow::Result<()> {
    let length = name.len();
    anyhow::ensure!(
        (1..=LONGEST_NAME).contains(&length),
        "the {what} of an upstream must have 1 to {LONGEST_NAME} bytes, but this one has {length}"
    );
    Ok(())
}

/// Shows nothing: they are personal data.
impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").finish_non_exhaustive()
    }
}

impl Login {
    /// Names the login at an upstream that this one comes from, so that a logout there ends the session
    /// here: [`SessionManager::end_upstream`](crate::SessionManager::end_upstream).
    ///
    /// A login that the upstream has ended meanwhile is refused: its response is a 401. The session that
    /// the request came with stays, unless the notice came while the login was being stored. It takes two
    /// more round trips than a login without an upstream. The session keeps its upstream until it
    /// ends, `clear` is called, or another login names another one.
    ///
    /// It needs a store that keeps sessions on the server. On others, the response to such a login is
    /// a 500.
    ///
    /// # Examples
    /// ```
    /// use std::time::SystemTime;
    /// use actix_session::{Login, Session, Upstream};
    ///
    /// # let (session, auth_time) = (Session::new(), SystemTime::now());
    /// let upstream = Upstream::new("https://op.example", "248289761001", auth_time).sid("08a5019c");
    /// session.login_with(Login::new("user-42").upstream(upstream))?;
    /// # Ok::<(), actix_session::SessionLoginError>(())
    /// ```
    pub fn upstream(mut self, upstream: Upstream) -> Self {
        self.upstream = Some(upstream);
        self
    }
}
