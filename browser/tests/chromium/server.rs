//! The sites that the browser visits: any host, over `https` and plain `http`.
//!
//! A request names its session middleware in the query (`?as=NAME`); [`setup`](crate::setup) has the
//! names. So one server has all middlewares, on any host.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::{Ready, ready},
    net::{Ipv4Addr, TcpListener},
    pin::Pin,
    rc::Rc,
    sync::{Arc, LazyLock},
    thread,
    time::Duration,
};

use actix_session::{SessionMiddleware, storage::SessionStore};
use actix_web::{
    App, Error, HttpResponse, HttpServer,
    body::BoxBody,
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    error::InternalError,
    http::header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, HeaderMap, HeaderName,
        HeaderValue, ORIGIN,
    },
    web::{self, Query},
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};

use crate::{
    pages,
    setup::{Setup, Stores},
};

/// Repeats the request's address in each response, because events about cookies do not name one.
pub(crate) const ASKED: HeaderName = HeaderName::from_static("x-asked");

/// So long that the server never closes a connection that the browser keeps.
const KEEP_ALIVE: Duration = Duration::from_secs(600);

pub(crate) struct Server {
    http: u16,
    https: u16,
}

impl Server {
    /// The server that tests share; it ends with this process.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: LazyLock<Server> = LazyLock::new(Server::start);
        &SHARED
    }

    /// An address over TLS, such as `app.shop.test` and `/app/who`.
    pub(crate) fn https(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.https)
    }

    /// The same without TLS.
    pub(crate) fn http(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.http)
    }

    fn start() -> Self {
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (http, https) = (listen(), listen());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let server = Self {
            http: port(&http),
            https: port(&https),
        };
        thread::spawn(move || {
            let stores = Stores::new();
            let app = move || {
                App::new()
                    .wrap(Choose(stores.clone()))
                    .configure(pages::routes)
                    .default_service(web::to(pages::act))
            };
            let server = HttpServer::new(app)
                .workers(1)
                .keep_alive(KEEP_ALIVE)
                // A connection that the browser opened in advance may wait.
                .client_request_timeout(Duration::ZERO)
                .disable_signals()
                .listen(http)?
                .listen_rustls_0_23(https, tls())?;
            actix_web::rt::System::new().block_on(server.run())
        });
        server
    }
}

/// A self-signed certificate for all hosts; the browser is told to accept it.
fn tls() -> ServerConfig {
    let made = rcgen::generate_simple_self_signed(["*.test".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let certificate = CertificateDer::from(made.cert);
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap()
}

/// Leads each request through the middleware that it names, if any.
struct Choose(Stores);

type Answer = Pin<Box<dyn Future<Output = Result<ServiceResponse<BoxBody>, Error>>>>;
/// One middleware, around the application.
type Wrapped = Rc<dyn Fn(ServiceRequest) -> Answer>;

struct Chosen<S> {
    stores: Stores,
    application: Rc<S>,
    /// By their names and the domains of their cookies; made on first use.
    wrapped: Rc<RefCell<HashMap<(String, String), Wrapped>>>,
}

impl<S> Transform<S, ServiceRequest> for Choose
where
    S: Service<ServiceRequest, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
    S::Future: 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Transform = Chosen<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(Chosen {
            stores: self.0.clone(),
            application: Rc::new(service),
            wrapped: Rc::default(),
        }))
    }
}

impl<S> Service<ServiceRequest> for Chosen<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
    S::Future: 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Future = Answer;

    forward_ready!(application);

    fn call(&self, req: ServiceRequest) -> Self::Future {
        let origin = req.headers().get(ORIGIN).cloned();
        let asked = HeaderValue::from_str(&req.uri().to_string()).unwrap();
        let mark = move |headers: &mut HeaderMap| {
            headers.insert(ASKED, asked);
            if let Some(origin) = origin {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                let yes = HeaderValue::from_static("true");
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
            }
        };
        let answer = match name_and_domain(&req) {
            None => Box::pin(self.application.call(req)),
            Some(names) => self.wrapped(names)(req),
        };
        Box::pin(async move {
            match answer.await {
                Ok(mut response) => {
                    mark(response.headers_mut());
                    Ok(response)
                }
                Err(error) => {
                    // The script on the page must see the status of a failure too.
                    let mut response: HttpResponse = error.error_response();
                    mark(response.headers_mut());
                    Err(InternalError::from_response(error, response).into())
                }
            }
        })
    }
}

impl<S> Chosen<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
    S::Future: 'static,
{
    fn wrapped(&self, names: (String, String)) -> Wrapped {
        if let Some(known) = self.wrapped.borrow().get(&names) {
            return Rc::clone(known);
        }
        let application = Rc::clone(&self.application);
        let wrapped = match self.stores.setup(&names.0, &names.1) {
            Setup::Memory(builder) => wrap(&builder.build(), application),
            Setup::Cookie(builder) => wrap(&builder.build(), application),
        };
        let mut all = self.wrapped.borrow_mut();
        Rc::clone(all.entry(names).or_insert(wrapped))
    }
}

fn wrap<S, Store>(middleware: &SessionMiddleware<Store>, application: Rc<S>) -> Wrapped
where
    S: Service<ServiceRequest, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
    S::Future: 'static,
    Store: SessionStore + 'static,
{
    let made = middleware.new_transform(application).into_inner();
    let service = made.unwrap();
    Rc::new(move |req| service.call(req))
}

/// The value of `as`, and the host without its first label.
fn name_and_domain(req: &ServiceRequest) -> Option<(String, String)> {
    let query = Query::<HashMap<String, String>>::from_query(req.query_string()).ok()?;
    let name = query.get("as")?.clone();
    let host = req.connection_info().host().to_owned();
    let host = host.split(':').next()?;
    let domain = host.split_once('.').map_or(host, |(_, domain)| domain);
    Some((name, domain.to_owned()))
}
