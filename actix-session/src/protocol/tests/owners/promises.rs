//! The contract, as far as it says whose sessions there are.

use super::{
    run::{ANOTHER, Act, Actor, Run, USER, World},
    store::Mode,
};
use crate::{protocol::Owner, record::Record};

/// The user, and what names the login.
type Login = (String, String);

fn login(record: &Record) -> Option<Login> {
    let label = record.state().get("label")?;
    let label: String = serde_json::from_str(&label).unwrap();
    Some((Owner::of(record)?.principal, label))
}

/// Nobody has more sessions that a browser can open than are allowed.
pub(super) fn of_every_moment(run: &Run<'_>) -> Option<String> {
    let limit = run.world.scenario.limit?;
    let alive = run.world.shared.alive(run.world.now());
    // A signed cookie shows its key, which is the record's name.
    let opens = |name: &str| run.cookies().any(|cookie| cookie.contains(name));
    let usable = alive.iter().filter(|(name, _)| opens(name));
    let usable: Vec<Login> = usable.filter_map(|(_, record)| login(record)).collect();
    (usable.len() > limit).then(|| format!("{usable:?} are more than {limit}"))
}

/// What the cookies open that browsers have: `opens` names the logins.
pub(super) fn of_cookies(run: &Run<'_>, opens: &[String]) -> Option<String> {
    let opens = |label: &str| opens.iter().any(|open| open == label);
    let done = |act: Act| {
        run.actors
            .iter()
            .find(|it| it.act == act && it.is_acknowledged())
    };
    let came_before = |one: &Actor, other: &Actor| one.called < other.called;
    let logins = || {
        let logins = [Act::Login, Act::LoginOverA];
        run.actors.iter().filter(move |it| logins.contains(&it.act))
    };
    if let Some(revoked) = done(Act::RevokeAll) {
        if opens("a") || opens("b") {
            return Some("what was logged in opens after all has ended".to_owned());
        }
        let mut before = logins().filter(|it| came_before(it, revoked));
        if before.any(|it| opens(&it.label)) {
            return Some("what logged in before opens after all has ended".to_owned());
        }
        let is_later = |it: &&Actor| it.called > revoked.ended && it.is_acknowledged();
        let passes = run.world.scenario.tick > 0 && run.world.scenario.limit.is_none();
        let mut later = logins().filter(|it| passes && is_later(it));
        if later.any(|it| !opens(&it.label)) {
            return Some("a login that came later does not open".to_owned());
        }
    }
    if let Some(revoked) = done(Act::RevokeOthersA) {
        let mut before = logins().filter(|it| it.act == Act::Login && came_before(it, revoked));
        if opens("b") || before.any(|it| opens(&it.label)) {
            return Some("another one opens after all others have ended".to_owned());
        }
        let is_own = |it: &Actor| matches!(it.act, Act::RevokeOthersA | Act::Login | Act::RenewB);
        if run.actors.iter().all(is_own) && !opens("a") {
            return Some("the session that is spared does not open".to_owned());
        }
        if done(Act::LoginOverA).is_some_and(|it| !opens(&it.label))
            && done(Act::RevokeAll).is_none()
        {
            return Some("a login on the session that is spared does not open".to_owned());
        }
    }
    let limit = run.world.scenario.limit.unwrap_or_default();
    if run.actors.len() <= limit && run.actors.iter().all(|it| it.act == Act::Login) {
        let is_refused = |it: &Actor| it.answer.as_ref().is_some_and(|answer| !answer.is_ok);
        if run.actors.iter().any(is_refused) {
            return Some("a login was refused though it is among those that stay".to_owned());
        }
    }
    let ends_a = [Act::PurgeA, Act::ClearA];
    if ends_a.iter().any(|act| done(*act).is_some()) && opens("a") {
        return Some("a session that was ended opens".to_owned());
    }
    let keeps = |it: &Actor| matches!(it.act, Act::RenewA | Act::WriteA);
    let has_cookie = |it: &Actor| it.answer.as_ref().is_some_and(|it| it.cookie.is_some());
    let mut renewed = run.actors.iter().filter(|it| it.act == Act::RenewA);
    if run.actors.iter().all(keeps) && renewed.any(has_cookie) && !opens("a") {
        return Some("a session that was renewed does not open".to_owned());
    }
    None
}

/// A minute later the index says what lives, and nothing else.
pub(super) async fn of_the_index(world: &World) -> Option<String> {
    let mut listed = Vec::new();
    for user in [USER, ANOTHER] {
        for session in world.sessions.list(user).await.unwrap() {
            let label = session.device().unwrap_or_default().to_owned();
            listed.push((user.to_owned(), label));
        }
    }
    let alive = world.shared.alive(world.now());
    let mut lives: Vec<Login> = alive
        .iter()
        .filter_map(|(_, record)| login(record))
        .collect();
    listed.sort();
    lives.sort();
    if listed != lives {
        return Some(format!("{listed:?} are listed, {lives:?} live"));
    }
    // What was dead has been taken away by whoever looked.
    let entries = world.shared.state().entries.len();
    let is_whole = world.scenario.mode == Mode::Sql || entries == lives.len();
    (!is_whole).then(|| format!("{entries} entries, {lives:?} live"))
}
