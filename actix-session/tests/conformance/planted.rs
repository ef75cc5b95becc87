//! Stores with a fault, which the kit names.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use actix_session::{
    storage::{
        KeyValueDatabase, KeyValueOutcome, KeyValueSessionStore, KeyValueTransaction, KeyValueWrite,
    },
    testing::conformance::{self, BrokenPromise, Kit},
};
use actix_web::rt::task::yield_now;

use crate::{in_memory::InMemory, stores::Waiting};

/// What its author has got wrong.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// Others may write between the comparison and the writes, while this waits.
    Waits,
    /// The same, without waiting: the lock is released in between.
    Unlocks,
    /// It compares nothing.
    Compares,
    /// It compares, and takes the principal's value for less important.
    ComparesSessionsAlone,
    /// It makes one write after the other.
    Tears,
    /// It forgets to remove.
    KeepsAll,
    /// It answers in another order than it was asked.
    Sorts,
    /// It leaves names without a value out.
    Skips,
    /// It has compared, and answers that it is done all the same.
    Agrees,
    /// It makes all writes but the last.
    LosesLast,
    /// It leaves what is to be removed.
    Leaves,
    /// It sweeps what lives.
    SweepsAll,
    /// It sweeps by the end that a value had at first.
    SweepsByFirstEnd,
    /// It counts what has ended, and removes nothing.
    SweepsNothing,
    /// It looks for what has ended, and removes that later.
    SweepsLate,
    /// It fails.
    Fails,
}

#[derive(Clone)]
struct Faulty(InMemory, Fault, FirstEnds);

/// The end that each name had at first.
type FirstEnds = Arc<Mutex<BTreeMap<String, u64>>>;

impl Faulty {
    fn is_as_expected(&self, transaction: &KeyValueTransaction) -> bool {
        let values = self.0.values();
        let mut transaction = transaction.clone();
        if self.1 == Fault::ComparesSessionsAlone {
            transaction
                .expected
                .retain(|(name, _)| name.starts_with("s."));
        }
        let get = |name: &str| anyhow::Ok(values.get(name).map(|(value, _)| value.clone()));
        self.1 == Fault::Compares || transaction.is_as_expected(get).unwrap()
    }

    fn write(&self, write: KeyValueWrite) {
        match write {
            KeyValueWrite::Put { name, value, end } => {
                self.2.lock().unwrap().entry(name.clone()).or_insert(end);
                self.0.values().insert(name, (value, end));
            }
            KeyValueWrite::Remove { .. } if self.1 == Fault::Leaves => {}
            KeyValueWrite::Remove { name } => {
                self.0.values().remove(&name);
            }
        }
    }
}

impl KeyValueDatabase for Faulty {
    async fn get(&self, names: &[String]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
        let mut found = self.0.get(names).await?;
        yield_now().await;
        match self.1 {
            Fault::Sorts => found.reverse(),
            Fault::Skips => found.retain(Option::is_some),
            Fault::Fails => return Err(anyhow::anyhow!("no space").context("the disk is full")),
            _ => {}
        }
        Ok(found)
    }

    async fn commit(
        &self,
        mut transaction: KeyValueTransaction,
    ) -> anyhow::Result<KeyValueOutcome> {
        if !self.is_as_expected(&transaction) {
            if self.1 == Fault::Agrees {
                return Ok(KeyValueOutcome::Done);
            }
            return Ok(KeyValueOutcome::Changed);
        }
        match self.1 {
            Fault::Waits => yield_now().await,
            Fault::LosesLast if transaction.writes.len() > 1 => drop(transaction.writes.pop()),
            Fault::Unlocks => std::thread::sleep(std::time::Duration::from_micros(200)),
            _ => {}
        }
        for write in transaction.writes {
            if self.1 == Fault::Tears {
                yield_now().await;
            }
            if self.1 == Fault::KeepsAll
                && let KeyValueWrite::Put { value, .. } = &write
                && value.ends_with(b"ended")
            {
                continue;
            }
            self.write(write);
        }
        Ok(KeyValueOutcome::Done)
    }

    async fn sweep(&self, now: u64, limit: usize) -> anyhow::Result<usize> {
        match self.1 {
            Fault::SweepsAll => self.0.sweep(u64::MAX, limit).await,
            Fault::SweepsByFirstEnd => {
                let ends = self.2.lock().unwrap();
                let is_over = |name: &String| ends.get(name).is_some_and(|end| *end <= now);
                self.0.values().retain(|name, _| !is_over(name));
                Ok(0)
            }
            Fault::SweepsNothing => {
                let values = self.0.values();
                let ends = values.values().map(|(_, end)| *end);
                Ok(ends.filter(|end| *end <= now).take(limit).count())
            }
            Fault::SweepsLate => {
                let mut over = self.0.values().clone();
                over.retain(|_, (_, end)| *end <= now);
                yield_now().await;
                self.0.values().retain(|name, _| !over.contains_key(name));
                Ok(over.len())
            }
            _ => self.0.sweep(now, limit).await,
        }
    }
}

type Store = KeyValueSessionStore<Faulty>;

fn faulty(fault: Fault) -> Faulty {
    Faulty(InMemory::default(), fault, FirstEnds::default())
}

async fn kit(fault: Fault) -> Kit<Store> {
    let store = async |clock| {
        let builder = KeyValueSessionStore::builder(faulty(fault));
        builder.clock(clock).build()
    };
    Kit::new(store).await
}

#[track_caller]
fn assert_names(broken: Result<(), BrokenPromise>, words: &[&str]) {
    let broken = broken.expect_err("the fault is found").to_string();
    for words in words {
        assert!(broken.contains(words), "{broken}");
    }
}

#[actix_web::test]
async fn a_race_between_compare_and_write_is_found() {
    let kit = kit(Fault::Waits).await;
    let words = ["were lost", "compare and write in one atomic step"];
    let broken = conformance::parallel_changes_are_all_kept(&kit).await;
    let told = broken.as_ref().unwrap_err().to_string();
    assert!(!told.contains("made_on"), "there is none: {told}");
    assert_names(broken, &words);
    let words = ["has come back", "a logout is undone"];
    assert_names(conformance::an_end_wins_every_race(&kit).await, &words);
    let words = ["renewals of one session at once", "it must be one"];
    assert_names(conformance::a_renewal_is_one_step(&kit).await, &words);
}

#[actix_web::test]
async fn a_race_of_threads_is_found() {
    let kit = kit(Fault::Unlocks).await;
    let words = ["4 threads", "were lost", "under one lock"];
    assert_names(conformance::threads_lose_nothing(&kit).await, &words);
}

#[actix_web::test]
async fn what_compares_nothing_is_found() {
    let kit = kit(Fault::Compares).await;
    assert_names(
        conformance::parallel_changes_are_all_kept(&kit).await,
        &["were lost"],
    );
}

#[actix_web::test]
async fn what_leaves_the_principal_out_is_found() {
    let kit = kit(Fault::ComparesSessionsAlone).await;
    let words = ["must be compared in the transaction that writes the session"];
    let broken = conformance::parallel_logins_are_all_listed(&kit).await;
    assert_names(broken, &words);
    let broken = conformance::a_revocation_ends_every_earlier_login(&kit).await;
    assert_names(broken, &words);
}

#[actix_web::test]
async fn what_writes_half_of_a_transaction_is_found() {
    let kit = kit(Fault::Tears).await;
    let broken = [
        conformance::dropped_calls_leave_no_half(&kit).await,
        conformance::a_renewal_is_one_step(&kit).await,
        conformance::changes_and_ends_follow_a_renewal(&kit).await,
    ];
    assert!(broken.iter().any(Result::is_err), "half a renewal is found");
}

#[actix_web::test]
async fn what_forgets_a_write_or_mixes_values_up_is_found() {
    let keeps = kit(Fault::KeepsAll).await;
    let words = ["a deleted session still opens"];
    assert_names(conformance::sessions_live_and_end(&keeps).await, &words);
    let sorts = kit(Fault::Sorts).await;
    let broken = conformance::sessions_are_listed_by_principal(&sorts).await;
    assert!(
        broken.is_err(),
        "values that come in another order are found"
    );
}

#[actix_web::test]
async fn a_database_that_does_something_else_is_told_in_words_of_its_methods() {
    for (fault, words) in [
        (
            Fault::Compares,
            "`commit` must answer `Changed` if another value is there",
        ),
        (Fault::Agrees, "must answer `Changed`"),
        (Fault::LosesLast, "not all of its writes are there"),
        (Fault::Leaves, "a `Remove` must remove"),
        (Fault::Sorts, "`get` must answer in the order of the names"),
        (Fault::Skips, "`get` must answer one value for each name"),
        (Fault::SweepsAll, "whose end is later than `now`"),
        (Fault::SweepsNothing, "whose end has come is still there"),
        (Fault::SweepsByFirstEnd, "a `Put` replaces the end too"),
        (
            Fault::SweepsLate,
            "compare the end and remove in one atomic step",
        ),
    ] {
        let kit = kit(fault).await;
        let broken = conformance::the_database_does_what_it_is_told(&kit).await;
        assert_names(broken, &[words]);
    }
}

#[actix_web::test]
async fn a_sweep_that_removes_what_lives_is_found() {
    let all = kit(Fault::SweepsAll).await;
    let words = ["after a sweep", "must be `Forwarded`, and is `Gone`"];
    assert_names(conformance::a_sweep_ends_nothing(&all).await, &words);
    let first = kit(Fault::SweepsByFirstEnd).await;
    let words = ["a sweep has removed a session that was extended"];
    assert_names(conformance::a_sweep_ends_nothing(&first).await, &words);
}

#[actix_web::test]
async fn a_store_that_has_another_clock_is_found() {
    let store = KeyValueSessionStore::new(InMemory::default());
    let kit = Kit::new(async |_| store).await;
    let words = ["time to live is over", "must go by the clock"];
    assert_names(conformance::sessions_end_in_time(&kit).await, &words);
}

/// Whether backtraces are on or not.
#[actix_web::test]
async fn a_failure_is_told_in_a_line_with_its_causes() {
    let broken = conformance::sessions_live_and_end(&kit(Fault::Fails).await).await;
    let broken = broken.unwrap_err().to_string();
    assert!(broken.ends_with(": the disk is full: no space"), "{broken}");
    assert!(broken.contains("`create` failed: "), "{broken}");
}

/// A store of five methods that takes itself for more.
#[actix_web::test]
async fn what_five_methods_cannot_promise_is_found() {
    async fn waiting() -> Kit<Waiting> {
        Kit::new(async |_| Waiting::default()).await
    }

    let lost = conformance::parallel_changes_are_all_kept(&waiting().await).await;
    assert_names(lost, &["were lost"]);
    let undone = conformance::a_renewal_undoes_no_logout(&waiting().await).await;
    assert_names(undone, &["is undone", "`Changes::made_on`"]);
    let several = conformance::one_renewal_counts(&waiting().await).await;
    assert_names(several, &["it must be one"]);
    let moved = conformance::changes_and_ends_follow_a_renewal(&waiting().await).await;
    assert_names(moved, &["must be `Forwarded`"]);
    assert!(!conformance::not_promised_by_five_methods().is_empty());
}
