//! Cookies when a person navigates: addresses typed, links followed and forms sent, from our own pages
//! and from another site's.

use actix_web::cookie::SameSite;

use crate::{
    combination::{Combination, Strict},
    devtools::{Browser, Connection, Page},
    jar::Jar,
    matrix::{tell, that_build},
    server::Server,
    setup::COMBINATIONS,
    visit::{Seen, encode},
};

/// One person's visits to one combination's site.
struct Walk<'a> {
    page: &'a Page,
    connection: Connection,
    number: usize,
    combination: Combination,
    complaints: Vec<String>,
}

impl Walk<'_> {
    fn site(&self) -> String {
        format!("c{}.walked.test", self.number)
    }

    fn is_secure(&self) -> bool {
        self.combination.secure
    }

    /// An address of the kind that this cookie is for.
    fn address(&self, host: &str, path: &str) -> String {
        let server = Server::shared();
        if self.is_secure() {
            server.https(host, path)
        } else {
            server.http(host, path)
        }
    }

    fn act(&self, act: &str) -> String {
        let path = format!("/app/{act}?as=c{}", self.number);
        self.address(&format!("app.{}", self.site()), &path)
    }

    fn demand(&mut self, holds: bool, complaint: impl FnOnce() -> String) {
        if !holds {
            self.complaints.push(complaint());
        }
    }

    fn demand_came(&mut self, step: &str, wanted: bool) {
        let seen = Seen::on(self.page);
        let name = self.combination.name;
        let came = seen.came == [name];
        let holds = came == wanted && (came || seen.came.is_empty());
        self.demand(holds, || {
            let verb = if wanted { "was" } else { "was not" };
            format!("{step}: {name} {verb} to be sent; the server saw {seen:?}")
        });
    }

    fn type_address(&mut self, act: &str, came: bool) {
        self.page.goto(&self.act(act));
        self.demand_came(&format!("typed address of {act}"), came);
    }

    /// Goes to a page of this host and uses this element of it: `a` is a link, `button` sends a form.
    fn use_page(&mut self, host: &str, element: &str, came: bool) {
        let links = format!("/links?to={}", encode(&self.act("who")));
        self.page.goto(&self.address(host, &links));
        let click = format!("document.querySelector('{element}').click()");
        self.page.follow(&click);
        self.demand_came(&format!("{element} on {host}"), came);
    }

    fn go(&mut self) {
        self.type_address("login", false);
        let script = self.page.evaluate("document.cookie");
        let shown = script.as_str().unwrap().starts_with(self.combination.name);
        self.demand(shown != self.combination.http_only, || {
            format!("scripts see {script}")
        });
        let same_site = self.combination.same_site;
        let (own, elsewhere) = (format!("www.{}", self.site()), "www.elsewhere.test");
        self.use_page(&own, "a", true);
        self.use_page(elsewhere, "a", same_site != SameSite::Strict);
        self.use_page(elsewhere, "button", same_site == SameSite::None);
        self.type_address("purge", true);
        let left = format!("{:?}", Jar::look(&self.connection).of(&self.site()));
        self.demand(left == "[]", || format!("after purge, {left} is left"));
        self.type_address("who", false);
    }
}

/// The plain name with every `SameSite`, visible to scripts or not; each prefix with `Strict`, and
/// partitioned. The other settings take turns.
fn is_walked(combination: &Combination) -> bool {
    let Combination {
        name,
        same_site,
        partitioned,
        ..
    } = *combination;
    let whole_host = combination.path == "/" && !combination.domain;
    let turn = same_site != SameSite::Lax;
    let in_turn = combination.persistent == turn
        && combination.private == turn
        && combination.memory != partitioned;
    let chosen = if name == "id" {
        !partitioned || combination.http_only
    } else {
        combination.http_only && (partitioned || same_site == SameSite::Strict)
    };
    combination.strict == Strict::No && whole_host && in_turn && chosen
}

#[test]
fn a_person_takes_the_cookie_along_as_its_attributes_say() {
    let connection = Browser::shared();
    let page = Page::open(&connection);
    let numbers = that_build(is_walked);
    let mut failed = Vec::new();
    for number in &numbers {
        let mut walk = Walk {
            page: &page,
            connection: connection.clone(),
            number: *number,
            combination: COMBINATIONS[*number],
            complaints: Vec::new(),
        };
        walk.go();
        if !walk.complaints.is_empty() {
            let complaints = walk.complaints.join("\n    ");
            failed.push(format!("{}\n    {complaints}", walk.combination));
        }
    }
    tell(&failed, numbers.len());
}
