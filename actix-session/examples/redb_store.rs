//! Sessions in redb, an embedded database: durable, in one file, without a server.
//!
//! `KeyValueDatabase` has three methods. The library keeps every promise on top of them: parallel
//! requests lose nothing, a logout wins every race, sessions can be listed and revoked by principal.
//!
//! cargo run --manifest-path actix-session/Cargo.toml --example redb_store --features key-value-session

use std::{path::Path, sync::Arc};

use actix_session::{
    Session, SessionMiddleware,
    storage::{
        KeyValueDatabase, KeyValueOutcome, KeyValueSessionStore, KeyValueTransaction, KeyValueWrite,
    },
};
use actix_web::{App, HttpServer, cookie::Key, web};
use redb::{Database, ReadableTable as _, TableDefinition, WriteTransaction};

/// Values and their ends by name.
const VALUES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("values");
/// The same names by end, for the sweep.
const ENDS: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("ends");

/// Clones share the file.
#[derive(Clone)]
pub(crate) struct Redb(Arc<Database>);

impl Redb {
    pub(crate) fn open(path: impl AsRef<Path>) -> anyhow::Result<Self> {
        Self::new(Database::create(path)?)
    }

    pub(crate) fn new(database: Database) -> anyhow::Result<Self> {
        // A read of a table that nobody has made would be an error.
        let writing = database.begin_write()?;
        writing.open_table(VALUES)?;
        writing.open_table(ENDS)?;
        writing.commit()?;
        Ok(Self(Arc::new(database)))
    }

    fn read(&self, names: &[String]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
        let values = self.0.begin_read()?.open_table(VALUES)?;
        let get = |name: &String| {
            let found = values.get(name.as_str())?;
            Ok(found.map(|found| found.value().1.to_vec()))
        };
        names.iter().map(get).collect()
    }

    fn write(&self, transaction: KeyValueTransaction) -> anyhow::Result<KeyValueOutcome> {
        match self.prepare(transaction) {
            Ok(Some(writing)) => {
                // Whether an error here leaves the transaction done, nobody knows.
                writing.commit()?;
                Ok(KeyValueOutcome::Done)
            }
            Ok(None) => Ok(KeyValueOutcome::Changed),
            // Nothing is done before the commit.
            Err(error) => Ok(KeyValueOutcome::Refused(error)),
        }
    }

    /// A transaction with all writes, not yet committed. redb has one writer at a time, so that nobody
    /// else writes from the comparison to the commit.
    fn prepare(
        &self,
        transaction: KeyValueTransaction,
    ) -> anyhow::Result<Option<WriteTransaction>> {
        let writing = self.0.begin_write()?;
        let mut values = writing.open_table(VALUES)?;
        let mut ends = writing.open_table(ENDS)?;
        let is_as_expected = transaction.is_as_expected(|name| {
            let found = values.get(name)?;
            anyhow::Ok(found.map(|found| found.value().1.to_vec()))
        });
        if !is_as_expected? {
            return Ok(None);
        }
        for write in transaction.writes {
            let (name, new) = match write {
                KeyValueWrite::Put { name, value, end } => (name, Some((end, value))),
                KeyValueWrite::Remove { name } => (name, None),
            };
            if let Some(old) = values.remove(name.as_str())? {
                ends.remove((old.value().0, name.as_str()))?;
            }
            if let Some((end, value)) = new {
                values.insert(name.as_str(), (end, value.as_slice()))?;
                ends.insert((end, name.as_str()), ())?;
            }
        }
        drop((values, ends));
        Ok(Some(writing))
    }

    fn remove_until(&self, now: u64, limit: usize) -> anyhow::Result<usize> {
        let writing = self.0.begin_write()?;
        let mut values = writing.open_table(VALUES)?;
        let mut ends = writing.open_table(ENDS)?;
        let mut over = Vec::new();
        for found in ends.range(..(now.saturating_add(1), ""))?.take(limit) {
            let (found, _) = found?;
            let (end, name) = found.value();
            over.push((end, name.to_owned()));
        }
        for (end, name) in &over {
            ends.remove((*end, name.as_str()))?;
            values.remove(name.as_str())?;
        }
        drop((values, ends));
        writing.commit()?;
        Ok(over.len())
    }
}

/// redb waits for the disk, so it works where a wait holds no handler up.
impl KeyValueDatabase for Redb {
    async fn get(&self, names: &[String]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
        let (this, names) = (self.clone(), names.to_vec());
        web::block(move || this.read(&names)).await?
    }

    async fn commit(&self, transaction: KeyValueTransaction) -> anyhow::Result<KeyValueOutcome> {
        let this = self.clone();
        web::block(move || this.write(transaction)).await?
    }

    async fn sweep(&self, now: u64, limit: usize) -> anyhow::Result<usize> {
        let this = self.clone();
        web::block(move || this.remove_until(now, limit)).await?
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
async fn main() -> anyhow::Result<()> {
    let store = KeyValueSessionStore::new(Redb::open("sessions.redb")?);
    // In production, read the key from your configuration: all sessions end when it changes.
    let secret_key = Key::generate();
    let app = move || {
        let sessions = SessionMiddleware::builder(store.clone(), secret_key.clone());
        // For development over http.
        let sessions = sessions.cookie_secure(false).build();
        App::new().wrap(sessions).route("/", web::get().to(count))
    };
    HttpServer::new(app)
        .bind(("127.0.0.1", 8080))?
        .run()
        .await?;
    Ok(())
}
