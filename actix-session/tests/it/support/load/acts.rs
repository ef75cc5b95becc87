//! What users of the load do, and the handler that does it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use actix_session::Session;
use actix_web::{
    HttpRequest, HttpResponse, rt,
    web::{self, ServiceConfig},
};
use serde::{Deserialize, Serialize};

use crate::support::count;

/// The header with the [`Wish`].
pub(super) const WISH: &str = "x-wish";

/// The entry with the session's name.
const NAME: &str = "name";
const COUNT: &str = "n";
/// The entries that are set and removed begin with this.
const ENTRY: &str = "e";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Act {
    /// Begins a session: by a login, if somebody is named.
    Begin(Option<String>),
    Look,
    Count,
    Set(String, u32),
    Remove(String),
    Renew,
    Login(String),
    Clear,
    Purge,
    PurgeNow,
    /// Writes whatever there is, as a thief with an old cookie would.
    Haunt,
}

/// What a request asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Wish {
    /// The session that is meant. In another one, nothing is done.
    pub(super) name: String,
    pub(super) act: Act,
    /// How long the handler goes on after that, in microseconds.
    pub(super) pause: u64,
}

/// What a handler found before it did anything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) name: Option<String>,
    pub(super) principal: Option<String>,
    pub(super) count: u32,
    pub(super) entries: BTreeMap<String, u32>,
}

/// What handlers have done to sessions, by their names, whether or not there was an answer.
#[derive(Clone, Default)]
pub(crate) struct Ran(Arc<Mutex<HashMap<String, Tally>>>);

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) counts: u32,
    pub(super) endings: u32,
}

impl Act {
    /// Whether the session has no key, or another one, or no entries afterwards.
    pub(super) fn leaves(&self) -> bool {
        matches!(self, Self::Renew | Self::Login(_)) || self.ends()
    }

    pub(super) fn ends(&self) -> bool {
        matches!(self, Self::Clear | Self::Purge | Self::PurgeNow)
    }

    fn is_for_anybody(&self) -> bool {
        matches!(self, Self::Begin(_) | Self::Haunt)
    }

    /// Whether it could be done.
    async fn perform(&self, name: &str, session: &Session) -> bool {
        match self {
            Self::Begin(somebody) => {
                session.insert(NAME, name).unwrap();
                if let Some(somebody) = somebody {
                    session.login(somebody).unwrap();
                }
            }
            Self::Look => {}
            Self::Count | Self::Haunt => count(session),
            Self::Set(entry, value) => session.insert(entry, value).unwrap(),
            Self::Remove(entry) => drop(session.remove(entry)),
            Self::Renew => session.renew(),
            Self::Login(somebody) => session.login(somebody).unwrap(),
            Self::Clear => session.clear(),
            Self::Purge => session.purge(),
            Self::PurgeNow => return session.purge_now().await.is_ok(),
        }
        true
    }
}

impl Seen {
    fn of(session: &Session) -> Self {
        let entries = session.entries();
        let own = entries.iter().filter(|(name, _)| name.starts_with(ENTRY));
        Self {
            name: session.get(NAME).unwrap(),
            principal: session.principal(),
            count: session.get(COUNT).unwrap().unwrap_or(0),
            entries: own
                .map(|(name, json)| (name.to_owned(), json.parse().unwrap()))
                .collect(),
        }
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }

    pub(super) fn is_nobody(&self) -> bool {
        *self == Self::default()
    }
}

impl Ran {
    pub(super) fn tally(&self, name: &str) -> Tally {
        self.lock().get(name).copied().unwrap_or_default()
    }

    fn note(&self, wish: &Wish) {
        let mut all = self.lock();
        let tally = all.entry(wish.name.clone()).or_default();
        tally.counts += u32::from(wish.act == Act::Count);
        tally.endings += u32::from(wish.act.ends());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Tally>> {
        self.0.lock().unwrap()
    }

    /// The routes of a site for the load.
    pub(crate) fn serve(self, config: &mut ServiceConfig) {
        config
            .app_data(web::Data::new(self))
            .default_service(web::to(serve));
    }
}

async fn serve(request: HttpRequest, session: Session, ran: web::Data<Ran>) -> HttpResponse {
    let wish = request.headers().get(WISH).unwrap().as_bytes();
    let wish: Wish = serde_json::from_slice(wish).unwrap();
    let seen = Seen::of(&session);
    if seen.is(&wish.name) || wish.act.is_for_anybody() {
        ran.note(&wish);
        if !wish.act.perform(&wish.name, &session).await {
            return HttpResponse::InternalServerError().finish();
        }
        if wish.pause > 0 {
            rt::time::sleep(Duration::from_micros(wish.pause)).await;
        }
    }
    HttpResponse::Ok().json(seen)
}
