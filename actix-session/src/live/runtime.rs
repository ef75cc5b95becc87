//! The thread on which the ends of sessions are looked for. No handler runs there.

use std::{pin::Pin, sync::OnceLock, thread};

use tokio::{
    runtime::Builder,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{LocalSet, spawn_local},
};

type Task = Pin<Box<dyn Future<Output = ()>>>;
type Job = Box<dyn FnOnce() -> Task + Send>;

/// Runs a task on that thread, which starts with the first one.
pub(crate) fn spawn<F: Future<Output = ()> + 'static>(make: impl FnOnce() -> F + Send + 'static) {
    static JOBS: OnceLock<UnboundedSender<Job>> = OnceLock::new();
    let job: Job = Box::new(move || Box::pin(make()));
    // It fails only if the thread could not start, which was logged.
    drop(JOBS.get_or_init(start).send(job));
}

fn start() -> UnboundedSender<Job> {
    let (sender, jobs) = unbounded_channel();
    let thread = thread::Builder::new().name("session-ends".to_owned());
    if let Err(error) = thread.spawn(move || run(jobs)) {
        tracing::error!(%error, "no thread can be started, so nobody looks for ends of sessions");
    }
    sender
}

fn run(mut jobs: UnboundedReceiver<Job>) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime can be started, so nobody looks for ends of sessions");
            return;
        }
    };
    LocalSet::new().block_on(&runtime, async move {
        while let Some(job) = jobs.recv().await {
            spawn_local(job());
        }
    });
}
