//! Reading that extends, and times to live that are set.

use super::{
    FORMATS, MINUTE, Place, Steps, TTL, assert_nothing, assert_unreadable, minutes, on_each_place,
};
use crate::{
    clock::Millis,
    contract::{ExtendOnRead, Terms},
    protocol::{Name, Stored},
    record::{Auth, Metadata, Record, WireFormat},
    storage::index::{Index as _, Page},
};

on_each_place! {
    reading_extends_if_the_terms_say_so,
    a_look_that_is_no_activity_knows_the_end,
    an_extension_rests_for_its_interval,
    an_interval_ends_no_session_of_a_shorter_time,
    an_extension_comes_however_near_the_absolute_end_is,
    a_ttl_of_its_own_comes_before_the_policys,
    no_extension_reaches_past_the_absolute_end,
    what_is_past_its_absolute_end_is_not_extended,
    a_record_without_metadata_is_extended,
    nothing_is_not_extended,
    what_cannot_be_read_is_not_taken_for_nothing,
    a_ttl_that_is_set_holds_from_now_on,
    a_ttl_that_is_set_reaches_no_further_than_the_absolute_end,
}

impl<P: Place> Steps<P> {
    fn extending(&self) -> Terms {
        Terms {
            extend: ExtendOnRead::Always,
            ..self.terms()
        }
    }

    /// Looks, and finds a record; answers when it says that it ends.
    async fn found_end(&self, at: &str, terms: &Terms) -> Option<Millis> {
        match self.look(at, terms).await {
            Stored::Record(record) => record.end(),
            found => panic!("{found:?}"),
        }
    }

    /// After this look the record lives for exactly that long, and says so.
    async fn extends_to(&self, at: &str, terms: &Terms, span: Millis) {
        let said = self.found_end(at, terms).await.unwrap() - self.now();
        // A server with a clock of its own has counted on since it was told.
        assert!(
            said <= span && said > span - MINUTE,
            "{said:?}, not {span:?}"
        );
        self.lives_for(at, span).await;
    }

    /// Records in each format whose metadata are set like this.
    async fn each_with(&self, set: impl Fn(&mut Metadata)) -> [Name; 2] {
        let [one, two] = FORMATS.map(|format| self.with_metadata(format, 1, &set));
        [self.insert(&one).await, self.insert(&two).await]
    }
}

/// Whoever waits for the end of a session looks again then, be it behind a redirect.
async fn a_look_that_is_no_activity_knows_the_end<P: Place>(steps: Steps<P>) {
    use crate::live::look::{Seen, follow};

    let quiet = || steps.terms().quiet();
    for at in steps.each_with(|_| {}).await {
        let end = steps.found_end(&at, &quiet()).await.unwrap();
        steps.pass(MINUTE).await;
        let again = steps.found_end(&at, &quiet()).await.unwrap();
        assert!(again <= end && again > end - MINUTE, "{again:?} {end:?}");
        let Seen::Live(_, record) = follow(steps.store(), at, None, &quiet()).await.unwrap() else {
            panic!("it is alive");
        };
        assert!(record.end().is_some_and(|end| end > steps.now()));
    }
}

async fn reading_extends_if_the_terms_say_so<P: Place>(steps: Steps<P>) {
    let names = steps.each_with(|_| ()).await;
    steps.pass(minutes(5)).await;
    for at in names {
        let said = steps.found_end(&at, &steps.terms()).await;
        assert!(said.is_none_or(|end| end <= steps.now() + minutes(55)));
        steps.read(&at).await;
        steps.lives_for(&at, minutes(55)).await;
        steps.extends_to(&at, &steps.extending(), TTL).await;
        let longer = Terms {
            ttl: minutes(90),
            ..steps.extending()
        };
        steps.extends_to(&at, &longer, minutes(90)).await;
    }
}

async fn an_extension_rests_for_its_interval<P: Place>(steps: Steps<P>) {
    let names = steps.each_with(|_| ()).await;
    let seldom = || Terms {
        extend: ExtendOnRead::AtMostEvery(minutes(10)),
        ..steps.terms()
    };
    steps.pass(minutes(9)).await;
    for at in &names {
        steps.extends_to(at, &seldom(), minutes(51)).await;
    }
    steps.pass(minutes(1)).await;
    for at in &names {
        steps.extends_to(at, &seldom(), TTL).await;
    }
}

/// A session with a time of its own is extended once half of that is over: it would end in use.
async fn an_interval_ends_no_session_of_a_shorter_time<P: Place>(steps: Steps<P>) {
    for own in [minutes(8), minutes(10), minutes(12)] {
        let names = steps.each_with(|metadata| metadata.ttl = Some(own)).await;
        let seldom = || Terms {
            extend: ExtendOnRead::AtMostEvery(minutes(10)),
            ..steps.terms()
        };
        for at in &names {
            steps.extends_to(at, &steps.extending(), own).await;
        }
        steps.pass(minutes(3)).await;
        for at in &names {
            steps.extends_to(at, &seldom(), own - minutes(3)).await;
        }
        steps.pass(minutes(3)).await;
        for at in &names {
            steps.extends_to(at, &seldom(), own).await;
        }
    }
}

/// The interval is that between two extensions, not what one gains.
async fn an_extension_comes_however_near_the_absolute_end_is<P: Place>(steps: Steps<P>) {
    let end = steps.now() + minutes(70);
    let names = steps
        .each_with(|metadata| metadata.absolute_end = Some(end))
        .await;
    let seldom = || Terms {
        extend: ExtendOnRead::AtMostEvery(minutes(30)),
        ..steps.terms()
    };
    steps.pass(minutes(29)).await;
    for at in &names {
        steps.extends_to(at, &seldom(), minutes(31)).await;
    }
    steps.pass(minutes(2)).await;
    for at in &names {
        steps.extends_to(at, &seldom(), minutes(39)).await;
    }
    // There is nothing to gain any more.
    steps.pass(minutes(35)).await;
    for at in &names {
        steps.extends_to(at, &seldom(), minutes(4)).await;
    }
}

async fn a_ttl_of_its_own_comes_before_the_policys<P: Place>(steps: Steps<P>) {
    for own in [minutes(20), minutes(90)] {
        let names = steps.each_with(|metadata| metadata.ttl = Some(own)).await;
        for at in names {
            steps.extends_to(&at, &steps.extending(), own).await;
        }
    }
}

/// The session's own end comes before the policy's, which counts from the authentication, or else
/// from the creation.
async fn no_extension_reaches_past_the_absolute_end<P: Place>(steps: Steps<P>) {
    let now = steps.now();
    let absolute = |span| Terms {
        absolute: Some(span),
        ..steps.extending()
    };
    let logged_in = |metadata: &mut Metadata| {
        metadata.created = now - minutes(35);
        metadata.auth = Some(Box::new(Auth {
            login: Some(now - minutes(15)),
            ..Auth::new("alice", now - minutes(5))
        }));
    };
    let own = |end: Millis| move |metadata: &mut Metadata| metadata.absolute_end = Some(end);
    for at in steps.each_with(own(now + minutes(30))).await {
        steps.extends_to(&at, &steps.extending(), minutes(30)).await;
        steps
            .extends_to(&at, &absolute(minutes(20)), minutes(30))
            .await;
    }
    let older = |metadata: &mut Metadata| {
        metadata.created = now - minutes(10);
        // A text for old servers has no creation unless there is more to say.
        metadata.ttl = Some(TTL);
    };
    for at in steps.each_with(older).await {
        steps
            .extends_to(&at, &absolute(minutes(40)), minutes(30))
            .await;
    }
    for at in steps.each_with(logged_in).await {
        steps
            .extends_to(&at, &absolute(minutes(40)), minutes(35))
            .await;
    }
    let short = |metadata: &mut Metadata| {
        metadata.ttl = Some(minutes(90));
        metadata.absolute_end = Some(now + minutes(45));
    };
    for at in steps.each_with(short).await {
        steps.extends_to(&at, &steps.extending(), minutes(45)).await;
    }
}

async fn what_is_past_its_absolute_end_is_not_extended<P: Place>(steps: Steps<P>) {
    let end = steps.now() + minutes(30);
    let names = steps
        .each_with(|metadata| metadata.absolute_end = Some(end))
        .await;
    steps.pass(minutes(30)).await;
    for at in &names {
        let terms = steps.extending();
        assert_nothing(&steps.look(at, &terms).await.live(&terms));
        assert_nothing(&steps.read(at).await.live(&terms));
    }
    // Its idle end comes no later than it would have come anyway.
    steps.pass(minutes(30)).await;
    for at in &names {
        assert_nothing(&steps.read(at).await);
    }
}

async fn a_record_without_metadata_is_extended<P: Place>(steps: Steps<P>) {
    for text in [r#"{"v":1,"state":{"a":1}}"#, r#"{"a":"1"}"#] {
        let record = Record::decode(text.to_owned()).unwrap();
        let at = steps.insert(&record).await;
        steps.pass(minutes(5)).await;
        steps.extends_to(&at, &steps.extending(), TTL).await;
        steps.holds(&steps.read(&at).await, &record);
    }
}

async fn nothing_is_not_extended<P: Place>(steps: Steps<P>) {
    let nowhere = steps.name();
    let expired = steps.insert(&steps.record(WireFormat::V1, 1)).await;
    steps.pass(TTL).await;
    for at in [&nowhere, &expired] {
        assert_nothing(&steps.look(at, &steps.extending()).await);
        steps.set_ttl(at, TTL).await;
        assert_nothing(&steps.look(at, &steps.terms()).await);
        assert_nothing(&steps.read(at).await);
    }
}

async fn what_cannot_be_read_is_not_taken_for_nothing<P: Place>(steps: Steps<P>) {
    let at = steps.insert(&steps.record(WireFormat::V1, 1)).await;
    if !steps.place.garble(&at).await {
        return;
    }
    for terms in [steps.terms(), steps.extending()] {
        assert_unreadable(&steps.look(&at, &terms).await);
    }
}

async fn a_ttl_that_is_set_holds_from_now_on<P: Place>(steps: Steps<P>) {
    let plain = steps.each_with(|_| ()).await;
    let own = steps.each_with(|m| m.ttl = Some(minutes(20))).await;
    steps.pass(minutes(5)).await;
    for at in plain.iter().chain(&own) {
        for span in [minutes(90), minutes(7), minutes(50)] {
            steps.set_ttl(at, span).await;
            steps.lives_for(at, span).await;
        }
    }
}

async fn a_ttl_that_is_set_reaches_no_further_than_the_absolute_end<P: Place>(steps: Steps<P>) {
    let end = steps.now() + minutes(30);
    for at in steps
        .each_with(|metadata| metadata.absolute_end = Some(end))
        .await
    {
        steps.set_ttl(&at, minutes(90)).await;
        steps.lives_for(&at, minutes(30)).await;
        steps.set_ttl(&at, minutes(10)).await;
        steps.lives_for(&at, minutes(10)).await;
    }
}

/// As an extension does: behind a wrapper of five methods it comes by this one.
#[actix_web::test]
async fn a_ttl_that_is_set_keeps_what_a_database_knows_of_the_owner() {
    let steps = Steps::<super::places::KeyValue>::start().await;
    let record = steps.with_metadata(WireFormat::V1, 1, |metadata| {
        metadata.auth = Some(Auth::new("alice", metadata.created).into());
    });
    let at = steps.insert(&record).await;
    let days = |count: i64| minutes(count * 24 * 60);
    let page = Page {
        after: None,
        limit: 10,
    };
    for _ in 0..12 {
        steps.set_ttl(&at, days(60)).await;
        steps.pass(days(40)).await;
        let listed = steps.store().sessions("alice", page, &steps.terms()).await;
        assert_eq!(listed.unwrap().len(), 1);
    }
}
