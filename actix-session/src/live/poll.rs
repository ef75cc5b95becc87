//! Ends that nobody tells: the store is asked again and again.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    EndReason, Watch,
    watch::{AGAIN, pause},
};
use crate::{
    contract::{Opened, Terms},
    key::SessionKey,
    storage::SessionStore,
};

/// Looks by a store's own method. One that keeps no redirects cannot say where a renewed session is,
/// so that it has ended.
pub(crate) async fn poll<S: SessionStore + ?Sized>(store: &S, key: &SessionKey, mut watch: Watch) {
    let (unwanted, lease) = (unwanted(&watch), watch.looking.lease);
    while !watch.is_unwanted() {
        let terms = watch.looking.terms_now();
        let Some(answer) = ask(store.open(key, &terms), &terms, &unwanted).await else {
            return;
        };
        let next = match answer.map(|opened| opened.proven(&terms)) {
            Some(Opened::Live(record)) if watch.is_same(&record) => pause(&record, &terms, lease),
            Some(Opened::Live(_) | Opened::Moved(_) | Opened::Nothing) => {
                return watch.tell(EndReason::Gone);
            }
            // Nobody knows: it may be alive.
            Some(Opened::Unreadable) => lease,
            None => lease.min(AGAIN),
        };
        wait(next, &unwanted).await;
    }
}

/// The same over a back end whose steps tell nobody, since it stays on one thread.
#[cfg(any(feature = "_backend", test))]
pub(crate) async fn poll_backend<B: crate::protocol::Backend>(
    store: &B,
    mut at: crate::protocol::Name,
    mut watch: Watch,
) {
    use super::look::{Seen, follow};

    let lease = watch.looking.within_grace(watch.looking.lease);
    let unwanted = unwanted(&watch);
    while !watch.is_unwanted() {
        let terms = watch.looking.terms_now();
        let look = follow(store, at.clone(), None, &terms);
        let Some(answer) = ask(look, &terms, &unwanted).await else {
            return;
        };
        let next = match answer {
            Some(Seen::Live(now_at, record)) if watch.is_same(&record) => {
                at = now_at;
                pause(&record, &terms, lease)
            }
            Some(Seen::Ahead(now_at)) => {
                at = now_at;
                Duration::ZERO
            }
            Some(Seen::Live(..) | Seen::Nothing) => return watch.tell(EndReason::Gone),
            Some(Seen::Unreadable) => lease,
            None => lease.min(AGAIN),
        };
        wait(next, &unwanted).await;
    }
}

/// What the store answers, if it does so in time. The outer `None`: nobody waits any more.
#[allow(clippy::option_option, reason = "both mean something of their own")]
pub(crate) async fn ask<T, E>(
    call: impl Future<Output = Result<T, E>>,
    terms: &Terms,
    unwanted: &Notify,
) -> Option<Option<T>> {
    let answer = timeout(terms.budget, call);
    match select(pin!(answer), pin!(unwanted.notified())).await {
        Either::Left((answer, _)) => Some(answer.ok().and_then(Result::ok)),
        Either::Right(_) => None,
    }
}

/// Is notified when nobody waits any more.
pub(crate) fn unwanted(watch: &Watch) -> Arc<Notify> {
    let unwanted = Arc::new(Notify::new());
    let told = Arc::clone(&unwanted);
    watch.when_unwanted(move || told.notify_one());
    unwanted
}

/// Waits, or until somebody says that there is something to do.
pub(crate) async fn wait(pause: Duration, until: &Notify) {
    select(pin!(sleep(pause)), pin!(until.notified())).await;
}
