//! Combinations that the builder refuses, and how the browser judges the cookies that they would send.

use std::collections::{BTreeSet, HashMap};

use actix_session::config::ConfigError;
use actix_web::cookie::SameSite;
use serde_json::json;

use crate::{
    combination::{Attributes, Combination},
    devtools::{Browser, Connection},
    jar::Jar,
    matrix::{numbers_of, tell},
    server::{ASKED, Server},
    setup::COMBINATIONS,
    visit::Driver,
};

/// How many combinations share a page and a site.
const BATCH: usize = 48;

/// A combination that the builder refuses.
struct Refused {
    number: usize,
    combination: Combination,
    wanted: Attributes,
    error: ConfigError,
}

impl Refused {
    fn site(&self, batch: usize) -> String {
        format!("c{}.refused{batch}.test", self.number)
    }

    fn path(&self, act: &str) -> String {
        format!("/app/{act}?as=c{}", self.number)
    }

    fn url(&self, batch: usize, act: &str) -> String {
        let host = format!("app.{}", self.site(batch));
        Server::shared().https(&host, &self.path(act))
    }

    /// Browsers accept the cookie, but no frame gets it, so `Partitioned` has no effect.
    fn is_useless(&self) -> bool {
        let wanted = &self.wanted;
        self.error == ConfigError::Partitioned
            && wanted.secure
            && wanted.same_site != SameSite::None
    }

    fn tell(&self, complaint: &str) -> String {
        let Self {
            combination, error, ..
        } = self;
        format!("{combination}\n    refused by the builder ({error:?}); {complaint}")
    }
}

/// One for each refused set of attributes. No other setting plays a part, as this shows.
fn refused() -> Vec<Refused> {
    let mut answers = HashMap::new();
    let mut refused = Vec::new();
    for number in numbers_of(|_| true) {
        let combination = COMBINATIONS[number];
        let wanted = Attributes {
            persistent: false,
            ..combination.attributes()
        };
        let answer = combination.try_build();
        let known = answers
            .entry(format!("{wanted:?}"))
            .or_insert_with(|| None::<Result<(), ConfigError>>);
        if let Some(known) = known {
            assert_eq!(*known, answer, "{combination}");
            continue;
        }
        *known = Some(answer.clone());
        if let Err(error) = answer {
            refused.push(Refused {
                number,
                combination,
                wanted,
                error,
            });
        }
    }
    refused
}

/// Why the browser blocked each of these responses' cookies, by path and query. The events may arrive
/// after the responses.
fn reasons(driver: &Driver, count: usize) -> HashMap<String, BTreeSet<String>> {
    let mut reasons = HashMap::new();
    while reasons.len() < count {
        let event = driver.page.next_event("Network.responseReceivedExtraInfo");
        let Some(asked) = event["headers"][ASKED.as_str()].as_str() else {
            continue;
        };
        if !asked.starts_with("/app/") {
            continue; // The page's icon.
        }
        let blocked = event["blockedCookies"].as_array().into_iter().flatten();
        let told = blocked.flat_map(|cookie| cookie["blockedReasons"].as_array().unwrap());
        let told = told.map(|reason| reason.as_str().unwrap().to_owned());
        reasons.insert(asked.to_owned(), told.collect());
    }
    reasons
}

/// The reason that the browser must name. For an invalid `Partitioned` it names no reason.
fn expected(case: &Refused) -> &'static [&'static str] {
    match &case.error {
        ConfigError::HostPrefix | ConfigError::HttpPrefix | ConfigError::SecurePrefix => {
            &["InvalidPrefix"]
        }
        ConfigError::SameSiteNone if !case.wanted.partitioned => &["SameSiteNoneInsecure"],
        ConfigError::SameSiteNone | ConfigError::Partitioned => &[],
        other => panic!("{other:?} is not one of the browser's rules"),
    }
}

#[test]
fn what_the_builder_refuses_the_browser_refuses() {
    let refused = refused();
    let connection = Browser::shared();
    let mut failed = Vec::new();
    for (batch, cases) in refused.chunks(BATCH).enumerate() {
        let pages = Server::shared().https(&format!("pages.refused{batch}.test"), "/driver");
        let driver = Driver::on_top(&connection, &pages);
        driver.page.call("Network.enable", &json!({}));
        driver.page.forget_events();
        let addresses: Vec<_> = cases.iter().map(|case| case.url(batch, "set")).collect();
        for (case, seen) in cases.iter().zip(driver.ask(&addresses)) {
            assert_eq!(seen.status, 200, "{}", case.combination);
        }
        let reasons = reasons(&driver, cases.len());
        let jar = Jar::look(&connection);
        for case in cases {
            let (kept, reasons) = (jar.of(&case.site(batch)), &reasons[&case.path("set")]);
            let wanted = expected(case);
            let holds = if case.is_useless() {
                kept.len() == 1
            } else {
                kept.is_empty() && reasons.iter().eq(wanted)
            };
            if !holds {
                failed.push(case.tell(&format!("the browser has {kept:?}, for {reasons:?}")));
            }
        }
        failed.extend(taken_in_frames(&connection, batch, cases));
    }
    tell(&failed, refused.len());
}

/// `Partitioned` is for frames: in a frame, the browser accepts and sends none of the refused cookies.
fn taken_in_frames(connection: &Connection, batch: usize, cases: &[Refused]) -> Vec<String> {
    let useless = cases.iter().filter(|case| case.is_useless());
    let useless: Vec<&Refused> = useless.collect();
    let pages = Server::shared().https(&format!("pages.refused{batch}.test"), "/driver");
    let driver = Driver::within(connection, "top.test", &pages);
    let addresses: Vec<_> = useless.iter().map(|case| case.url(batch, "set")).collect();
    let [first, second] = [driver.ask(&addresses), driver.ask(&addresses)];
    let jar = Jar::look(connection);
    let mut failed = Vec::new();
    for (index, case) in useless.into_iter().enumerate() {
        let (kept, came) = (jar.of(&case.site(batch)), [&first[index], &second[index]]);
        let none_came = came
            .iter()
            .all(|seen| seen.status == 200 && seen.came.is_empty());
        if kept.len() != 1 || !none_came {
            failed.push(case.tell(&format!("in a frame, {came:?} came, and {kept:?} is kept")));
        }
    }
    failed
}
