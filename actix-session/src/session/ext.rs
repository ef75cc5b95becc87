//! Access to the session from requests, responses and guards.

use std::{
    cell::RefCell,
    future::{Ready, ready},
    rc::Rc,
};

use actix_web::{
    Error, FromRequest, HttpMessage as _, HttpRequest,
    dev::{Extensions, Payload, ServiceRequest, ServiceResponse},
    guard::GuardContext,
};

use super::Session;

/// Gets the [`Session`] from requests, responses and guards.
///
/// # Examples
/// ```
/// use actix_session::SessionExt;
/// use actix_web::{HttpResponse, guard, web};
///
/// let members = web::scope("/members")
///     .guard(guard::fn_guard(|ctx| ctx.get_session().contains_key("user_id")))
///     .route("/", web::get().to(HttpResponse::Ok));
/// # let _ = members;
/// ```
pub trait SessionExt {
    /// Returns the session of the innermost middleware.
    fn get_session(&self) -> Session;
}

impl SessionExt for HttpRequest {
    fn get_session(&self) -> Session {
        Session::get_session(&mut self.extensions_mut())
    }
}

impl SessionExt for ServiceRequest {
    fn get_session(&self) -> Session {
        Session::get_session(&mut self.extensions_mut())
    }
}

impl SessionExt for ServiceResponse {
    fn get_session(&self) -> Session {
        self.request().get_session()
    }
}

impl SessionExt for GuardContext<'_> {
    fn get_session(&self) -> Session {
        Session::get_session(&mut self.req_data_mut())
    }
}

/// Where a request's extensions keep the innermost session.
///
/// The middlewares of a request share it, so that each can take its own session back.
#[derive(Clone, Default)]
pub(crate) struct InRequest(Rc<RefCell<Nested>>);

#[derive(Default)]
struct Nested {
    /// Each with the name of its cookie.
    sessions: Vec<(Session, Rc<str>)>,
    /// The cookies that the response sets or removes.
    written: Vec<Rc<str>>,
}

impl InRequest {
    pub(crate) fn push(&self, session: Session, cookie: Rc<str>) {
        self.0.borrow_mut().sessions.push((session, cookie));
    }

    /// The outermost session stays: whatever is around its middleware may ask for it.
    pub(crate) fn pop(&self) {
        let nested = &mut *self.0.borrow_mut();
        match &mut nested.sessions[..] {
            [(_, cookie)] => {
                *cookie = Rc::default();
                nested.written.clear();
            }
            _ => drop(nested.sessions.pop()),
        }
    }

    /// Whether a middleware with this cookie is around.
    pub(crate) fn has(&self, cookie: &str) -> bool {
        let nested = self.0.borrow();
        nested.sessions.iter().any(|(_, name)| **name == *cookie)
    }

    pub(crate) fn note_written(&self, cookie: Rc<str>) {
        self.0.borrow_mut().written.push(cookie);
    }

    pub(crate) fn has_written(&self, cookie: &str) -> bool {
        let nested = self.0.borrow();
        nested.written.iter().any(|name| **name == *cookie)
    }

    pub(super) fn innermost(&self) -> Option<Session> {
        let nested = self.0.borrow();
        nested.sessions.last().map(|(session, _)| session.clone())
    }
}

impl Session {
    /// The session of the innermost middleware, or a new one if there is no middleware.
    pub(crate) fn get_session(extensions: &mut Extensions) -> Self {
        if let Some(session) = extensions.get().and_then(InRequest::innermost) {
            session.lock().asked = true;
            return session;
        }
        warn_unattached();
        let session = Self::new();
        let sessions = InRequest::default();
        sessions.push(session.clone(), Rc::default());
        extensions.insert(sessions);
        session
    }
}

impl FromRequest for Session {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::get_session(&mut req.extensions_mut())))
    }
}

fn warn_unattached() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        tracing::warn!(
            "a Session is used, but no SessionMiddleware is installed: nothing will be saved. \
             Wrap the application (or the scope) in a SessionMiddleware."
        );
    });
}
