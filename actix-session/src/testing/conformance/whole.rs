//! What takes the library's whole protocol: redirects and tombstones beside the records.

use std::thread;

use actix_web::rt::System;
use futures_util::future::{join, join_all};

use super::kit::{BrokenPromise, Kept, Kit, promise, word};
use crate::{
    contract::{Committed, Opened, Rotated},
    storage::SessionStore,
    testing::dropped_after,
};

const ROUNDS: usize = 8;
const THREADS: u64 = 4;
const PER_THREAD: u64 = 25;

/// Threads that change one session at once lose nothing.
///
/// # Errors
/// Something is lost.
pub async fn threads_lose_nothing<S: SessionStore + Clone + Send + 'static>(kit: &Kit<S>) -> Kept {
    let key = kit.counter().await?;
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (kit, key) = (kit.share(), key.duplicate());
            thread::spawn(move || {
                System::new().block_on(async move {
                    for _ in 0..PER_THREAD {
                        let request = kit.load(&key).await?;
                        request.count()?;
                        kit.commit(request).await?;
                    }
                    Ok::<_, BrokenPromise>(())
                })
            })
        })
        .collect();
    for thread in threads {
        let joined = thread.join();
        joined.map_err(|_| anyhow::anyhow!("the store panics if several threads use it"))??;
    }
    let (found, all) = (kit.load(&key).await?.number("n"), THREADS * PER_THREAD);
    promise!(
        found == Some(all),
        "{all} commits of {THREADS} threads were acknowledged, and {} of them were lost: compare and \
         write under one lock, or in one transaction that is isolated from all others",
        all.abs_diff(found.unwrap_or_default())
    );
    Ok(())
}

/// A renewal gives the session, as it is then, to a new key. From that moment on the old one opens
/// nothing, and of several renewals at once only one counts.
///
/// # Errors
/// It does not.
pub async fn a_renewal_is_one_step<S: SessionStore + Clone>(kit: &Kit<S>) -> Kept {
    for _ in 0..ROUNDS {
        let old = kit.counter().await?;
        let mut renewals = Vec::new();
        for _ in 0..4 {
            let request = kit.load(&old).await?;
            request.session.renew();
            renewals.push(kit.rotate_apart(request));
        }
        let counts = kit.load(&old).await?;
        counts.count()?;
        let (renewed, committed) = join(join_all(renewals), kit.commit_apart(counts)).await;
        let committed = committed?;
        promise!(
            !matches!(committed, Committed::Gone),
            "a commit beside a renewal must be `Saved` or follow as `Forwarded`, and is {}",
            word(&committed)
        );
        let mut keys = Vec::new();
        for answer in renewed {
            if let Rotated::Rotated(key, ..) = answer? {
                keys.push(key);
            }
        }
        promise!(
            keys.len() == 1,
            "of four renewals of one session at once {} gave out a key, and it must be one",
            keys.len()
        );
        let opened = kit.open(&old).await?;
        promise!(
            matches!(opened, Opened::Moved(_)),
            "the old key of a renewed session must open nothing and say that it has `Moved`, and \
             `open` answered {}",
            word(&opened)
        );
        let request = kit.load(&keys[0]).await?;
        promise!(
            request.number("n") == Some(1),
            "a change that was acknowledged beside a renewal is lost: the record under the new key \
             must be the one that was compared"
        );
    }
    Ok(())
}

/// The changes of a request that loaded the session before its renewal follow to the new key, and so
/// does an end under the old one.
///
/// # Errors
/// They do not.
pub async fn changes_and_ends_follow_a_renewal<S: SessionStore>(kit: &Kit<S>) -> Kept {
    let first = kit.counter().await?;
    let in_flight = kit.load(&first).await?;
    let second = kit.renew(kit.load(&first).await?).await?;
    let third = kit.renew(kit.load(&second).await?).await?;
    in_flight.count()?;
    let answer = kit.commit(in_flight).await?;
    promise!(
        matches!(answer, Committed::Forwarded),
        "a commit under a key that was renewed must be `Forwarded`, and is {}",
        word(&answer)
    );
    promise!(
        kit.load(&third).await?.number("n") == Some(1),
        "a change that was `Forwarded` is not there under the new key"
    );
    kit.delete(&first).await?;
    promise!(
        !kit.is_live(&third).await?,
        "a logout with the old cookie has not ended the renewed session"
    );

    for _ in 0..ROUNDS {
        let key = kit.counter().await?;
        let request = kit.load(&key).await?;
        request.session.renew();
        let (renewed, deleted) = join(kit.rotate(request), kit.delete(&key)).await;
        deleted?;
        if let Rotated::Rotated(new, ..) = renewed? {
            promise!(
                !kit.is_live(&new).await?,
                "a session that was ended while it was renewed lives on under its new key: delete \
                 the old record and leave the redirect in one transaction"
            );
        }
    }
    Ok(())
}

/// A request that is dropped at any moment leaves the session as it was or as it was to become, and
/// never a half.
///
/// # Errors
/// It leaves something else.
pub async fn dropped_calls_leave_no_half<S: SessionStore>(kit: &Kit<S>) -> Kept {
    for polls in 1..24 {
        let key = kit.counter().await?;
        let request = kit.load(&key).await?;
        request.count()?;
        request.insert("with", 1)?;
        dropped_after(polls, kit.commit(request))
            .await
            .transpose()?;
        let found = kit.load(&key).await?;
        promise!(
            matches!(
                (found.number("n"), found.number("with")),
                (Some(0), None) | (Some(1), Some(1))
            ),
            "a commit that was dropped has left half of its changes: write all of a transaction, or \
             nothing"
        );

        let request = kit.load(&key).await?;
        request.session.renew();
        let renewed = dropped_after(polls, kit.rotate(request))
            .await
            .transpose()?;
        // What is still under way may be done later: an end follows it all the same.
        kit.delete(&key).await?;
        promise!(
            !kit.is_live(&key).await?,
            "after a renewal that was dropped, the old key cannot be ended"
        );
        if let Some(Rotated::Rotated(new, ..)) = renewed {
            promise!(
                !kit.is_live(&new).await?,
                "an end does not follow a renewal"
            );
        }
    }
    Ok(())
}
