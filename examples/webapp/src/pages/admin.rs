//! The page for administrators: who has sessions, and what ends all of a user's.

use actix_session::{SessionManagerError, SessionOperator};
use actix_web::{HttpResponse, http::StatusCode, web};
use askama::Template;

use super::{
    Frame,
    confirm::{self, Aim},
    home::START,
    html, not_found, read, see_other,
};
use crate::{app::State, error::AppError, flash, users::User, visitor::Visitor};

pub(super) const ADMIN: &str = "/admin";

/// How many users the page shows.
const MOST_USERS: u32 = 100;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource(ADMIN).route(read().to(show)))
        .service(web::resource("/admin/users/{user}/end").post(end));
}

/// A line of the list.
struct Line {
    user: User,
    sessions: usize,
}

#[derive(Template)]
#[template(path = "admin.html")]
struct AdminPage {
    frame: Frame,
    lines: Vec<Line>,
    /// There may be others.
    is_full: bool,
}

/// For everybody else, and where there is no list of sessions, there is no such page.
async fn show(
    state: web::Data<State>,
    visitor: Visitor,
    operator: web::Data<SessionOperator>,
) -> Result<HttpResponse, AppError> {
    if !is_admin(&state, &visitor) {
        return not_found(visitor).await;
    }
    if let Some(detour) = confirm::detour(&visitor.session, Aim::Admin) {
        return Ok(detour);
    }
    let users = state.users.first(MOST_USERS).await?;
    let page = AdminPage {
        is_full: users.len() >= MOST_USERS as usize,
        lines: lines(users, &operator).await?,
        frame: Frame::of(&visitor, ADMIN),
    };
    html(StatusCode::OK, &page)
}

async fn lines(
    users: Vec<User>,
    operator: &SessionOperator,
) -> Result<Vec<Line>, SessionManagerError> {
    let mut lines = Vec::with_capacity(users.len());
    for user in users {
        let sessions = operator.count(&user.id).await?;
        lines.push(Line { user, sessions });
    }
    Ok(lines)
}

/// Requests in flight find their session gone, and logins that are under way do not count.
async fn end(
    state: web::Data<State>,
    visitor: Visitor,
    operator: web::Data<SessionOperator>,
    user: web::Path<String>,
) -> Result<HttpResponse, AppError> {
    if !is_admin(&state, &visitor) {
        return not_found(visitor).await;
    }
    if let Some(detour) = confirm::detour(&visitor.session, Aim::Admin) {
        return Ok(detour);
    }
    let Some(user) = state.users.by_id(&user).await? else {
        return not_found(visitor).await;
    };
    let ended = operator.end_principal(&user.id).await?;
    if visitor.user.is_some_and(|visitor| visitor.id == user.id) {
        return Ok(see_other(START));
    }
    let (name, plural) = (&user.name, if ended == 1 { "" } else { "s" });
    let text = format!("{name} is logged out everywhere: {ended} session{plural} ended.");
    flash::leave(&visitor.session, text)?;
    Ok(see_other(ADMIN))
}

/// Whether the visitor sees the page.
pub(super) fn is_admin(state: &State, visitor: &Visitor) -> bool {
    let Some(user) = &visitor.user else {
        return false;
    };
    let is_this = |name: &String| name.eq_ignore_ascii_case(&user.name);
    state.sessions_are_shared && state.admins.iter().any(is_this)
}
