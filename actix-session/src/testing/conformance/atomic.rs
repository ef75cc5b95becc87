//! What takes a compare-and-set in one step.

use std::time::Duration;

use actix_web::rt::task::yield_now;
use futures_util::future::{join, join_all};

use super::kit::{BrokenPromise, Kept, Kit, TTL, promise, word};
use crate::{
    Session,
    contract::{Committed, Opened, Rotated},
    storage::SessionStore,
};

/// How many requests run at once.
const PARALLEL: u64 = 16;
const ROUNDS: u64 = 4;

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
        "{all} parallel commits were acknowledged, and {} of them were lost: {}",
        all.abs_diff(request.number("n").unwrap_or_default().min(entries)),
        kit.atomic()
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
             logout is undone: {}, and write nothing if the record is gone",
            kit.atomic()
        );
    }
    Ok(())
}

/// Of several renewals of one session at once one counts, and a change that is acknowledged beside them
/// is in the renewed session.
///
/// # Errors
/// Several count, or the change is lost.
pub async fn one_renewal_counts<S: SessionStore + Clone>(kit: &Kit<S>) -> Kept {
    for round in 0..4 * ROUNDS {
        let key = kit.counter().await?;
        let mut renewals = Vec::new();
        for n in 1..=3 {
            let request = kit.load(&key).await?;
            request.session.renew();
            renewals.push(async move {
                yields(n * (round % 3)).await;
                kit.rotate_apart(request).await
            });
        }
        let counts = kit.load(&key).await?;
        counts.count()?;
        let counts = async {
            yields(round % 7).await;
            kit.commit_apart(counts).await
        };
        let (committed, renewed) = join(counts, join_all(renewals)).await;
        let mut keys = Vec::new();
        for answer in renewed {
            if let Rotated::Rotated(key, ..) = answer? {
                keys.push(key);
            }
        }
        promise!(
            keys.len() == 1,
            "of three renewals of one session at once {} gave out a key, and it must be one: delete the \
             old record only if it is what was read, and take the new one back if it is not",
            keys.len()
        );
        let is_kept = matches!(committed?, Committed::Saved(_) | Committed::Forwarded);
        promise!(
            !is_kept || kit.load(&keys[0]).await?.number("n") == Some(1),
            "a change that was acknowledged beside a renewal is lost: {}",
            kit.atomic()
        );
    }
    Ok(())
}

/// If somebody logs out by a `clear` while a request renews the session, the renewed session is nobody's.
///
/// # Errors
/// It brings the login back.
pub async fn a_renewal_undoes_no_logout<S: SessionStore + Clone>(kit: &Kit<S>) -> Kept {
    for round in 0..8 * ROUNDS {
        let login = |session: &Session| drop(session.login("ferris"));
        let key = kit.create(login).await?;
        let (renews, clears) = (kit.load(&key).await?, kit.load(&key).await?);
        renews.session.renew();
        clears.session.clear();
        let renew = async {
            yields(round % 3).await;
            kit.rotate_apart(renews).await
        };
        let clear = async {
            yields(round % 5).await;
            kit.commit_apart(clears).await
        };
        let (renewed, cleared) = join(renew, clear).await;
        // A logout that is `Gone` has come after the renewal.
        let is_cleared = matches!(cleared?, Committed::Saved(_) | Committed::Forwarded);
        let Rotated::Rotated(new, ..) = renewed? else {
            continue;
        };
        let Opened::Live(record) = kit.open(&new).await? else {
            continue;
        };
        promise!(
            !is_cleared || record.principal().is_none(),
            "a logout that was acknowledged beside a renewal is undone: whoever was logged in still is, \
             under the new key: {}, and delete the old record only if it is what was read",
            kit.atomic()
        );
    }
    Ok(())
}

/// What a quiet request changes is written, and the session ends no later for that.
///
/// # Errors
/// It ends later, or the change is lost. A store that cannot be given a clock leaves this out.
pub async fn quiet_changes_move_no_end<S: SessionStore>(kit: &Kit<S>) -> Kept {
    const MINUTE: Duration = Duration::from_secs(60);

    let key = kit.counter().await?;
    kit.pass(TTL - MINUTE);
    let request = kit.load(&key).await?;
    request.count()?;
    let answer = kit.commit_quietly(request).await?;
    promise!(
        matches!(answer, Committed::Saved(_)),
        "a commit to a live session must be `Saved`, and is {}",
        word(&answer)
    );
    promise!(
        kit.load(&key).await?.number("n") == Some(1),
        "what a quiet request has changed is not there"
    );
    kit.pass(MINUTE);
    promise!(
        !kit.is_live(&key).await?,
        "{}",
        if kit.is_over_a_database() {
            "a session ends later than a quiet request has left it: keep the `end` of each `Put`"
        } else {
            "a quiet request has extended a session: on terms that keep the end (`Terms::keeps_end`), a \
             commit writes the end that the record has, unless `Terms::end` comes before it"
        }
    );
    Ok(())
}

async fn yields(times: u64) {
    for _ in 0..times {
        yield_now().await;
    }
}
