//! How long a session still lives.

use std::time::Duration;

use super::{Pending, Session};
use crate::{
    clock::Millis,
    contract::{ExtendOnRead, Terms},
    record::Record,
};

/// How long a session still lives, as [`Session::remaining`] tells it.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_session::{Remaining, Session};
///
/// /// Whether to ask "Are you still there?".
/// fn is_near_its_end(session: &Session) -> bool {
///     let idle = session.remaining().and_then(|left| left.idle());
///     idle.is_some_and(|idle| idle < Duration::from_secs(120))
/// }
/// # assert!(!is_near_its_end(&Session::new()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    idle: Option<Duration>,
    absolute: Option<Duration>,
}

impl Remaining {
    /// How long the session lives if no other request extends it. It is never longer than
    /// [`absolute`](Self::absolute).
    ///
    /// `None` if the store has not said it. Redis says it in requests that extend the session, change
    /// it or are [quiet](crate::config::SessionMiddlewareBuilder::quiet_when). A store of five methods
    /// says it if the request extends the session or changes it, and one that overrides `open` if it
    /// calls [`Record::ending_at`](crate::storage::Record::ending_at).
    pub fn idle(&self) -> Option<Duration> {
        self.idle
    }

    /// How long the session lives at most, however busy it is. A login or
    /// [`reauthenticated`](Session::reauthenticated) counts it anew. `None` if nothing limits it.
    pub fn absolute(&self) -> Option<Duration> {
        self.absolute
    }
}

impl Session {
    /// How long the session still lives: unless another request extends it, and at most.
    ///
    /// The times count from now, by the middleware's clock, and to the millisecond. They take into
    /// account what this request itself does: that it extends the session, if it does, and what it
    /// has changed so far. Asking changes nothing. What other requests do meanwhile is not known;
    /// two tabs that ask at the same time learn the same.
    ///
    /// `None` if there is no session: nobody came with one and this request makes none, it has ended,
    /// or this request ends it. The same holds if nobody can say: the session is
    /// [degraded](Self::is_degraded) or not loaded
    /// ([`lazy`](crate::config::SessionMiddlewareBuilder::lazy)), another request has just renewed
    /// it, or no middleware serves it.
    ///
    /// A page that asks this by itself must not keep the session alive: name its requests in
    /// [`quiet_when`](crate::config::SessionMiddlewareBuilder::quiet_when). There is a
    /// [handler](crate::handlers::remaining) for it.
    ///
    /// # Examples
    /// ```
    /// use actix_session::Session;
    ///
    /// async fn footer(session: Session) -> String {
    ///     match session.remaining().and_then(|left| left.idle()) {
    ///         Some(idle) => format!("You will be logged out in {} minutes.", idle.as_secs() / 60),
    ///         None => String::new(),
    ///     }
    /// }
    /// # actix_web::web::to(footer);
    /// ```
    pub fn remaining(&self) -> Option<Remaining> {
        let now = self.now();
        let ends = self.read().ends(now)?;
        let left = |end: Millis| Duration::from_millis((end - now).0.try_into().unwrap_or(0));
        Some(Remaining {
            idle: ends.idle.map(left),
            absolute: ends.absolute.map(left),
        })
    }

    /// Whether there may be a session although this request cannot see it.
    pub(crate) fn is_hidden(&self) -> bool {
        let pending = self.lock();
        pending.degraded || pending.moved
    }
}

/// What decides when sessions end, apart from what they say themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) ttl: Millis,
    pub(crate) absolute: Option<Millis>,
    pub(crate) extend: ExtendOnRead,
}

impl Times {
    fn terms(self, now: Millis) -> Terms {
        Terms {
            now,
            ttl: self.ttl,
            absolute: self.absolute,
            extend: self.extend,
            ..Terms::default()
        }
    }
}

impl From<&Terms> for Times {
    fn from(terms: &Terms) -> Self {
        Self {
            ttl: terms.ttl,
            absolute: terms.absolute,
            extend: terms.extend,
        }
    }
}

/// When a session ends: if nothing more happens, and at the latest.
struct Ends {
    idle: Option<Millis>,
    absolute: Option<Millis>,
}

impl Pending {
    fn ends(&self, now: Millis) -> Option<Ends> {
        let times = self.served.as_ref()?.times;
        if self.degraded || self.is_unloaded() {
            return None;
        }
        let base = self.present();
        if base.is_none() && !self.makes_session() {
            return None;
        }
        let terms = Terms {
            principal_entry: self.principal_entry().cloned(),
            ..times.terms(now)
        };
        let (end, absolute) = self.changes().ends(base, &terms);
        let is_over = absolute.is_some_and(|end| end <= now);
        let (end, absolute) = match is_over {
            // What a logout has ended is followed by a new session, if there is any.
            true if self.logs_out(base) && self.makes_session() => {
                self.changes().ends(None, &terms)
            }
            true => return None,
            false => (end, absolute),
        };
        let idle = match base.filter(|_| !is_over) {
            Some(base) if !self.moves_end(base, times.extend) => {
                // What a quiet request writes may end the session sooner.
                let written = self.writes(base).then_some(end);
                let cap = written.or(absolute);
                let kept = base.end().or_else(|| self.extended.then_some(end));
                kept.map(|kept| cap.map_or(kept, |cap| kept.min(cap)))
            }
            _ => Some(end),
        };
        Some(Ends { idle, absolute })
    }

    /// Whether this request has logged out, and nobody in.
    fn logs_out(&self, base: Option<&Record>) -> bool {
        let changes = self.changes();
        let has_left = base.is_some_and(|base| self.has_left_by_entry(base));
        (changes.cleared.is_some() || has_left) && changes.login.is_none()
    }

    /// Whether this request makes a session where it sees none.
    fn makes_session(&self) -> bool {
        let changes = self.changes();
        let mut names = changes.effects.iter().map(|(name, _)| name);
        let logs_in = changes.login.is_some();
        logs_in || !self.moved && names.any(|name| self.value(name).is_some())
    }

    /// Whether the commit of what was done so far extends the record.
    fn moves_end(&self, base: &Record, extend: ExtendOnRead) -> bool {
        let changes = self.changes();
        if extend == ExtendOnRead::Quiet {
            return changes.authenticate();
        }
        if self.extended && base.is_in_cookie() {
            return true;
        }
        if self.writes(base) {
            return true;
        }
        let throttled = matches!(extend, ExtendOnRead::AtMostEvery(_));
        let touches = base.is_in_cookie() || !throttled || self.extended;
        changes.set_any() && touches
    }

    /// Whether what was done so far changes anything.
    fn writes(&self, base: &Record) -> bool {
        let changes = self.changes();
        let same = |name: &str, now: Option<&str>| self.value(name).as_deref() == now;
        changes.renews() || !changes.leave_unchanged_by(base, |name, _, now| same(name, now))
    }
}
