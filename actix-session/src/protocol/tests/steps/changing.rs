//! Creations and commits.

use super::{
    FORMATS, MINUTE, Place, Steps, TTL, assert_done, assert_nothing, assert_redirect, assert_taken,
    assert_unreadable, found, minutes, on_each_place,
};
use crate::{
    clock::Millis,
    protocol::Until,
    record::{Metadata, Record, WireFormat},
};

on_each_place! {
    a_creation_takes_a_free_name_alone,
    what_has_expired_does_not_keep_its_name,
    a_commit_replaces_what_it_expects,
    a_commit_replaces_nothing_else,
    a_text_is_compared_to_the_last_octet,
    a_commit_makes_no_record,
    a_commit_learns_where_the_record_has_moved,
    a_commit_leaves_what_cannot_be_read,
    a_commit_whose_end_has_come_writes_nothing,
    an_expired_record_stays_expired,
}

async fn a_creation_takes_a_free_name_alone<P: Place>(steps: Steps<P>) {
    for format in FORMATS {
        let (first, second) = (steps.record(format, 1), steps.record(format, 2));
        let at = steps.name();
        assert_nothing(&steps.read(&at).await);
        assert_done(&steps.insert_at(&at, &first).await);
        steps.lives_for(&at, TTL).await;
        assert_taken(&steps.insert_at(&at, &second).await);
        // Not even by itself: a repeat asks who has it.
        assert_taken(&steps.insert_at(&at, &first).await);
        steps.holds(&steps.read(&at).await, &first);
    }
}

async fn what_has_expired_does_not_keep_its_name<P: Place>(steps: Steps<P>) {
    let at = steps.insert(&steps.record(WireFormat::V1, 1)).await;
    steps.pass(TTL).await;
    let second = steps.record(WireFormat::V1, 2);
    assert_done(&steps.insert_at(&at, &second).await);
    steps.holds(&steps.read(&at).await, &second);
    steps.lives_for(&at, TTL).await;
}

async fn a_commit_replaces_what_it_expects<P: Place>(steps: Steps<P>) {
    for format in FORMATS {
        let [first, second, third] = [1, 2, 3].map(|commit| steps.record(format, commit));
        let at = steps.insert(&first).await;
        let other = steps.insert(&first).await;
        steps.pass(minutes(5)).await;

        let until = Until::At(steps.now() + minutes(90));
        assert_done(&steps.cas(&at, &first, &second, until).await);
        steps.holds(&steps.read(&at).await, &second);
        steps.lives_for(&at, minutes(90)).await;

        assert_done(&steps.cas(&at, &second, &third, Until::Same).await);
        steps.holds(&steps.read(&at).await, &third);
        steps.lives_for(&at, minutes(90)).await;

        // An end that is later than the present one moves nothing.
        for (most, left) in [(100, 90), (30, 30)] {
            let until = Until::AtMost(steps.now() + minutes(most));
            let before = if left == 90 { &third } else { &first };
            let after = if left == 90 { &first } else { &third };
            assert_done(&steps.cas(&at, before, after, until).await);
            steps.holds(&steps.read(&at).await, after);
            steps.lives_for(&at, minutes(left)).await;
        }

        // Records are told apart by their names, not by what they hold.
        steps.holds(&steps.read(&other).await, &first);
        steps.lives_for(&other, minutes(55)).await;
    }
}

async fn a_commit_replaces_nothing_else<P: Place>(steps: Steps<P>) {
    for format in FORMATS {
        let before = steps.record(format, 1);
        let since = [
            steps.record(format, 2),
            // A `clear`, which draws an epoch and is a commit of its own.
            steps.with_metadata(format, 3, |metadata| metadata.epoch = 9),
        ];
        let new = steps.record(format, 4);
        for since in since {
            let at = steps.insert(&before).await;
            assert_done(&steps.replace(&at, &before, &since).await);
            let until = Until::At(steps.now() + minutes(90));
            let there = found(steps.cas(&at, &before, &new, until).await);
            steps.holds(&there, &since);
            steps.holds(&steps.read(&at).await, &since);
            steps.lives_for(&at, TTL).await;
        }
    }
}

/// Old servers change a record and carry the id of the last commit along.
async fn a_text_is_compared_to_the_last_octet<P: Place>(steps: Steps<P>) {
    let record = |n: &str, id| {
        let metadata = Metadata {
            ttl: Some(TTL),
            ..Metadata::new(id, steps.now())
        };
        let entries = [("n".into(), n.into())];
        Record::written(WireFormat::V0_11, 1, metadata, &entries)
    };
    let expected = record("\"a\"", 1);
    let new = record("\"new\"", 1);
    let longer = format!("{} ", expected.as_text().unwrap());
    let others = [
        Record::decode(longer).unwrap(),
        record("\"A\"", 1),
        record("\"a \"", 1),
        record("\"á\"", 1),
        record("\"\"", 1),
        record("\"a\"", 2),
    ];
    for other in others {
        let text = other.as_text().unwrap();
        assert!(text.contains("0000000000000001."), "the id of the commit");
        let at = steps.insert(&other).await;
        let there = found(steps.replace(&at, &expected, &new).await);
        steps.holds(&there, &other);
        let target = steps.beside(Some(&at));
        let there = found(steps.rotate(&at, &expected, &new, &target).await);
        steps.holds(&there, &other);
        steps.holds(&steps.read(&at).await, &other);
        assert_nothing(&steps.read(&target).await);
    }
}

async fn a_commit_makes_no_record<P: Place>(steps: Steps<P>) {
    for format in FORMATS {
        let (first, second) = (steps.record(format, 1), steps.record(format, 2));
        let at = steps.name();
        for until in [Until::Same, Until::At(steps.now() + TTL)] {
            let there = found(steps.cas(&at, &first, &second, until).await);
            assert_nothing(&there);
            assert_nothing(&steps.read(&at).await);
        }
    }
}

async fn a_commit_learns_where_the_record_has_moved<P: Place>(steps: Steps<P>) {
    let (first, second) = (
        steps.record(WireFormat::V1, 1),
        steps.record(WireFormat::V1, 2),
    );
    let at = steps.insert(&first).await;
    let target = steps.beside(Some(&at));
    let redirect = steps.redirect(&target);
    assert_done(&steps.rotate(&at, &first, &second, &target).await);
    for expect in [&first, &second] {
        let there = found(steps.replace(&at, expect, &first).await);
        assert_redirect(&there, &redirect);
    }
    steps.holds(&steps.read(&target).await, &second);
}

async fn a_commit_leaves_what_cannot_be_read<P: Place>(steps: Steps<P>) {
    for format in FORMATS {
        let (first, second) = (steps.record(format, 1), steps.record(format, 2));
        let at = steps.insert(&first).await;
        if !steps.place.garble(&at).await {
            return;
        }
        assert_unreadable(&found(steps.replace(&at, &first, &second).await));
        let target = steps.beside(Some(&at));
        assert_unreadable(&found(steps.rotate(&at, &first, &second, &target).await));
        assert_unreadable(&steps.read(&at).await);
        assert_nothing(&steps.read(&target).await);
        assert_taken(&steps.insert_at(&at, &second).await);
    }
}

/// An absolute end may come before the commit does.
async fn a_commit_whose_end_has_come_writes_nothing<P: Place>(steps: Steps<P>) {
    let (first, second) = (
        steps.record(WireFormat::V1, 1),
        steps.record(WireFormat::V1, 2),
    );
    let at = steps.insert(&first).await;
    let target = steps.beside(Some(&at));
    for end in [steps.now(), steps.now() - MINUTE] {
        let until = Until::At(end);
        assert_nothing(&found(steps.cas(&at, &first, &second, until).await));
        let rotated = steps.rotate_until(&at, &first, (&second, end), &target);
        assert_nothing(&found(rotated.await));
        steps.holds(&steps.read(&at).await, &first);
        assert_nothing(&steps.read(&target).await);
    }
}

async fn an_expired_record_stays_expired<P: Place>(steps: Steps<P>) {
    for format in FORMATS {
        let (first, second) = (steps.record(format, 1), steps.record(format, 2));
        let at = steps.insert(&first).await;
        steps.pass(TTL - MINUTE).await;
        steps.holds(&steps.read(&at).await, &first);
        if P::EXACT {
            steps.pass(MINUTE - Millis(1)).await;
            steps.holds(&steps.read(&at).await, &first);
            steps.pass(Millis(1)).await;
        } else {
            steps.pass(MINUTE).await;
        }
        assert_nothing(&steps.read(&at).await);
        for until in [Until::Same, Until::At(steps.now() + TTL)] {
            assert_nothing(&found(steps.cas(&at, &first, &second, until).await));
        }
        let target = steps.beside(Some(&at));
        assert_nothing(&found(steps.rotate(&at, &first, &second, &target).await));
        assert_nothing(&steps.read(&target).await);
        assert_nothing(&steps.read(&at).await);
    }
}
