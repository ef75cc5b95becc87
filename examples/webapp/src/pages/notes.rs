//! The notes page: a list in the session, with or without an account.

use actix_web::{HttpResponse, http::StatusCode, web};
use askama::Template;
use serde::Deserialize;

use super::{Frame, html, read, see_other};
use crate::{
    error::AppError,
    flash,
    notes::{self, Note, Notes},
    visitor::Visitor,
};

const PAGE: &str = "/notes";

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource(PAGE).route(read().to(show)).post(add))
        .service(web::resource("/notes/{id}/remove").post(remove));
}

#[derive(Template)]
#[template(path = "notes.html")]
struct NotesPage<'a> {
    frame: Frame,
    notes: &'a [Note],
    typed: &'a str,
    problem: Option<&'static str>,
}

#[derive(Deserialize)]
struct NewNote {
    text: String,
}

async fn show(visitor: Visitor) -> Result<HttpResponse, AppError> {
    page(&visitor, "", None)
}

async fn add(visitor: Visitor, form: web::Form<NewNote>) -> Result<HttpResponse, AppError> {
    let text = match notes::tidy(&form.text) {
        Ok(text) => text,
        Err(problem) => return page(&visitor, &form.text, Some(problem)),
    };
    if !Notes::of(&visitor.session)?.has_room_for(&text) {
        return page(
            &visitor,
            &form.text,
            Some("Your notes are full. Remove one first."),
        );
    }
    notes::add(&visitor.session, text)?;
    flash::leave(&visitor.session, "Note added.")?;
    Ok(see_other(PAGE))
}

/// Of two clicks on one button, the second finds nothing: both meant the same.
async fn remove(visitor: Visitor, id: web::Path<u32>) -> Result<HttpResponse, AppError> {
    let id = id.into_inner();
    if Notes::of(&visitor.session)?.contains(id) {
        notes::remove(&visitor.session, id)?;
        flash::leave(&visitor.session, "Note removed.")?;
    }
    Ok(see_other(PAGE))
}

fn page(
    visitor: &Visitor,
    typed: &str,
    problem: Option<&'static str>,
) -> Result<HttpResponse, AppError> {
    let status = if problem.is_some() {
        StatusCode::UNPROCESSABLE_ENTITY
    } else {
        StatusCode::OK
    };
    let notes = Notes::of(&visitor.session)?;
    let frame = Frame::of(visitor, PAGE);
    html(
        status,
        &NotesPage {
            frame,
            notes: notes.items(),
            typed,
            problem,
        },
    )
}
