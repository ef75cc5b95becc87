//! The runtime on which a store's own connections live.
//!
//! A connection belongs to the runtime that opened it: while a handler keeps that one busy, nobody
//! can use the connection. And a worker that stops in the middle of its statements holds their
//! connections. So the connections that all workers share are opened, used and given back on a
//! thread where no handler runs.

use std::{convert::Infallible, io, sync, thread};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    task::JoinHandle,
};
use tracing::Instrument as _;

/// A runtime with one thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct OwnRuntime {
    handle: Handle,
    /// The thread waits for its end.
    _alive: oneshot::Sender<Infallible>,
}

impl OwnRuntime {
    /// # Errors
    /// The system allows no further thread, or no further file descriptor.
    pub(crate) fn start() -> io::Result<Self> {
        let (alive, ended) = oneshot::channel();
        let (told, built) = sync::mpsc::channel();
        // It is built there: where there is no thread, it could not be dropped without blocking.
        thread::Builder::new()
            .name("session-database".to_owned())
            .spawn(move || {
                let runtime = match Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(told.send(Err(error))),
                };
                if told.send(Ok(runtime.handle().clone())).is_ok() {
                    let ended = runtime.block_on(ended);
                    ended.map_or_else(drop, |never| match never {});
                }
            })?;
        let handle = built.recv().map_err(io::Error::other)??;
        Ok(Self {
            handle,
            _alive: alive,
        })
    }

    /// Does work that goes on if nobody waits for it any more. `None` if it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.spawn(work.in_current_span()).await.ok()
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(work)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_while_whoever_asked_for_it_is_busy() {
        let runtime = OwnRuntime::start().unwrap();
        let (done, seen) = mpsc::channel();
        let work = runtime.spawn(async move { done.send(1).unwrap() });
        // This thread runs no task until the work is done.
        assert_eq!(seen.recv().unwrap(), 1);
        work.await.unwrap();
        assert_eq!(runtime.run(async { 2 }).await, Some(2));
        assert_eq!(runtime.run(async { panic!("as meant") }).await, None::<()>);
    }

    #[test]
    fn its_thread_ends_with_it() {
        let runtime = OwnRuntime::start().unwrap();
        let (alive, ended) = mpsc::channel::<()>();
        runtime.spawn(async move {
            std::future::pending::<()>().await;
            drop(alive);
        });
        drop(runtime);
        assert!(ended.recv().is_err(), "its tasks are dropped");
    }
}
