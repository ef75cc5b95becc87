//! The visitor: the session and, after a login, the account.

use std::pin::Pin;

use actix_session::{Session, SessionExt as _};
use actix_web::{FromRequest, HttpRequest, dev::Payload, http::Method, web};

use crate::{
    app::State,
    error::AppError,
    users::{User, Users},
};

/// A request's session, and the account that it is logged in to.
pub(crate) struct Visitor {
    pub(crate) session: Session,
    pub(crate) user: Option<User>,
    /// Whether the response goes out without its body.
    pub(crate) sees_no_body: bool,
    /// How long before its end pages warn of it.
    pub(crate) warn_seconds: u64,
}

impl FromRequest for Visitor {
    type Error = AppError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, AppError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let session = request.get_session();
        let sees_no_body = request.method() == Method::HEAD;
        let state = request.app_data::<web::Data<State>>().cloned();
        let state = state.expect("the application registers its state for all routes");
        Box::pin(async move {
            let user = account(&session, &state.users).await?;
            Ok(Self {
                session,
                user,
                sees_no_body,
                warn_seconds: state.warn_seconds,
            })
        })
    }
}

/// A session may outlive its account. If so, nobody is logged in.
async fn account(session: &Session, users: &Users) -> Result<Option<User>, AppError> {
    match session.principal() {
        Some(id) => Ok(users.by_id(&id).await?),
        None => Ok(None),
    }
}
