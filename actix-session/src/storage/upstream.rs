//! Logins at an upstream: whose sessions come from there, and what it has said is over.
//!
//! Both are records under names that no session key has, for none contains a full stop. *Entries* say
//! which principals a user, or a session, of an upstream is here; the record of a session says itself
//! which login it comes from. *Notices* say until when a user, or a session, has ended there.
//!
//! A login writes its entries, then its record, and then looks at the notices. An ending leaves its
//! notice, and then looks at the entries. So one of both sees the other.

mod answered;

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    future::{join, try_join_all},
    stream,
};
use tokio::time::Instant;

pub(crate) use self::answered::{ANSWERED, token};
use self::answered::{answer_to, remember};
use super::{
    index::{Door as _, Index, Live, Page},
    notes,
};
use crate::{
    changes::Changes,
    clock::{Millis, deadline},
    config::LONGEST,
    contract::{ExtendOnRead, Terms},
    digest,
    error::CommitError,
    key::SessionKey,
    protocol::{Backend, EndMachine, Name, OwnerBefore, Reply, RevokeMachine, Step, Stored, Until},
    random,
    record::{Ended, Metadata, Record, UpstreamLogin, WireFormat},
};

/// How long a notice is kept: no login takes longer, from the moment when the upstream has authenticated
/// the user.
pub(crate) const NOTICE: Millis = Millis::secs(600);
/// Entries are not written anew for less than this.
const SLACK: Millis = Millis::secs(30 * 86_400);
/// How many sessions are read at once, and how many are ended at once.
const BATCH: usize = 100;
const AT_ONCE: usize = 16;
/// The field of an entry.
const PRINCIPALS: &str = "principals";

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
        let auth = record.metadata()?.auth.as_deref()?;
        Some(Self {
            origin: auth.upstream()?,
            principal: &auth.principal,
            span: auth.span.or(terms.absolute).unwrap_or(LONGEST),
            is_login: false,
        })
    }

    /// Notes whose session comes from the upstream, before the record is written.
    pub(crate) async fn enter<B: Backend>(
        &self,
        store: &B,
        terms: &Terms,
    ) -> Result<(), CommitError> {
        let terms = entry_terms(self.span, terms);
        let names = [
            Some(user(self.origin.user)),
            self.origin.session.map(session),
        ];
        let adding = names
            .iter()
            .flatten()
            .map(|what| add(store, what, self.principal, &terms));
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
        let refused = match is_over(store, &self.origin, &notes_terms(terms)).await {
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
}

/// Adds a principal to an entry. Usually it is there already, or there is no entry: so both are asked
/// for at once.
async fn add<B: Backend>(
    store: &B,
    what: &str,
    principal: &str,
    terms: &Terms,
) -> Result<(), CommitError> {
    let at = name_of(store, ENTRY, what);
    let deadline = deadline(terms.budget);
    while Instant::now() < deadline {
        let first = entry(&[principal.to_owned()], terms)?;
        let until = terms.now + terms.ttl;
        let inserting = store.insert_note(&at, first, until, terms);
        let (inserted, found) = join(inserting, store.look(&at, terms)).await;
        if let Reply::Done = inserted.map_err(CommitError::of_store)? {
            return Ok(());
        }
        // It may have gone meanwhile, or only come.
        let Some(known) = note_in(found)? else {
            continue;
        };
        let mut principals = principals(&known)?;
        if principals.iter().any(|known| known == principal) {
            return Ok(());
        }
        principals.push(principal.to_owned());
        let step = Step::Cas {
            at: at.clone(),
            expect: known.version(),
            new: entry(&principals, terms)?,
            until: Until::At(known.end().map_or(until, |end| end.max(until))),
            epoch: None,
            owner_before: OwnerBefore::Same,
        };
        let replaced = store.run(&step, terms).await;
        if let Reply::Done = replaced.map_err(CommitError::of_store)? {
            return Ok(());
        }
    }
    Err(CommitError::Contended)
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

/// Ends what a notice names, and returns how many sessions that were. A repeat gets the same answer.
pub(crate) async fn end<B: Index>(
    store: &B,
    notice: &Notice,
    terms: &Terms,
) -> Result<u64, CommitError> {
    let own = notes_terms(terms);
    if let Some((token, _)) = notice.token
        && let Some(answered) = answer_to(store, token, &own).await?
    {
        return Ok(answered);
    }
    leave(store, &notice.ended, &own).await?;
    let mut ended = 0;
    for principal in principals_of(store, &notice.ended, &own).await? {
        ended += end_all_of(store, &principal, &notice.ended, terms).await?;
    }
    if let Some((token, until)) = notice.token {
        remember(store, token, until, ended, &own).await?;
    }
    Ok(ended)
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
    let at = name_of(store, ENTRY, &what);
    let found = note_in(store.read_note(&at, terms).await)?;
    found.map_or_else(|| Ok(Vec::new()), |entry| principals(&entry))
}

async fn end_all_of<B: Index>(
    store: &B,
    principal: &str,
    notice: &Ended,
    terms: &Terms,
) -> Result<u64, CommitError> {
    let (mut after, mut ended) = (None, 0);
    loop {
        let page = Page {
            after,
            limit: BATCH,
        };
        let (live, next) = store.list(principal, page, terms).await?;
        let meant = live
            .into_iter()
            .filter(|it| notice.names_record(&it.record));
        let ends = meant.map(|it| end_one(store, principal, it, *notice, terms));
        let ends: Vec<bool> = stream::iter(ends)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        ended += ends.into_iter().map(u64::from).sum::<u64>();
        after = next;
        if after.is_none() {
            return Ok(ended);
        }
    }
}

async fn end_one<B: Index>(
    store: &B,
    principal: &str,
    live: Live,
    notice: Ended,
    terms: &Terms,
) -> Result<bool, CommitError> {
    let mut machine = RevokeMachine::new(live.at, principal, live.id, terms).told(notice);
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

/// The same for an entry, which is kept for as long as a session may live, and a little longer, so that
/// not every login writes it anew.
fn entry_terms(span: Millis, terms: &Terms) -> Terms {
    let slack = SLACK.min(Millis(span.0 / 8));
    Terms {
        ttl: span + slack + NOTICE,
        extend: ExtendOnRead::AtMostEvery(slack.max(Millis(1))),
        ..notes_terms(terms)
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

fn entry(principals: &[String], terms: &Terms) -> Result<Record, CommitError> {
    let (commit, id) = random::ids().map_err(CommitError::Other)?;
    let metadata = Metadata::new(id, terms.now);
    let json =
        serde_json::to_string(principals).map_err(|error| CommitError::Other(error.into()))?;
    let entries = [(PRINCIPALS.into(), json.into())];
    Ok(Record::written(WireFormat::V1, commit, metadata, &entries))
}

fn principals(entry: &Record) -> Result<Vec<String>, CommitError> {
    let json = entry.state().get(PRINCIPALS);
    let json = json.as_deref().unwrap_or("[]");
    serde_json::from_str(json).map_err(|error| CommitError::Other(error.into()))
}

#[cfg(test)]
#[cfg(feature = "memory-session")]
mod tests;
