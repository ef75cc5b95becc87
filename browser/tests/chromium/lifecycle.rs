//! What a browser keeps when it is closed.

use servers::chromium::ThirdParties;

use crate::{
    combination::{Combination, Strict},
    devtools::Browser,
    matrix::{tell, that_build},
    server::Server,
    setup::COMBINATIONS,
    visit::Driver,
};

#[test]
fn a_persistent_session_outlives_the_browser_and_another_does_not() {
    let numbers = that_build(|combination: &Combination| {
        let plain = combination.strict == Strict::No && !combination.domain;
        let usual = combination.secure && combination.http_only && combination.path == "/";
        plain && usual && combination.name == "id"
    });
    let address = |number: &usize, act: &str| {
        let host = format!("app.c{number}.closed.test");
        Server::shared().https(&host, &format!("/{act}?as=c{number}"))
    };
    let pages = Server::shared().https("pages.closed.test", "/driver");
    let mut browser = Browser::start(ThirdParties::Kept);
    let ask = |browser: &Browser, act: &str| {
        let driver = Driver::on_top(&browser.connection(), &pages);
        let addresses: Vec<_> = numbers.iter().map(|c| address(c, act)).collect();
        driver.ask(&addresses)
    };
    let mut failed = Vec::new();
    let mut demand = |browser: &Browser, step: &str, stays: fn(&Combination) -> bool| {
        for (number, seen) in numbers.iter().zip(ask(browser, "who")) {
            let combination = COMBINATIONS[*number];
            let wanted = stays(&combination).then_some("alice");
            if seen.who.as_deref() != wanted || seen.came.is_empty() != wanted.is_none() {
                failed.push(format!("{combination}\n    {step}: {seen:?}"));
            }
        }
    };
    ask(&browser, "login");
    demand(&browser, "after login", |_| true);
    browser.close_and_reopen();
    demand(&browser, "after a restart", |combination| {
        combination.persistent
    });
    tell(&failed, numbers.len());
}
