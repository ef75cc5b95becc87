//! The application of a round, whose handlers do what their requests bring.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use actix_session::{
    Session, SessionMiddleware,
    config::{BrowserSession, PersistentSession, SessionLifecycle, TtlExtensionPolicy},
    storage::SessionStore,
};
use actix_web::{
    App, HttpMessage as _, HttpRequest, HttpResponse,
    dev::{Service, ServiceResponse},
    rt,
    test::init_service,
    web,
};
use redis::aio::MultiplexedConnection;

use super::{
    history::{Entries, Seen},
    places::Local,
    run::Round,
    script::{Op, Step},
};
use crate::support::PATIENCE;

type Answered = Result<ServiceResponse, actix_web::Error>;
type Call = Rc<dyn Fn(actix_http::Request) -> Local<'static, Answered>>;

/// An application, and how its handlers pause.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) call: Call,
    pub(crate) pause: Pause,
}

/// A pause lets others go on, for no certain time.
#[derive(Clone)]
pub(crate) enum Pause {
    Yields,
    /// For stores whose answers take a while: as long as about one of them.
    Naps,
    /// Round trips to Redis, past the proxy: in the time of one, another request can do a step.
    Trips(MultiplexedConnection),
}

impl Pause {
    pub(crate) async fn wait(&mut self, times: u32) {
        for _ in 0..times {
            match self {
                Self::Yields => tokio::task::yield_now().await,
                Self::Naps => rt::time::sleep(Duration::from_millis(1)).await,
                Self::Trips(connection) => {
                    let ping = redis::cmd("PING");
                    ping.query_async::<()>(connection).await.unwrap();
                }
            }
        }
    }
}

pub(crate) async fn site<S: SessionStore + 'static>(store: S, round: &Round, pause: Pause) -> Site {
    let every = TtlExtensionPolicy::OnEveryRequest;
    let lifecycle: SessionLifecycle = if round.plan.persistent {
        PersistentSession::default()
            .session_ttl_extension_policy(every)
            .into()
    } else {
        BrowserSession::default().into()
    };
    let middleware = SessionMiddleware::builder(store, round.key.clone())
        .session_lifecycle(lifecycle)
        .wire_format(round.plan.format)
        .clock(round.clock.clone())
        .commit_budget(PATIENCE)
        .load_budget(PATIENCE)
        .build();
    let app = App::new().wrap(middleware).default_service(web::to(handle));
    let service = Rc::new(init_service(app).await);
    let call: Call = Rc::new(move |request| {
        let service = Rc::clone(&service);
        Box::pin(async move { service.call(request).await })
    });
    Site { call, pause }
}

/// What a request's handler is to do; it rides on the request.
#[derive(Clone)]
pub(crate) struct Task {
    pub(crate) step: Step,
    pub(crate) pause: Pause,
    pub(crate) seen: Rc<RefCell<Option<Seen>>>,
    pub(crate) round: Arc<Round>,
}

async fn handle(request: HttpRequest, session: Session) -> actix_web::Result<HttpResponse> {
    let task = request.extensions_mut().remove::<Task>();
    let mut task = task.expect("every request brings its task");
    drop(request);
    let loaded = task.round.order.next();
    let mut seen = Seen {
        loaded,
        entries: owned(&session.entries()),
        principal: session.principal(),
        left: 0,
    };
    *task.seen.borrow_mut() = Some(seen.clone());
    task.pause.wait(task.step.pauses[1]).await;
    for op in &task.step.ops {
        apply(&session, op)?;
    }
    task.pause.wait(task.step.pauses[2]).await;
    seen.left = task.round.order.next();
    *task.seen.borrow_mut() = Some(seen);
    Ok(HttpResponse::Ok().finish())
}

fn owned(entries: &HashMap<String, String>) -> Entries {
    let pairs = entries.iter();
    pairs
        .map(|(name, json)| (name.clone(), json.clone()))
        .collect()
}

fn apply(session: &Session, op: &Op) -> actix_web::Result<()> {
    match op {
        Op::Set(name, value) => session.insert(name, value)?,
        Op::Remove(name) => drop(session.remove(name)),
        Op::Modify(token) => {
            let token = token.clone();
            session.modify("log", move |log: Option<Vec<String>>| {
                let mut log = log.unwrap_or_default();
                log.push(token.clone());
                Some(log)
            })?;
        }
        Op::Clear => session.clear(),
        Op::Renew => session.renew(),
        Op::Login => session.login("ferris").expect("a principal of some length"),
        Op::Purge => session.purge(),
    }
    Ok(())
}
