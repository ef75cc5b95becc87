//! Applications of actix-web.

use std::thread;

use actix_http::Request;
use actix_web::{
    App, Error, HttpServer,
    body::{MessageBody, to_bytes},
    dev::{Service, ServiceFactory, ServiceRequest, ServiceResponse},
    http::header::{COOKIE, HeaderValue, SET_COOKIE},
    test::{TestRequest, init_service},
};
use anyhow::{Context as _, ensure};

use crate::{
    Done, Job,
    case::Case,
    pages::{Pages, fill, repeat},
    server::answer_questions,
};

/// Does the job with the application that `app` makes, for each thread one.
pub(crate) async fn run<T, B, F>(app: F, case: &Case, job: Job) -> anyhow::Result<Done>
where
    T: ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<B>,
            Error = Error,
            InitError = (),
        > + 'static,
    B: MessageBody + 'static,
    F: Fn() -> App<T> + Clone + Send + 'static,
{
    match job {
        Job::Repeat(n) => {
            let pages = InProcess(init_service(app()).await);
            Ok(Done::Repeated(repeat(pages, case, n).await?))
        }
        Job::Fill(n) => {
            let pages = InProcess(init_service(app()).await);
            Ok(Done::Filled(fill(pages, n).await?))
        }
        Job::Serve(threads) => {
            serve(app, threads).await?;
            Ok(Done::Served)
        }
    }
}

/// Serves with so many threads, until the standard input ends.
pub(crate) async fn serve<T, B, F>(app: F, threads: usize) -> anyhow::Result<()>
where
    T: ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<B>,
            Error = Error,
            InitError = (),
        > + 'static,
    B: MessageBody + 'static,
    F: Fn() -> App<T> + Clone + Send + 'static,
{
    let server = HttpServer::new(app).workers(threads).disable_signals();
    let server = server.bind(("127.0.0.1", 0))?;
    let address = *server
        .addrs()
        .first()
        .context("the server has no address")?;
    let server = server.run();
    let handle = server.handle();
    thread::spawn(move || {
        answer_questions(address);
        // Asked to end, it ends without anybody who waits for it.
        drop(handle.stop(false));
    });
    Ok(server.await?)
}

struct InProcess<S>(S);

impl<S, B> Pages for InProcess<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Header = HeaderValue;
    type Answer = ServiceResponse<B>;

    async fn ask(
        &mut self,
        path: &'static str,
        cookie: Option<&HeaderValue>,
    ) -> anyhow::Result<ServiceResponse<B>> {
        let mut request = TestRequest::with_uri(path);
        if let Some(cookie) = cookie {
            request = request.insert_header((COOKIE, cookie.clone()));
        }
        let answer = self.0.call(request.to_request()).await;
        let answer = answer.map_err(|error| anyhow::anyhow!("{path}: {error}"))?;
        ensure!(answer.status().is_success(), "{path}: {}", answer.status());
        Ok(answer)
    }

    fn set_cookie(answer: &ServiceResponse<B>) -> Option<&HeaderValue> {
        answer.headers().get(SET_COOKIE)
    }

    async fn body(answer: ServiceResponse<B>) -> anyhow::Result<String> {
        let bytes = to_bytes(answer.into_body()).await;
        let bytes = bytes.map_err(|error| anyhow::anyhow!("{}", error.into()))?;
        Ok(String::from_utf8(bytes.into())?)
    }

    fn header(bytes: &[u8]) -> anyhow::Result<HeaderValue> {
        Ok(HeaderValue::from_bytes(bytes)?)
    }

    fn bytes(header: &HeaderValue) -> &[u8] {
        header.as_bytes()
    }
}
