//! Sessions in a server that compares and sets one value in one step, as etcd, Consul, DynamoDB and
//! many others do. Here, a map with a lock stands for the server.
//!
//! Beside the five published methods, such a store overrides four: parallel requests lose nothing, and a
//! logout wins every race but one. It keeps no redirects, so that a logout by a key that a renewal has
//! replaced ends nothing. What else it cannot promise, `actix_session::testing::conformance` says.
//!
//! cargo run --manifest-path actix-session/Cargo.toml --example compare_and_set_store

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use actix_session::{
    Clock, Session, SessionMiddleware, SystemClock,
    storage::{
        Changes, CommitError, Committed, Contended, End, Gone, LoadError, Merged, Older, Opened,
        OutcomeUnknown, Record, Rotated, SaveError, SessionKey, SessionStore, Terms, UpdateError,
        generate_session_key,
    },
};
use actix_web::{
    App, HttpServer,
    cookie::{Key, time::Duration as CookieDuration},
    rt, web,
};

type State = HashMap<String, String>;

/// What the server keeps under a key.
#[derive(Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) text: String,
    pub(crate) end: SystemTime,
    /// Drawn for each write, so that no two rows are equal. Many servers keep a revision themselves.
    write: String,
}

impl Row {
    pub(crate) fn new(text: String, end: SystemTime) -> Self {
        let write = generate_session_key().as_ref().to_owned();
        Self { text, end, write }
    }

    fn of(record: &Record, end: End) -> Result<Self, CommitError> {
        let text = record.as_text().ok_or_else(|| {
            CommitError::Other(anyhow::anyhow!("a record must have a text to be stored"))
        })?;
        Ok(Self::new(text.to_owned(), end.at()))
    }
}

/// The server. An error of `set` says that the answer was lost: nobody knows whether it was done.
#[derive(Clone, Default)]
pub(crate) struct Server(pub(crate) Arc<Mutex<HashMap<String, Row>>>);

impl Server {
    async fn get(&self, key: &SessionKey) -> anyhow::Result<Option<Row>> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(rows.get(key.as_ref()).cloned())
    }

    /// Puts `new` in the place of `old`, if `old` is there still.
    async fn set(
        &self,
        key: &SessionKey,
        old: Option<&Row>,
        new: Option<Row>,
    ) -> anyhow::Result<bool> {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.get(key.as_ref()) != old {
            return Ok(false);
        }
        match new {
            Some(new) => rows.insert(key.as_ref().to_owned(), new),
            None => rows.remove(key.as_ref()),
        };
        Ok(true)
    }

    async fn remove(&self, key: &SessionKey) -> anyhow::Result<()> {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.remove(key.as_ref());
        Ok(())
    }
}

/// Clones share the server.
#[derive(Clone)]
pub(crate) struct CompareAndSetStore<C = SystemClock> {
    pub(crate) server: Server,
    clock: C,
}

/// What is live under a key: the row, to compare with, and the record in it.
type Live = (Row, Record);

impl<C: Clock + Clone> CompareAndSetStore<C> {
    pub(crate) fn new(clock: C) -> Self {
        let server = Server::default();
        Self { server, clock }
    }

    /// The terms of the five published methods, which get none.
    fn terms(&self) -> Terms {
        Terms::default().with_now(self.clock.now())
    }

    /// In whole milliseconds, as terms are: otherwise a session could outlive its end by a part of one.
    fn end(&self, ttl: &CookieDuration) -> SystemTime {
        self.terms().now() + *ttl
    }

    async fn live(&self, key: &SessionKey, terms: &Terms) -> Result<Option<Live>, LoadError> {
        let found = self.server.get(key).await.map_err(LoadError::Other)?;
        let Some(row) = found.filter(|row| row.end > terms.now()) else {
            return Ok(None);
        };
        let record = Record::decode(row.text.clone());
        let record = record.map_err(|error| LoadError::Deserialization(error.into()))?;
        Ok((!terms.is_over(&record)).then_some((row, record)))
    }

    /// Keeps a row under a new key. One that is taken is never handed out.
    async fn insert(&self, row: Row) -> anyhow::Result<SessionKey> {
        loop {
            let key = generate_session_key();
            if self.server.set(&key, None, Some(row.clone())).await? {
                return Ok(key);
            }
        }
    }

    /// Writes over what was read, if it is there still.
    async fn replace(&self, key: &SessionKey, old: &Row, new: Row) -> Result<bool, CommitError> {
        match self.server.set(key, Some(old), Some(new.clone())).await {
            Ok(replaced) => Ok(replaced),
            // The answer was lost, so look. If something else is there, the write may have been done
            // before that, or may come late: to repeat it could count a `modify` twice.
            Err(_) => match self.server.get(key).await {
                Ok(Some(found)) if found == new => Ok(true),
                _ => Err(CommitError::OutcomeUnknown),
            },
        }
    }

    /// The end of a record that is read. What cannot be extended is served all the same.
    async fn extend(&self, key: &SessionKey, (row, record): &Live, terms: &Terms) -> End {
        if !terms.extends(record, row.end) {
            return row.end.into();
        }
        let end = terms.end(record);
        let new = Row::new(row.text.clone(), end.at());
        match self.server.set(key, Some(row), Some(new)).await {
            Ok(true) => end,
            _ => row.end.into(),
        }
    }

    /// Writes what `write` makes of the row that is live, until nobody has written in between.
    async fn change(
        &self,
        key: &SessionKey,
        write: impl Fn(Row) -> Row,
    ) -> Result<(), CommitError> {
        let (terms, mut tries) = (self.terms(), Tries::new(&self.terms()));
        loop {
            let (row, _) = self.live(key, &terms).await?.ok_or_else(gone)?;
            if self.replace(key, &row, write(row.clone())).await? {
                return Ok(());
            }
            tries.pause().await?;
        }
    }
}

fn gone() -> CommitError {
    CommitError::Other(Gone.into())
}

/// Repeats within the time limit of a call, after pauses that grow.
struct Tries {
    until: Instant,
    pause: Duration,
}

impl Tries {
    fn new(terms: &Terms) -> Self {
        let until = Instant::now() + terms.budget();
        let pause = Duration::from_millis(1);
        Self { until, pause }
    }

    async fn pause(&mut self) -> Result<(), CommitError> {
        if Instant::now() + self.pause > self.until {
            return Err(CommitError::Contended);
        }
        rt::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(Duration::from_millis(50));
        Ok(())
    }
}

/// How the five published methods say it.
fn published(error: CommitError) -> anyhow::Error {
    match error {
        CommitError::Serialization(error) | CommitError::Other(error) => error,
        CommitError::Contended => Contended.into(),
        CommitError::OutcomeUnknown => OutcomeUnknown.into(),
        other => other.into(),
    }
}

impl<C: Clock + Clone> SessionStore for CompareAndSetStore<C> {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        let live = self.live(key, &self.terms()).await?;
        // With the metadata, so that `update` can bring them back.
        Ok(live.map(|(_, record)| record.to_map_with_metadata()))
    }

    async fn save(&self, state: State, ttl: &CookieDuration) -> Result<SessionKey, SaveError> {
        let text = serde_json::to_string(&state);
        let text = text.map_err(|error| SaveError::Serialization(error.into()))?;
        let row = Row::new(text, self.end(ttl));
        self.insert(row).await.map_err(SaveError::Other)
    }

    async fn update(
        &self,
        key: SessionKey,
        state: State,
        ttl: &CookieDuration,
    ) -> Result<SessionKey, UpdateError> {
        let text = serde_json::to_string(&state);
        let text = text.map_err(|error| UpdateError::Serialization(error.into()))?;
        let end = self.end(ttl);
        let updated = self.change(&key, |_| Row::new(text.clone(), end)).await;
        updated.map_err(|error| UpdateError::Other(published(error)))?;
        Ok(key)
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &CookieDuration) -> anyhow::Result<()> {
        let end = self.end(ttl);
        match self.change(key, |row| Row::new(row.text, end)).await {
            // It makes no session, and brings none back.
            Err(CommitError::Other(error)) if error.is::<Gone>() => Ok(()),
            changed => changed.map_err(published),
        }
    }

    async fn delete(&self, key: &SessionKey) -> anyhow::Result<()> {
        self.server.remove(key).await
    }

    async fn open(&self, key: &SessionKey, terms: &Terms) -> Result<Opened, LoadError> {
        let live = match self.live(key, terms).await {
            Ok(Some(live)) => live,
            Ok(None) => return Ok(Opened::Nothing),
            Err(LoadError::Deserialization(_)) => return Ok(Opened::Unreadable),
            Err(error) => return Err(error),
        };
        let end = self.extend(key, &live, terms).await;
        Ok(Opened::Live(live.1.ending_at(end)))
    }

    async fn create(
        &self,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<(SessionKey, End), CommitError> {
        let record = changes.new_record(terms)?;
        let end = terms.end(&record);
        let key = self.insert(Row::of(&record, end)?).await;
        Ok((key.map_err(CommitError::Other)?, end))
    }

    async fn commit(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Committed, CommitError> {
        let mut tries = Tries::new(terms);
        loop {
            let Some(live) = self.live(key, terms).await? else {
                return Ok(Committed::Gone);
            };
            let (row, stored) = &live;
            if changes.is_empty() && !terms.is_undated(stored) {
                return Ok(Committed::Saved(self.extend(key, &live, terms).await));
            }
            let record = match changes.made_on(base).merge_into(stored, terms)? {
                Merged::Write(record) => record,
                Merged::Unchanged => return Ok(Committed::Saved(row.end.into())),
                Merged::Gone => return Ok(Committed::Gone),
            };
            let (end, before) = (terms.end(&record), End::from(row.end));
            let is_kept = terms.keeps_end() && before.at() < end.at();
            let end = if is_kept { before } else { end };
            if self.replace(key, row, Row::of(&record, end)?).await? {
                return Ok(Committed::Saved(end));
            }
            tries.pause().await?;
        }
    }

    async fn rotate(
        &self,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        terms: &Terms,
    ) -> Result<Rotated, CommitError> {
        let mut tries = Tries::new(terms);
        loop {
            let live = self.live(key, terms).await?;
            let stored = live.as_ref().map(|(_, record)| record);
            let Some(record) = changes.made_on(base).renew(stored, terms)? else {
                return Ok(Rotated::Gone);
            };
            // First the new record, whose key nobody has yet; then the end of the old one.
            let end = terms.end(&record);
            let new = self.insert(Row::of(&record, end)?).await;
            let new = new.map_err(CommitError::Other)?;
            let Some((old, _)) = live.filter(|_| base.is_some()) else {
                return Ok(Rotated::Rotated(new, end, Older::none()));
            };
            let ended = self.server.set(key, Some(&old), None).await;
            if let Ok(true) = ended {
                return Ok(Rotated::Rotated(new, end, Older::none()));
            }
            // The old key may still work, or a logout has ended it: the new one must not work then.
            self.server.remove(&new).await.map_err(CommitError::Other)?;
            ended.map_err(|_| CommitError::OutcomeUnknown)?;
            tries.pause().await?;
        }
    }
}

async fn count(session: Session) -> actix_web::Result<String> {
    session.modify("visits", |visits: Option<u64>| {
        Some(visits.unwrap_or(0) + 1)
    })?;
    let visits: Option<u64> = session.get("visits")?;
    Ok(format!("visits: {}\n", visits.unwrap_or_default()))
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let store = CompareAndSetStore::new(SystemClock);
    // In production, read the key from your configuration: all sessions end when it changes.
    let secret_key = Key::generate();
    let app = move || {
        let sessions = SessionMiddleware::builder(store.clone(), secret_key.clone());
        // For development over http.
        let sessions = sessions.cookie_secure(false).build();
        App::new().wrap(sessions).route("/", web::get().to(count))
    };
    HttpServer::new(app).bind(("127.0.0.1", 8080))?.run().await
}
