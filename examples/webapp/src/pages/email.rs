//! The user's e-mail address. Whoever changes it could have passwords sent to themselves, so that a
//! forgotten login is not enough: the password must be recent.

use actix_web::{HttpResponse, http::StatusCode, web};
use askama::Template;
use serde::Deserialize;

use super::{
    Frame,
    account::{ACCOUNT, LOG_IN_FOR_ACCOUNT},
    confirm::{self, Aim},
    html, read, see_other,
};
use crate::{
    app::State,
    error::AppError,
    flash,
    users::{self, User},
    visitor::Visitor,
};

pub(super) const EMAIL: &str = "/account/email";

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(web::resource(EMAIL).route(read().to(show)).post(change));
}

#[derive(Deserialize)]
struct Change {
    email: String,
}

#[derive(Template)]
#[template(path = "email.html")]
struct EmailPage<'a> {
    frame: Frame,
    email: &'a str,
    problem: Option<&'static str>,
}

async fn show(visitor: Visitor) -> Result<HttpResponse, AppError> {
    let Some(user) = &visitor.user else {
        return Ok(see_other(LOG_IN_FOR_ACCOUNT));
    };
    if let Some(detour) = confirm::detour(&visitor.session, Aim::Email) {
        return Ok(detour);
    }
    let email = user.email.as_deref().unwrap_or_default();
    page(&visitor, StatusCode::OK, email, None)
}

/// The page may have been open for long, so that the form is asked again.
async fn change(
    state: web::Data<State>,
    visitor: Visitor,
    form: web::Form<Change>,
) -> Result<HttpResponse, AppError> {
    let Some(User { id, .. }) = &visitor.user else {
        return Ok(see_other(LOG_IN_FOR_ACCOUNT));
    };
    if let Some(detour) = confirm::detour(&visitor.session, Aim::Email) {
        return Ok(detour);
    }
    let email = form.email.trim();
    if let Some(problem) = users::email_problem(email) {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return page(&visitor, status, email, Some(problem));
    }
    state.users.set_email(id, email).await?;
    flash::leave(&visitor.session, "Your e-mail address is changed.")?;
    Ok(see_other(ACCOUNT))
}

fn page(
    visitor: &Visitor,
    status: StatusCode,
    email: &str,
    problem: Option<&'static str>,
) -> Result<HttpResponse, AppError> {
    let page = EmailPage {
        frame: Frame::of(visitor, EMAIL),
        email,
        problem,
    };
    html(status, &page)
}
