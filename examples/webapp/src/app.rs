//! Puts the application together and serves it.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use actix_session::{
    SessionMiddleware,
    config::{PersistentSession, TtlExtensionPolicy},
    storage::{AnySessionStore, SessionStore, Sweeper},
};
use actix_web::{
    App, HttpServer,
    cookie::{Key, time::Duration},
    dev::{Server, ServerHandle},
    middleware::{Logger, from_fn},
    web,
};
use sqlx::SqlitePool;

use crate::{
    assets,
    config::{self, Config, Environment, StoreUrl},
    database, guard, headers, pages,
    password::Passwords,
    start_error::StartError,
    users::Users,
};

/// How long a session lasts after the last request that used it.
const SESSION_TTL: Duration = Duration::days(14);

/// How often expired sessions are deleted from an SQL database, and how many at a time.
const SWEEP_INTERVAL: std::time::Duration = std::time::Duration::from_secs(60);
const SWEEP_BATCH: u32 = 1_000;

/// How long requests in flight may take when the server stops.
const SHUTDOWN_SECONDS: u64 = 10;

/// What the handlers share.
pub(crate) struct State {
    pub(crate) users: Users,
    pub(crate) passwords: Passwords,
    /// Whether all requests of a session share one record. In a cookie, each has a copy of its own.
    pub(crate) sessions_are_shared: bool,
}

/// The application, listening.
pub struct Application {
    server: Server,
    address: SocketAddr,
    database: SqlitePool,
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
        let database = open_database(config).await?;
        let state = State {
            users: Users::new(database.clone()),
            passwords: Passwords::new().map_err(StartError::passwords)?,
            sessions_are_shared: config.session_store != StoreUrl::Cookie,
        };
        let store = open_store(config).await?;
        let sweeper = store.spawn_sweeper(SWEEP_INTERVAL, SWEEP_BATCH);
        let server = serve(listener, state, config, store)
            .map_err(|source| StartError::bind(&config.bind, source))?;
        Ok(Self {
            server,
            address,
            database,
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
        let outcome = self.server.await;
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
fn serve<S>(listener: TcpListener, state: State, config: &Config, store: S) -> io::Result<Server>
where
    S: SessionStore + Clone + Send + 'static,
{
    let (key, environment) = (config.secret_key.clone(), config.environment);
    let state = web::Data::new(state);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(state.clone())
            .configure(assets::routes)
            .service(
                web::scope("")
                    .configure(pages::routes)
                    .wrap(sessions(store.clone(), key.clone(), environment))
                    .wrap(from_fn(guard::refuse_cross_site)),
            )
            .wrap(from_fn(headers::add))
            .wrap(Logger::new("%a \"%r\" %s %b %Dms"))
    });
    Ok(server
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .listen(listener)?
        .run())
}

fn sessions<S: SessionStore>(store: S, key: Key, environment: Environment) -> SessionMiddleware<S> {
    let https = environment == Environment::Production;
    // With this prefix, browsers accept the cookie only from this very host, and only over HTTPS.
    let name = if https {
        "__Host-webapp_session"
    } else {
        "webapp_session"
    };
    let lifecycle = PersistentSession::default()
        .session_ttl(SESSION_TTL)
        .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
    SessionMiddleware::builder(store, key)
        .cookie_name(name.to_owned())
        .cookie_secure(https)
        .session_lifecycle(lifecycle)
        .build()
}

fn warn_of_plain_http(config: &Config, address: SocketAddr) {
    if config.environment == Environment::Development && !address.ip().is_loopback() {
        log::warn!(
            "{address} can be reached from other computers, in development mode and over plain \
             HTTP: anyone on the network can read passwords. Set APP_ENV=production behind HTTPS."
        );
    }
}
