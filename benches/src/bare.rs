//! The pages without sessions, over actix-web.

use std::hint::black_box;

use actix_web::{App, web};

use crate::{Done, Job, actix, case::Case};

pub(crate) async fn run(case: &Case, job: Job) -> anyhow::Result<Done> {
    let app = || {
        App::new()
            .route("/static", web::get().to(async || "ok"))
            .route("/read", web::get().to(read))
            .route("/write", web::get().to(write))
            .route("/login", web::get().to(async || "ok"))
    };
    actix::run(app, case, job).await
}

pub(crate) async fn read() -> String {
    let (name, visits) = (None::<String>, None::<i64>);
    format!(
        "{} {}",
        name.unwrap_or_default(),
        visits.unwrap_or_default()
    )
}

pub(crate) async fn write() -> String {
    let counter: Option<i64> = black_box(None);
    (counter.unwrap_or_default() + 1).to_string()
}
