//! The list of ended sessions, for cookie-stored ones.

use std::time::SystemTime;

use tokio::sync::oneshot;

use super::{KeyValueDatabase, KeyValueSessionStore};
use crate::{
    live,
    storage::{RevocationFuture, RevocationStore, notes},
};

impl<D: KeyValueDatabase> RevocationStore for KeyValueSessionStore<D> {
    fn revoke<'a>(
        &'a self,
        name: &'a str,
        at: SystemTime,
        until: SystemTime,
    ) -> RevocationFuture<'a, bool> {
        let name = name.to_owned();
        self.elsewhere(async move |store| notes::revoke(&store, &name, at, until).await)
    }

    fn revoked_at<'a>(&'a self, name: &'a str) -> RevocationFuture<'a, Option<SystemTime>> {
        let name = name.to_owned();
        self.elsewhere(async move |store| notes::revoked_at(&store, &name).await)
    }
}

impl<D: KeyValueDatabase> KeyValueSessionStore<D> {
    /// Does this on the runtime of live ends: the futures of a database need not be `Send`, and those of a
    /// list must be.
    fn elsewhere<'a, T: Send + 'static>(
        &self,
        call: impl AsyncFnOnce(Self) -> anyhow::Result<T> + Send + 'static,
    ) -> RevocationFuture<'a, T> {
        let (tell, told) = oneshot::channel();
        let store = self.clone();
        live::spawn(move || async move {
            // Nobody may wait any more.
            let _ = tell.send(call(store).await);
        });
        Box::pin(async move {
            let answer = told.await;
            answer.unwrap_or_else(|_| Err(anyhow::anyhow!("the session database panicked")))
        })
    }
}
