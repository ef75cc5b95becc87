//! What is known of a login, what a person may see and have erased, and what operators do.

use std::{
    net::IpAddr,
    pin::Pin,
    time::{Duration, SystemTime},
};

use actix_session::{
    Level, Login, Session, SessionManager, SessionManagerError, SessionOperator, Upstream,
    UpstreamNotice,
    config::{OverLimit, WireFormat},
    storage::SessionIndex,
};
use actix_web::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use redis::AsyncCommands as _;
use serde_json::{Value, json};
use sqlx::Row as _;

use crate::{
    devices::{log_in, tick},
    support::{
        Browser, KeyValue, Memory, MySql, Postgres, Redis, Site, SqlTestStore, Sqlite, TestStore,
        on_each_index, on_store,
    },
};

on_each_index! {
    a_list_says_how_and_where_a_login_began,
    an_export_says_what_is_known_and_opens_nothing,
    an_operator_acts_on_anybodys_sessions,
}

on_store!(all_on_key_value KeyValue: nothing_is_left_of_what_a_later_version_wrote an_upstream_ends_what_a_later_version_wrote nothing_is_left_of_whoever_was_erased a_clock_that_was_ahead_keeps_no_name a_logout_needs_no_list);
on_store!(all_on_memory Memory: nothing_is_left_of_whoever_was_erased a_clock_that_was_ahead_keeps_no_name an_operator_counts_and_sweeps);
on_store!(all_on_redis Redis: nothing_is_left_of_what_a_later_version_wrote an_upstream_ends_what_a_later_version_wrote nothing_is_left_of_whoever_was_erased a_clock_that_was_ahead_keeps_no_name redis_counts_nothing);
on_store!(all_on_sqlite Sqlite: what_commits_beside_an_erasure_stays_ended nothing_is_left_of_what_a_later_version_wrote an_upstream_ends_what_a_later_version_wrote nothing_is_left_of_whoever_was_erased a_clock_that_was_ahead_keeps_no_name an_operator_counts_and_sweeps);
on_store!(all_on_postgres Postgres: what_commits_beside_an_erasure_stays_ended nothing_is_left_of_what_a_later_version_wrote an_upstream_ends_what_a_later_version_wrote nothing_is_left_of_whoever_was_erased a_clock_that_was_ahead_keeps_no_name an_operator_counts_and_sweeps);
on_store!(all_on_mysql MySql: what_commits_beside_an_erasure_stays_ended nothing_is_left_of_what_a_later_version_wrote an_upstream_ends_what_a_later_version_wrote nothing_is_left_of_whoever_was_erased a_clock_that_was_ahead_keeps_no_name an_operator_counts_and_sweeps);

const WHO: &str = "erika@example.org";

/// A store under test that shows every place in which somebody could be named.
trait Traces: TestStore<Store: SessionIndex> {
    /// Whether no name stays for a while.
    const FORGETS_AT_ONCE: bool;

    async fn traces(&self) -> Vec<String>;
}

impl Traces for Memory {
    const FORGETS_AT_ONCE: bool = true;

    async fn traces(&self) -> Vec<String> {
        let principals = self.store().principals();
        let texts = self.store().dump().into_iter();
        principals
            .into_iter()
            .chain(texts.flat_map(|(name, text)| [name, text]))
            .collect()
    }
}

impl Traces for KeyValue {
    const FORGETS_AT_ONCE: bool = true;

    async fn traces(&self) -> Vec<String> {
        let store = self.store();
        let values = store.database().values();
        let texts = values.iter().flat_map(|(name, (value, _))| {
            let text = String::from_utf8(value.clone()).unwrap();
            // Ids, too, are strings in a list of sessions.
            let words = text.split('"').map(str::to_owned);
            [name.clone(), text.clone()]
                .into_iter()
                .chain(words)
                .collect::<Vec<_>>()
        });
        texts.collect()
    }
}

impl Traces for Redis {
    const FORGETS_AT_ONCE: bool = true;

    async fn traces(&self) -> Vec<String> {
        let mut traces = Vec::new();
        for name in self.names().await {
            let mut connection = self.connection.clone();
            if name.ends_with(":sessions") {
                let fields: Vec<String> = connection.hgetall(&name).await.unwrap();
                traces.extend(fields);
            } else {
                let text: Option<String> = connection.get(&name).await.unwrap();
                traces.extend(text);
            }
            traces.push(name);
        }
        traces
    }
}

macro_rules! rows {
    ($($store:ident $database:ty,)+) => {
        $(impl Traces for $store {
            const FORGETS_AT_ONCE: bool = false;

            async fn traces(&self) -> Vec<String> {
                let mut traces = Vec::new();
                for (columns, sql) in [
                    (4, "SELECT id, principal, state, moved_to FROM {t}"),
                    (1, "SELECT principal FROM {not_before}"),
                ] {
                    let sql = self.sql(sql);
                    let rows = sqlx::query::<$database>(&sql).fetch_all(self.pool()).await;
                    for row in rows.unwrap() {
                        for column in 0..columns {
                            let bytes: Option<Vec<u8>> = row.get_unchecked(column);
                            let text = String::from_utf8(bytes.unwrap_or_default());
                            traces.push(text.unwrap());
                        }
                    }
                }
                traces
            }
        })+
    };
}
rows! {
    Sqlite sqlx::Sqlite,
    Postgres sqlx::Postgres,
    MySql sqlx::MySql,
}

/// A store under test whose records can be written anew by hand.
trait ByHand: TestStore<Store: SessionIndex> {
    /// Writes sessions as a later version would, so that this one cannot read them.
    async fn write_as_later_version(&self);
}

const OURS: &str = "{\"v\":1,";
const LATER: &str = "{\"v\":9,";
/// In what a store keeps of an upstream.
const ENTRY: &str = "\"principals\"";

impl ByHand for KeyValue {
    async fn write_as_later_version(&self) {
        let store = self.store();
        let mut values = store.database().values();
        for (value, _) in values.values_mut() {
            let text = str::from_utf8(value).unwrap();
            if text.contains(" record ") && !text.contains(ENTRY) {
                *value = text.replace(OURS, LATER).into_bytes();
            }
        }
    }
}

impl ByHand for Redis {
    async fn write_as_later_version(&self) {
        for name in self.names().await {
            let mut connection = self.connection.clone();
            let text: Result<String, _> = connection.get(&name).await;
            if let Ok(text) = text
                && !text.contains(ENTRY)
            {
                let text = text.replace(OURS, LATER);
                let () = connection.set_ex(&name, text, 3600).await.unwrap();
            }
        }
    }
}

macro_rules! by_hand {
    ($($store:ident $state:literal,)+) => {
        $(impl ByHand for $store {
            async fn write_as_later_version(&self) {
                // Binary in each of them, which have no function for that in common.
                let state = $state.replace("{new}", &format!("'{LATER}'"));
                let state = state.replace("{from}", &(OURS.len() + 1).to_string());
                let sql = format!("UPDATE {{t}} SET state = {state} WHERE principal IS NOT NULL");
                assert!(self.execute(&sql).await > 0);
            }
        })+
    };
}
by_hand! {
    Sqlite "CAST({new} || SUBSTR(CAST(state AS TEXT), {from}) AS BLOB)",
    Postgres "CAST({new} AS BYTEA) || SUBSTRING(state FROM {from})",
    MySql "CONCAT({new}, SUBSTRING(state, {from}))",
}

/// Nobody here can say whose such a record is, but the index can.
async fn nothing_is_left_of_what_a_later_version_wrote(tested: impl ByHand) {
    let sessions = manager(&tested);
    let ways: [fn(&SessionManager) -> Ending<'_>; 2] = [
        |sessions| Box::pin(sessions.revoke_all(WHO)),
        |sessions| Box::pin(sessions.erase(WHO)),
    ];
    for end in ways {
        for _ in 0..2 {
            logged_in(&tested, login).await;
        }
        tested.write_as_later_version().await;
        assert!(tested.dump().await.holds(LATER));
        assert_eq!(end(&sessions).await.unwrap(), 2);
        assert!(!tested.dump().await.holds(LATER));
        assert_eq!(end(&sessions).await.unwrap(), 0, "nor is anything listed");
        tick(&tested);
    }
}

/// Nor can anybody say where it comes from, but the upstream knows its user.
async fn an_upstream_ends_what_a_later_version_wrote(tested: impl ByHand) {
    let sessions = manager(&tested);
    let users = [
        logged_in(&tested, from_upstream).await,
        logged_in(&tested, from_upstream).await,
    ];
    let other = logged_in(&tested, |s| s.login("user-43").unwrap()).await;
    tested.write_as_later_version().await;
    let notice = UpstreamNotice::of_subject(OP, "erika", SystemTime::now());
    assert_eq!(sessions.end_upstream(&notice).await.unwrap(), 2);
    assert_eq!(sessions.end_upstream(&notice).await.unwrap(), 0);
    let left = tested.dump().await;
    assert_eq!(left.texts().filter(|text| text.contains(LATER)).count(), 1);
    for browser in users.iter().chain([&other]) {
        assert!(browser.is_nobody().await);
    }
}

async fn a_logout_needs_no_list(tested: KeyValue) {
    let browser = logged_in(&tested, login).await;
    let flight = browser.begin().await;
    for (name, (value, _)) in tested.store().database().values().iter_mut() {
        if name.starts_with("p.") {
            *value = b"9999999999999 principal {\"v\":2}".to_vec();
        }
    }
    flight.purge();
    flight.finish().await.assert_ok();
    tested.dump().await.assert_no_record();
}

type Ending<'a> = Pin<Box<dyn Future<Output = Result<u64, SessionManagerError>> + 'a>>;

fn manager(tested: &impl TestStore<Store: SessionIndex>) -> SessionManager {
    tested.middleware().build().manager()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn erikas() -> Login {
    Login::new(WHO)
        .device("Erika's phone")
        .method("passkey")
        .address(ip("192.0.2.77"))
}

fn login(session: &Session) {
    session.insert("secret", "Erika's diary").unwrap();
    session.login_with(erikas()).unwrap();
}

const OP: &str = "https://op.example";

fn from_upstream(session: &Session) {
    let upstream = Upstream::new(OP, "erika", SystemTime::now()).sid("s1");
    session.insert("secret", "Erika's diary").unwrap();
    session.login_with(erikas().upstream(upstream)).unwrap();
}

async fn logged_in(tested: &impl TestStore, act: fn(&Session)) -> Browser {
    let browser = tested.browser().await;
    browser.visit(act).await.assert_sets_cookie();
    browser
}

async fn began(sessions: &SessionManager) -> (Option<String>, Option<String>) {
    let mut list = sessions.list(WHO).await.unwrap();
    assert_eq!(list.len(), 1);
    let listed = list.next().unwrap();
    let address = listed.address().map(|address| address.to_string());
    (listed.method().map(str::to_owned), address)
}

async fn a_list_says_how_and_where_a_login_began(tested: impl TestStore<Store: SessionIndex>) {
    for format in [WireFormat::V1, WireFormat::V0_11] {
        let middleware = || tested.middleware().wire_format(format).build();
        let sessions = middleware().manager();
        let browser = Browser::new(Site::new(middleware()).await);
        browser.visit(login).await.assert_sets_cookie();
        let known = (Some("passkey".to_owned()), Some("192.0.2.0/24".to_owned()));
        assert_eq!(began(&sessions).await, known, "{format:?}");
        let acts: [fn(&Session); 4] = [
            |s| s.insert("n", 1).unwrap(),
            Session::renew,
            |s| s.reauthenticated_at_level(Level::Two).unwrap(),
            |s| s.lower_level(Level::One),
        ];
        for act in acts {
            browser.visit(act).await.assert_ok();
            assert_eq!(began(&sessions).await, known);
        }
        // What a login does not say, nobody knows any more.
        tick(&tested);
        browser.visit(|s| s.login(WHO).unwrap()).await.assert_ok();
        assert_eq!(began(&sessions).await, (None, None));
        let whole = |s: &Session| {
            let login = Login::new(WHO).full_address(ip("2001:db8::7"));
            s.login_with(login.method("")).unwrap();
        };
        browser.visit(whole).await.assert_ok();
        let exact = (None, Some("2001:db8::7".to_owned()));
        assert_eq!(began(&sessions).await, exact);
        browser.visit(Session::purge).await.assert_ok();
    }
}

async fn an_export_says_what_is_known_and_opens_nothing(
    tested: impl TestStore<Store: SessionIndex>,
) {
    let sessions = manager(&tested);
    let browser = logged_in(&tested, login).await;
    tick(&tested);
    log_in(&tested.browser().await, "user-43", "a stranger's").await;
    logged_in(&tested, |s| s.login(WHO).unwrap()).await;
    let handle = sessions.list(WHO).await.unwrap().nth(1).unwrap().handle();
    let exported = sessions.export(WHO).await.unwrap();
    assert_eq!(exported.len(), 2);
    let text = serde_json::to_string(&exported).unwrap();
    let mut told: Value = serde_json::from_str(&text).unwrap();
    let known = told[1].as_object_mut().unwrap();
    for time in ["created", "logged_in", "authenticated", "last_seen", "ends"] {
        let text = known.remove(time).unwrap();
        assert!(text.as_str().unwrap().ends_with('Z'), "{text}");
    }
    assert_eq!(
        told[1],
        json!({
            "level": 1, "method": "passkey", "device": "Erika's phone", "address": "192.0.2.0/24",
        })
    );
    assert_eq!(told[0].get("device"), None);
    let value = browser.value().unwrap();
    for secret in [value.as_str(), handle.as_str(), "diary", WHO, "stranger"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert_eq!(sessions.export("nobody").await.unwrap().len(), 0);
    assert!(!format!("{exported:?}").contains("phone"));
}

/// Whatever could name the principal, or comes from a session of theirs.
fn assert_names_nobody(traces: &[String]) {
    for text in traces {
        for known in [WHO, "Erika's phone", "passkey", "Erika's diary"] {
            assert!(!text.contains(known), "{text}");
            assert!(!text.contains(&URL_SAFE_NO_PAD.encode(known)), "{text}");
        }
        let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(!is_id, "an entry of an index: {text}");
    }
}

async fn nothing_is_left_of_whoever_was_erased<T: Traces>(tested: T) {
    let middleware = || tested.middleware().max_sessions(9, OverLimit::Refuse);
    let sessions = middleware().build().manager();
    let site = Site::new(middleware().build()).await;
    let [phone, laptop, late] = [(); 3].map(|()| Browser::new(site.clone()));
    laptop.visit(login).await.assert_ok();
    // Without a limit: to look at it takes longer than this session lives.
    let short = logged_in(&tested, |s| {
        let millisecond = actix_web::cookie::time::Duration::MILLISECOND;
        s.login_with(erikas().idle(millisecond)).unwrap();
    })
    .await;
    phone.visit(login).await.assert_ok();
    tick(&tested);
    phone.visit(Session::renew).await.assert_ok();
    let flight = phone.begin().await;
    sessions.revoke_others(&flight.handle()).await.unwrap();
    flight.finish().await.assert_ok();
    tick(&tested);
    laptop.visit(from_upstream).await.assert_ok();
    let stranger = logged_in(&tested, |s| s.login("user-43").unwrap()).await;
    let traces = tested.traces().await;
    let encoded = URL_SAFE_NO_PAD.encode(WHO);
    assert!(traces.iter().any(|text| text.contains(&encoded)));

    let flight = late.begin().await;
    login(&flight.handle());
    tick(&tested);
    assert_eq!(sessions.erase(WHO).await.unwrap(), 2);
    assert_eq!(sessions.erase(WHO).await.unwrap(), 0);
    for browser in [&phone, &laptop, &short] {
        assert!(browser.is_nobody().await);
    }
    assert_eq!(stranger.principal().await.as_deref(), Some("user-43"));
    sessions.revoke_all("user-43").await.unwrap();
    if T::FORGETS_AT_ONCE {
        assert_names_nobody(&tested.traces().await);
    }
    // An SQL database forgets a name after ten minutes.
    tested.clock().advance(Duration::from_secs(601));
    sessions.operator().sweep().await.unwrap();
    tested.dump().await.assert_no_record();
    assert_names_nobody(&tested.traces().await);
    // And yet a login that began before does not count.
    let refused = flight.finish().await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(late.is_nobody().await);
    assert_names_nobody(&tested.traces().await);
    late.visit(login).await.assert_ok();
    assert_eq!(sessions.count(WHO).await.unwrap(), 1);
    tick(&tested);
    assert_eq!(sessions.erase(WHO).await.unwrap(), 1);
}

/// A statement that began before the erasure, and whose row it could not see yet.
async fn what_commits_beside_an_erasure_stays_ended<T: Traces + SqlTestStore>(tested: T) {
    let sessions = manager(&tested);
    let browser = logged_in(&tested, login).await;
    let late = format!("{}_late", tested.table());
    let copy = format!("CREATE TABLE {late} AS SELECT * FROM {{t}}");
    tested.execute(&copy).await;
    assert_eq!(sessions.erase(WHO).await.unwrap(), 1);
    tested.execute("DELETE FROM {t}").await;
    let commit = format!("INSERT INTO {{t}} SELECT * FROM {late}");
    assert_eq!(tested.execute(&commit).await, 1);
    tested.execute(&format!("DROP TABLE {late}")).await;
    assert!(browser.is_nobody().await);
    tested.clock().advance(Duration::from_secs(601));
    sessions.operator().sweep().await.unwrap();
    assert!(browser.is_nobody().await);
    assert_names_nobody(&tested.traces().await);
}

/// The sessions were ended before, by a server whose clock was ahead.
async fn a_clock_that_was_ahead_keeps_no_name<T: Traces>(tested: T) {
    let (sessions, ahead) = (manager(&tested), Duration::from_secs(3_600));
    let browser = logged_in(&tested, login).await;
    tested.clock().advance(ahead);
    assert_eq!(sessions.revoke_all(WHO).await.unwrap(), 1);
    tested.clock().turn_back(ahead);
    assert_eq!(sessions.erase(WHO).await.unwrap(), 0);
    tested.clock().advance(Duration::from_secs(601));
    sessions.operator().sweep().await.unwrap();
    tested.dump().await.assert_no_record();
    assert_names_nobody(&tested.traces().await);
    assert!(browser.is_nobody().await);
}

async fn an_operator_acts_on_anybodys_sessions(tested: impl TestStore<Store: SessionIndex>) {
    let browser = logged_in(&tested, login).await;
    let other = logged_in(&tested, |s| s.login("user-43").unwrap()).await;
    let operator = SessionOperator::of_store(&tested.store());
    assert_eq!(operator.count(WHO).await.unwrap(), 1);
    let listed = operator.list(WHO).await.unwrap().next().unwrap();
    let handle = listed.handle();
    let found = operator.find(WHO, &handle).await.unwrap().unwrap();
    assert_eq!(found.device(), Some("Erika's phone"));
    assert!(operator.find("user-43", &handle).await.unwrap().is_none());
    assert!(operator.end(&listed).await.unwrap());
    assert!(!operator.end(&listed).await.unwrap());
    assert!(browser.is_nobody().await);
    assert_eq!(other.principal().await.as_deref(), Some("user-43"));
    assert_eq!(operator.end_principal("user-43").await.unwrap(), 1);
    assert!(other.is_nobody().await);
}

async fn an_operator_counts_and_sweeps(tested: impl TestStore<Store: SessionIndex>) {
    let operator = manager(&tested).operator();
    assert_eq!(operator.stats().await.unwrap().live(), Some(0));
    logged_in(&tested, login).await;
    let guest = tested.browser().await;
    guest.visit(|s| s.insert("n", 1).unwrap()).await;
    let stats = operator.stats().await.unwrap();
    assert_eq!(stats.live(), Some(2));
    assert!(stats.of_principals().is_none_or(|owned| owned == 1));
    assert!(stats.expired().is_none_or(|expired| expired == 0));
    tested.clock().advance(Duration::from_secs(86_401));
    let expired = operator.stats().await.unwrap().expired();
    assert!(expired.is_none_or(|expired| expired == 2));
    assert_eq!(operator.sweep().await.unwrap(), Some(2));
    assert_eq!(operator.sweep().await.unwrap(), Some(0));
    assert_eq!(operator.stats().await.unwrap().live(), Some(0));
}

async fn redis_counts_nothing(tested: impl TestStore<Store: SessionIndex>) {
    let operator = manager(&tested).operator();
    logged_in(&tested, login).await;
    let stats = operator.stats().await.unwrap();
    let counts = [stats.live(), stats.of_principals(), stats.expired()];
    assert_eq!(counts, [None; 3]);
    assert_eq!(operator.sweep().await.unwrap(), None);
}
