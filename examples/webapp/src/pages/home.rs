//! The start page, with the counter.

use actix_web::{HttpResponse, http::StatusCode, web};
use askama::Template;

use super::{Frame, html, read, see_other};
use crate::{app::State, error::AppError, notes::Notes, visitor::Visitor};

pub(super) const START: &str = "/";
const CLICKS: &str = "clicks";

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource(START).route(read().to(show)))
        .service(web::resource("/clicks").post(click));
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    frame: Frame,
    clicks: u64,
    notes: usize,
    sessions_are_shared: bool,
}

async fn show(state: web::Data<State>, visitor: Visitor) -> Result<HttpResponse, AppError> {
    let page = HomePage {
        clicks: clicks(&visitor)?,
        notes: Notes::of(&visitor.session)?.items().len(),
        sessions_are_shared: state.sessions_are_shared,
        frame: Frame::of(&visitor, START),
    };
    html(StatusCode::OK, &page)
}

/// Counts with `modify`, not with `get` and `insert`: two clicks at the same moment would read the
/// same number, and one would be lost.
async fn click(visitor: Visitor) -> Result<HttpResponse, AppError> {
    visitor.session.modify(CLICKS, |clicks: Option<u64>| {
        Some(clicks.unwrap_or_default().saturating_add(1))
    })?;
    Ok(see_other(START))
}

pub(super) fn clicks(visitor: &Visitor) -> Result<u64, AppError> {
    Ok(visitor.session.get(CLICKS)?.unwrap_or_default())
}
