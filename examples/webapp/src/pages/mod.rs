//! The pages: a module for each topic, a template for each page.

mod account;
mod admin;
mod confirm;
mod devices;
mod email;
mod home;
mod notes;
pub(crate) mod session;

use actix_web::{
    HttpResponse, Route, guard,
    http::{StatusCode, header},
    web,
};
use askama::Template;

use crate::{error::AppError, flash, visitor::Visitor};

/// The size limit for an encoded form, in bytes.
const MAX_FORM_BYTES: usize = 16 * 1024;

/// Registers the pages.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    let form = web::FormConfig::default().limit(MAX_FORM_BYTES);
    config
        .app_data(form.error_handler(|error, _| AppError::from(error).into()))
        .configure(home::routes)
        .configure(notes::routes)
        .configure(account::routes)
        .configure(devices::routes)
        .configure(confirm::routes)
        .configure(email::routes)
        .configure(admin::routes)
        .configure(session::routes)
        .default_service(web::to(not_found));
}

/// A route for `GET` and `HEAD`. The server leaves out the body of a response to `HEAD`.
pub(crate) fn read() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// The content of the frame around every page.
struct Frame {
    /// The address of this page, for the navigation to mark.
    here: &'static str,
    account: Account,
    flash: Option<String>,
    /// How long before its end the session warns.
    warn_seconds: u64,
}

/// What the frame knows about the visitor.
enum Account {
    Anonymous,
    LoggedIn(String),
    /// Failure pages are shown without asking the session, which may be what failed.
    Unknown,
}

impl Frame {
    /// The frame for this visitor. It shows the message that waits in the session, if any.
    fn of(visitor: &Visitor, here: &'static str) -> Self {
        let account = match &visitor.user {
            Some(user) => Account::LoggedIn(user.name.clone()),
            None => Account::Anonymous,
        };
        let flash = if visitor.sees_no_body {
            flash::peek(&visitor.session)
        } else {
            flash::take(&visitor.session)
        };
        Self {
            here,
            account,
            flash,
            warn_seconds: visitor.warn_seconds,
        }
    }
}

#[derive(Template)]
#[template(path = "failure.html")]
struct FailurePage {
    frame: Frame,
    title: &'static str,
    advice: &'static str,
}

/// The page for a request that failed.
pub(crate) fn failure(status: StatusCode) -> HttpResponse {
    let frame = Frame {
        here: "",
        account: Account::Unknown,
        flash: None,
        warn_seconds: 0,
    };
    let (title, advice) = explain(status);
    html(
        status,
        &FailurePage {
            frame,
            title,
            advice,
        },
    )
    .unwrap_or_else(|_| HttpResponse::new(status))
}

async fn not_found(visitor: Visitor) -> Result<HttpResponse, AppError> {
    let status = StatusCode::NOT_FOUND;
    let (title, advice) = explain(status);
    html(
        status,
        &FailurePage {
            frame: Frame::of(&visitor, ""),
            title,
            advice,
        },
    )
}

fn explain(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::FORBIDDEN => (
            "This form came from another site",
            "It was sent from a page that is not ours, so we did nothing. \
             If you meant to send it, open our page and send the form there.",
        ),
        StatusCode::NOT_FOUND => (
            "There is no such page",
            "Check the address, or start over from the start page.",
        ),
        StatusCode::METHOD_NOT_ALLOWED => (
            "This address does not do that",
            "It takes another kind of request. Open the page, and use its links and buttons.",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (
            "This is too long",
            "A form may have at most 16 KB. Go back, shorten what you wrote, and send it again.",
        ),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (
            "The form could not be read",
            "Open the page, and send the form from there. \
             A program must send it as `application/x-www-form-urlencoded`.",
        ),
        StatusCode::SERVICE_UNAVAILABLE => (
            "Too busy right now",
            "Look whether it was done, and try again in a moment.",
        ),
        StatusCode::UNAUTHORIZED => (
            "You are not logged in",
            "Your login has ended meanwhile. Please log in again.",
        ),
        status if status.is_client_error() => (
            "The form could not be read",
            "Go back, reload the page, and send the form again.",
        ),
        _ => (
            "Something went wrong",
            "This is our fault, not yours. Please try again in a moment.",
        ),
    }
}

/// Pages show one visitor's data, so no cache may keep them. This includes the browser's, which
/// would show them again after logout.
fn html(status: StatusCode, page: &impl Template) -> Result<HttpResponse, AppError> {
    let body = page.render()?;
    Ok(HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(body))
}

/// Redirects after a form, so that a reload repeats the page and not the form.
fn see_other(address: &'static str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, address))
        .finish()
}
