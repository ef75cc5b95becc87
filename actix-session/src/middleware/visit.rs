//! A request on its way through: its session is made when it is loaded, or first asked for.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    task::Poll,
};

use actix_web::{
    HttpMessage as _,
    dev::{Service, ServiceRequest},
};

use super::{
    Parts,
    commit::load_failed,
    guard::Guard,
    lazy::{Lazy, WayIn, shown},
    load::Incoming,
    session_of,
};
use crate::{Session, config::OnLoadError, session::Held, storage::SessionStore};

#[allow(
    clippy::large_enum_variant,
    reason = "it is made once a request, and moved once"
)]
pub(crate) enum Visit<Store: SessionStore + 'static> {
    /// Under lazy loading, nobody has asked for the session yet.
    Unasked(Unasked<Store>),
    Asked(Session, Guard<Store>),
}

/// Whoever first asks once this is dropped comes too late.
pub(crate) struct Unasked<Store: SessionStore + 'static>(Rc<Lazy<Store>>);

impl<Store: SessionStore + 'static> Drop for Unasked<Store> {
    fn drop(&mut self) {
        self.0.end();
        // Asked for while the request was being dropped.
        drop(self.0.guard());
    }
}

impl<Store: SessionStore + 'static> Visit<Store> {
    /// Loads the session, unless that is done later. An error is the response.
    pub(crate) async fn begin(
        parts: Rc<Parts<Store>>,
        req: &ServiceRequest,
    ) -> Result<Self, actix_web::Error> {
        let quiet = parts.configuration.is_quiet(req);
        if parts.configuration.loading.is_lazy(req) {
            let early = Session::take_early(req);
            let attach = |early: &Session| early.attach_unloaded(parts.served(quiet));
            if early.as_ref().is_none_or(attach) {
                let lazy = Lazy::new(parts, req, quiet, early);
                return Ok(Self::Unasked(Unasked(Rc::new(lazy))));
            }
            if let Some(early) = early {
                early.keep_early(&mut req.extensions_mut());
            }
        }
        let incoming = load(&parts, req, quiet).await?;
        let shown = shown(&incoming);
        let session = match Session::take_early(req) {
            Some(early) => {
                parts.attach(&early, quiet, shown)?;
                early
            }
            None => session_of(&parts, quiet, shown),
        };
        let guard = Guard::new(parts, WayIn::Loaded(incoming), session.clone());
        Ok(Self::Asked(session, guard))
    }

    /// What the request's extensions hold.
    pub(crate) fn held(&self) -> Held {
        match self {
            Self::Unasked(Unasked(lazy)) => Held::Later(Rc::clone(lazy) as _),
            Self::Asked(session, _) => Held::Made(session.clone()),
        }
    }

    /// The session and what finishes it, if anybody has asked for it.
    pub(crate) fn asked(&mut self) -> Option<(&Session, &mut Guard<Store>)> {
        if let Self::Unasked(Unasked(lazy)) = self {
            let (session, guard) = lazy.guard()?;
            *self = Self::Asked(session, guard);
        }
        match self {
            Self::Unasked(_) => None,
            Self::Asked(session, guard) => Some((session, guard)),
        }
    }

    /// Runs the inner service to its end or a panic. Meanwhile it ends the session if the handler
    /// asks for it.
    pub(crate) async fn serve<S>(
        &mut self,
        service: &S,
        req: ServiceRequest,
    ) -> Result<Result<S::Response, S::Error>, Box<dyn Any + Send>>
    where
        S: Service<ServiceRequest>,
    {
        // A panic leaves only the handler's own state half done; ours is only read after it.
        let future = catch_unwind(AssertUnwindSafe(|| service.call(req)))?;
        let mut future = pin!(future);
        poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
            match polled {
                Err(panic) => return Poll::Ready(Err(panic)),
                Ok(Poll::Ready(result)) => return Poll::Ready(Ok(result)),
                Ok(Poll::Pending) => {}
            }
            if let Some((session, guard)) = self.asked() {
                // First the waker: whoever asks from now on wakes the middleware.
                session.wake_by(cx.waker());
                guard.work_if_asked(cx);
            } else if let Self::Unasked(Unasked(lazy)) = self {
                lazy.wake_by(cx.waker());
            }
            Poll::Pending
        })
        .await
    }
}

/// What the request carried. An error is the response.
async fn load<Store: SessionStore>(
    parts: &Parts<Store>,
    req: &ServiceRequest,
    quiet: bool,
) -> Result<Incoming, actix_web::Error> {
    let fields = parts.cookies.fields(req.headers());
    let loaded = Incoming::load(parts, fields, quiet).await;
    loaded.or_else(|(error, degraded)| {
        parts.observed().store_failed("load", &error);
        match parts.configuration.on_load_error {
            OnLoadError::Anonymous => Ok(degraded),
            OnLoadError::Fail => Err(load_failed(error)),
        }
    })
}

#[cfg(test)]
#[cfg(feature = "memory-session")]
mod tests;
