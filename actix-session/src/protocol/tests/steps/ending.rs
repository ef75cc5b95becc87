//! Endings.

use super::{
    FORMATS, Place, Steps, TTL, assert_done, assert_nothing, assert_redirect, found, on_each_place,
};
use crate::{protocol::Until, record::WireFormat};

on_each_place! {
    an_end_stays,
    an_ending_says_where_the_record_has_moved,
    what_cannot_be_read_can_be_ended,
    an_ending_of_nothing_does_nothing,
}

async fn an_end_stays<P: Place>(steps: Steps<P>) {
    for format in FORMATS {
        let (first, second) = (steps.record(format, 1), steps.record(format, 2));
        let (at, other) = (steps.insert(&first).await, steps.insert(&first).await);
        assert_done(&steps.end(&at).await);
        assert_nothing(&steps.read(&at).await);
        // Not even whoever knows the record brings it back, by whatever means.
        for until in [Until::Same, Until::At(steps.now() + TTL)] {
            assert_nothing(&found(steps.cas(&at, &first, &second, until).await));
        }
        let target = steps.beside(Some(&at));
        assert_nothing(&found(steps.rotate(&at, &first, &second, &target).await));
        assert_nothing(&steps.read(&target).await);
        steps.set_ttl(&at, TTL).await;
        assert_nothing(&steps.look(&at, &steps.terms().touching()).await);
        assert_nothing(&found(steps.end(&at).await));
        assert_nothing(&steps.read(&at).await);
        steps.holds(&steps.read(&other).await, &first);
    }
}

async fn an_ending_says_where_the_record_has_moved<P: Place>(steps: Steps<P>) {
    let (first, second) = (
        steps.record(WireFormat::V1, 1),
        steps.record(WireFormat::V1, 2),
    );
    let at = steps.insert(&first).await;
    let target = steps.beside(Some(&at));
    let redirect = steps.redirect(&target);
    assert_done(&steps.rotate(&at, &first, &second, &target).await);
    // A step ends the record at its own name alone, and leaves redirects to whoever comes later.
    for _ in 0..2 {
        assert_redirect(&found(steps.end(&at).await), &redirect);
        steps.holds(&steps.read(&target).await, &second);
    }
    assert_done(&steps.end(&target).await);
    assert_nothing(&steps.read(&target).await);
    assert_redirect(&steps.read(&at).await, &redirect);
    assert_redirect(&found(steps.end(&at).await), &redirect);
}

async fn what_cannot_be_read_can_be_ended<P: Place>(steps: Steps<P>) {
    let at = steps.insert(&steps.record(WireFormat::V1, 1)).await;
    if steps.place.garble(&at).await {
        assert_done(&steps.end(&at).await);
        assert_nothing(&steps.read(&at).await);
    }
}

async fn an_ending_of_nothing_does_nothing<P: Place>(steps: Steps<P>) {
    let at = steps.name();
    assert_nothing(&found(steps.end(&at).await));
    assert_nothing(&steps.read(&at).await);
    // Expired is not ended: whether the row is still there makes no difference afterwards.
    let expired = steps.insert(&steps.record(WireFormat::V1, 1)).await;
    steps.pass(TTL).await;
    steps.end(&expired).await;
    assert_nothing(&steps.read(&expired).await);
    assert_nothing(&found(steps.end(&expired).await));
}
