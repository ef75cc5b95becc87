//! What takes an index of sessions by principal.

use std::{sync::Arc, time::Duration};

use actix_web::rt::{spawn, task::yield_now, time::timeout};
use futures_util::future::{join, join_all};

use super::kit::{BrokenPromise, Kept, Kit, TTL, failed, promise, word};
use crate::{
    Session, SessionManager,
    clock::SharedClock,
    contract::Committed,
    key::SessionKey,
    live::{Looking, Watch, pair},
    observe::Observed,
    storage::SessionIndex,
};

/// No busy machine exceeds it.
const PATIENCE: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_millis(100);

impl<S: SessionIndex> Kit<S> {
    fn manager(&self) -> SessionManager {
        let index = self.store.index();
        SessionManager::of_middleware(
            index,
            self.terms.clone(),
            self.looking(),
            Observed::default(),
        )
    }

    fn looking(&self) -> Looking {
        Looking {
            terms: Arc::new(self.terms.clone()),
            clock: SharedClock::new(self.clock.clone()),
            lease: LEASE,
        }
    }

    async fn login(&self, principal: &str) -> Result<SessionKey, BrokenPromise> {
        let login = |session: &Session| drop(session.login(principal));
        let key = self.create(login).await;
        // Logins are told apart by their times.
        self.pass(Duration::from_millis(10));
        key
    }

    async fn sweep(&self) -> Kept {
        let swept = self.store.index().0.sweep_all(&self.terms()).await;
        swept.map_err(failed("sweep")).map(drop)
    }

    async fn count(&self, principal: &str) -> Result<usize, BrokenPromise> {
        self.manager()
            .count(principal)
            .await
            .map_err(failed("count"))
    }
}

/// Whose a session is, the step knows that writes it: logins and renewals are listed, logouts and
/// ends are not, and revoking ends what it says.
///
/// # Errors
/// The list is wrong, or revoking ends other sessions.
pub async fn sessions_are_listed_by_principal<S: SessionIndex>(kit: &Kit<S>) -> Kept {
    let (ferris, corro) = ("ferris \u{1F980}|:", "corro");
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(kit.login(ferris).await?);
    }
    let other = kit.login(corro).await?;
    promise!(
        kit.count(ferris).await? == 3,
        "three logins are {} in the list",
        kit.count(ferris).await?
    );
    let renewed = kit.renew(kit.load(&keys[0]).await?).await?;
    promise!(
        kit.count(ferris).await? == 3,
        "after a renewal, a principal's sessions are {} instead of 3",
        kit.count(ferris).await?
    );
    let request = kit.load(&keys[1]).await?;
    request.session.clear();
    kit.commit(request).await?;
    promise!(
        kit.count(ferris).await? == 2,
        "a session that was cleared is nobody's, and is still listed"
    );
    let late = kit.load(&renewed).await?;
    kit.delete(&renewed).await?;
    promise!(
        kit.count(ferris).await? == 1,
        "an ended session is still listed"
    );
    late.session.renew();
    kit.rotate(late).await?;
    promise!(
        kit.count(ferris).await? == 1,
        "a renewal that came after the end of its session has left a new one behind, which is listed"
    );
    let manager = kit.manager();
    let list = manager.list(ferris).await.map_err(failed("list"))?;
    for listed in list {
        let revoked = manager.revoke(corro, &listed.handle()).await;
        promise!(
            !revoked.map_err(failed("revoke"))?,
            "a principal has revoked another's session"
        );
        let revoked = manager.revoke(ferris, &listed.handle()).await;
        promise!(
            revoked.map_err(failed("revoke"))?,
            "a listed session cannot be revoked"
        );
    }
    promise!(
        !kit.is_live(&keys[2]).await?,
        "a revoked session still opens"
    );
    promise!(
        kit.count(ferris).await? == 0,
        "a revoked session is still listed"
    );
    promise!(
        kit.is_live(&other).await? && kit.count(corro).await? == 1,
        "ending one principal's sessions has ended another's"
    );
    Ok(())
}

/// Logins of one principal at once are all listed.
///
/// # Errors
/// One is not.
pub async fn parallel_logins_are_all_listed<S: SessionIndex>(kit: &Kit<S>) -> Kept {
    let logins = (0..8).map(|_| kit.create(|session| drop(session.login("ferris"))));
    for login in join_all(logins).await {
        login?;
    }
    let listed = kit.count("ferris").await?;
    promise!(
        listed == 8,
        "of 8 logins at once {listed} are listed: the value of the principal must be compared in the \
         transaction that writes the session"
    );
    Ok(())
}

/// Once all of a principal's sessions are revoked, none opens that was logged in before, however its
/// login and the revocation overlap. A later login counts.
///
/// # Errors
/// One does.
pub async fn a_revocation_ends_every_earlier_login<S: SessionIndex>(kit: &Kit<S>) -> Kept {
    for round in 0..8 {
        let principal = format!("ferris-{round}");
        let before = kit.login(&principal).await?;
        let (held, renews) = (kit.load(&before).await?, kit.load(&before).await?);
        let guests: Vec<_> = (0..8).map(|_| kit.guest()).collect();
        for guest in &guests {
            guest.login(&*principal).map_err(failed("login"))?;
        }
        // Each begins a little later than the one before, so that some are halfway when all are revoked.
        let logins = guests.into_iter().enumerate().map(async |(n, guest)| {
            for _ in 0..n {
                yield_now().await;
            }
            kit.create_from(guest).await
        });
        let logins = join_all(logins);
        let manager = kit.manager();
        let (logins, revoked) = join(logins, manager.revoke_all(&principal)).await;
        revoked.map_err(failed("revoke_all"))?;
        // A login that comes too late is an error.
        for key in logins.into_iter().flatten().chain([before]) {
            promise!(
                !kit.is_live(&key).await?,
                "a session opens that was logged in before all of its principal's were revoked: the \
                 value of the principal must be compared in the transaction that writes the session"
            );
        }
        held.count()?;
        kit.commit(held).await?;
        renews.session.renew();
        if let crate::contract::Rotated::Rotated(key, ..) = kit.rotate(renews).await? {
            promise!(
                !kit.is_live(&key).await?,
                "a renewal has outlived a revocation"
            );
        }
        promise!(
            kit.count(&principal).await? == 0,
            "a revoked session is still listed"
        );
        kit.pass(Duration::from_secs(1));
        let later = kit.login(&principal).await?;
        promise!(
            kit.is_live(&later).await? && kit.count(&principal).await? == 1,
            "a login after a revocation must count"
        );
    }
    Ok(())
}

/// A sweep removes nothing that counts: sessions whose life was extended, the way from an old key to a
/// new one, what has ended, and whose sessions are whose.
///
/// # Errors
/// It does.
pub async fn a_sweep_ends_nothing<S: SessionIndex>(kit: &Kit<S>) -> Kept {
    let (extended, committed) = (kit.login("ferris").await?, kit.login("ferris").await?);
    kit.pass(TTL - MINUTE);
    kit.open_on(&extended, &kit.extending()).await?;
    let request = kit.load(&committed).await?;
    request.insert("n", 1)?;
    kit.commit(request).await?;
    let (moved, ended) = (kit.login("ferris").await?, kit.login("ferris").await?);
    let (held, late) = (kit.load(&moved).await?, kit.load(&ended).await?);
    let renewed = kit.renew(kit.load(&moved).await?).await?;
    kit.delete(&ended).await?;
    kit.sweep().await?;
    held.insert("n", 1)?;
    let answer = kit.commit(held).await?;
    promise!(
        matches!(answer, Committed::Forwarded),
        "after a sweep, a commit under a key that was renewed must be `Forwarded`, and is {}",
        word(&answer)
    );
    // Past the first end of all that are older.
    kit.pass(MINUTE + Duration::from_secs(1));
    kit.sweep().await?;
    promise!(
        kit.is_live(&extended).await? && kit.is_live(&committed).await?,
        "a sweep has removed a session that was extended: it must go by the end that was written last"
    );
    promise!(
        kit.is_live(&renewed).await?,
        "a sweep has removed a session that lives"
    );
    promise!(
        kit.count("ferris").await? == 3,
        "after a sweep, a principal's sessions are {} instead of 3: it must leave the value of the \
         principal until that has ended",
        kit.count("ferris").await?
    );
    late.insert("n", 1)?;
    kit.commit(late).await?;
    promise!(
        !kit.is_live(&ended).await?,
        "after a sweep, a request in flight has brought an ended session back"
    );
    Ok(())
}

/// Whoever waits for the end of a session is told, also after a renewal.
///
/// # Errors
/// Nobody is told, or of an end that was none.
pub async fn ends_are_told<S: SessionIndex + Clone + 'static>(kit: &Kit<S>) -> Kept {
    let key = kit.login("ferris").await?;
    let base = kit.load(&key).await?.base;
    let known = base.as_ref().and_then(|record| record.metadata());
    let (ended, waits) = pair();
    let watch = Watch::new(waits, known, kit.looking());
    let watching = spawn({
        let (store, key, terms) = (kit.store.clone(), key.duplicate(), kit.terms());
        async move { store.watch(&key, watch, &terms).await }
    });
    let renewed = kit.renew(kit.load(&key).await?).await?;
    let early = timeout(5 * LEASE, pin_ref(&ended)).await.is_ok();
    promise!(!early, "a renewal must not count as the end of a session");
    kit.delete(&renewed).await?;
    let told = timeout(PATIENCE, ended).await.is_ok();
    watching.abort();
    promise!(
        told,
        "whoever waits for the end of a session (`Session::ended`) is not told"
    );
    Ok(())
}

/// Resolves when an end has been told, and takes nothing away.
async fn pin_ref(ended: &crate::SessionEnded) {
    while ended.reason().is_none() {
        actix_web::rt::time::sleep(LEASE / 4).await;
    }
}
