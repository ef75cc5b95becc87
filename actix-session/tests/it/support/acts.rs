//! What many tests do.

use std::{
    env,
    process::{Command, Output},
    time::Duration,
};

use actix_session::Session;
use actix_web::{
    HttpResponse,
    cookie::{Cookie, CookieJar, Key},
    rt,
};

use super::{Browser, TestStore};

/// A click on a counter that loses no click.
pub(crate) fn count(session: &Session) {
    session
        .modify("n", |n: Option<u32>| Some(n.unwrap_or(0) + 1))
        .unwrap();
}

/// The same as a handler of a server.
pub(crate) async fn serve_count(session: Session) -> HttpResponse {
    count(&session);
    HttpResponse::Ok().finish()
}

/// A visitor with one entry.
pub(crate) async fn guest(tested: &impl TestStore) -> Browser {
    let browser = tested.browser().await;
    fill(&browser).await;
    browser
}

/// Begins a session with one entry.
pub(crate) async fn fill(browser: &Browser) {
    let write = |s: &Session| s.insert("a", 1).unwrap();
    let answer = browser.visit(write).await;
    answer.assert_ok().assert_sets_cookie();
}

/// A private value as anybody with the key seals it.
pub(crate) fn private(key: &Key, name: &str, text: &str) -> String {
    let mut jar = CookieJar::new();
    let cookie = Cookie::new(name.to_owned(), text.to_owned());
    jar.private_mut(key).add(cookie);
    jar.get(name).unwrap().value().to_owned()
}

/// What is in a private cookie value.
pub(crate) fn opened(key: &Key, name: &str, value: &str) -> Option<String> {
    let mut jar = CookieJar::new();
    jar.add_original(Cookie::new(name.to_owned(), value.to_owned()));
    let cookie = jar.private(key).get(name)?;
    Some(cookie.value().to_owned())
}

/// Against a test that hangs; nothing is measured.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    let done = tokio::time::timeout(limit, work).await;
    done.expect("an answer within bounds")
}

/// Runs what blocks beside the requests.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    rt::task::spawn_blocking(work).await.unwrap()
}

/// One test of this program in a process of its own.
pub(crate) fn alone(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--test-threads=1"]);
    command
}

/// It was found, and it passed.
#[track_caller]
pub(crate) fn assert_passed(output: &Output) {
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}"
    );
}
