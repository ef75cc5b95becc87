//! Logouts that an upstream tells of.

use std::time::SystemTime;

use super::{SessionManager, SessionManagerError, to_the_end};
use crate::{
    clock::Millis,
    record::{Ended, UpstreamLogin},
    session::check_name,
    storage::upstream::{self, Notice},
};

/// A notice of an upstream (an OpenID Provider, for example) that a user has logged out there, for
/// [`SessionManager::end_upstream`].
///
/// It names the user, one session of the user at the upstream, or both.
///
/// # Examples
/// ```
/// use std::time::SystemTime;
/// use actix_session::UpstreamNotice;
///
/// let issued_at = SystemTime::now();
/// let everywhere = UpstreamNotice::of_subject("https://op.example", "248289761001", issued_at);
/// let one_session = UpstreamNotice::of_session("https://op.example", "08a5019c", issued_at);
/// let both = one_session.clone().subject("248289761001");
/// # let _ = (everywhere, both);
/// ```
#[derive(Clone)]
#[must_use]
pub struct UpstreamNotice {
    issuer: String,
    subject: Option<String>,
    session: Option<String>,
    issued_at: SystemTime,
    token: Option<(String, SystemTime)>,
}

impl UpstreamNotice {
    /// Of a user (`sub`) at an issuer (`iss`), who has logged out of all sessions there.
    ///
    /// `issued_at` is the issuer's time (`iat`).
    pub fn of_subject(
        issuer: impl Into<String>,
        subject: impl Into<String>,
        issued_at: SystemTime,
    ) -> Self {
        Self::new(issuer.into(), issued_at).subject(subject)
    }

    /// Of a session (`sid`) at an issuer (`iss`), which has ended there.
    ///
    /// `issued_at` is the issuer's time (`iat`).
    pub fn of_session(
        issuer: impl Into<String>,
        session: impl Into<String>,
        issued_at: SystemTime,
    ) -> Self {
        Self::new(issuer.into(), issued_at).sid(session)
    }

    pub(crate) fn new(issuer: String, issued_at: SystemTime) -> Self {
        Self {
            issuer,
            subject: None,
            session: None,
            issued_at,
            token: None,
        }
    }

    /// Names the user (`sub`) too.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Names the session at the issuer (`sid`) too. Of the user's sessions here, those end that come
    /// from it, and those that do not say which session they come from.
    pub fn sid(mut self, session: impl Into<String>) -> Self {
        self.session = Some(session.into());
        self
    }

    /// Names the notice itself (`jti`). A repeat is answered as the first one was, up to its expiry
    /// (`exp`), and for ten minutes at least.
    pub fn jti(mut self, name: impl Into<String>, expires_at: SystemTime) -> Self {
        self.token = Some((name.into(), expires_at));
        self
    }

    fn checked(&self) -> anyhow::Result<Notice> {
        check_name("issuer", &self.issuer)?;
        let names = [("subject", &self.subject), ("session", &self.session)];
        for (what, name) in names {
            if let Some(name) = name {
                check_name(what, name)?;
            }
        }
        let digest = |of: fn(&str, &str) -> u128, name: &Option<String>| {
            name.as_deref().map(|name| of(&self.issuer, name))
        };
        Ok(Notice {
            ended: Ended {
                at: self.issued_at.into(),
                user: digest(UpstreamLogin::user, &self.subject),
                session: digest(UpstreamLogin::session, &self.session),
            },
            token: self.token.as_ref().map(|(name, until)| {
                let until = Millis::from(*until);
                (upstream::token(&self.issuer, name), until)
            }),
        })
    }
}

/// Shows nothing: they are personal data.
impl std::fmt::Debug for UpstreamNotice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamNotice").finish_non_exhaustive()
    }
}

impl SessionManager {
    pub(crate) fn now(&self) -> Millis {
        self.clock().now()
    }

    /// Ends the sessions that come from a login at an upstream
    /// ([`Login::upstream`](crate::Login::upstream)), once the user has logged out there, and returns
    /// how many there were.
    ///
    /// A notice ends what it names, as far as the user authenticated at the upstream when it was
    /// issued, or before; by the clock of the upstream, and equal counts as before. It also ends what is not
    /// stored yet: for ten minutes, a login that the notice names and that authenticated by then is
    /// refused (its response is a 401). Whoever authenticates later logs in as always.
    ///
    /// This verifies nothing: whoever calls it says who has sent the notice.
    /// [`BackChannelLogout`](crate::BackChannelLogout) does both for OpenID Connect.
    ///
    /// # Errors
    /// A name is empty or longer than 1024 bytes; or the store fails, or does not answer in time: some
    /// sessions may be alive. It is safe to repeat this.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use actix_session::{SessionManager, SessionManagerError, UpstreamNotice};
    ///
    /// /// An event of another kind than OpenID Connect's, which has been verified.
    /// async fn signed_out(
    ///     sessions: &SessionManager,
    ///     user: &str,
    ///     unix_time: u64,
    /// ) -> Result<u64, SessionManagerError> {
    ///     let at = SystemTime::UNIX_EPOCH + Duration::from_secs(unix_time);
    ///     sessions.end_upstream(&UpstreamNotice::of_subject("hr.example", user, at)).await
    /// }
    /// # let _ = signed_out;
    /// ```
    pub async fn end_upstream(&self, notice: &UpstreamNotice) -> Result<u64, SessionManagerError> {
        let notice = notice.checked().map_err(SessionManagerError::new)?;
        let this = self.clone();
        to_the_end(async move {
            let terms = this.terms();
            let answered = this.told(this.0.index.0.end_upstream(&notice, &terms).await)?;
            if !answered.is_repeat {
                this.tell(crate::SessionEventKind::Revoked(answered.ended), None);
            }
            Ok(answered.ended)
        })
        .await
    }
}
