//! Published versions and ours over the same cookies and records, in every combination.

#![allow(
    clippy::unwrap_used,
    reason = "tests, functions that no `#[test]` stands on included"
)]

mod support;

use actix_session::{config::WireFormat, storage::CookieSessionStore};
use actix_web::cookie::{Cookie, CookieJar};
use serde_json::json;

use self::support::{
    Client, Entries, MATRIX, Place, Seal, entries, insert, key, ours, ours_at, published, redis,
    redis_connection, settings, values,
};

fn with(mut all: Entries, more: serde_json::Value) -> Entries {
    all.extend(entries(more));
    all
}

/// As `ours_at`, with every opt-in for old cookies.
async fn ours_accepting(place: Place, seal: Seal, format: WireFormat) -> support::Server {
    match place {
        Place::Redis => ours_at(place, seal, format).await,
        Place::Cookie => {
            ours(CookieSessionStore::default(), |builder| {
                settings(builder, seal, format).accept_unbound_signatures(true)
            })
            .await
        }
    }
}

#[actix_web::test]
async fn what_published_versions_wrote_opens_here() {
    for (place, seal) in MATRIX {
        for old in published(place, seal).await {
            for format in [WireFormat::V1, WireFormat::V0_11] {
                let ours = ours_accepting(place, seal, format).await;
                let mut client = Client::default();
                client.send(&old, insert(&values())).await;
                assert!(client.cookie.is_some());
                let here = client.read(&ours).await;
                assert_eq!(here, values(), "{place:?} {seal:?} {old:?} {format:?}");
                // An entry added here leaves the others in place.
                client.send(&ours, json!([["insert", "new", "here"]])).await;
                let here = client.read(&ours).await;
                assert_eq!(here, with(values(), json!({"new": "here"})));
            }
        }
    }
}

#[actix_web::test]
async fn signed_state_of_old_servers_is_accepted_only_where_that_was_asked_for() {
    for old in published(Place::Cookie, Seal::Signed).await {
        let mut client = Client::default();
        client.send(&old, json!([["insert", "n", 1]])).await;
        let opened = async |server: &support::Server| client.clone().read(server).await;

        let default = ours_at(Place::Cookie, Seal::Signed, WireFormat::V1).await;
        assert_eq!(opened(&default).await, Entries::new(), "{old:?}");
        let accepting = ours_accepting(Place::Cookie, Seal::Signed, WireFormat::V1).await;
        assert_eq!(opened(&accepting).await, entries(json!({"n": 1})));
        // This server makes such signatures itself, so it must open them.
        let beside = ours_at(Place::Cookie, Seal::Signed, WireFormat::V0_11).await;
        assert_eq!(opened(&beside).await, entries(json!({"n": 1})));
    }
}

#[actix_web::test]
async fn ours_open_there_and_back_again() {
    for (place, seal) in MATRIX {
        let ours = ours_at(place, seal, WireFormat::V0_11).await;
        for old in published(place, seal).await {
            let mut client = Client::default();
            client.send(&ours, insert(&values())).await;
            let mut expected = values();
            for turn in 0..3 {
                let there = client.read(&old).await;
                assert_eq!(there, expected, "{place:?} {seal:?} {old:?}");
                let name = format!("there {turn} \"é\"");
                client
                    .send(&old, json!([["insert", name, turn], ["remove", "list"]]))
                    .await;
                expected.insert(name, json!(turn));
                expected.remove("list");
                assert_eq!(client.read(&ours).await, expected, "{old:?}");
                let name = format!("here {turn}");
                client
                    .send(
                        &ours,
                        json!([["insert", name, {"turn": turn}], ["insert", "list", []]]),
                    )
                    .await;
                expected.insert(name, json!({"turn": turn}));
                expected.insert("list".into(), json!([]));
            }
            let there = client.read(&old).await;
            assert_eq!(there, expected, "{place:?} {seal:?} {old:?}");
        }
    }
}

/// What the published API alone can do, on either side: `entries()` are equal after each step.
#[actix_web::test]
async fn programs_of_the_published_api_see_the_same_entries_on_both_sides() {
    for (place, seal) in MATRIX {
        let ours = ours_at(place, seal, WireFormat::V0_11).await;
        for old in published(place, seal).await {
            let case = format!("{place:?} {seal:?} {old:?}");
            let mut client = Client::default();
            let mut expected = Entries::new();
            for (turn, server) in [&ours, &old, &ours, &ours, &old, &old, &ours]
                .into_iter()
                .enumerate()
            {
                for operations in [
                    json!([["insert", "n", turn], ["insert", format!("{turn}"), [turn]]]),
                    json!([["renew"]]),
                    json!([["insert", "n", turn + 1], ["remove", "gone"]]),
                    json!([["remove", format!("{}", turn.wrapping_sub(2))]]),
                ] {
                    client.send(server, operations).await;
                }
                expected.insert("n".into(), json!(turn + 1));
                expected.insert(format!("{turn}"), json!([turn]));
                expected.remove(&format!("{}", turn.wrapping_sub(2)));
                assert_eq!(client.read(&old).await, expected, "{case}, {turn}");
                assert_eq!(client.read(&ours).await, expected, "{case}, {turn}");
            }
            client.send(&old, json!([["clear"]])).await;
            for server in [&ours, &old] {
                assert_eq!(client.read(server).await, Entries::new(), "{case}");
            }
        }
    }
}

/// Old servers see the metadata of who is logged in as one more entry.
fn without_metadata(mut entries: Entries) -> Entries {
    let metadata = entries.remove("__actix_session");
    assert!(metadata.is_some_and(|metadata| metadata.is_string()));
    entries
}

/// An application on an old server sets the entry that carries the metadata.
#[actix_web::test]
async fn what_old_servers_write_there_gives_no_rights() {
    for (place, seal) in MATRIX {
        let ours = ours_at(place, seal, WireFormat::V0_11).await;
        for old in published(place, seal).await {
            let case = format!("{place:?} {seal:?} {old:?}");
            let mut alice = Client::default();
            alice.send(&ours, json!([["login", "alice"]])).await;
            let copied = alice.read(&old).await.remove("__actix_session").unwrap();
            let made_up = copied
                .as_str()
                .unwrap()
                .split_once(':')
                .unwrap()
                .0
                .to_owned();
            let mut mallory = Client::default();
            for forged in [json!(made_up), json!("nonsense"), json!(7), copied.clone()] {
                let operations = json!([["insert", "n", 1], ["insert", "__actix_session", forged]]);
                mallory.send(&old, operations).await;
                // The name of a record binds its metadata; states in cookies have no names.
                let is_copy = place == Place::Cookie && forged == copied;
                let answer = mallory.send(&ours, json!([["count", "n"]])).await;
                let principal = is_copy.then_some("alice");
                assert_eq!(answer.principal.as_deref(), principal, "{case} {forged}");
                assert_eq!(answer.before, entries(json!({"n": 1})), "{case} {forged}");
                if !is_copy {
                    let left = mallory.read(&old).await;
                    assert_eq!(left, entries(json!({"n": 2})), "{case} {forged}");
                }
            }
        }
    }
}

#[actix_web::test]
async fn renewals_and_logins_on_either_side_are_seen_on_the_other() {
    for (place, seal) in MATRIX {
        let ours = ours_at(place, seal, WireFormat::V0_11).await;
        for old in published(place, seal).await {
            let case = format!("{place:?} {seal:?} {old:?}");
            let mut client = Client::default();
            client.send(&ours, insert(&values())).await;

            let mut before = client.clone();
            client.send(&ours, json!([["login", "ferris"]])).await;
            assert_ne!(client.cookie, before.cookie, "{case}");
            assert_eq!(
                without_metadata(client.read(&old).await),
                values(),
                "{case}"
            );
            // (A cookie-stored session has no record to check.)
            if place == Place::Redis {
                assert_eq!(before.read(&old).await, Entries::new(), "{case}");
                assert_eq!(before.read(&ours).await, Entries::new(), "{case}");
            }

            before = client.clone();
            client.send(&old, json!([["renew"]])).await;
            assert_ne!(client.cookie, before.cookie, "{case}");
            let answer = client.send(&ours, json!([["renew"]])).await;
            assert_eq!(answer.before, values(), "{case}");
            // The metadata are bound to the record's name, which an old server's renewal changes.
            let renamed = place == Place::Redis;
            let principal = (!renamed).then_some("ferris");
            assert_eq!(answer.principal.as_deref(), principal, "{case}");
            let there = client.read(&old).await;
            if renamed {
                assert_eq!(before.read(&ours).await, Entries::new(), "{case}");
                assert_eq!(there, values(), "{case}");
            } else {
                assert_eq!(without_metadata(there), values(), "{case}");
            }
        }
    }
}

#[actix_web::test]
async fn an_end_on_either_side_is_one_on_the_other() {
    for (place, seal) in MATRIX {
        let ours = ours_at(place, seal, WireFormat::V0_11).await;
        for old in published(place, seal).await {
            for (made, ended) in [(&ours, &old), (&old, &ours), (&ours, &ours)] {
                let mut client = Client::default();
                client.send(made, json!([["insert", "n", 1]])).await;
                client.read(&old).await;
                client.read(&ours).await;
                let mut kept = client.clone();
                client.send(ended, json!([["purge"]])).await;
                assert_eq!(client.cookie, None, "{place:?} {old:?}");
                // The browser has the only copy of a cookie-stored session.
                if place == Place::Redis {
                    assert_eq!(kept.read(&old).await, Entries::new(), "{old:?}");
                    assert_eq!(kept.read(&ours).await, Entries::new(), "{old:?}");
                }
            }
        }
    }
}

#[actix_web::test]
async fn facts_survive_what_old_servers_write() {
    for (place, seal) in MATRIX {
        let ours = ours_at(place, seal, WireFormat::V0_11).await;
        for old in published(place, seal).await {
            let case = format!("{place:?} {seal:?} {old:?}");
            let mut client = Client::default();
            let operations = json!([["insert", "n", 1], ["login", "ferris \"é\" 1"]]);
            client.send(&ours, operations).await;
            for name in ["a", "b"] {
                client.send(&old, json!([["insert", name, 1]])).await;
                let answer = client.send(&ours, json!([["count", "n"]])).await;
                assert_eq!(
                    answer.principal.as_deref(),
                    Some("ferris \"é\" 1"),
                    "{case}"
                );
                assert!(answer.before.contains_key(name), "{case}");
                // This test does not look at the entry that carries the metadata.
                assert!(!answer.before.contains_key("__actix_session"), "{case}");
            }
            let expected = json!({"n": 3, "a": 1, "b": 1});
            assert_eq!(client.read(&ours).await, entries(expected), "{case}");
            // A `clear` logs the user out on old servers too.
            client
                .send(&old, json!([["clear"], ["insert", "c", 1]]))
                .await;
            let answer = client.send(&ours, json!([])).await;
            assert_eq!(answer.principal, None, "{case}");
            assert_eq!(answer.before, entries(json!({"c": 1})), "{case}");
        }
    }
}

/// A load balancer without sticky sessions, in front of servers of all versions.
#[actix_web::test]
async fn a_rolling_fleet_loses_nobody_and_nothing() {
    for seal in [Seal::Private, Seal::Signed] {
        let mut fleet = Vec::from(published(Place::Redis, seal).await);
        for _ in 0..2 {
            fleet.push(ours_at(Place::Redis, seal, WireFormat::V0_11).await);
        }
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut draw = |most: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % most as u64).unwrap()
        };
        for user in 0..4 {
            let mut client = Client::default();
            let who = format!("user {user}");
            let start = json!([["insert", "user", who], ["login", who]]);
            client.send(&fleet[4], start).await;
            let mut expected = entries(json!({"user": who}));
            let mut principal = Some(who.clone());
            for step in 0..60 {
                let index = draw(fleet.len());
                let server = &fleet[index];
                let name = format!("entry {}", draw(8));
                let operations = match draw(6) {
                    0 => {
                        // Such a renewal loses what the library knows, and no entry.
                        principal = principal.filter(|_| index >= 3);
                        json!([["renew"]])
                    }
                    1 => {
                        expected.remove(&name);
                        json!([["remove", name]])
                    }
                    2 => json!([]),
                    _ => {
                        expected.insert(name.clone(), json!(step));
                        json!([["insert", name, step]])
                    }
                };
                client.send(server, operations).await;
                assert!(client.cookie.is_some(), "{who}, step {step}: logged out");
                for server in [&fleet[0], &fleet[2]] {
                    let mut there = client.read(server).await;
                    let metadata = there.remove("__actix_session");
                    assert!(metadata.is_some() || principal.is_none(), "step {step}");
                    assert_eq!(there, expected, "{who}, step {step}");
                }
                let here = client.send(&fleet[3], json!([])).await;
                assert_eq!(here.before, expected, "{who}, step {step}");
                assert_eq!(here.principal, principal, "step {step}");
            }
        }
    }
}

/// Why there is `WireFormat::V0_11`: old servers cannot read what is written by default.
#[actix_web::test]
async fn what_is_written_by_default_is_an_empty_session_to_old_servers() {
    for (place, seal) in MATRIX {
        let ours = ours_at(place, seal, WireFormat::V1).await;
        for old in published(place, seal).await {
            let case = format!("{place:?} {seal:?} {old:?}");
            let mut client = Client::default();
            client
                .send(&ours, json!([["insert", "n", 1], ["login", "ferris"]]))
                .await;
            assert_eq!(client.read(&old).await, Entries::new(), "{case}");
            // Reading does no harm ...
            let answer = client.send(&ours, json!([])).await;
            assert_eq!(answer.before, entries(json!({"n": 1})), "{case}");
            assert_eq!(answer.principal.as_deref(), Some("ferris"), "{case}");
            // ... but writing does: the browser continues with the session that the old server made.
            let kept = client.clone();
            client.send(&old, json!([["insert", "there", 1]])).await;
            assert_eq!(
                client.read(&old).await,
                entries(json!({"there": 1})),
                "{case}"
            );
            let opens = seal == Seal::Private || place == Place::Redis;
            let there = if opens {
                json!({"there": 1})
            } else {
                json!({})
            };
            let answer = client.send(&ours, json!([])).await;
            assert_eq!(answer.before, entries(there), "{case}");
            assert_eq!(answer.principal, None, "{case}");
            // A signed cookie does not even verify there, so the old server could not reach the record.
            // A private one opened there, and the record was overwritten.
            let overwritten = (place, seal) == (Place::Redis, Seal::Private);
            let left = if overwritten {
                json!({"there": 1})
            } else {
                json!({"n": 1})
            };
            assert_eq!(kept.clone().read(&ours).await, entries(left), "{case}");
        }
    }
}

/// The format of the unreleased version after 0.11.
#[actix_web::test]
async fn the_unreleased_successors_format_opens() {
    let record = json!({"v": 1, "state": values()}).to_string();
    for format in [WireFormat::V1, WireFormat::V0_11] {
        let cookies = ours_at(Place::Cookie, Seal::Private, format).await;
        assert_opens(&cookies, &sealed(&record), &values()).await;

        let servers = ours_at(Place::Redis, Seal::Private, format).await;
        let cookie = stored(&record).await;
        assert_opens(&servers, &sealed(&cookie), &values()).await;
    }
}

/// 0.6 to 0.8 wrote the same shape as 0.9: each value is a string that holds JSON.
#[actix_web::test]
async fn records_of_older_versions_open() {
    let record = r#"{"user":"\"ferris\"","n":"42","list":"[1,\"a\",{\"b\":null}]","q":"\"\\\"\\u00e9\\\\\""}"#;
    let expected = json!({
        "user": "ferris", "n": 42, "list": [1, "a", {"b": null}], "q": "\"é\\"
    });
    for format in [WireFormat::V1, WireFormat::V0_11] {
        let cookies = ours_at(Place::Cookie, Seal::Private, format).await;
        assert_opens(&cookies, &sealed(record), &entries(expected.clone())).await;

        let servers = ours_at(Place::Redis, Seal::Private, format).await;
        let cookie = stored(record).await;
        assert_opens(&servers, &sealed(&cookie), &entries(expected.clone())).await;
    }
}

async fn assert_opens(server: &support::Server, cookie: &str, expected: &Entries) {
    let mut client = Client::with(cookie);
    assert_eq!(&client.read(server).await, expected);
    client
        .send(server, json!([["insert", "new", 1], ["renew"]]))
        .await;
    let expected = with(expected.clone(), json!({"new": 1}));
    assert_eq!(client.read(server).await, expected);
}

/// A cookie's value as the jar of the `cookie` crate makes it.
fn sealed(value: &str) -> String {
    let mut jar = CookieJar::new();
    jar.private_mut(&key())
        .add(Cookie::new("id", value.to_owned()));
    let cookie = jar.get("id").unwrap().clone();
    let pair = cookie.encoded().to_string();
    pair.strip_prefix("id=").unwrap().to_owned()
}

/// Puts a record into Redis and returns its key.
async fn stored(record: &str) -> String {
    // Our own store draws a key that nobody has.
    use actix_session::storage::SessionStore as _;
    let day = actix_web::cookie::time::Duration::days(1);
    let key: String = redis().await.save([].into(), &day).await.unwrap().into();
    let mut connection = redis_connection().await;
    let set = redis::cmd("SET")
        .arg(&key)
        .arg(record)
        .arg("EX")
        .arg(60)
        .to_owned();
    set.query_async::<()>(&mut connection).await.unwrap();
    key
}
