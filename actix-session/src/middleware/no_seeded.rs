//! Without the feature `testing` no test gives its requests a session.

use actix_web::{dev::ServiceRequest, http::header::HeaderMap};

use super::Parts;
use crate::Session;

#[allow(clippy::unused_async, reason = "with the feature it waits")]
pub(crate) async fn plant<S>(_: &Parts<S>, _: &mut ServiceRequest) -> Result<(), actix_web::Error> {
    Ok(())
}

/// The session of a request that no middleware serves.
pub(crate) fn unattached(_: &HeaderMap) -> Session {
    Session::new()
}
