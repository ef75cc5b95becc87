//! Logins at an upstream: whose sessions come from there, and what it has said is over.
//!
//! Both are records under names that no session key has, for none contains a full stop. *Entries* say
//! which principals a user, or a session, of an upstream is here; the record of a session says itself
//! which login it comes from. *Notices* say until when a user, or a session, has ended there.
//!
//! A login writes its entries, then its record, and then looks at the notices. An ending leaves its
//! notice, and then looks at the entries. So one of both sees the other. A notice that is there before the
//! record is written refuses the login while the session before it is still there. Whoever is erased is taken out of
//! the entries: so a login looks at these again too, once its record is there.

mod answered;
mod entries;
mod erasing;

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    future::{try_join, try_join_all},
    stream,
};

pub(crate) use self::answered::{ANSWERED, token};
use self::answered::{answer_to, remember};
pub(crate) use self::{
    entries::take_out,
    erasing::{entries_of, keep_others},
};
use super::{
    index::{Found, Index, page_of},
    notes,
    walk::Walk,
};
use crate::{
    changes::Changes,
    clock::Millis,
    config::LONGEST,
    contract::Terms,
    digest,
    error::CommitError,
    key::SessionKey,
    protocol::{Backend, EndMachine, Name, RevokeMachine, Stored},
    record::{Auth, Ended, Record, UpstreamLogin},
};

/// How long a notice is kept: no login takes longer, from the moment when the upstream has authenticated
/// the user.
pub(crate) const NOTICE: Millis = Millis::secs(600);
/// How many sessions are ended at once.
const AT_ONCE: usize = 16;

/// The names of entries begin with this, and a full stop. So do those of notices with the other one.
pub(crate) const ENTRY: &str = "upstream";
pub(crate) const NOTICED: &str = "notice";

/// What an upstream says, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) ended: Ended,
    /// The digest of its name, and until when a repeat is known again.
    pub(crate) token: Option<(u128, Millis)>,
}

/// A session that comes from an upstream, and begins or lives longer.
pub(crate) struct Entering<'a> {
    principal: &'a str,
    origin: UpstreamLogin,
    /// For how long it may live.
    span: Millis,
    /// It begins.
    is_login: bool,
}

impl<'a> Entering<'a> {
    /// What a store is asked for, if the session comes from an upstream.
    pub(crate) fn of(
        changes: &'a Changes,
        base: Option<&'a Record>,
        terms: &Terms,
    ) -> Option<Self> {
        let login = changes.login.as_deref();
        let own = login.and_then(|login| login.upstream());
        let stays = changes.authenticate() && changes.cleared.is_none();
        let base = base.filter(|base| stays && !changes.log_in_another(base));
        let before = base
            .and_then(Record::metadata)
            .and_then(|it| it.auth.as_deref());
        let kept = before.filter(|_| login.is_none_or(|login| login.keep_times));
        let span = login
            .and_then(|login| login.span)
            .or_else(|| kept.and_then(|before| before.span));
        Some(Self {
            origin: own.or_else(|| before.and_then(|before| before.upstream()))?,
            principal: login
                .map(|login| &*login.principal)
                .or_else(|| before.map(|before| &*before.principal))?,
            span: span.or(terms.absolute).unwrap_or(LONGEST),
            is_login: own.is_some(),
        })
    }

    /// For a session that goes on, if it comes from an upstream.
    pub(crate) fn again(record: &'a Record, terms: &Terms) -> Option<Self> {
        Self::of_auth(record.metadata()?.auth.as_deref()?, terms)
    }

    fn of_auth(auth: &'a Auth, terms: &Terms) -> Option<Self> {
        Some(Self {
            origin: auth.upstream()?,
            principal: &auth.principal,
            span: auth.span.or(terms.absolute).unwrap_or(LONGEST),
            is_login: false,
        })
    }

    /// Notes whose session comes from the upstream, before the record is written.
    ///
    /// # Errors
    /// The upstream has ended the login, so that no record need be touched; or the store fails.
    pub(crate) async fn enter<B: Backend>(
        &self,
        store: &B,
        terms: &Terms,
    ) -> Result<(), CommitError> {
        let own = notes_terms(terms);
        let over = async {
            match self.is_login {
                true => is_over(store, &self.origin, &own).await,
                false => Ok(false),
            }
        };
        match try_join(self.add(store, &own), over).await? {
            ((), true) => Err(CommitError::gone()),
            ((), false) => Ok(()),
        }
    }

    async fn add<B: Backend>(&self, store: &B, own: &Terms) -> Result<(), CommitError> {
        let names = entry_names(&self.origin);
        let adding = names
            .iter()
            .map(|what| entries::add(store, what, self.principal, self.span, own));
        try_join_all(adding).await.map(drop)
    }

    /// Lets the key of a login out, whose record is written, if the upstream has not ended it
    /// meanwhile. Otherwise, and if nobody knows, the record is ended.
    ///
    /// # Errors
    /// The login is over, or the store fails.
    pub(crate) async fn pass<B: Backend>(
        &self,
        store: &B,
        key: &SessionKey,
        terms: &Terms,
    ) -> Result<(), CommitError> {
        if !self.is_login {
            return Ok(());
        }
        let refused = match self.is_over(store, terms).await {
            Ok(false) => return Ok(()),
            Ok(true) => CommitError::gone(),
            Err(error) => error,
        };
        let mut machine = EndMachine::new(store.name(key));
        // Nobody has the key, so that the record opens to nobody even if it stays.
        if let Err(error) = store.drive(&mut machine, terms).await {
            tracing::warn!(
                %error,
                "a login that was refused left a record that could not be deleted: it stays until \
                 its TTL is over, under a key that nobody has"
            );
        }
        Err(refused)
    }

    /// Whether the upstream has ended the login. An erasure may have taken its principal out of the
    /// entries before the record was there to be seen.
    async fn is_over<B: Backend>(&self, store: &B, terms: &Terms) -> Result<bool, CommitError> {
        let (names, own) = (entry_names(&self.origin), notes_terms(terms));
        let over = is_over(store, &self.origin, &own);
        let named = entries::name(store, &names, self.principal, &own);
        let (is_over_now, is_named) = try_join(over, named).await?;
        if is_over_now || is_named {
            return Ok(is_over_now);
        }
        self.add(store, &own).await?;
        is_over(store, &self.origin, &own).await
    }
}

/// Whether a notice has ended a login.
async fn is_over<B: Backend>(
    store: &B,
    origin: &UpstreamLogin,
    terms: &Terms,
) -> Result<bool, CommitError> {
    let user = user(origin.user);
    let mut names = vec![user.clone(), both(&user, origin.session)];
    names.extend(origin.session.map(session));
    let looks = names.iter().map(async |what| {
        let at = name_of(store, NOTICED, what);
        note_in(store.read_note(&at, terms).await)
    });
    let found = try_join_all(looks).await?;
    Ok(found
        .iter()
        .flatten()
        .any(|note| origin.at <= notes::revoked(note)))
}

/// How many sessions a notice has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) ended: u64,
    /// That was told before: the notice is a repeat.
    pub(crate) is_repeat: bool,
}

/// Ends what a notice names. A repeat gets the same answer.
pub(crate) async fn end<B: Index>(
    store: &B,
    notice: &Notice,
    terms: &Terms,
) -> Result<Answered, CommitError> {
    let own = notes_terms(terms);
    if let Some((token, _)) = notice.token
        && let Some(ended) = answer_to(store, token, &own).await?
    {
        let is_repeat = true;
        return Ok(Answered { ended, is_repeat });
    }
    leave(store, &notice.ended, &own).await?;
    let mut ended = 0;
    for principal in principals_of(store, &notice.ended, &own).await? {
        ended += end_all_of(store, &principal, &notice.ended, terms).await?;
    }
    if let Some((token, until)) = notice.token {
        remember(store, token, until, ended, &own).await?;
    }
    let is_repeat = false;
    Ok(Answered { ended, is_repeat })
}

/// Leaves the notice, for logins that are under way.
async fn leave<B: Backend>(store: &B, ended: &Ended, terms: &Terms) -> Result<(), CommitError> {
    let until = terms.now + NOTICE;
    let names = match (ended.user.map(user), ended.session) {
        // A login that does not say which session it comes from may be the one that is meant.
        (Some(user), Some(of)) => vec![both(&user, Some(of)), both(&user, None)],
        (Some(user), None) => vec![user],
        (None, Some(of)) => vec![session(of)],
        (None, None) => vec![],
    };
    let leaving = names.iter().map(|what| {
        let at = name_of(store, NOTICED, what);
        notes::leave(store, at, ended.at, until)
    });
    let left = try_join_all(leaving).await;
    left.map(drop).map_err(CommitError::of_store)
}

/// Whose sessions may come from the login that has ended.
async fn principals_of<B: Backend>(
    store: &B,
    ended: &Ended,
    terms: &Terms,
) -> Result<Vec<String>, CommitError> {
    let Some(what) = ended.user.map(user).or_else(|| ended.session.map(session)) else {
        return Ok(Vec::new());
    };
    entries::named_by(store, &what, terms).await
}

async fn end_all_of<B: Index>(
    store: &B,
    principal: &str,
    notice: &Ended,
    terms: &Terms,
) -> Result<u64, CommitError> {
    let (mut walk, mut ended) = (Walk::to_the_end(), 0);
    loop {
        let (found, next) = page_of(store, principal, walk.page(), terms).await?;
        for found in &found {
            walk.sees(found.id());
        }
        let meant = found.into_iter().filter_map(|it| match it {
            Found::Live(live) if notice.names_record(&live.record) => Some((live.id, live.at)),
            Found::Live(_) => None,
            // Nobody here can say where it comes from. The entry says that it may be from there.
            Found::Unreadable(id, at) => Some((id, at)),
        });
        let ends = meant.map(|it| end_one(store, principal, it, *notice, terms));
        let ends: Vec<bool> = stream::iter(ends)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        ended += ends.into_iter().map(u64::from).sum::<u64>();
        if !walk.goes_on(next) {
            return Ok(ended);
        }
    }
}

async fn end_one<B: Index>(
    store: &B,
    principal: &str,
    (id, at): (u128, Name),
    notice: Ended,
    terms: &Terms,
) -> Result<bool, CommitError> {
    let mut machine = RevokeMachine::new(at, principal, id).told(notice);
    store.drive(&mut machine, terms).await
}

impl Ended {
    /// Whether it ends the session of a record.
    pub(crate) fn names_record(&self, record: &Record) -> bool {
        let auth = record.times().and_then(|metadata| metadata.auth.as_deref());
        let origin = auth.and_then(|auth| auth.upstream());
        origin.is_some_and(|origin| self.names(&origin))
    }
}

/// The entries of a login.
fn entry_names(origin: &UpstreamLogin) -> Vec<String> {
    let session = origin.session.map(session);
    [user(origin.user)].into_iter().chain(session).collect()
}

fn user(user: u128) -> String {
    format!("user {user:032x}")
}

fn session(session: u128) -> String {
    format!("session {session:032x}")
}

/// A session of a user, or one that does not say which.
fn both(user: &str, of: Option<u128>) -> String {
    let of = of.map_or_else(|| "any session".to_owned(), session);
    format!("{user} {of}")
}

fn name_of<B: Backend>(store: &B, kind: &str, what: &str) -> Name {
    let digest = digest::hex(&format!("actix-session upstream {kind}\0{what}"));
    store.name(&SessionKey::generated(format!("{kind}.{digest}")))
}

/// Entries and notices are always written in one format, without a MAC.
fn notes_terms(terms: &Terms) -> Terms {
    Terms {
        now: terms.now,
        budget: terms.budget,
        ..Terms::default()
    }
}

fn note_in(found: anyhow::Result<Stored>) -> Result<Option<Record>, CommitError> {
    match found.map_err(CommitError::of_store)? {
        Stored::Record(record) => Ok(Some(record)),
        Stored::Nothing => Ok(None),
        Stored::Redirect(_) | Stored::Unreadable => Err(CommitError::Other(anyhow::anyhow!(
            "what is stored of an upstream cannot be read"
        ))),
    }
}

#[cfg(test)]
#[cfg(feature = "memory-session")]
mod tests;
