//! Names of sessions that can be shown.

use std::{fmt, str::FromStr};

use derive_more::Display;
use serde::{Deserialize, Serialize};

use crate::{Session, digest};

/// How many characters a handle has: those of a SHA-256 digest in base64.
const LENGTH: usize = 43;

/// Names a session of a principal, for lists and forms.
///
/// Renewals do not change it; a logout does, so that it never names another person's session. It
/// shows neither the principal nor the session's id, opens nothing when it is sent as a cookie, and
/// is of no use without the principal.
///
/// It is text of 43 characters that need no escaping in URLs and HTML.
///
/// # Examples
/// ```
/// use actix_session::SessionHandle;
///
/// let text = "uU0nuZNNPgilLlLX2n2r-sSE7-N6U4DukIj3rOLvzek";
/// let handle: SessionHandle = text.parse()?;
/// assert_eq!(handle.to_string(), text);
/// assert!("no handle".parse::<SessionHandle>().is_err());
/// # Ok::<(), actix_session::InvalidSessionHandle>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionHandle(Box<str>);

/// The text is no handle of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[display(
    "the text is invalid as the handle of a session: it must have {LENGTH} characters of base64url"
)]
#[non_exhaustive]
pub struct InvalidSessionHandle;

impl std::error::Error for InvalidSessionHandle {}

impl SessionHandle {
    pub(crate) fn of(principal: &str, id: u128) -> Self {
        let named = format!("actix-session handle\0{id:032x}\0{principal}");
        Self(digest::base64(&named).into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Session {
    /// The handle of this session, by which a [`SessionManager`](crate::SessionManager) opens or ends
    /// it later: for sockets and jobs that outlive the request. Keep it with the
    /// [`principal`](Self::principal). It asks the store nothing.
    ///
    /// It is the handle of the session that the request came with, as far as its principal is still
    /// logged in. A first login, or that of another principal, has a handle once the response has
    /// left: so the next request knows it.
    ///
    /// `None`: nobody is logged in, this request has logged somebody else in, or the session could not
    /// be loaded ([`is_degraded`](Self::is_degraded)). If nobody has loaded it
    /// ([`lazy`](crate::config::SessionMiddlewareBuilder::lazy)), a warning says so once.
    ///
    /// # Examples
    /// ```
    /// use actix_session::{Session, SessionMiddleware, storage::MemorySessionStore};
    /// use actix_session::testing::SessionTestRequest as _;
    /// use actix_web::{App, HttpResponse, cookie::Key, test, web};
    ///
    /// # actix_web::rt::System::new().block_on(async {
    /// let middleware = SessionMiddleware::new(MemorySessionStore::new(), Key::generate());
    /// let manager = middleware.manager();
    /// let index = async |session: Session| match session.handle() {
    ///     Some(handle) => HttpResponse::Ok().body(handle.to_string()),
    ///     None => HttpResponse::Unauthorized().finish(),
    /// };
    /// let app = App::new().wrap(middleware).route("/", web::get().to(index));
    /// let app = test::init_service(app).await;
    ///
    /// let request = test::TestRequest::get().login("user-42");
    /// let handle = test::read_body(request.send_request(&app).await).await;
    /// let listed = manager.list("user-42").await?.next().unwrap();
    /// assert_eq!(handle, listed.handle().to_string());
    /// # Ok::<(), actix_session::SessionManagerError>(()) }).unwrap();
    /// ```
    pub fn handle(&self) -> Option<SessionHandle> {
        let (principal, id) = self.stored_identity()?;
        Some(SessionHandle::of(&principal, id))
    }
}

impl FromStr for SessionHandle {
    type Err = InvalidSessionHandle;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_of_handles = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if text.len() == LENGTH && text.bytes().all(is_of_handles) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSessionHandle)
        }
    }
}

impl TryFrom<String> for SessionHandle {
    type Error = InvalidSessionHandle;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SessionHandle> for String {
    fn from(handle: SessionHandle) -> Self {
        handle.0.into()
    }
}

impl fmt::Display for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionHandle({})", self.0)
    }
}
