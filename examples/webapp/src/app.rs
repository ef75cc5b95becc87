//! Puts the application together and serves it.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    time::Duration,
};

use actix_session::{
    SessionMiddleware,
    config::{ConfigError, SessionPolicy},
    csrf::CrossSiteGuard,
    storage::{AnySessionStore, SessionIndex, SessionStore, Sweeper},
};
use actix_web::{
    App, HttpServer,
    dev::{Server, ServerHandle},
    middleware::{Logger, from_fn},
    web,
};
use sqlx::SqlitePool;

use crate::{
    assets,
    config::{self, Config, Environment, StoreUrl},
    database,
    guesses::Guesses,
    metrics, pages,
    password::Passwords,
    responses,
    start_error::StartError,
    users::Users,
};

/// How long a session lasts after the login, however busy it is.
const ABSOLUTE_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The name of the session's cookie. In production it gets the prefix `__Host-`.
pub(crate) const COOKIE: &str = "webapp_session";

/// How long before its end a session warns, if it is not short.
const WARNING: Duration = Duration::from_secs(120);

/// How often expired sessions are deleted from an SQL database, and how many at a time.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
const SWEEP_BATCH: u32 = 1_000;

/// How long requests in flight may take when the server stops.
const SHUTDOWN_SECONDS: u64 = 10;

/// What the handlers share.
pub(crate) struct State {
    pub(crate) users: Users,
    pub(crate) passwords: Passwords,
    pub(crate) guesses: Guesses,
    /// The proxies whose word on a client's address counts.
    pub(crate) trusted_proxies: Vec<IpAddr>,
    /// The names of users who may end all sessions of any user.
    pub(crate) admins: Vec<String>,
    /// How long before its end a session warns.
    pub(crate) warn_seconds: u64,
    /// Whether all requests of a session share one record. In a cookie, each has a copy of its own.
    pub(crate) sessions_are_shared: bool,
}

/// The application, listening.
pub struct Application {
    server: Server,
    address: SocketAddr,
    database: SqlitePool,
    /// Serves the counters, and where.
    metrics: Option<(Server, SocketAddr)>,
    /// Sweeps for as long as this lives.
    _sweeper: Option<Sweeper>,
}

impl Application {
    /// Opens the database and the session store, and starts to listen.
    ///
    /// # Errors
    /// If something cannot be opened; the error names the variable to change.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let listener = TcpListener::bind(&config.bind)
            .map_err(|source| StartError::bind(&config.bind, source))?;
        let address = listener
            .local_addr()
            .map_err(|source| StartError::bind(&config.bind, source))?;
        warn_of_plain_http(config, address);
        warn_of_one_address_for_all(config);
        let database = open_database(config).await?;
        let state = State {
            users: Users::new(database.clone()),
            passwords: Passwords::new().map_err(StartError::passwords)?,
            guesses: Guesses::default(),
            trusted_proxies: config.trusted_proxies.clone(),
            admins: config.admins.clone(),
            warn_seconds: WARNING.min(config.idle_timeout / 2).as_secs(),
            sessions_are_shared: config.session_store != StoreUrl::Cookie,
        };
        let metrics = config.metrics_address.as_deref().map(metrics::start);
        let metrics = metrics.transpose()?;
        let store = open_store(config).await?;
        let sweeper = store.spawn_sweeper(SWEEP_INTERVAL, SWEEP_BATCH);
        let server = serve(listener, state, config, store)?;
        Ok(Self {
            server,
            address,
            database,
            metrics,
            _sweeper: sweeper,
        })
    }

    /// The address for a browser on this computer.
    #[must_use]
    pub fn url(&self) -> String {
        let mut address = self.address;
        // A server can listen on the unspecified address, but a browser cannot open it.
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        format!("http://{address}")
    }

    /// Where the counters are, if they are anywhere.
    #[must_use]
    pub fn metrics_url(&self) -> Option<String> {
        let (_, address) = self.metrics.as_ref()?;
        Some(format!("http://{address}/metrics"))
    }

    /// A handle that stops the server.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.server.handle()
    }

    /// Serves until a signal or [`Application::handle`] stops it. Requests in flight end first.
    ///
    /// # Errors
    /// If one of the server's threads fails.
    pub async fn run(self) -> io::Result<()> {
        let metrics = self.metrics.map(|(server, _)| {
            let handle = server.handle();
            actix_web::rt::spawn(server);
            handle
        });
        let outcome = self.server.await;
        if let Some(metrics) = metrics {
            metrics.stop(false).await;
        }
        self.database.close().await;
        outcome
    }
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

async fn open_database(config: &Config) -> Result<SqlitePool, StartError> {
    let file = &config.database_file;
    config::create_private_dir(config::data_dir(file))
        .map_err(|source| StartError::database(file, source))?;
    database::open(file)
        .await
        .map_err(|source| StartError::database(file, source))
}

/// Opens the store that the configuration names.
async fn open_store(config: &Config) -> Result<AnySessionStore, StartError> {
    log::info!("session store: {}", config.session_store);
    let url = config.session_store.resolve(&config.database_file);
    let store = AnySessionStore::new(&url).await;
    store.map_err(|error| StartError::store(&config.session_store, error))
}

/// All worker threads share one `store`, so any of them can serve a session's next request.
fn serve<S>(
    listener: TcpListener,
    state: State,
    config: &Config,
    store: S,
) -> Result<Server, StartError>
where
    S: SessionIndex + Clone + Send + 'static,
{
    let config = config.clone();
    let bind = config.bind.clone();
    let sessions = move || sessions(store.clone(), &config);
    let manager = sessions().map_err(StartError::Sessions)?.manager();
    let operator = web::Data::new(manager.operator());
    let (state, manager) = (web::Data::new(state), web::Data::new(manager));
    let server = HttpServer::new(move || {
        let sessions = sessions().expect("these settings were valid a moment ago");
        App::new()
            .app_data(state.clone())
            .app_data(manager.clone())
            .app_data(operator.clone())
            .configure(assets::routes)
            .service(
                web::scope("")
                    .configure(pages::routes)
                    .wrap(sessions)
                    // With and without the cookie: another site must not log a visitor in, either.
                    .wrap(CrossSiteGuard::new()),
            )
            .wrap(from_fn(responses::complete))
            .wrap(Logger::new("%a \"%r\" %s %b %Dms"))
    });
    let server = server
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .listen(listener)
        .map_err(|source| StartError::bind(&bind, source))?;
    Ok(server.run())
}

/// The cookie is for this very host and for HTTPS alone, and other sites' links come without it.
/// Browsers refuse such a cookie over plain HTTP, so in development it is an ordinary one.
///
/// A user who wants to stay logged in has a longer time than the policy's: see `pages/account.rs`.
fn sessions<S: SessionStore>(
    store: S,
    config: &Config,
) -> Result<SessionMiddleware<S>, ConfigError> {
    let policy = SessionPolicy::new("webapp", Some(config.idle_timeout), ABSOLUTE_TIMEOUT);
    let builder = SessionMiddleware::builder(store, config.secret_key.clone())
        .cookie_name(COOKIE.to_owned())
        .strict()
        .policy(&policy)
        .quiet_when(|request| pages::session::QUIET.contains(&request.path()));
    let builder = match config.environment {
        Environment::Production => builder,
        Environment::Development => builder.cookie_name(COOKIE.to_owned()).cookie_secure(false),
    };
    builder.try_build()
}

fn warn_of_plain_http(config: &Config, address: SocketAddr) {
    if config.environment == Environment::Development && !address.ip().is_loopback() {
        log::warn!(
            "{address} can be reached from other computers, in development mode and over plain \
             HTTP: anyone on the network can read passwords. Set APP_ENV=production behind HTTPS."
        );
    }
}

/// Behind a proxy, every request comes from it. Without the visitors' own addresses, one who guesses
/// passwords would lock all of them out.
fn warn_of_one_address_for_all(config: &Config) {
    if config.environment == Environment::Production && config.trusted_proxies.is_empty() {
        log::warn!(
            "TRUSTED_PROXIES is not set: behind a proxy, all visitors have its address, and a few \
             wrong passwords of one stop the logins of all. Set it to the proxy's IP address, and \
             have the proxy add the visitor's to X-Forwarded-For."
        );
    }
}
