//! Registration, login, logout, and the account page, which only its owner sees.

use actix_web::{HttpResponse, http::StatusCode, web};
use askama::Template;
use serde::Deserialize;

use super::{
    Frame,
    home::{self, START},
    html, see_other,
};
use crate::{
    app::State,
    error::AppError,
    flash,
    notes::Notes,
    password,
    users::{self, User},
    visitor::Visitor,
};

const REGISTER: &str = "/register";
const LOG_IN: &str = "/login";
const ACCOUNT: &str = "/account";

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource(REGISTER).get(register_page).post(register))
        .service(web::resource(LOG_IN).get(log_in_page).post(log_in))
        .service(web::resource("/logout").post(log_out))
        .service(web::resource(ACCOUNT).get(account_page));
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
}

#[derive(Template)]
#[template(path = "register.html")]
struct RegisterPage<'a> {
    frame: Frame,
    name: &'a str,
    name_problem: Option<&'static str>,
    password_problem: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LogInPage<'a> {
    frame: Frame,
    name: &'a str,
    failed: bool,
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage<'a> {
    frame: Frame,
    user: &'a User,
    clicks: u64,
    notes: usize,
}

async fn register_page(visitor: Visitor) -> Result<HttpResponse, AppError> {
    if visitor.user.is_some() {
        return Ok(see_other(START));
    }
    let frame = Frame::of(&visitor, REGISTER);
    let page = RegisterPage {
        frame,
        name: "",
        name_problem: None,
        password_problem: None,
    };
    html(StatusCode::OK, &page)
}

async fn register(
    state: web::Data<State>,
    visitor: Visitor,
    form: web::Form<Credentials>,
) -> Result<HttpResponse, AppError> {
    let Credentials { name, password } = form.into_inner();
    let name = name.trim();
    let name_problem = users::name_problem(name);
    let password_problem = password::problem(&password, name);
    if name_problem.is_some() || password_problem.is_some() {
        return refused(&visitor, name, name_problem, password_problem);
    }
    let hash = state.passwords.hash(password).await?;
    match state.users.add(name, &hash).await? {
        Some(id) => welcome(
            &visitor,
            id,
            "Your account is ready, and you are logged in.",
        ),
        None => refused(
            &visitor,
            name,
            Some("This name is taken. Choose another one."),
            None,
        ),
    }
}

fn refused(
    visitor: &Visitor,
    name: &str,
    name_problem: Option<&'static str>,
    password_problem: Option<&'static str>,
) -> Result<HttpResponse, AppError> {
    let page = RegisterPage {
        frame: Frame::of(visitor, REGISTER),
        name,
        name_problem,
        password_problem,
    };
    html(StatusCode::UNPROCESSABLE_ENTITY, &page)
}

async fn log_in_page(visitor: Visitor) -> Result<HttpResponse, AppError> {
    if visitor.user.is_some() {
        return Ok(see_other(START));
    }
    let page = LogInPage {
        frame: Frame::of(&visitor, LOG_IN),
        name: "",
        failed: false,
    };
    html(StatusCode::OK, &page)
}

/// An unknown name and a wrong password get the same response after the same work: neither its text
/// nor its time reveals which names have an account.
async fn log_in(
    state: web::Data<State>,
    visitor: Visitor,
    form: web::Form<Credentials>,
) -> Result<HttpResponse, AppError> {
    let Credentials { name, password } = form.into_inner();
    let name = name.trim();
    let stored = state.users.credentials(name).await?;
    let hash = stored.as_ref().map(|stored| stored.password_hash.as_str());
    let matches = state.passwords.verify(password, hash).await?;
    match stored {
        Some(stored) if matches => welcome(&visitor, stored.id, "You are logged in."),
        _ => {
            let page = LogInPage {
                frame: Frame::of(&visitor, LOG_IN),
                name,
                failed: true,
            };
            html(StatusCode::UNPROCESSABLE_ENTITY, &page)
        }
    }
}

/// The session gets a new key, so whoever planted or saw the old one is not logged in with it. What
/// an anonymous visitor has put into the session stays.
fn welcome(visitor: &Visitor, id: String, greeting: &str) -> Result<HttpResponse, AppError> {
    visitor.session.login(id)?;
    flash::leave(&visitor.session, greeting)?;
    Ok(see_other(START))
}

/// Ends the session with everything in it. The goodbye then starts a new one, which contains
/// nothing else.
async fn log_out(visitor: Visitor) -> Result<HttpResponse, AppError> {
    visitor.session.logout();
    flash::leave(&visitor.session, "You are logged out. Goodbye!")?;
    Ok(see_other(START))
}

async fn account_page(visitor: Visitor) -> Result<HttpResponse, AppError> {
    let Some(user) = &visitor.user else {
        flash::leave(&visitor.session, "Log in to see your account.")?;
        return Ok(see_other(LOG_IN));
    };
    let page = AccountPage {
        user,
        clicks: home::clicks(&visitor)?,
        notes: Notes::of(&visitor.session)?.items().len(),
        frame: Frame::of(&visitor, ACCOUNT),
    };
    html(StatusCode::OK, &page)
}
