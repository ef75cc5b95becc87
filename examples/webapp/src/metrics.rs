//! The counters of the session library, for a monitoring server to fetch.

use std::net::{SocketAddr, TcpListener};

use actix_web::{App, HttpResponse, HttpServer, dev::Server, web};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::start_error::StartError;

/// Counts from now on, and serves the counters at this address. They say nothing about users, but are
/// nobody's business: the address should not be reachable from outside.
pub(crate) fn start(address: &str) -> Result<(Server, SocketAddr), StartError> {
    let failed = |source| StartError::metrics(address, source);
    let listener = TcpListener::bind(address).map_err(|source| failed(source.into()))?;
    let address = listener
        .local_addr()
        .map_err(|source| failed(source.into()))?;
    let recorder = PrometheusBuilder::new().install_recorder();
    let counters = web::Data::new(recorder.map_err(|source| failed(source.into()))?);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(counters.clone())
            .route("/metrics", web::get().to(show))
    });
    let server = server.workers(1).disable_signals().listen(listener);
    let server = server.map_err(|source| failed(source.into()))?;
    Ok((server.run(), address))
}

async fn show(counters: web::Data<PrometheusHandle>) -> HttpResponse {
    counters.run_upkeep();
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4")
        .body(counters.render())
}
