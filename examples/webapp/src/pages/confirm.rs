//! Step-up: whoever changes something sensitive proves again who they are, unless they have just done
//! so.

use std::{borrow::Cow, time::Duration};

use actix_session::{AuthRefusal, Level, Session};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use askama::Template;
use serde::Deserialize;

use super::{
    Frame,
    account::{LOG_IN_FOR_ACCOUNT, too_many_guesses},
    html, read, see_other,
};
use crate::{app::State, client, error::AppError, visitor::Visitor};

const CONFIRM: &str = "/confirm";

/// How long a password counts as just given.
const RECENT: Duration = Duration::from_secs(10 * 60);

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(web::resource(CONFIRM).route(read().to(show)).post(confirm));
}

/// What the visitor was on the way to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Aim {
    Email,
    Admin,
}

impl Aim {
    const fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Admin => "admin",
        }
    }

    const fn address(self) -> &'static str {
        match self {
            Self::Email => super::email::EMAIL,
            Self::Admin => super::admin::ADMIN,
        }
    }

    const fn way(self) -> &'static str {
        match self {
            Self::Email => "/confirm?to=email",
            Self::Admin => "/confirm?to=admin",
        }
    }
}

/// Where to send the visitor first, if it is too long ago that they have proven who they are.
pub(super) fn detour(session: &Session, aim: Aim) -> Option<HttpResponse> {
    let asked = session.require_auth(Level::One, RECENT);
    match asked.err()?.reason() {
        AuthRefusal::Anonymous => Some(see_other(LOG_IN_FOR_ACCOUNT)),
        _ => Some(see_other(aim.way())),
    }
}

#[derive(Deserialize)]
struct To {
    to: Aim,
}

#[derive(Deserialize)]
struct Proof {
    to: Aim,
    password: String,
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmPage {
    frame: Frame,
    to: &'static str,
    problem: Option<Cow<'static, str>>,
}

async fn show(visitor: Visitor, aim: web::Query<To>) -> Result<HttpResponse, AppError> {
    if visitor.user.is_none() {
        return Ok(see_other(LOG_IN_FOR_ACCOUNT));
    }
    page(&visitor, aim.to, StatusCode::OK, None)
}

/// A wrong password counts as a guess, as it does at the login.
async fn confirm(
    state: web::Data<State>,
    visitor: Visitor,
    request: HttpRequest,
    form: web::Form<Proof>,
) -> Result<HttpResponse, AppError> {
    let Some(user) = &visitor.user else {
        return Ok(see_other(LOG_IN_FOR_ACCOUNT));
    };
    let Proof { to, password } = form.into_inner();
    let stored = state.users.credentials(&user.name).await?;
    let from = client::address(&request, &state.trusted_proxies);
    let guess = match state.guesses.begin(from, &user.name).await {
        Ok(guess) => guess,
        Err(wait) => {
            let (problem, seconds) = too_many_guesses(wait);
            let status = StatusCode::TOO_MANY_REQUESTS;
            let mut page = page(&visitor, to, status, Some(problem))?;
            page.headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
            return Ok(page);
        }
    };
    let hash = stored.as_ref().map(|stored| stored.password_hash.as_str());
    if !state.passwords.verify(&password, hash).await? {
        let problem = Some("The password is wrong.".into());
        return page(&visitor, to, StatusCode::UNPROCESSABLE_ENTITY, problem);
    }
    guess.was_right();
    // The session gets a new key, too.
    visitor.session.reauthenticated()?;
    Ok(see_other(to.address()))
}

fn page(
    visitor: &Visitor,
    to: Aim,
    status: StatusCode,
    problem: Option<Cow<'static, str>>,
) -> Result<HttpResponse, AppError> {
    let page = ConfirmPage {
        frame: Frame::of(visitor, CONFIRM),
        to: to.name(),
        problem,
    };
    html(status, &page)
}
