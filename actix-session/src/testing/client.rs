//! A client that keeps cookies.

use std::{cell::RefCell, collections::BTreeMap, fmt};

use actix_web::{
    Error,
    body::MessageBody,
    cookie::Cookie,
    dev::{Service, ServiceResponse},
    http::header::SET_COOKIE,
    test::TestRequest,
};

/// A client of a test's application that keeps cookies, as a browser does.
///
/// It looks at no path, domain or age: whatever a response sets is sent with all later requests, until
/// a response removes it.
///
/// # Examples
/// ```
/// # #[cfg(feature = "memory-session")]
/// # actix_web::rt::System::new().block_on(async {
/// use actix_session::{
///     Session, SessionMiddleware, storage::MemorySessionStore, testing::TestClient,
/// };
/// use actix_web::{App, cookie::Key, test, test::TestRequest, web};
///
/// async fn count(session: Session) -> actix_web::Result<String> {
///     session.modify("n", |n: Option<u32>| Some(n.unwrap_or(0) + 1))?;
///     Ok(session.get::<u32>("n")?.unwrap_or_default().to_string())
/// }
///
/// let middleware = SessionMiddleware::new(MemorySessionStore::new(), Key::generate());
/// let app = test::init_service(App::new().wrap(middleware).default_service(web::to(count))).await;
/// let client = TestClient::new(&app);
/// client.send(TestRequest::get()).await;
/// let second = client.send(TestRequest::get()).await;
/// assert_eq!(test::read_body(second).await, "2");
/// assert!(client.cookie("id").is_some());
/// # });
/// ```
pub struct TestClient<S> {
    app: S,
    jar: RefCell<BTreeMap<String, Cookie<'static>>>,
}

/// Shows the names of its cookies alone.
impl<S> fmt::Debug for TestClient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClient")
            .field("cookies", &self.jar.borrow().keys())
            .finish_non_exhaustive()
    }
}

impl<S> TestClient<S> {
    /// A client without cookies. The application may be a reference, so that several clients visit it.
    pub fn new(app: S) -> Self {
        Self {
            app,
            jar: RefCell::default(),
        }
    }

    /// A cookie that it keeps.
    pub fn cookie(&self, name: &str) -> Option<Cookie<'static>> {
        self.jar.borrow().get(name).cloned()
    }

    /// Puts a cookie among those that it keeps.
    pub fn set_cookie(&self, cookie: Cookie<'static>) {
        let name = cookie.name().to_owned();
        self.jar.borrow_mut().insert(name, cookie);
    }

    /// Forgets all cookies, as a browser does whose data are cleared.
    pub fn forget(&self) {
        self.jar.borrow_mut().clear();
    }

    /// Sends a request with its cookies, and keeps those of the response.
    ///
    /// An error that a middleware answers is the response that a server makes of it.
    pub async fn send<B>(&self, request: TestRequest) -> ServiceResponse
    where
        B: MessageBody + 'static,
        S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    {
        let sent = self.with_cookies(request).to_request();
        let headers = sent.head().headers().clone();
        let response = match self.app.call(sent).await {
            Ok(response) => response.map_into_boxed_body(),
            Err(error) => {
                let same = headers
                    .iter()
                    .fold(TestRequest::default(), |request, field| {
                        request.append_header(field)
                    });
                ServiceResponse::from_err(error, same.to_http_request())
            }
        };
        self.keep(&response);
        response
    }

    fn with_cookies(&self, request: TestRequest) -> TestRequest {
        let jar = self.jar.borrow();
        let cookies = jar.values().cloned();
        cookies.fold(request, TestRequest::cookie)
    }

    fn keep(&self, response: &ServiceResponse) {
        let fields = response.headers().get_all(SET_COOKIE);
        let texts = fields.filter_map(|field| field.to_str().ok());
        for text in texts {
            let Ok(cookie) = Cookie::parse_encoded(text.to_owned()) else {
                continue;
            };
            if cookie.max_age().is_some_and(|age| age.is_zero()) {
                self.jar.borrow_mut().remove(cookie.name());
            } else {
                self.set_cookie(cookie);
            }
        }
    }
}
