//! How much and how long a browser keeps.

use std::time::UNIX_EPOCH;

use serde_json::json;

use crate::{
    devtools::{Browser, Connection},
    jar::{Cookie, Jar},
    server::{ASKED, Server},
    visit::{Driver, Seen, encode},
};

/// What the library allows for name, `=` and value together.
const OCTETS: usize = 4_096;

const DAY: f64 = 86_400.0;

struct Site {
    driver: Driver,
    connection: Connection,
    host: &'static str,
}

impl Site {
    fn new(host: &'static str) -> Self {
        let connection = Browser::shared();
        let driver = Driver::on_top(&connection, &Server::shared().https(host, "/driver"));
        Self {
            driver,
            connection,
            host,
        }
    }

    fn ask(&self, path: &str) -> Seen {
        self.driver
            .ask_one(&Server::shared().https(self.host, path))
    }

    /// What the server's response says about the cookie.
    fn line(&self, path: &str) -> String {
        self.driver.page.call("Network.enable", &json!({}));
        self.driver.page.forget_events();
        self.ask(path);
        loop {
            let event = "Network.responseReceivedExtraInfo";
            let headers = self.driver.page.next_event(event)["headers"].take();
            if headers[ASKED.as_str()] == path {
                return headers["set-cookie"].as_str().unwrap().to_owned();
            }
        }
    }

    fn cookie(&self, name: &str) -> Option<Cookie> {
        let jar = Jar::look(&self.connection);
        let mut own = jar.of(self.host).into_iter();
        own.find(|cookie| cookie.name == name).cloned()
    }

    /// Puts so many letters into a cookie-stored session, and returns the cookie's length.
    fn fill(&self, setup: &str, letters: usize) -> Result<usize, u64> {
        let seen = self.ask(&format!("/fill?as={setup}&size={letters}"));
        if seen.status != 200 {
            return Err(seen.status);
        }
        let (_, name) = setup.split_once('-').unwrap();
        let cookie = self.cookie(name);
        Ok(cookie
            .unwrap_or_else(|| panic!("{letters} letters were not kept"))
            .pair_length())
    }

    /// Whether the browser keeps a cookie of this length, whoever sends it.
    fn keeps(&self, octets: usize) -> bool {
        let value = "v".repeat(octets - "raw=".len());
        let line = encode(&format!("raw={value}; Secure; Path=/"));
        self.ask(&format!("/raw?line={line}"));
        let kept = self.cookie("raw").is_some();
        self.ask(&format!(
            "/raw?line={}",
            encode("raw=; Secure; Path=/; Max-Age=0")
        ));
        kept
    }
}

#[test]
fn a_cookie_of_4096_octets_is_kept_and_a_longer_one_is_an_error_before_it_is_lost() {
    let site = Site::new("long.test");
    // The browser's own limit counts name and value, without the `=` between them.
    assert!(site.keeps(OCTETS) && !site.keeps(OCTETS + 2));
    for (kind, octets_a_step, letters_a_step) in [("signed", 1, 1), ("private", 4, 3)] {
        let few = 1_200;
        let length = site.fill(&format!("{kind}-id"), few).unwrap();
        let missing = OCTETS - length;
        // The name fills what whole steps of the value cannot.
        let letters = few + missing / octets_a_step * letters_a_step;
        let name = format!("id{}", "_".repeat(missing % octets_a_step));
        let setup = format!("{kind}-{name}");
        assert_eq!(site.fill(&setup, letters), Ok(OCTETS), "{setup}");
        let full = site.cookie(&name).unwrap().value;
        let seen = site.ask(&format!("/who?as={setup}"));
        assert_eq!(seen.text, Some(letters as u64), "{setup}");

        // One octet more is an error, and the previous session stays.
        assert_eq!(site.fill(&format!("{setup}_"), letters), Err(500));
        assert!(site.cookie(&format!("{name}_")).is_none());
        let refused = site.fill(&setup, letters + letters_a_step);
        assert_eq!(refused, Err(500), "{setup}");
        assert_eq!(site.cookie(&name).unwrap().value, full);
        let seen = site.ask(&format!("/who?as={setup}"));
        assert_eq!(seen.text, Some(letters as u64), "{setup}");
    }
}

fn now() -> f64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs_f64()
}

/// In how many days a cookie that the browser just received ends, to within about a second.
fn days_of(site: &Site, path: &str, name: &str) -> std::ops::RangeInclusive<f64> {
    let before = now();
    let seen = site.ask(path);
    assert_eq!(seen.status, 200, "{path}");
    let after = now();
    let expires = site.cookie(name).unwrap().expires.unwrap();
    (expires - after - 1.0) / DAY..=(expires - before + 1.0) / DAY
}

#[test]
fn nothing_is_kept_for_longer_than_400_days_and_we_ask_for_no_more() {
    let site = Site::new("lasting.test");
    let line = encode("raw=v; Secure; Path=/; Max-Age=43200000");
    let most = days_of(&site, &format!("/raw?line={line}"), "raw");
    assert!(most.contains(&400.0), "500 days were asked for: {most:?}");
    for (given, kept) in [("1", 1.0), ("399", 399.0), ("400", 400.0), ("1000", 400.0)] {
        let days = days_of(&site, &format!("/set?as=days-{given}"), "id");
        assert!(days.contains(&kept), "{given} days: {days:?}");
        site.ask(&format!("/purge?as=days-{given}"));
        assert!(site.cookie("id").is_none());
    }
    let line = site.line("/set?as=days-1000");
    assert!(line.contains("; Max-Age=34560000"), "{line}");
}
