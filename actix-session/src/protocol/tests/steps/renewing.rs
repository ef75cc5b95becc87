//! Renewals, and the redirects that they leave.

use super::{
    FORMATS, GRACE, MINUTE, Place, Steps, TTL, assert_done, assert_nothing, assert_redirect,
    assert_taken, found, minutes, on_each_place,
};
use crate::{clock::Millis, protocol::Reply, record::WireFormat};

on_each_place! {
    a_renewal_moves_the_record_and_leaves_a_redirect,
    a_redirect_runs_out_before_its_record,
    a_renewal_moves_nothing_else,
    a_renewal_takes_no_name_that_somebody_has,
    a_renewal_takes_the_name_of_what_has_expired,
    a_renewal_finds_its_own_redirect_and_its_record_stays,
    a_repeated_renewal_leaves_alone_what_others_wrote_since,
    a_renewal_that_comes_second_leaves_nothing,
}

async fn a_renewal_moves_the_record_and_leaves_a_redirect<P: Place>(steps: Steps<P>) {
    for format in FORMATS {
        let (first, second) = (steps.record(format, 1), steps.record(format, 2));
        let at = steps.insert(&first).await;
        let target = steps.beside(Some(&at));
        let redirect = steps.redirect(&target);
        let until = steps.now() + minutes(90);
        let rotated = steps.rotate_until(&at, &first, (&second, until), &target);
        assert_done(&rotated.await);
        assert_redirect(&steps.read(&at).await, &redirect);
        steps.holds(&steps.read(&target).await, &second);
        steps.lives_for(&target, minutes(90)).await;
        // Nobody's looking moves the record's end or the redirect's.
        for terms in [steps.terms(), steps.terms().touching()] {
            assert_redirect(&steps.look(&at, &terms).await, &redirect);
        }
        steps.lives_for(&target, minutes(90)).await;
        // The record goes on from there.
        let (third, next) = (steps.record(format, 3), steps.beside(Some(&target)));
        assert_done(&steps.rotate(&target, &second, &third, &next).await);
        assert_redirect(&steps.read(&at).await, &redirect);
        steps.holds(&steps.read(&next).await, &third);
    }
}

async fn a_redirect_runs_out_before_its_record<P: Place>(steps: Steps<P>) {
    let (first, second) = (
        steps.record(WireFormat::V1, 1),
        steps.record(WireFormat::V1, 2),
    );
    let at = steps.insert(&first).await;
    let target = steps.beside(Some(&at));
    let redirect = steps.redirect(&target);
    assert_done(&steps.rotate(&at, &first, &second, &target).await);
    steps.pass(GRACE - MINUTE).await;
    // Neither looking nor setting a TTL makes it live longer.
    let terms = steps.terms().touching();
    assert_redirect(&steps.look(&at, &terms).await, &redirect);
    steps.set_ttl(&at, TTL).await;
    assert_redirect(&found(steps.replace(&at, &first, &second).await), &redirect);
    if P::EXACT {
        steps.pass(MINUTE - Millis(1)).await;
        assert_redirect(&steps.read(&at).await, &redirect);
        steps.pass(Millis(1)).await;
    } else {
        steps.pass(MINUTE).await;
    }
    assert_nothing(&steps.read(&at).await);
    assert_nothing(&steps.look(&at, &steps.terms().touching()).await);
    assert_nothing(&found(steps.replace(&at, &first, &second).await));
    assert_nothing(&found(steps.end(&at).await));
    steps.holds(&steps.read(&target).await, &second);
    // The name is free again.
    assert_done(&steps.insert_at(&at, &first).await);
}

async fn a_renewal_moves_nothing_else<P: Place>(steps: Steps<P>) {
    for format in FORMATS {
        let before = steps.record(format, 1);
        let since = [
            steps.record(format, 2),
            steps.with_metadata(format, 3, |metadata| metadata.epoch = 9),
        ];
        let new = steps.record(format, 4);
        for since in since {
            let at = steps.insert(&since).await;
            let target = steps.beside(Some(&at));
            let there = found(steps.rotate(&at, &before, &new, &target).await);
            steps.holds(&there, &since);
            steps.holds(&steps.read(&at).await, &since);
            steps.lives_for(&at, TTL).await;
            assert_nothing(&steps.read(&target).await);
        }
        let (nowhere, target) = (steps.name(), steps.name());
        assert_nothing(&found(steps.rotate(&nowhere, &before, &new, &target).await));
        assert_nothing(&steps.read(&nowhere).await);
        assert_nothing(&steps.read(&target).await);
    }
}

async fn a_renewal_takes_no_name_that_somebody_has<P: Place>(steps: Steps<P>) {
    for format in FORMATS {
        let [first, second, theirs] = [1, 2, 3].map(|commit| steps.record(format, commit));
        let at = steps.insert(&first).await;
        let taken = steps.beside(Some(&at));
        assert_done(&steps.insert_at(&taken, &theirs).await);
        assert_taken(&steps.rotate(&at, &first, &second, &taken).await);
        steps.holds(&steps.read(&at).await, &first);
        steps.holds(&steps.read(&taken).await, &theirs);
        // Nothing hinders the next attempt.
        let free = steps.beside(Some(&at));
        assert_done(&steps.rotate(&at, &first, &second, &free).await);
        steps.holds(&steps.read(&free).await, &second);
    }
}

async fn a_renewal_takes_the_name_of_what_has_expired<P: Place>(steps: Steps<P>) {
    let record = |commit| steps.record(WireFormat::V1, commit);
    let target = steps.insert(&record(1)).await;
    steps.pass(TTL).await;
    let at = steps.beside(Some(&target));
    let (first, second) = (record(2), record(3));
    assert_done(&steps.insert_at(&at, &first).await);
    assert_done(&steps.rotate(&at, &first, &second, &target).await);
    steps.holds(&steps.read(&target).await, &second);
    steps.lives_for(&target, TTL).await;
}

async fn a_renewal_finds_its_own_redirect_and_its_record_stays<P: Place>(steps: Steps<P>) {
    for format in FORMATS {
        let (first, second) = (steps.record(format, 1), steps.record(format, 2));
        let at = steps.insert(&first).await;
        let target = steps.beside(Some(&at));
        let redirect = steps.redirect(&target);
        assert_done(&steps.rotate(&at, &first, &second, &target).await);
        let there = found(steps.rotate(&at, &first, &second, &target).await);
        assert_redirect(&there, &redirect);
        steps.holds(&steps.read(&target).await, &second);
    }
}

async fn a_repeated_renewal_leaves_alone_what_others_wrote_since<P: Place>(steps: Steps<P>) {
    let record = |commit| steps.record(WireFormat::V1, commit);
    let (first, second, since) = (record(1), record(2), record(3));
    let at = steps.insert(&first).await;
    let target = steps.beside(Some(&at));
    assert_done(&steps.rotate(&at, &first, &second, &target).await);
    assert_done(&steps.replace(&target, &second, &since).await);
    // A step for one slot finds the redirect first; one in two steps finds the name taken.
    match steps.rotate(&at, &first, &second, &target).await {
        Reply::Taken => {}
        reply => assert_redirect(&found(reply), &steps.redirect(&target)),
    }
    steps.holds(&steps.read(&target).await, &since);
}

async fn a_renewal_that_comes_second_leaves_nothing<P: Place>(steps: Steps<P>) {
    let record = |commit| steps.record(WireFormat::V1, commit);
    let (first, second, late) = (record(1), record(2), record(3));
    let at = steps.insert(&first).await;
    let [one, two] = [(), ()].map(|()| steps.beside(Some(&at)));
    let redirect = steps.redirect(&one);
    assert_done(&steps.rotate(&at, &first, &second, &one).await);
    let there = found(steps.rotate(&at, &first, &late, &two).await);
    assert_redirect(&there, &redirect);
    assert_nothing(&steps.read(&two).await);
    steps.holds(&steps.read(&one).await, &second);
}
