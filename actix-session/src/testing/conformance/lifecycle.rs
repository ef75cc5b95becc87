//! What every store must do.

use std::{collections::HashMap, time::Duration};

use actix_web::cookie::time::Duration as CookieDuration;

use super::kit::{BrokenPromise, Kept, Kit, TTL, failed, promise, word};
use crate::{
    contract::{Committed, Opened, Rotated},
    key::SessionKey,
    record::RESERVED,
    storage::{Gone, SessionStore, UpdateError, generate_session_key},
};

const MINUTE: Duration = Duration::from_secs(60);

/// A session is made under a new key, read, changed and ended.
///
/// # Errors
/// The store does not do so.
pub async fn sessions_live_and_end<S: SessionStore>(kit: &Kit<S>) -> Kept {
    let (one, other) = (kit.counter().await?, kit.counter().await?);
    promise!(
        one != other,
        "two sessions have one key: draw each key with `generate_session_key`"
    );
    let request = kit.load(&one).await?;
    request.insert("a", 1)?;
    request.session.remove("n");
    let answer = kit.commit(request).await?;
    promise!(
        matches!(answer, Committed::Saved(_)),
        "a commit to a live session must be `Saved`, and is {}",
        word(&answer)
    );
    let request = kit.load(&one).await?;
    promise!(
        request.number("a") == Some(1),
        "what was committed is not there when the session is opened again"
    );
    promise!(
        request.number("n").is_none(),
        "a removed entry is still there"
    );
    let untouched = kit.load(&other).await?;
    promise!(
        untouched.number("n") == Some(0) && untouched.number("a").is_none(),
        "a change of one session shows in another"
    );
    kit.delete(&one).await?;
    promise!(!kit.is_live(&one).await?, "a deleted session still opens");
    promise!(
        kit.is_live(&other).await?,
        "deleting one session has ended another"
    );
    // A missing session is no error.
    kit.delete(&one).await
}

/// The five published methods do what they say, and an update never makes a session.
///
/// # Errors
/// The store does not do so.
pub async fn the_five_methods_agree<S: SessionStore>(kit: &Kit<S>) -> Kept {
    let (store, ttl) = (&kit.store, CookieDuration::hours(1));
    let state = |n: &str| HashMap::from([("n".to_owned(), n.to_owned())]);
    let key = store.save(state("1"), &ttl).await.map_err(failed("save"))?;
    let loaded = load(store, &key).await?;
    promise!(
        loaded == Some(state("1")),
        "`load` must return what was saved"
    );
    let other = store.save(state("1"), &ttl).await.map_err(failed("save"))?;
    promise!(
        other != key,
        "`save` must never return a key that exists already"
    );
    let same = key.duplicate();
    let updated = store.update(same, state("2"), &ttl).await;
    let updated = updated.map_err(failed("update"))?;
    promise!(updated == key, "`update` must return the key that it got");
    store
        .update_ttl(&key, &ttl)
        .await
        .map_err(failed("update_ttl"))?;
    let loaded = load(store, &key).await?;
    promise!(
        loaded == Some(state("2")),
        "`load` must return what was updated last"
    );
    promise!(
        kit.is_live(&key).await?,
        "`open` does not find what `save` has made"
    );
    kit.delete(&key).await?;
    store
        .update_ttl(&key, &ttl)
        .await
        .map_err(failed("update_ttl"))?;
    let loaded = load(store, &key).await?;
    promise!(
        loaded.is_none(),
        "`update_ttl` has brought an ended session back"
    );
    match store.update(key.duplicate(), state("3"), &ttl).await {
        Err(UpdateError::Other(error)) if error.is::<Gone>() => {}
        Err(error) => promise!(
            false,
            "`update` of a missing session must be the error `Gone`, inside `UpdateError::Other`, \
             and is: {error}"
        ),
        Ok(made) => {
            let revived = store.load(&made).await.map_err(failed("load"))?.is_some();
            promise!(
                false,
                "`update` of a missing session must be the error `Gone`, and {}: it must never save",
                if revived {
                    "made a session"
                } else {
                    "succeeded"
                }
            );
        }
    }
    let loaded = load(store, &key).await?;
    promise!(
        loaded.is_none(),
        "`update` has brought an ended session back"
    );
    Ok(())
}

/// A key that the store has not made opens nothing, makes nothing and breaks nothing.
///
/// # Errors
/// The store does not do so.
pub async fn hostile_keys_open_nothing<S: SessionStore>(kit: &Kit<S>) -> Kept {
    let live = kit.counter().await?;
    let known = live.as_ref();
    let keys = [
        String::new(),
        "x".to_owned(),
        "a".repeat(4_000),
        "../../etc/passwd".to_owned(),
        "' OR '1'='1".to_owned(),
        "a\0b\r\nc".to_owned(),
        "\u{1F980}".repeat(16),
        "*".repeat(64),
        "note.x".to_owned(),
        format!("{known} "),
        format!("{known}\0"),
        known[..known.len() - 1].to_owned(),
        generate_session_key().into(),
    ];
    for key in keys {
        let shown = key.escape_debug().to_string();
        let key = SessionKey::try_from(key).map_err(failed("try_from"))?;
        let opened = kit.open(&key).await?;
        promise!(
            matches!(opened, Opened::Nothing),
            "the key \"{shown}\" was never handed out, and `open` answered {}",
            word(&opened)
        );
        kit.store.load(&key).await.map_err(failed("load"))?;
        let base = kit.load(&live).await?;
        base.insert("stolen", 1)?;
        let answer = kit
            .commit(super::kit::Request {
                key: key.duplicate(),
                ..base
            })
            .await?;
        promise!(
            matches!(answer, Committed::Gone),
            "a commit under the unknown key \"{shown}\" must be `Gone`, and is {}",
            word(&answer)
        );
        promise!(
            !kit.is_live(&key).await?,
            "a commit has made a session under the key \"{shown}\", which a client has chosen"
        );
        kit.delete(&key).await?;
    }
    let untouched = kit.load(&live).await?;
    promise!(
        untouched.number("n") == Some(0) && untouched.number("stolen").is_none(),
        "an unknown key has changed or ended a session of another key"
    );
    Ok(())
}

/// Whatever names and values a session has, they come back.
///
/// # Errors
/// They do not.
pub async fn any_state_comes_back<S: SessionStore>(kit: &Kit<S>) -> Kept {
    let names = [
        "",
        " ",
        "\"",
        "\\",
        "\0",
        "a|b",
        "{}",
        "__proto__",
        "é\u{1F980}",
        "r\r\nn",
    ];
    let values = [
        String::new(),
        "null".to_owned(),
        "\"\\\u{0}\u{7f}\u{2028}".to_owned(),
        "'; DROP TABLE sessions; --".to_owned(),
        "\u{1F980}".repeat(1_000),
        "x".repeat(100_000),
    ];
    let pairs = || names.iter().zip(values.iter().cycle());
    let key = kit
        .create(|session| {
            for (name, value) in pairs() {
                drop(session.insert(*name, value));
            }
        })
        .await?;
    let first = kit.load(&key).await?;
    first.count()?;
    kit.commit(first).await?;
    let request = kit.load(&key).await?;
    for (name, value) in pairs() {
        let found: Option<String> = request.session.get(name).map_err(failed("get"))?;
        promise!(
            found.as_ref() == Some(value),
            "the entry {name:?} had {} octets when it was set, and came back as {:?} octets, or \
             other ones",
            value.len(),
            found.map(|found| found.len())
        );
    }
    promise!(
        request.session.entries().len() == names.len() + 1,
        "there are more or fewer entries than were set"
    );
    Ok(())
}

/// A session ends when its time to live is over, not before and not later, and activity extends it.
/// What the five methods save ends by the clock of the store.
///
/// # Errors
/// It does not. A store that cannot be given a clock leaves this out.
pub async fn sessions_end_in_time<S: SessionStore>(kit: &Kit<S>) -> Kept {
    let key = kit.counter().await?;
    kit.pass(TTL - MINUTE);
    promise!(
        kit.is_live(&key).await?,
        "a session is gone before its time to live is over"
    );
    promise!(
        matches!(kit.open_on(&key, &kit.extending()).await?, Opened::Live(_)),
        "a session is gone before its time to live is over"
    );
    kit.pass(TTL - MINUTE);
    promise!(
        kit.is_live(&key).await?,
        "`open` must extend a session's life if `Terms::extends` says so"
    );
    let request = kit.load(&key).await?;
    request.count()?;
    kit.commit(request).await?;
    kit.pass(TTL - MINUTE);
    promise!(
        kit.is_live(&key).await?,
        "a commit must extend a session's life to `Terms::end`"
    );
    let late = kit.load(&key).await?;
    kit.pass(MINUTE);
    promise!(
        !kit.is_live(&key).await?,
        "a session opens after its time to live is over"
    );
    late.count()?;
    let answer = kit.commit(late).await?;
    promise!(
        matches!(answer, Committed::Gone),
        "a commit to an expired session must be `Gone`, and is {}",
        word(&answer)
    );
    let ttl = CookieDuration::hours(1);
    let touched = kit.store.update_ttl(&key, &ttl).await;
    touched.map_err(failed("update_ttl"))?;
    promise!(
        !kit.is_live(&key).await?,
        "an expired session has come back"
    );

    let own = kit.create(|s| {
        drop(s.insert("n", 0));
        s.set_ttl(CookieDuration::hours(3));
    });
    let own = own.await?;
    kit.pass(2 * TTL);
    promise!(
        kit.is_live(&own).await?,
        "a session with a time to live of its own (`Session::set_ttl`) ends by another one"
    );
    kit.pass(TTL);
    promise!(
        !kit.is_live(&own).await?,
        "a session outlives its own time to live"
    );
    the_stores_clock_counts(kit).await
}

/// The middleware says what time it is. The five methods have the store's clock alone.
async fn the_stores_clock_counts<S: SessionStore>(kit: &Kit<S>) -> Kept {
    let ttl = CookieDuration::hours(1);
    let saved = kit.store.save(HashMap::new(), &ttl).await;
    let key = saved.map_err(failed("save"))?;
    kit.pass(TTL - MINUTE);
    promise!(
        load(&kit.store, &key).await?.is_some(),
        "`load` does not find a session whose time to live is not over: the store must go by the clock \
         that it is made with"
    );
    kit.pass(MINUTE);
    promise!(
        load(&kit.store, &key).await?.is_none(),
        "`load` finds a session whose time to live is over: the store must go by the clock that it is \
         made with"
    );
    Ok(())
}

/// A request that loaded a session before it ended changes nothing and brings nothing back; after a
/// `clear` it changes nothing either.
///
/// # Errors
/// It does.
pub async fn late_requests_bring_nothing_back<S: SessionStore>(kit: &Kit<S>) -> Kept {
    let key = kit.counter().await?;
    let (writes, renews) = (kit.load(&key).await?, kit.load(&key).await?);
    kit.delete(&key).await?;
    writes.count()?;
    let answer = kit.commit(writes).await?;
    promise!(
        matches!(answer, Committed::Gone),
        "a commit to an ended session must be `Gone`, and is {}: a logout is undone",
        word(&answer)
    );
    renews.session.renew();
    let answer = kit.rotate(renews).await?;
    promise!(
        !matches!(answer, Rotated::Rotated(..)),
        "a renewal has brought an ended session back under a new key"
    );
    promise!(!kit.is_live(&key).await?, "an ended session has come back");

    let key = kit.counter().await?;
    let (late, clears) = (kit.load(&key).await?, kit.load(&key).await?);
    clears.session.clear();
    kit.commit(clears).await?;
    late.insert("late", 1)?;
    kit.commit(late).await?;
    let request = kit.load(&key).await?;
    promise!(
        request.session.is_empty(),
        "a request that loaded the session before a `clear` has written to it afterwards: {}",
        if kit.is_over_a_database() {
            "a value must come back as it was written last"
        } else {
            "merge with `Changes::made_on`, and keep the reserved entry of the metadata"
        }
    );
    Ok(())
}

/// The state under a key, without what the library itself knows of the session.
async fn load<S: SessionStore>(
    store: &S,
    key: &SessionKey,
) -> Result<Option<HashMap<String, String>>, BrokenPromise> {
    let loaded = store.load(key).await.map_err(failed("load"))?;
    Ok(loaded.map(|mut state| {
        state.remove(RESERVED);
        state
    }))
}
