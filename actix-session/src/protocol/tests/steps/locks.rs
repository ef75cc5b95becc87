//! The lock on a principal, which is a record too.

use std::time::Duration;

use super::*;
use crate::{error::CommitError, storage::lease};

on_each_place! {
    a_lock_is_held_by_one_and_its_record_ends_soon,
}

const PRINCIPAL: &str = "user-42";

async fn a_lock_is_held_by_one_and_its_record_ends_soon<P: Place>(steps: Steps<P>) {
    let (store, at) = (steps.store(), lease::name_of(steps.store(), PRINCIPAL));
    steps.names.borrow_mut().push(at.clone());
    let take = async |budget| {
        let terms = Terms {
            budget,
            ..steps.terms()
        };
        lease::take(store, PRINCIPAL, &terms).await
    };
    let long = steps.terms().budget;
    for _ in 0..2 {
        let held = take(long).await.unwrap();
        steps
            .lives_for(&at, Millis::from(long) + Millis::secs(10))
            .await;
        let refused = take(Duration::from_millis(30)).await.unwrap_err();
        assert!(matches!(refused, CommitError::Contended), "{refused}");
        lease::release(store, held, &steps.terms()).await;
        steps.lives_for(&at, Millis::secs(5)).await;
        // While it is there and after it.
        drop(take(long).await.unwrap());
        // Whoever held it has died.
        steps.pass(Millis::secs(60)).await;
        assert_nothing(&steps.read(&at).await);
    }
}
