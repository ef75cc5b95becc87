//! The pages: one module a topic, one template a page.

mod account;
mod home;
mod notes;

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
    web,
};
use askama::Template;

use crate::{error::AppError, flash, visitor::Visitor};

/// No form here is longer than this, encoded.
const LONGEST_FORM: usize = 16 * 1024;

/// The pages' addresses.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    let form = web::FormConfig::default().limit(LONGEST_FORM);
    config
        .app_data(form.error_handler(|error, _| AppError::from(error).into()))
        .configure(home::routes)
        .configure(notes::routes)
        .configure(account::routes)
        .default_service(web::to(not_found));
}

/// What the frame around every page shows.
struct Frame {
    /// The address of this page, for the navigation to mark.
    here: &'static str,
    account: Account,
    flash: Option<String>,
}

/// What the frame knows of who is looking.
enum Account {
    Anonymous,
    LoggedIn(String),
    /// Pages for failures are shown where no session can be asked.
    Unknown,
}

impl Frame {
    /// The frame for this visitor. Whatever message waits in the session is shown by it.
    fn of(visitor: &Visitor, here: &'static str) -> Self {
        let account = match &visitor.user {
            Some(user) => Account::LoggedIn(user.name.clone()),
            None => Account::Anonymous,
        };
        Self {
            here,
            account,
            flash: flash::take(&visitor.session),
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
            "That came from another site",
            "A form was sent to us from a page that is not ours, so nothing was done. \
             If you meant it, open our page and send the form there.",
        ),
        StatusCode::NOT_FOUND => (
            "There is no such page",
            "Check the address, or begin again at the start page.",
        ),
        StatusCode::SERVICE_UNAVAILABLE => (
            "Too busy right now",
            "Nothing was changed. Please try again in a moment.",
        ),
        status if status.is_client_error() => (
            "That could not be read",
            "Go back, reload the page, and send the form again.",
        ),
        _ => (
            "Something went wrong",
            "It is our fault, not yours. Please try again in a moment.",
        ),
    }
}

/// Pages show what belongs to one visitor: no cache may keep them, the browser's own included,
/// which would show them again after log-out.
fn html(status: StatusCode, page: &impl Template) -> Result<HttpResponse, AppError> {
    let body = page.render()?;
    Ok(HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(body))
}

/// Sends the browser on after a form: a reload then repeats the page, not the form.
fn see_other(address: &'static str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, address))
        .finish()
}
