//! A running application, and its visitors.

use std::{path::Path, sync::Arc, time::Duration};

use actix_web::{
    cookie::Key,
    dev::ServerHandle,
    rt::{spawn, task::JoinHandle},
};
use reqwest::{
    Client, Response, StatusCode, Url,
    cookie::{CookieStore as _, Jar},
    header::{self, HeaderValue},
    redirect::Policy,
};
use tempfile::TempDir;
use webapp::{Application, Config, Environment, StoreUrl};

pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) struct Site {
    url: String,
    handle: ServerHandle,
    running: JoinHandle<std::io::Result<()>>,
}

impl Site {
    /// Starts on a free port, with an empty database and sessions in memory.
    pub(crate) async fn start() -> (Self, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (
            Self::start_with(folder.path(), StoreUrl::Memory).await,
            folder,
        )
    }

    pub(crate) async fn start_with(folder: &Path, session_store: StoreUrl) -> Self {
        Self::start_as(Environment::Development, folder, session_store).await
    }

    pub(crate) async fn start_as(
        environment: Environment,
        folder: &Path,
        session_store: StoreUrl,
    ) -> Self {
        Self::start_from(&Config {
            environment,
            ..config(folder, session_store)
        })
        .await
    }

    pub(crate) async fn start_from(config: &Config) -> Self {
        let application = Application::start(config).await.unwrap();
        let (url, handle) = (application.url(), application.handle());
        Self {
            url,
            handle,
            running: spawn(application.run()),
        }
    }

    pub(crate) async fn stop(self) {
        self.handle.stop(true).await;
        self.running.await.unwrap().unwrap();
    }

    /// A visitor that has never been here.
    pub(crate) fn visitor(&self) -> Visitor {
        Visitor::at(self.url.parse().unwrap())
    }
}

/// A configuration for a free port.
pub(crate) fn config(folder: &Path, session_store: StoreUrl) -> Config {
    Config {
        admins: Vec::new(),
        environment: Environment::Development,
        idle_timeout: Duration::from_secs(86_400),
        secret_key: Key::from(&[7; 64]),
        bind: "127.0.0.1:0".to_owned(),
        database_file: folder.join("webapp.sqlite3"),
        metrics_address: None,
        session_store,
        trusted_proxies: Vec::new(),
    }
}

#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) url: Url,
    pub(crate) client: Client,
    jar: Arc<Jar>,
}

impl Visitor {
    pub(crate) fn at(url: Url) -> Self {
        let jar = Arc::new(Jar::default());
        let client = Client::builder()
            .cookie_provider(Arc::clone(&jar))
            .redirect(Policy::none());
        Self {
            url,
            client: client.build().unwrap(),
            jar,
        }
    }

    pub(crate) async fn head(&self, path: &str) -> Response {
        self.client
            .head(self.url.join(path).unwrap())
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client
            .get(self.url.join(path).unwrap())
            .send()
            .await
            .unwrap()
    }

    /// The text of a page that must exist.
    pub(crate) async fn page(&self, path: &str) -> String {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "GET {path}");
        response.text().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Response {
        self.client
            .post(self.url.join(path).unwrap())
            .form(form)
            .send()
            .await
            .unwrap()
    }

    /// Sends a form that must be accepted, and returns the address that it redirects to.
    pub(crate) async fn submit(&self, path: &str, form: &[(&str, &str)]) -> String {
        let response = self.post(path, form).await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "POST {path}");
        response.headers()[header::LOCATION]
            .to_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) async fn register(&self, name: &str) {
        self.submit("/register", &[("name", name), ("password", PASSWORD)])
            .await;
    }

    pub(crate) async fn log_in(&self, name: &str) {
        self.submit("/login", &[("name", name), ("password", PASSWORD)])
            .await;
    }

    pub(crate) async fn add_note(&self, text: &str) {
        self.submit("/notes", &[("text", text)]).await;
    }

    /// The cookies that a browser would send now.
    pub(crate) fn cookies(&self) -> Option<HeaderValue> {
        self.jar.cookies(&self.url)
    }

    pub(crate) fn take_cookie(&self, cookie: &HeaderValue) {
        self.jar.add_cookie_str(cookie.to_str().unwrap(), &self.url);
    }

    pub(crate) async fn clicks(&self) -> u64 {
        let page = self.page("/").await;
        let (_, after) = page.split_once("Clicks so far: </span>").unwrap();
        after.split_once('<').unwrap().0.parse().unwrap()
    }

    /// Whether the account page opens. If not, it redirects to the login page.
    pub(crate) async fn is_logged_in(&self) -> bool {
        match self.get("/account").await.status() {
            StatusCode::OK => true,
            StatusCode::SEE_OTHER => false,
            status => panic!("the status of GET /account is {status}"),
        }
    }
}
