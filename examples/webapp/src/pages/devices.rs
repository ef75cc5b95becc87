//! The user's devices: which sessions there are, and what ends them.

use std::time::{Duration, SystemTime};

use actix_session::{ListedSession, Session, SessionHandle, SessionManager, SessionManagerError};
use actix_web::{HttpResponse, web};

use super::{
    account::{ACCOUNT, LOG_IN_FOR_ACCOUNT},
    not_found, see_other,
};
use crate::{app::State, error::AppError, flash, visitor::Visitor};

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/account/devices/others/end").post(end_others))
        .service(web::resource("/account/devices/{device}/end").post(end));
}

/// How many devices the list shows.
pub(super) const MOST_DEVICES: usize = 50;

/// A line of the list.
pub(super) struct Device {
    pub(super) handle: SessionHandle,
    pub(super) label: String,
    pub(super) last_seen: String,
    /// How and where the login began, as far as that is known.
    pub(super) began: Option<String>,
    pub(super) is_this: bool,
}

/// The devices that the session's user has logged in on last.
pub(super) async fn of(
    session: &Session,
    sessions: &SessionManager,
) -> Result<Vec<Device>, SessionManagerError> {
    let principal = session.principal().unwrap_or_default();
    let listed = sessions.first_page(&principal, MOST_DEVICES).await?;
    Ok(listed.map(|listed| device(&listed, session)).collect())
}

fn device(listed: &ListedSession, session: &Session) -> Device {
    let seen = listed.last_seen().unwrap_or_else(|| listed.logged_in_at());
    let age = SystemTime::now().duration_since(seen);
    Device {
        handle: listed.handle(),
        label: listed.device().unwrap_or("Unknown device").to_owned(),
        last_seen: ago(age.unwrap_or_default()),
        began: began(listed),
        is_this: listed.is(session),
    }
}

fn began(listed: &ListedSession) -> Option<String> {
    let address = listed.address().map(|address| address.to_string());
    match (listed.method(), address) {
        (Some(method), Some(address)) => Some(format!("{method}, from {address}")),
        (method, address) => method.map(str::to_owned).or(address),
    }
}

fn ago(age: Duration) -> String {
    let (number, unit) = match age.as_secs() {
        0..=59 => return "just now".to_owned(),
        seconds @ 60..=3_599 => (seconds / 60, "minute"),
        seconds @ 3_600..=86_399 => (seconds / 3_600, "hour"),
        seconds => (seconds / 86_400, "day"),
    };
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural} ago")
}

/// Whose sessions they are, the session says, never the form. Where there is no list of sessions, no page
/// has the form.
async fn end(
    state: web::Data<State>,
    visitor: Visitor,
    sessions: web::Data<SessionManager>,
    device: web::Path<SessionHandle>,
) -> Result<HttpResponse, AppError> {
    if !state.sessions_are_shared {
        return not_found(visitor).await;
    }
    let Some(principal) = visitor.session.principal() else {
        return Ok(see_other(LOG_IN_FOR_ACCOUNT));
    };
    let text = match sessions.revoke(&principal, &device).await? {
        true => "That device is logged out.",
        false => "That device was logged out already.",
    };
    flash::leave(&visitor.session, text)?;
    Ok(see_other(ACCOUNT))
}

async fn end_others(
    state: web::Data<State>,
    visitor: Visitor,
    sessions: web::Data<SessionManager>,
) -> Result<HttpResponse, AppError> {
    if !state.sessions_are_shared {
        return not_found(visitor).await;
    }
    match sessions.revoke_others(&visitor.session).await {
        Ok(_) => flash::leave(&visitor.session, "All other devices are logged out.")?,
        Err(error) if error.is_gone() => return Ok(see_other(LOG_IN_FOR_ACCOUNT)),
        Err(error) => return Err(error.into()),
    }
    Ok(see_other(ACCOUNT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_roughly() {
        let told = |seconds| ago(Duration::from_secs(seconds));
        assert_eq!(told(59), "just now");
        assert_eq!(told(60), "1 minute ago");
        assert_eq!(told(7_300), "2 hours ago");
        assert_eq!(told(86_400), "1 day ago");
    }
}
