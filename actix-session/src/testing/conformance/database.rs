//! What a database under a [`KeyValueSessionStore`] must do, in words of its own three methods.

use futures_util::future::join;

use super::kit::{BrokenPromise, Kept, Kit, failed, promise, word};
use crate::{
    Clock as _,
    clock::Millis,
    storage::{
        KeyValueDatabase, KeyValueOutcome, KeyValueSessionStore, KeyValueTransaction, KeyValueWrite,
    },
};

type Expected<'a> = &'a [(&'a str, Option<&'a str>)];

const A: &str = "kit.a";
const B: &str = "kit.b";
/// Its first end comes soon.
const C: &str = "kit.c";
/// A value comes back with its whitespace, its case and its accents.
const TEXT: &str = " \u{1F980} \u{e9}\n";
const MINUTE: u64 = 60_000;

/// `get` answers in order, `commit` compares all and writes all or nothing, and `sweep` leaves what
/// has not ended.
///
/// # Errors
/// The database does not do so. Nothing that the library keeps in it is touched.
pub async fn the_database_does_what_it_is_told<D: KeyValueDatabase>(
    kit: &Kit<KeyValueSessionStore<D>>,
) -> Kept {
    let now = u64::try_from(Millis::from(kit.clock.now()).0).unwrap_or_default();
    let database = Database(kit.store.database(), now);
    database.reads_what_it_has_written().await?;
    database.compares_all_and_writes_all_or_nothing().await?;
    database.sweeps_what_has_ended().await?;
    database.sweeps_nothing_that_was_written_meanwhile().await
}

/// The database, and the time.
struct Database<'a, D>(&'a D, u64);

impl<D: KeyValueDatabase> Database<'_, D> {
    fn put(&self, name: &str, value: &str, end: u64) -> KeyValueWrite {
        KeyValueWrite::Put {
            name: name.to_owned(),
            value: value.into(),
            end,
        }
    }

    /// Writes that live for long.
    fn puts(&self, values: &[(&str, &str)]) -> Vec<KeyValueWrite> {
        let values = values.iter();
        values
            .map(|(name, value)| self.put(name, value, self.1 + 60 * MINUTE))
            .collect()
    }

    async fn commit(
        &self,
        expected: Expected<'_>,
        writes: Vec<KeyValueWrite>,
    ) -> Result<KeyValueOutcome, BrokenPromise> {
        let expected = expected.iter();
        let transaction = KeyValueTransaction {
            expected: expected
                .map(|(name, value)| ((*name).to_owned(), value.map(Into::into)))
                .collect(),
            writes,
        };
        let outcome = self.0.commit(transaction).await;
        outcome.map_err(failed("commit"))
    }

    async fn is_done(&self, expected: Expected<'_>, writes: Vec<KeyValueWrite>) -> Kept {
        match self.commit(expected, writes).await? {
            KeyValueOutcome::Done => Ok(()),
            KeyValueOutcome::Refused(error) => Err(failed("commit")(error)),
            KeyValueOutcome::Changed => {
                promise!(
                    false,
                    "`commit` must answer `Done` if all is as expected, and answered `Changed`"
                );
                Ok(())
            }
        }
    }

    async fn is_changed(&self, expected: Expected<'_>, what: &str) -> Kept {
        let writes = self.puts(&[(A, "written"), (B, "written")]);
        let outcome = self.commit(expected, writes).await?;
        promise!(
            matches!(outcome, KeyValueOutcome::Changed),
            "`commit` must answer `Changed` if {what}, and answered {}",
            word(&outcome)
        );
        let found = self.get(&[A, B]).await?;
        promise!(
            found.iter().flatten().all(|value| value != b"written"),
            "`commit` answered `Changed`, and has written all the same"
        );
        Ok(())
    }

    async fn get(&self, names: &[&str]) -> Result<Vec<Option<Vec<u8>>>, BrokenPromise> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let found = self.0.get(&names).await.map_err(failed("get"))?;
        promise!(
            found.len() == names.len(),
            "`get` must answer one value for each name, `None` for one without a value: it was asked for \
             {} names, and answered {}",
            names.len(),
            found.len()
        );
        Ok(found)
    }

    async fn has(&self, name: &str, value: &str) -> Result<bool, BrokenPromise> {
        Ok(self.get(&[name]).await? == [Some(value.into())])
    }

    async fn reads_what_it_has_written(&self) -> Kept {
        let writes = self.puts(&[(A, TEXT), (B, "b")]);
        self.is_done(&[(A, None), (B, None)], writes).await?;
        let found = self.get(&[B, "kit.none", A]).await?;
        promise!(
            found.iter().filter(|found| found.is_some()).count() == 2,
            "`commit` answered `Done`, and not all of its writes are there"
        );
        promise!(
            found[0].as_deref() == Some(b"b") && found[1].is_none(),
            "`get` must answer in the order of the names that it is asked for"
        );
        promise!(
            found[2].as_deref() == Some(TEXT.as_bytes()),
            "a value must come back as it was written, octet for octet"
        );
        self.is_done(&[(B, Some("b"))], self.puts(&[(B, "b2")]))
            .await?;
        promise!(
            self.has(B, "b2").await?,
            "a `Put` must replace what is there"
        );
        let removes = [B, "kit.none"].map(|name| KeyValueWrite::Remove { name: name.into() });
        self.is_done(&[(B, Some("b2"))], removes.into()).await?;
        promise!(
            self.get(&[B]).await? == [None],
            "a `Remove` must remove what is there"
        );
        Ok(())
    }

    /// There are A, which is TEXT, and no B.
    async fn compares_all_and_writes_all_or_nothing(&self) -> Kept {
        let other = "another value is there than expected";
        self.is_changed(&[(A, Some("a"))], other).await?;
        let there = "a value is there where none is expected";
        self.is_changed(&[(B, None), (A, None)], there).await?;
        let missing = "an expected value is not there";
        self.is_changed(&[(A, Some(TEXT)), (B, Some("b"))], missing)
            .await
    }

    /// Returns whether anything was removed.
    async fn sweep(&self, now: u64) -> Result<bool, BrokenPromise> {
        const LIMIT: usize = 1_000;

        let mut any = false;
        // There may be more than the kit has written, but nobody writes that much meanwhile.
        for _ in 0..LIMIT {
            let swept = self.0.sweep(now, LIMIT).await.map_err(failed("sweep"))?;
            any |= swept > 0;
            if swept != LIMIT {
                return Ok(any);
            }
        }
        Err(anyhow::anyhow!("`sweep` must come to an end: it says again and again that as much was removed as it may").into())
    }

    async fn sweeps_what_has_ended(&self) -> Kept {
        let now = self.1;
        self.is_done(&[], vec![self.put(C, "a", now + 1), self.put(B, "b", now)])
            .await?;
        let any = self.sweep(now).await?;
        // One that expires values by itself has nothing to sweep.
        promise!(
            !any || self.get(&[B]).await? == [None],
            "`sweep` has counted what it removed, and a value whose end has come is still there"
        );
        promise!(
            self.has(C, "a").await?,
            "`sweep` has removed a value whose end is later than `now`"
        );
        self.is_done(&[], self.puts(&[(C, "a2")])).await?;
        self.sweep(now + MINUTE).await?;
        promise!(
            self.has(C, "a2").await?,
            "`sweep` has removed a value by an end that it no longer has: a `Put` replaces the end too"
        );
        Ok(())
    }

    async fn sweeps_nothing_that_was_written_meanwhile(&self) -> Kept {
        for _ in 0..16 {
            self.is_done(&[], vec![self.put(A, "a", self.1)]).await?;
            let writes = self.puts(&[(A, "a2")]);
            let (swept, outcome) =
                join(self.sweep(self.1), self.commit(&[(A, Some("a"))], writes)).await;
            swept?;
            // If the sweep came first, the value that was expected is not there.
            promise!(
                !matches!(outcome?, KeyValueOutcome::Done) || self.has(A, "a2").await?,
                "`sweep` has removed a value that was written while it ran: compare the end and remove \
                 in one atomic step"
            );
        }
        Ok(())
    }
}
