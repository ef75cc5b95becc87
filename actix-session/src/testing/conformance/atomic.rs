//! What takes a compare-and-set in one step.

use std::time::Duration;

use actix_web::rt::task::yield_now;
use futures_util::future::{join, join_all};

use super::kit::{BrokenPromise, Kept, Kit, promise, word};
use crate::{
    contract::{Committed, Opened},
    storage::SessionStore,
};

/// How many requests run at once.
const PARALLEL: u64 = 16;
const ROUNDS: u64 = 4;

const ATOMIC: &str = "compare and write in one atomic step, under one lock or in one transaction, \
                      and merge with `Changes::made_on` what is there at that time";

/// Requests that change one session at once lose nothing: neither entries of different names nor
/// increments of one entry.
///
/// # Errors
/// Something is lost.
pub async fn parallel_changes_are_all_kept<S: SessionStore + Clone>(kit: &Kit<S>) -> Kept {
    let key = kit.counter().await?;
    for round in 0..ROUNDS {
        let mut requests = Vec::new();
        for n in 0..PARALLEL {
            let request = kit.load(&key).await?;
            request.count()?;
            request.insert(&format!("entry-{round}-{n}"), n)?;
            requests.push(kit.commit_apart(request));
        }
        for answer in join_all(requests).await {
            let answer = answer?;
            promise!(
                matches!(answer, Committed::Saved(_)),
                "a commit to a live session must be `Saved`, and is {}",
                word(&answer)
            );
        }
    }
    let request = kit.load(&key).await?;
    let entries = request.session.entries().len() as u64 - 1;
    let all = ROUNDS * PARALLEL;
    promise!(
        request.number("n") == Some(all) && entries == all,
        "{all} parallel commits were acknowledged, and {} of them were lost: {ATOMIC}",
        all.abs_diff(request.number("n").unwrap_or_default().min(entries))
    );
    Ok(())
}

/// If a session ends while a request loads it, which may extend it, or commits to it, it stays ended.
///
/// # Errors
/// It comes back.
pub async fn an_end_wins_every_race<S: SessionStore + Clone>(kit: &Kit<S>) -> Kept {
    an_end_beside_commits(kit).await?;
    an_end_beside_loads(kit).await
}

async fn an_end_beside_loads<S: SessionStore + Clone>(kit: &Kit<S>) -> Kept {
    for round in 0..4 * ROUNDS {
        let key = kit.counter().await?;
        // So that there is something to extend.
        kit.clock.advance(Duration::from_secs(1));
        let load = async {
            yields(round % 3).await;
            kit.open_on(&key, &kit.extending()).await
        };
        let delete = async {
            yields(round % 5).await;
            kit.delete(&key).await
        };
        let (loaded, deleted) = join(load, delete).await;
        loaded?;
        deleted?;
        let opened = kit.open(&key).await?;
        promise!(
            !matches!(opened, Opened::Live(_)),
            "a session that was ended while a request loaded it has come back, so that a logout is undone: \
             `open` writes a new end only if what it has read is there still"
        );
    }
    Ok(())
}

async fn an_end_beside_commits<S: SessionStore + Clone>(kit: &Kit<S>) -> Kept {
    for round in 0..4 * ROUNDS {
        let key = kit.counter().await?;
        let mut requests = Vec::new();
        for _ in 0..4 {
            let request = kit.load(&key).await?;
            request.insert("late", round)?;
            requests.push(request);
        }
        // Some begin before the end does, and some after it, by different lengths.
        let commits = requests.into_iter().zip(1..).map(async |(request, n)| {
            yields(n * (round % 3)).await;
            kit.commit_apart(request).await
        });
        let delete = async {
            yields(round % 5).await;
            kit.delete(&key).await
        };
        let (deleted, committed) = join(delete, join_all(commits)).await;
        deleted?;
        committed
            .into_iter()
            .collect::<Result<Vec<_>, BrokenPromise>>()?;
        let opened = kit.open(&key).await?;
        promise!(
            !matches!(opened, Opened::Live(_)),
            "a session that was ended while a request committed to it has come back, so that a \
             logout is undone: {ATOMIC}, and write nothing if the record is gone"
        );
    }
    Ok(())
}

async fn yields(times: u64) {
    for _ in 0..times {
        yield_now().await;
    }
}
