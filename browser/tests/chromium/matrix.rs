//! Every combination of the builder's settings: taken, returned, replaced and dropped.

use std::collections::HashSet;

use actix_web::cookie::SameSite;

use servers::chromium::ThirdParties;

use crate::{
    combination::{Attributes, Combination, Strict, WEEK},
    devtools::{Browser, Connection},
    jar::{Cookie, Jar},
    server::Server,
    setup::COMBINATIONS,
    visit::{Driver, Seen},
};

/// How many combinations share a site. Browsers keep no more than 180 cookies of one, and 10 KiB of
/// partitioned ones.
const BATCH: usize = 48;

/// How many failures are reported in full.
const TOLD: usize = 12;

/// Where the browser meets the cookies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Pages of the site itself, over TLS.
    Https,
    /// The same without TLS.
    Http,
    /// In a frame, on a page of another site.
    Embedded,
    /// The same in a browser whose user blocks cookies of third parties.
    Isolated,
}

/// How much of a session's life a test covers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Set, read, elsewhere, login, renewal, end.
    Whole,
    /// Set, read, login, end.
    Short,
}

impl Place {
    fn site(self, batch: usize) -> String {
        let kind = match self {
            Self::Https => "shop",
            Self::Http => "plain",
            Self::Embedded | Self::Isolated => "framed",
        };
        format!("{kind}{batch}.test")
    }

    fn url(self, host: &str, path: &str) -> String {
        let server = Server::shared();
        match self {
            Self::Http => server.http(host, path),
            Self::Https | Self::Embedded | Self::Isolated => server.https(host, path),
        }
    }

    fn driver(self, connection: &Connection, batch: usize) -> Driver {
        let own = self.url(&format!("pages.{}", self.site(batch)), "/driver");
        match self {
            Self::Embedded | Self::Isolated => Driver::within(connection, &top(batch), &own),
            Self::Https | Self::Http => Driver::on_top(connection, &own),
        }
    }

    /// The top-level site, as the browser writes it in a cookie's partition.
    fn partition(self, batch: usize) -> String {
        let site = match self {
            Self::Embedded | Self::Isolated => top(batch),
            Self::Https | Self::Http => self.site(batch),
        };
        format!("https://{site}")
    }
}

/// The other site, whose pages hold frames.
fn top(batch: usize) -> String {
    format!("top{batch}.test")
}

/// One combination in one place.
struct Case {
    number: usize,
    combination: Combination,
    wanted: Attributes,
    place: Place,
    batch: usize,
    complaints: Vec<String>,
    /// The value that the jar had last.
    value: String,
}

impl Case {
    fn new(number: usize, place: Place, batch: usize) -> Self {
        let combination = COMBINATIONS[number];
        Self {
            number,
            combination,
            wanted: combination.attributes(),
            place,
            batch,
            complaints: Vec::new(),
            value: String::new(),
        }
    }

    /// The domain above the hosts of this case.
    fn site(&self) -> String {
        format!("c{}.{}", self.number, self.place.site(self.batch))
    }

    fn url(&self, host: &str, path: &str) -> String {
        let host = format!("{host}.{}", self.site());
        self.place
            .url(&host, &format!("{path}?as=c{}", self.number))
    }

    fn demand(&mut self, holds: bool, complaint: impl FnOnce() -> String) {
        if !holds {
            self.complaints.push(complaint());
        }
    }

    /// In a frame on another site's page, browsers accept and send a cookie only if it says
    /// `SameSite=None` or, if third-party cookies are blocked, only if it is also partitioned.
    fn is_taken(&self) -> bool {
        match self.place {
            Place::Https | Place::Http => true,
            Place::Embedded => self.wanted.same_site == SameSite::None,
            Place::Isolated => self.wanted.partitioned,
        }
    }

    /// The request carried exactly this one cookie, or no cookie.
    fn demand_came(&mut self, step: &str, seen: &Seen, wanted: bool) {
        let names = Vec::from_iter(wanted.then(|| self.wanted.name.clone()));
        let holds = seen.status == 200 && seen.came == names;
        self.demand(holds, || {
            format!("{step}: the browser must send {names:?}; the server saw {seen:?}")
        });
    }

    fn demand_session(&mut self, step: &str, seen: &Seen, n: Option<u64>, who: Option<&str>) {
        let holds = (seen.n, seen.who.as_deref()) == (n, who);
        self.demand(holds, || {
            format!("{step}: the session must have {n:?} and {who:?}; it has {seen:?}")
        });
    }

    /// The jar holds exactly one cookie, as it was configured, with another value than before.
    fn demand_in_jar(&mut self, step: &str, jar: &Jar, is_new: bool) {
        let [cookie] = jar.of(&self.site())[..] else {
            let found = format!("{:?}", jar.of(&self.site()));
            return self.demand(false, || {
                format!("{step}: the browser must keep one cookie; it keeps {found}")
            });
        };
        let cookie = cookie.clone();
        for (what, holds) in self.compare(&cookie) {
            self.demand(holds, || {
                format!("{step}: {what} differs from that of {cookie:?}")
            });
        }
        if is_new {
            let before = std::mem::replace(&mut self.value, cookie.value.clone());
            let changed = before != cookie.value;
            self.demand(changed, || format!("{step}: the value must be replaced"));
        }
    }

    fn compare(&self, cookie: &Cookie) -> [(&'static str, bool); 8] {
        let wanted = &self.wanted;
        let same_site = wanted.same_site.to_string();
        let domain = if wanted.domain {
            format!(".{}", self.site())
        } else {
            format!("app.{}", self.site())
        };
        let partition = wanted.partitioned.then(|| self.place.partition(self.batch));
        [
            ("the name", cookie.name == wanted.name),
            ("Secure", cookie.secure == wanted.secure),
            ("HttpOnly", cookie.http_only == wanted.http_only),
            ("SameSite", cookie.same_site == Some(same_site)),
            ("Path", cookie.path == wanted.path),
            ("Domain", cookie.domain == domain),
            ("the partition", cookie.partition == partition),
            ("the end", is_end(cookie.expires, wanted.persistent)),
        ]
    }

    fn demand_no_cookie(&mut self, step: &str, jar: &Jar) {
        let found = jar.of(&self.site());
        let told = format!("{found:?}");
        self.demand(found.is_empty(), || {
            format!("{step}: the browser must keep no cookie; it keeps {told}")
        });
    }
}

/// A persistent cookie ends a week from now, within the hour that a slow machine may need.
fn is_end(expires: Option<f64>, persistent: bool) -> bool {
    let Some(expires) = expires else {
        return !persistent;
    };
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    persistent && (expires - now - WEEK.as_seconds_f64()).abs() < 3_600.0
}

/// A site with its combinations, and the page from which they are visited.
struct Batch {
    driver: Driver,
    connection: Connection,
    cases: Vec<Case>,
    /// The cases whose cookies the browser does not accept in this place.
    refused: Vec<Case>,
}

impl Batch {
    fn run(&mut self, life: Life) {
        self.each("app", "/app/set", |case, seen| {
            case.demand_came("the first visit", seen, false);
        });
        self.look("set", true);
        self.each("app", "/app/count", |case, seen| {
            case.demand_came("count", seen, case.is_taken());
            case.demand_session("count", seen, Some(1), None);
        });
        self.look("count", false);
        self.judge_refused();
        if life == Life::Whole {
            self.other_paths_and_hosts();
        }
        self.each("app", "/app/login", |case, seen| {
            case.demand_came("login", seen, true);
            case.demand_session("login", seen, Some(1), Some("alice"));
        });
        self.look("login", true);
        if life == Life::Whole {
            self.renew();
        }
        self.each("app", "/app/purge", |case, seen| {
            case.demand_came("purge", seen, true);
        });
        self.look("purge", false);
        self.each("app", "/app/who", |case, seen| {
            let told = || format!("after purge: no cookie must arrive; the server saw {seen:?}");
            case.demand(seen.is_nobody(), told);
        });
    }

    fn renew(&mut self) {
        self.each("app", "/app/renew", |case, seen| {
            case.demand_came("renew", seen, true);
            case.demand_session("renew", seen, Some(1), Some("alice"));
        });
        self.look("renew", true);
        self.each("app", "/app/count", |case, seen| {
            case.demand_came("after renew", seen, true);
            case.demand_session("after renew", seen, Some(2), Some("alice"));
        });
    }

    /// `Path` and `Domain` work as documented. One check for each set of attributes is enough: the jar
    /// has shown for all combinations that the attributes are as they were set.
    fn other_paths_and_hosts(&mut self) {
        let once = |case: &Case| {
            let Combination {
                memory, private, ..
            } = case.combination;
            memory && private && !case.wanted.persistent
        };
        self.each_of(once, "app", "/who", |case, seen| {
            case.demand_came("outside of /app", seen, case.wanted.path == "/");
        });
        self.each_of(once, "other", "/app/who", |case, seen| {
            case.demand_came("on another host of the domain", seen, case.wanted.domain);
        });
    }

    fn each(&mut self, host: &str, path: &str, judge: impl Fn(&mut Case, &Seen)) {
        self.each_of(|_| true, host, path, judge);
    }

    fn each_of(
        &mut self,
        like: impl Fn(&Case) -> bool,
        host: &str,
        path: &str,
        judge: impl Fn(&mut Case, &Seen),
    ) {
        let mut cases: Vec<_> = self.cases.iter_mut().filter(|case| like(case)).collect();
        let addresses: Vec<_> = cases.iter().map(|case| case.url(host, path)).collect();
        for (case, seen) in cases.iter_mut().zip(self.driver.ask(&addresses)) {
            judge(case, &seen);
        }
    }

    /// The jar holds every cookie that was accepted and not purged, and nothing else.
    fn look(&mut self, step: &str, is_new: bool) {
        let jar = Jar::look(&self.connection);
        for case in &mut self.cases {
            if case.is_taken() && step != "purge" {
                case.demand_in_jar(step, &jar, is_new);
            } else {
                case.demand_no_cookie(step, &jar);
            }
        }
    }

    /// If the browser accepts nothing, there is nothing more to check.
    fn judge_refused(&mut self) {
        let (taken, refused) = self.cases.drain(..).partition(Case::is_taken);
        self.cases = taken;
        self.refused.extend::<Vec<Case>>(refused);
    }

    fn failures(self) -> impl Iterator<Item = String> {
        let all = self.cases.into_iter().chain(self.refused);
        all.filter(|case| !case.complaints.is_empty()).map(|case| {
            let complaints = case.complaints.join("\n    ");
            format!("{}\n    {complaints}", case.combination)
        })
    }
}

/// Takes these combinations through a session's life.
fn live(connection: &Connection, place: Place, life: Life, numbers: &[usize]) {
    let mut failed = Vec::new();
    for (index, numbers) in numbers.chunks(BATCH).enumerate() {
        let case = |number: &usize| Case::new(*number, place, index);
        let mut batch = Batch {
            driver: place.driver(connection, index),
            connection: connection.clone(),
            cases: numbers.iter().map(case).collect(),
            refused: Vec::new(),
        };
        batch.run(life);
        failed.extend(batch.failures());
    }
    tell(&failed, numbers.len());
}

/// Panics with the first of these failures, if there are any.
pub(crate) fn tell(failed: &[String], of: usize) {
    assert!(of > 0, "nothing was tried");
    assert!(
        failed.is_empty(),
        "{} of {of} combinations fail, such as\n{}",
        failed.len(),
        failed[..failed.len().min(TOLD)].join("\n")
    );
}

/// The combinations that build and meet this condition, one for each distinct middleware.
pub(crate) fn that_build(like: impl Fn(&Combination) -> bool) -> Vec<usize> {
    let mut seen = HashSet::new();
    let chosen = |combination: &Combination| {
        like(combination) && combination.try_build().is_ok() && seen.insert(combination.outcome())
    };
    numbers_of(chosen)
}

/// The numbers of the combinations that meet this condition.
pub(crate) fn numbers_of(mut like: impl FnMut(&Combination) -> bool) -> Vec<usize> {
    let all = COMBINATIONS.iter().enumerate();
    all.filter_map(|(number, combination)| like(combination).then_some(number))
        .collect()
}

#[test]
fn what_builds_lives() {
    let numbers = that_build(|combination| combination.strict == Strict::No);
    live(&Browser::shared(), Place::Https, Life::Whole, &numbers);
}

/// With `strict()` first and last: the cookies are as above, and only a single live one is accepted.
#[test]
fn what_builds_with_strict_lives() {
    let numbers = that_build(|combination| combination.strict != Strict::No);
    live(&Browser::shared(), Place::Https, Life::Short, &numbers);
}

#[test]
fn what_builds_without_secure_lives_without_tls() {
    let numbers = that_build(|combination| !combination.attributes().secure);
    live(&Browser::shared(), Place::Http, Life::Whole, &numbers);
}

#[test]
fn what_builds_lives_in_a_frame_as_its_attributes_say() {
    let numbers = that_build(|combination| combination.strict == Strict::No);
    live(&Browser::shared(), Place::Embedded, Life::Whole, &numbers);
}

#[test]
fn where_third_parties_get_no_cookies_only_partitioned_ones_live_in_a_frame() {
    let numbers = that_build(|combination| {
        combination.strict == Strict::No && combination.same_site == SameSite::None
    });
    let browser = Browser::start(ThirdParties::Blocked);
    live(
        &browser.connection(),
        Place::Isolated,
        Life::Short,
        &numbers,
    );
}
