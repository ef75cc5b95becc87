//! OpenID Connect Back-Channel Logout 1.0.
//!
//! `jwk.rs` verifies signatures with `ring`. A JWT library would bring another implementation of
//! cryptography into the program, or one for the whole process that the application may choose
//! differently; and what verifies one kind of token alone needs little of it.

mod jwk;
mod object;
mod token;

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    body::BoxBody,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, ContentType},
    },
};

pub use self::jwk::{InvalidJwkSet, JwkSet};
use self::token::{Invalid, Token};
use crate::{SessionManager, event};

/// How long it may take to have a provider's keys.
const KEYS_LIMIT: Duration = Duration::from_secs(5);

/// Ends sessions when an OpenID Provider says that the user has logged out there: OpenID Connect
/// Back-Channel Logout 1.0.
///
/// It verifies a logout token by every rule of the specification (2.6), with 60 seconds of leeway for
/// `exp` and `iat`, and with a `typ` of `logout+jwt`, `JWT` or none. It ends what the token names
/// ([`SessionManager::end_upstream`]). [`handlers::backchannel_logout`] is the handler for it.
///
/// A login must name its upstream ([`Login::upstream`](crate::Login::upstream)).
///
/// [`handlers::backchannel_logout`]: crate::handlers::backchannel_logout
///
/// # Examples
/// ```
/// # #[cfg(feature = "memory-session")]
/// # {
/// use actix_session::{BackChannelLogout, JwkSet, SessionMiddleware, handlers};
/// use actix_session::storage::MemorySessionStore;
/// use actix_web::{App, cookie::Key, web};
///
/// /// Fetches the provider's `jwks_uri`, or takes it from a cache that has this key.
/// async fn keys(kid: Option<String>) -> anyhow::Result<JwkSet> {
///     # let _ = kid;
///     # let body = r#"{"keys":[]}"#;
///     Ok(body.parse()?)
/// }
///
/// let middleware = SessionMiddleware::new(MemorySessionStore::new(), Key::generate());
/// let logout = BackChannelLogout::new(middleware.manager())
///     .provider("https://op.example", "the client_id here", keys);
/// let app = App::new()
///     .app_data(web::Data::new(logout))
///     .route("/backchannel-logout", web::post().to(handlers::backchannel_logout))
///     .wrap(middleware);
/// # let _ = app;
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct BackChannelLogout {
    sessions: SessionManager,
    providers: Vec<Provider>,
}

#[derive(Clone)]
struct Provider {
    issuer: String,
    client: String,
    keys: Arc<Keys>,
}

type Keys =
    dyn Fn(Option<String>) -> Pin<Box<dyn Future<Output = anyhow::Result<JwkSet>>>> + Send + Sync;

impl BackChannelLogout {
    /// Makes one that knows no provider yet.
    pub fn new(sessions: SessionManager) -> Self {
        Self {
            sessions,
            providers: Vec::new(),
        }
    }

    /// Adds an OpenID Provider by its issuer (`iss`), with this application's `client_id` there. If it
    /// has several there, add the provider once for each.
    ///
    /// `keys` returns the keys that the provider signs with: what lies at its `jwks_uri`. It is called
    /// for each token that claims to be of this issuer, with the `kid` that the token names, before
    /// anything is verified: keep the keys, and fetch them again for a `kid` that you do not know at
    /// most every few minutes. If it fails, or has not answered after 5 seconds, the response is a 503.
    pub fn provider<K, F>(
        mut self,
        issuer: impl Into<String>,
        client_id: impl Into<String>,
        keys: K,
    ) -> Self
    where
        K: Fn(Option<String>) -> F + Send + Sync + 'static,
        F: Future<Output = anyhow::Result<JwkSet>> + 'static,
    {
        self.providers.push(Provider {
            issuer: issuer.into(),
            client: client_id.into(),
            keys: Arc::new(move |kid| Box::pin(keys(kid))),
        });
        self
    }

    /// Verifies a logout token and ends what it names. Returns how many sessions have ended; a repeat
    /// of the token gets the same answer.
    ///
    /// # Errors
    /// [`is_invalid`](BackChannelLogoutError::is_invalid): the token is, and nothing was done.
    /// Otherwise, the keys cannot be had or the store fails: some sessions may be alive, and the
    /// provider should repeat it.
    pub async fn accept(&self, logout_token: &str) -> Result<u64, BackChannelLogoutError> {
        let token = Token::read(logout_token)?;
        let mut providers = self
            .providers
            .iter()
            .filter(|it| it.issuer == token.issuer());
        let first = providers.clone().next();
        let provider = providers
            .find(|it| token.is_for(&it.client))
            .or(first)
            .ok_or(
                "the iss of the logout token must be that of a `provider` of this application",
            )?;
        let keys = (provider.keys)(token.kid().map(str::to_owned));
        let keys = within(KEYS_LIMIT, keys).await.map_err(|error| {
            event::no_provider_keys(error.as_ref());
            Cause::Failed(error)
        })?;
        let now = self.sessions.now().to_system_time();
        let notice = token.verified(&provider.client, &keys, now)?;
        let ended = self.sessions.end_upstream(&notice).await;
        ended.map_err(|error| Cause::Failed(error.into()).into())
    }
}

async fn within(
    limit: Duration,
    keys: impl Future<Output = anyhow::Result<JwkSet>>,
) -> anyhow::Result<JwkSet> {
    let late = |_| anyhow::anyhow!("there is no answer within {limit:?}");
    tokio::time::timeout(limit, keys).await.map_err(late)?
}

/// Shows no provider.
impl fmt::Debug for BackChannelLogout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackChannelLogout")
            .field("providers", &self.providers.len())
            .finish_non_exhaustive()
    }
}

/// Error returned by [`BackChannelLogout::accept`].
///
/// As a response it is a 400 with the reason if the token is invalid. Otherwise it is a 503, so that
/// the provider repeats the token, and only the log names the cause. Both are JSON (`error` and
/// `error_description`) that no cache keeps.
#[derive(Debug)]
pub struct BackChannelLogoutError(Cause);

#[derive(Debug)]
enum Cause {
    Invalid(Invalid),
    Failed(anyhow::Error),
}

impl BackChannelLogoutError {
    /// Whether the token is invalid, so that it is of no use to repeat it.
    pub fn is_invalid(&self) -> bool {
        matches!(self.0, Cause::Invalid(_))
    }
}

impl From<Cause> for BackChannelLogoutError {
    fn from(cause: Cause) -> Self {
        Self(cause)
    }
}

impl From<Invalid> for BackChannelLogoutError {
    fn from(reason: Invalid) -> Self {
        Self(Cause::Invalid(reason))
    }
}

impl fmt::Display for BackChannelLogoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Invalid(reason) => f.write_str(reason),
            Cause::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BackChannelLogoutError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Cause::Invalid(_) => None,
            Cause::Failed(error) => Some(error.as_ref()),
        }
    }
}

impl ResponseError for BackChannelLogoutError {
    fn status_code(&self) -> StatusCode {
        match self.0 {
            Cause::Invalid(_) => StatusCode::BAD_REQUEST,
            Cause::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let (error, description) = match self.0 {
            Cause::Invalid(reason) => ("invalid_request", reason),
            Cause::Failed(_) => ("temporarily_unavailable", "the logout failed: repeat it"),
        };
        // Neither text needs to be escaped.
        let body = format!("{{\"error\":\"{error}\",\"error_description\":\"{description}\"}}");
        HttpResponse::build(self.status_code())
            .insert_header(ContentType::json())
            .insert_header((CACHE_CONTROL, "no-store"))
            .body(body)
    }
}

/// The token of a form that has exactly one.
pub(crate) fn token_in(form: &[(String, String)]) -> Result<&str, BackChannelLogoutError> {
    let mut tokens = form.iter().filter(|(name, _)| name == "logout_token");
    match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) => Ok(token),
        _ => Err("the form must have one logout_token".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn keys_that_never_come_are_an_error() {
        let never = std::future::pending();
        let error = within(Duration::from_millis(1), never).await.unwrap_err();
        assert!(error.to_string().contains("no answer"), "{error}");
    }
}
