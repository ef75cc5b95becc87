//! The errors of a session's methods.

use std::error::Error as StdError;

use actix_web::{
    HttpResponse, ResponseError,
    body::BoxBody,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, ContentType},
    },
};
use derive_more::{Display, From};

use crate::{
    Level,
    error::{
        AuthenticatedTooLongAgo, Contended, Degraded, Gone, NobodyLoggedIn, OutcomeUnknown,
        StoreFull, TooManySessions,
    },
};

macro_rules! session_error {
    ($(#[$doc:meta] $name:ident)+) => {$(
        #[$doc]
        ///
        /// As a response it is empty, with a status of the table at
        /// [`SessionSaveError`](crate::SessionSaveError): only the log names the cause.
        #[derive(Debug, Display, From)]
        #[display("{_0}")]
        pub struct $name(pub(crate) anyhow::Error);

        impl StdError for $name {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(self.0.as_ref())
            }
        }

        impl ResponseError for $name {
            fn status_code(&self) -> StatusCode {
                status_of(&self.0)
            }

            fn error_response(&self) -> HttpResponse<BoxBody> {
                HttpResponse::new(self.status_code())
            }
        }
    )+};
}

pub(crate) fn status_of(error: &anyhow::Error) -> StatusCode {
    if error.is::<Gone>() || error.is::<NobodyLoggedIn>() || error.is::<AuthenticatedTooLongAgo>() {
        StatusCode::UNAUTHORIZED
    } else if error.is::<TooManySessions>() {
        StatusCode::FORBIDDEN
    } else if error.is::<Contended>() || error.is::<StoreFull>() || error.is::<Degraded>() {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}

session_error! {
    #[doc = "Error returned by [`Session::get`](crate::Session::get): the value is of another \
             type."]
    SessionGetError
    #[doc = "Error returned by [`Session::insert`](crate::Session::insert): the value does not \
             serialize, or the name is reserved."]
    SessionInsertError
    #[doc = "Error returned by [`Session::update`](crate::Session::update), \
             [`Session::update_or`](crate::Session::update_or) and \
             [`Session::modify`](crate::Session::modify)."]
    SessionUpdateError
    #[doc = "Error returned by [`Session::login`](crate::Session::login) and \
             [`Session::reauthenticated`](crate::Session::reauthenticated). If nobody is logged \
             in, or the authentication is older than the absolute timeout, the response is an \
             empty 401: the user must log in."]
    SessionLoginError
    #[doc = "Error returned by [`Session::take`](crate::Session::take): the value is not given. \
             If the session has ended, the response is an empty 401."]
    SessionTakeError
    #[doc = "Error returned by [`Session::purge_now`](crate::Session::purge_now): it is \
             unknown whether the session has ended."]
    SessionPurgeError
    #[doc = "Error returned by [`Session::ended`](crate::Session::ended): nobody would tell when \
             the session ends."]
    SessionEndedError
}

/// Error returned by [`Session::save`](crate::Session::save).
///
/// As a response it is empty: only the log names the cause.
///
/// | status | if |
/// | --- | --- |
/// | 401 | the session has ended, nobody is logged in, or the authentication was too long ago |
/// | 403 | the principal who logs in has as many sessions as are allowed |
/// | 503 | the same request may succeed later: other requests kept changing the session, the store is busy or full, or the session could not be loaded ([`is_degraded`](crate::Session::is_degraded)) |
/// | 500 | otherwise |
///
/// # Examples
/// ```
/// use actix_session::Session;
/// use actix_web::HttpResponse;
///
/// async fn order(session: Session) -> actix_web::Result<HttpResponse> {
///     session.insert("state", "ordered")?;
///     match session.save().await {
///         Ok(_) => Ok(HttpResponse::Ok().finish()),
///         Err(error) if error.is_gone() => {
///             Ok(HttpResponse::SeeOther().insert_header(("location", "/login")).finish())
///         }
///         Err(error) => Err(error.into()),
///     }
/// }
/// # actix_web::web::to(order);
/// ```
#[derive(Debug, Display)]
#[display("{_0}")]
pub struct SessionSaveError(pub(crate) anyhow::Error);

impl SessionSaveError {
    /// Whether the session has ended meanwhile.
    pub fn is_gone(&self) -> bool {
        self.0.is::<Gone>()
    }

    /// Whether the login that waits for the response will be refused, because the principal has as
    /// many sessions as are allowed ([`max_sessions`]). [`Session::clear`](crate::Session::clear) takes
    /// it back.
    ///
    /// [`max_sessions`]: crate::config::SessionMiddlewareBuilder::max_sessions
    pub fn is_too_many_sessions(&self) -> bool {
        self.0.is::<TooManySessions>()
    }

    /// Whether nobody knows if the changes are stored.
    pub fn is_outcome_unknown(&self) -> bool {
        self.0.is::<OutcomeUnknown>()
    }

    /// Whether the changes are not tried again.
    pub(super) fn is_final(&self) -> bool {
        self.is_gone() || self.is_outcome_unknown()
    }
}

impl StdError for SessionSaveError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.0.as_ref())
    }
}

impl ResponseError for SessionSaveError {
    fn status_code(&self) -> StatusCode {
        status_of(&self.0)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        HttpResponse::new(self.status_code())
    }
}

/// Error returned by [`Session::require_auth`](crate::Session::require_auth).
///
/// As a response it is JSON that names the reason, so that a script knows where to send the user:
///
/// | reason | status | body |
/// | --- | --- | --- |
/// | [`Anonymous`](AuthRefusal::Anonymous) | 401 | `{"error":"login_required"}` |
/// | [`LevelTooLow`](AuthRefusal::LevelTooLow) | 403 | `{"error":"insufficient_user_authentication","reason":"level_too_low","level":2}` |
/// | [`TooOld`](AuthRefusal::TooOld) | 403 | the same with `"too_old"` |
/// | [`Demanded`](AuthRefusal::Demanded) | 403 | the same with `"demanded"` |
/// | [`NotLoaded`](AuthRefusal::NotLoaded) | 500 | empty |
///
/// `level` is the level that is required. The names of the errors are those of OpenID Connect and of
/// RFC 9470. That RFC answers 401 in all cases, with a challenge for bearer tokens. There is no
/// challenge for cookies, and many clients take each 401 for the end of the session; here a 401 says
/// that nobody is logged in, and nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionAuthError {
    pub(super) reason: AuthRefusal,
    pub(super) level: Level,
    pub(super) demand: Option<String>,
}

/// Why [`Session::require_auth`](crate::Session::require_auth) refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthRefusal {
    /// Nobody is logged in.
    Anonymous,

    /// The user has not shown the level in this session, or it has been taken back.
    LevelTooLow,

    /// The user has shown the level, but too long ago.
    TooOld,

    /// The application has [demanded](crate::Session::demand_reauth) an authentication, and there has
    /// been none since.
    Demanded,

    /// The session is not loaded ([`lazy`](crate::config::SessionMiddlewareBuilder::lazy)).
    NotLoaded,
}

impl SessionAuthError {
    /// Why the request is refused, to decide where to send the user.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use actix_session::{AuthRefusal, Level, Session};
    ///
    /// let refused = Session::new().require_auth(Level::One, Duration::MAX).unwrap_err();
    /// assert_eq!(refused.reason(), AuthRefusal::Anonymous);
    /// ```
    pub fn reason(&self) -> AuthRefusal {
        self.reason
    }

    /// The level that is required.
    pub fn level(&self) -> Level {
        self.level
    }

    /// What the application said when it [demanded](crate::Session::demand_reauth) an authentication.
    pub fn demand(&self) -> Option<&str> {
        self.demand.as_deref()
    }

    /// Whether nobody is logged in.
    pub fn is_anonymous(&self) -> bool {
        self.reason == AuthRefusal::Anonymous
    }

    fn body(&self) -> Option<String> {
        let reason = match self.reason {
            AuthRefusal::NotLoaded => return None,
            AuthRefusal::Anonymous => return Some(r#"{"error":"login_required"}"#.to_owned()),
            AuthRefusal::LevelTooLow => "level_too_low",
            AuthRefusal::TooOld => "too_old",
            AuthRefusal::Demanded => "demanded",
        };
        let level = self.level.number();
        Some(format!(
            r#"{{"error":"insufficient_user_authentication","reason":"{reason}","level":{level}}}"#
        ))
    }
}

/// Does not show the reason of a demand: it is the application's.
impl std::fmt::Debug for SessionAuthError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionAuthError")
            .field("reason", &self.reason)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Display for SessionAuthError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = self.level.number();
        match self.reason {
            AuthRefusal::Anonymous => f.write_str("nobody is logged in"),
            AuthRefusal::LevelTooLow => {
                write!(f, "the user must authenticate at level {level} or higher")
            }
            AuthRefusal::TooOld => write!(
                f,
                "the authentication is too old: the user must authenticate again at level {level} \
                 or higher"
            ),
            AuthRefusal::Demanded => f.write_str(
                "a new authentication has been demanded: the user must authenticate again",
            ),
            AuthRefusal::NotLoaded => f.write_str("the session is not loaded"),
        }
    }
}

impl StdError for SessionAuthError {}

impl ResponseError for SessionAuthError {
    fn status_code(&self) -> StatusCode {
        match self.reason {
            AuthRefusal::Anonymous => StatusCode::UNAUTHORIZED,
            AuthRefusal::LevelTooLow | AuthRefusal::TooOld | AuthRefusal::Demanded => {
                StatusCode::FORBIDDEN
            }
            AuthRefusal::NotLoaded => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let Some(body) = self.body() else {
            return HttpResponse::new(self.status_code());
        };
        HttpResponse::build(self.status_code())
            .insert_header(ContentType::json())
            .insert_header((CACHE_CONTROL, "no-store"))
            .body(body)
    }
}

/// What is stored cannot be read as the type that was asked for.
#[derive(Debug, Display)]
#[display("{_0}")]
struct OfAnotherType(String);

impl StdError for OfAnotherType {}

macro_rules! tells_types_apart {
    ($($name:ident)+) => {$(
        impl $name {
            /// Whether the stored value cannot be read as the type that was asked for. It is still
            /// stored.
            ///
            /// # Examples
            /// ```
            /// # let session = actix_session::Session::new();
            /// session.insert("n", "not a number")?;
            /// assert!(session.get::<u32>("n").unwrap_err().is_of_another_type());
            /// assert_eq!(session.get::<String>("n")?.as_deref(), Some("not a number"));
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn is_of_another_type(&self) -> bool {
                self.0.is::<OfAnotherType>()
            }
        }
    )+};
}

tells_types_apart! { SessionGetError SessionUpdateError SessionTakeError }

/// The value must not be shown: sessions hold secrets.
pub(crate) fn of_another_type<T>(name: &str, error: &serde_json::Error) -> anyhow::Error {
    let text = format!(
        "Failed to deserialize the JSON-encoded session data attached to key `{name}` as a `{}` \
         type ({:?} error)",
        std::any::type_name::<T>(),
        error.classify(),
    );
    OfAnotherType(text).into()
}

pub(crate) fn not_serializable<T>(name: &str, error: serde_json::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!(
        "Failed to serialize the provided `{}` type instance as JSON in order to attach as \
         session data to the `{name}` key",
        std::any::type_name::<T>(),
    ))
}

pub(crate) fn changes_itself(key: &str) -> String {
    format!(
        "`modify` gave up: whenever the closure ran, another thread changed its entry (`{key}`). The \
         closure must not do so itself, on another thread either"
    )
}

pub(crate) fn inside(key: &str) -> String {
    format!("the closure of `modify` must not change the entry that it is called for (`{key}`)")
}

pub(crate) fn reserved(name: &str) -> anyhow::Error {
    anyhow::anyhow!("the entry name `{name}` is reserved by actix-session: choose another one")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{Login, Session};

    #[test]
    fn what_is_contended_may_be_tried_again() {
        let status = |error: anyhow::Error| SessionPurgeError(error).status_code();
        let wrapped = anyhow::anyhow!("a lock").context(Contended);
        assert_eq!(status(wrapped), StatusCode::SERVICE_UNAVAILABLE);
        let other = anyhow::anyhow!("no");
        assert_eq!(status(other), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn whoever_must_log_in_is_told_so() {
        let session = Session::new();
        let nobody = session.reauthenticated().unwrap_err();
        assert_eq!(nobody.status_code(), StatusCode::UNAUTHORIZED);
        let (hour, day) = (Duration::from_secs(3_600), Duration::from_secs(86_400));
        let login = Login::new("user-42").authenticated_at(SystemTime::now() - day);
        let too_old = session.login_with(login.absolute(hour)).unwrap_err();
        assert_eq!(too_old.status_code(), StatusCode::UNAUTHORIZED);
        let nameless = session.login("").unwrap_err();
        assert_eq!(nameless.status_code(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
