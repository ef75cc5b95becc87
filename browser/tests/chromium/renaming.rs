//! A cookie that gets a new name, and a browser that has one with the old name.

use crate::{
    devtools::Browser,
    jar::Jar,
    server::Server,
    visit::{Driver, Seen},
};

#[test]
fn a_browser_with_the_old_name_stays_logged_in_under_the_new_one() {
    let connection = Browser::shared();
    for store in ["memory", "cookie"] {
        let host = format!("{store}.renamed.test");
        let driver = Driver::on_top(&connection, &Server::shared().https(&host, "/driver"));
        let ask = |act: &str, setup: &str| -> Seen {
            let path = format!("/{act}?as={store}{setup}");
            driver.ask_one(&Server::shared().https(&host, &path))
        };
        let kept = || {
            let jar = Jar::look(&connection);
            let mut names: Vec<_> = jar.of(&host).iter().map(|c| c.name.clone()).collect();
            names.sort();
            names
        };
        ask("count", "");
        ask("login", "");
        assert_eq!(kept(), ["id"], "{store}");

        let seen = ask("who", "-renamed");
        assert_eq!(seen.came, ["id"], "{store}");
        assert_eq!((seen.n, seen.who.as_deref()), (Some(1), Some("alice")));
        assert_eq!(kept(), ["__Host-id"], "{store}");
        let seen = ask("count", "-renamed");
        assert_eq!(seen.came, ["__Host-id"], "{store}");
        assert_eq!((seen.n, seen.who.as_deref()), (Some(2), Some("alice")));
        ask("purge", "-renamed");
        assert!(kept().is_empty(), "{store}: {:?}", kept());
        assert!(ask("who", "-renamed").is_nobody(), "{store}");

        // A logout works with the old name alone.
        ask("login", "");
        ask("purge", "-renamed");
        assert!(kept().is_empty(), "{store}: {:?}", kept());
        assert!(ask("who", "-renamed").is_nobody(), "{store}");
        assert!(ask("who", "").is_nobody(), "{store}");

        // An old server that still runs sets another old cookie beside the new one.
        ask("login", "-renamed");
        ask("login", "");
        assert_eq!(kept(), ["__Host-id", "id"], "{store}");
        ask("purge", "-renamed");
        assert!(kept().is_empty(), "{store}: {:?}", kept());
        assert!(ask("who", "-renamed").is_nobody(), "{store}");
    }
}

/// The old cookie was for all hosts of the domain. If the middleware is told so, the browser drops it;
/// if not, the two cookies log nobody out.
#[test]
fn a_cookie_of_the_whole_domain_becomes_one_of_the_host() {
    let connection = Browser::shared();
    for store in ["memory", "cookie"] {
        for (told, settings) in [(true, "narrowed"), (false, "careless")] {
            let site = format!("{store}-{settings}.test");
            let host = format!("app.{site}");
            let driver = Driver::on_top(&connection, &Server::shared().https(&host, "/driver"));
            let ask = |act: &str, settings: &str| -> Seen {
                let path = format!("/{act}?as={store}-{settings}");
                driver.ask_one(&Server::shared().https(&host, &path))
            };
            let kept = || {
                let jar = Jar::look(&connection);
                let mut names: Vec<_> = jar.of(&site).iter().map(|c| c.name.clone()).collect();
                names.sort();
                names
            };
            ask("login", "wide");
            let context = format!("{store}-{settings}");
            for _ in 0..3 {
                let seen = ask("count", settings);
                assert_eq!(seen.who.as_deref(), Some("alice"), "{context}");
            }
            assert_eq!(kept().contains(&"id".to_owned()), !told, "{context}");
            ask("purge", settings);
            assert!(!kept().contains(&"__Host-id".to_owned()), "{context}");
            // A session that is stored in a cookie that stays cannot be ended.
            let comes_back = store == "cookie" && !told;
            assert_eq!(ask("who", settings).who.is_some(), comes_back, "{context}");
        }
    }
}
