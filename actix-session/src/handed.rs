//! What the five published methods do not say to a store: the keys that prove metadata, the entry that
//! names the principal, the format to write, whether the request is quiet, how much time there is, and whose
//! session is to be ended.
//!
//! The middleware polls `delete` inside [`hand`], as the default bodies do with those methods, and a
//! store of this crate looks here. A wrapper that runs the inner store in another task loses this; its
//! metadata then pass through unread.

use std::{cell::RefCell, future::poll_fn, rc::Rc, sync::Arc};

use tokio::time::Instant;

use crate::{
    clock::Millis,
    contract::Older,
    record::{MetadataKeys, Owner, PrincipalEntry, WireFormat},
};

#[derive(Clone)]
pub(crate) struct Handed {
    pub(crate) keys: Option<Arc<MetadataKeys>>,
    /// For a store that ends sessions by what they are known as.
    pub(crate) principal_entry: Option<PrincipalEntry>,
    pub(crate) format: WireFormat,
    /// What is written ends no later than before.
    pub(crate) quiet: bool,
    /// For how long what is ended leaves a trace.
    pub(crate) grace: Millis,
    /// When the budget is over.
    pub(crate) until: Instant,
    /// What the store hands back: only another key can extend this session.
    pub(crate) keeps_end: bool,
    /// Where a store whose key is the state puts what is to be ended once the new value is known to fit.
    pub(crate) later: Option<Later>,
    /// Whose the session is that is to be ended, if that is known.
    pub(crate) owner: Option<Owner>,
}

/// What a `delete` has left to be ended later.
#[derive(Clone, Default)]
pub(crate) struct Later(Rc<RefCell<Vec<Older>>>);

impl Later {
    pub(crate) fn put(&self, older: Older) {
        self.0.borrow_mut().push(older);
    }

    /// All of it together.
    pub(crate) fn take(&self) -> Older {
        let mut all = self.0.take();
        match all.pop() {
            Some(only) if all.is_empty() => only,
            Some(last) => Older::ended_by(async move {
                let mut first = last.end().await?;
                for older in all {
                    first &= older.end().await?;
                }
                Ok(first)
            }),
            None => Older::none(),
        }
    }
}

thread_local! {
    static HANDED: RefCell<Option<Handed>> = const { RefCell::new(None) };
}

/// Runs a call of one of the five methods for a middleware that hands this on. Says too whether the
/// store keeps the session's end.
pub(crate) async fn hand<F: Future>(mut handed: Handed, call: F) -> (F::Output, bool) {
    // On the heap: a store inside of a store would make a deep stack.
    let mut call = Box::pin(call);
    poll_fn(move |context| {
        let _back = PutBack(HANDED.replace(Some(handed.clone())));
        let polled = call.as_mut().poll(context);
        handed.keeps_end |= self::handed().is_some_and(|handed| handed.keeps_end);
        polled.map(|output| (output, handed.keeps_end))
    })
    .await
}

/// Tells the middleware behind a call, if there is one, that only another key can extend this
/// session.
pub(crate) fn keep_end() {
    HANDED.with_borrow_mut(|handed| {
        if let Some(handed) = handed {
            handed.keeps_end = true;
        }
    });
}

/// What the middleware behind a call has handed over; `None` if a program calls the store itself.
pub(crate) fn handed() -> Option<Handed> {
    HANDED.with_borrow(Clone::clone)
}

/// Restores what was there before, even if the poll panics.
struct PutBack(Option<Handed>);

impl Drop for PutBack {
    fn drop(&mut self) {
        HANDED.set(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_program_asks_for_itself_says_nothing_of_the_next_call() {
        let handed = Handed {
            keys: None,
            principal_entry: None,
            format: WireFormat::V1,
            quiet: false,
            grace: Millis::ZERO,
            until: Instant::now(),
            keeps_end: false,
            later: None,
            owner: None,
        };
        keep_end();
        assert!(!hand(handed.clone(), async {}).await.1);
        let after_a_pause = async {
            keep_end();
            tokio::task::yield_now().await;
        };
        assert!(hand(handed.clone(), after_a_pause).await.1);
        assert!(!hand(handed, async {}).await.1);
    }
}
