//! Registration, login, logout, and the account page, which only its owner sees.

use std::{borrow::Cow, time::Duration};

use actix_session::{Login, SessionManager};
use actix_web::{
    HttpRequest, HttpResponse,
    cookie::time,
    http::{StatusCode, header},
    web,
};
use askama::Template;
use serde::Deserialize;

use super::{
    Frame, admin,
    devices::{self, Device, MOST_DEVICES},
    home::{self, START},
    html, read, see_other,
};
use crate::{
    app::State,
    client,
    error::AppError,
    flash,
    notes::Notes,
    password,
    users::{self, User},
    visitor::Visitor,
};

const REGISTER: &str = "/register";
const LOG_IN: &str = "/login";
pub(super) const ACCOUNT: &str = "/account";

/// The login page for a visitor who was on the way to the account page. The address says so, not the
/// session: a visitor who is only turned away needs none.
pub(super) const LOG_IN_FOR_ACCOUNT: &str = "/login?to=account";

/// How long a session lasts after the last request if its user wants to stay logged in.
const KEPT_LOGIN: time::Duration = time::Duration::days(14);

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::resource(REGISTER)
                .route(read().to(register_page))
                .post(register),
        )
        .service(
            web::resource(LOG_IN)
                .route(read().to(log_in_page))
                .post(log_in),
        )
        .service(web::resource("/logout").post(log_out))
        .service(web::resource(ACCOUNT).route(read().to(account_page)));
}

#[derive(Deserialize)]
struct Registration {
    name: String,
    password: String,
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
    /// Browsers send a box that is ticked, and leave out one that is not.
    keep: Option<String>,
    to: Option<String>,
}

impl Credentials {
    fn is_to_account(&self) -> bool {
        self.to.as_deref() == Some("account")
    }
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
    keep: bool,
    to_account: bool,
    problem: Option<Cow<'static, str>>,
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage<'a> {
    frame: Frame,
    user: &'a User,
    clicks: u64,
    notes: usize,
    /// None if sessions lie in cookies, of which there is no list.
    devices: Option<Vec<Device>>,
    most_devices: usize,
    is_admin: bool,
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
    request: HttpRequest,
    form: web::Form<Registration>,
) -> Result<HttpResponse, AppError> {
    let Registration { name, password } = form.into_inner();
    let name = name.trim();
    let name_problem = users::name_problem(name);
    let password_problem = password::problem(&password, name);
    if name_problem.is_some() || password_problem.is_some() {
        return refused(&visitor, name, name_problem, password_problem);
    }
    let hash = state.passwords.hash(password).await?;
    match state.users.add(name, &hash).await? {
        Some(id) => {
            visitor.session.login_with(login(id, &request, &state))?;
            flash::leave(
                &visitor.session,
                "Your account is ready, and you are logged in.",
            )?;
            Ok(see_other(START))
        }
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

async fn log_in_page(visitor: Visitor, request: HttpRequest) -> Result<HttpResponse, AppError> {
    let to_account = request.query_string() == "to=account";
    if visitor.user.is_some() {
        return Ok(see_other(after_login(to_account)));
    }
    let mut frame = Frame::of(&visitor, LOG_IN);
    if to_account {
        let reason = || "Log in to see your account.".to_owned();
        frame.flash.get_or_insert_with(reason);
    }
    let page = LogInPage {
        frame,
        name: "",
        keep: false,
        to_account,
        problem: None,
    };
    html(StatusCode::OK, &page)
}

/// An unknown name and a wrong password get the same response after the same work: neither its text
/// nor its time reveals which names have an account.
async fn log_in(
    state: web::Data<State>,
    visitor: Visitor,
    request: HttpRequest,
    form: web::Form<Credentials>,
) -> Result<HttpResponse, AppError> {
    let form = form.into_inner();
    let stored = state.users.credentials(form.name.trim()).await?;
    let from = client::address(&request, &state.trusted_proxies);
    let guess = match state.guesses.begin(from, form.name.trim()).await {
        Ok(guess) => guess,
        Err(wait) => return too_many(&visitor, &form, wait),
    };
    let hash = stored.as_ref().map(|stored| stored.password_hash.as_str());
    let matches = state.passwords.verify(&form.password, hash).await?;
    match stored {
        Some(stored) if matches => {
            guess.was_right();
            welcome(&visitor, login(stored.id, &request, &state), &form)
        }
        _ => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let problem = "The user name or password is wrong.".into();
            log_in_again(&visitor, &form, status, problem)
        }
    }
}

/// Says so whether or not the name has an account.
fn too_many(
    visitor: &Visitor,
    form: &Credentials,
    wait: Duration,
) -> Result<HttpResponse, AppError> {
    let (problem, seconds) = too_many_guesses(wait);
    let mut page = log_in_again(visitor, form, StatusCode::TOO_MANY_REQUESTS, problem)?;
    page.headers_mut()
        .insert(header::RETRY_AFTER, seconds.into());
    Ok(page)
}

/// What to say, and after how many seconds to try again.
pub(super) fn too_many_guesses(wait: Duration) -> (Cow<'static, str>, u64) {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let problem = match seconds.div_ceil(60) {
        1 => "Too many wrong passwords. Wait a minute, then try again.".into(),
        minutes => {
            format!("Too many wrong passwords. Wait {minutes} minutes, then try again.").into()
        }
    };
    (problem, seconds)
}

fn log_in_again(
    visitor: &Visitor,
    form: &Credentials,
    status: StatusCode,
    problem: Cow<'static, str>,
) -> Result<HttpResponse, AppError> {
    let page = LogInPage {
        frame: Frame::of(visitor, LOG_IN),
        name: form.name.trim(),
        keep: form.keep.is_some(),
        to_account: form.is_to_account(),
        problem: Some(problem),
    };
    html(status, &page)
}

/// The session gets a new key, so whoever planted or saw the old one is not logged in with it. What
/// an anonymous visitor has put into the session stays.
fn welcome(visitor: &Visitor, login: Login, form: &Credentials) -> Result<HttpResponse, AppError> {
    visitor.session.login_with(login)?;
    if form.keep.is_some() {
        visitor.session.set_ttl(KEPT_LOGIN);
    }
    flash::leave(&visitor.session, "You are logged in.")?;
    Ok(see_other(after_login(form.is_to_account())))
}

/// What it says besides the user is for the list of the user's devices.
fn login(id: String, request: &HttpRequest, state: &State) -> Login {
    let address = client::address(request, &state.trusted_proxies);
    let login = Login::new(id).method("password").address(address);
    match client::device(request) {
        Some(device) => login.device(device),
        None => login,
    }
}

fn after_login(to_account: bool) -> &'static str {
    if to_account { ACCOUNT } else { START }
}

/// Ends the session with everything in it. The goodbye then starts a new one, which contains
/// nothing else. Without a session there is nothing to end, and nobody to say goodbye to.
async fn log_out(visitor: Visitor) -> Result<HttpResponse, AppError> {
    let was_here = visitor.user.is_some() || !visitor.session.is_empty();
    visitor.session.logout();
    if was_here {
        flash::leave(&visitor.session, "You are logged out. Goodbye!")?;
    }
    Ok(see_other(START))
}

async fn account_page(
    visitor: Visitor,
    state: web::Data<State>,
    sessions: web::Data<SessionManager>,
) -> Result<HttpResponse, AppError> {
    let Some(user) = &visitor.user else {
        return Ok(see_other(LOG_IN_FOR_ACCOUNT));
    };
    let page = AccountPage {
        user,
        clicks: home::clicks(&visitor)?,
        notes: Notes::of(&visitor.session)?.items().len(),
        devices: match state.sessions_are_shared {
            true => Some(devices::of(&visitor.session, &sessions).await?),
            false => None,
        },
        most_devices: MOST_DEVICES,
        is_admin: admin::is_admin(&state, &visitor),
        frame: Frame::of(&visitor, ACCOUNT),
    };
    html(StatusCode::OK, &page)
}
