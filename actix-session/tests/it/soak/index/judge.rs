//! Whether the index says what lives.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::LazyLock,
};

use actix_session::{SessionManager, SessionMiddleware, storage::Record};
use actix_web::cookie::Key;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    Lying, Place,
    acts::{Act, LABEL, Seen},
    child::{USERS, request, sites, user},
};

/// The logins that live, by principal.
type Logins = BTreeMap<String, BTreeSet<String>>;

/// No index and no record lives longer, in seconds.
const LONGEST: u64 = 400 * 86_400;

pub(super) async fn judge<P: Place>(place: &P, key: &Key, cookies: &[(usize, String)]) {
    let records = place.records().await;
    let endless = records.iter().filter(|it| !has_end(it)).count();
    assert_eq!(endless, 0, "records without an end");
    let lives = logins(&records);
    let middleware = SessionMiddleware::builder(place.store(), key.clone());
    let middleware = middleware.clock(place.clock()).build();
    let listed = listed(&middleware.manager()).await;
    for number in 0..USERS {
        let user = user(number);
        assert_eq!(listed.get(&user), lives.get(&user), "{user}: listed, alive");
    }
    assert_eq!(listed, lives);
    let open = open(place, key, cookies).await;
    for (user, labels) in &open {
        let listed = listed.get(user).cloned().unwrap_or_default();
        assert!(
            labels.is_subset(&listed),
            "{user}: {labels:?} open, {listed:?} listed"
        );
    }
    assert_eq!(place.leftovers().await, [""; 0]);
    let count = |logins: &Logins| logins.values().map(BTreeSet::len).sum::<usize>();
    println!(
        "{}: {} records, {} listed, {} opened by cookies, nothing else is left",
        place.kind(),
        records.len(),
        count(&listed),
        count(&open),
    );
}

fn has_end(record: &Lying) -> bool {
    record.left.is_some_and(|left| left.as_secs() <= LONGEST)
}

/// What lives, as records say it themselves.
fn logins(records: &[Lying]) -> Logins {
    let mut logins = Logins::new();
    for record in records {
        let Some(user) = owner(&record.text) else {
            continue;
        };
        let state = Record::decode(record.text.clone()).unwrap().to_map();
        let label: String = serde_json::from_str(&state[LABEL]).unwrap();
        let is_new = logins.entry(user.to_owned()).or_default().insert(label);
        assert!(is_new, "two records of one login: {}", record.text);
    }
    logins
}

/// The user whom the metadata name.
fn owner(text: &str) -> Option<&'static str> {
    static USERS_BY_FIELD: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
        let users = (0..USERS).map(user);
        users
            .map(|user| (URL_SAFE_NO_PAD.encode(&user), user))
            .collect()
    });
    let (_, rest) = text.split_once("\"f\":\"")?;
    let (metadata, _) = rest.split_once('"')?;
    let mut fields = metadata.split('.');
    let user = fields.find_map(|field| USERS_BY_FIELD.get(field));
    user.map(String::as_str)
}

/// Whether a record is somebody's.
pub(super) fn is_owned(text: &str) -> bool {
    owner(text).is_some()
}

async fn listed(sessions: &SessionManager) -> Logins {
    let mut logins = Logins::new();
    for number in 0..USERS {
        let user = user(number);
        let mut list = sessions.first_page(&user, 20).await.unwrap();
        loop {
            let next = list.next_page();
            for session in list {
                let label = session.device().unwrap().to_owned();
                let labels = logins.entry(user.clone()).or_default();
                assert!(
                    labels.insert(label.clone()),
                    "{user}: {label} is listed twice"
                );
            }
            let Some(next) = next else {
                break;
            };
            list = sessions.list_page(&user, next, 20).await.unwrap();
        }
    }
    logins
}

/// What cookies open.
async fn open<P: Place>(place: &P, key: &Key, cookies: &[(usize, String)]) -> Logins {
    let sites = sites(place.store(), key, place.clock()).await;
    let mut logins = Logins::new();
    for (user, cookie) in cookies {
        let look = request(&Act::Look, Some(cookie));
        let answer = sites[user % 3].answer(look).await;
        answer.assert_ok();
        let seen: Seen = serde_json::from_slice(&answer.body).unwrap();
        if let (Some(user), Some(label)) = seen {
            logins.entry(user).or_default().insert(label);
        }
    }
    logins
}
