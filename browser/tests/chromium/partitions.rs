//! With a partitioned cookie, each site whose pages embed ours has its own session, and so has our own
//! site.

use std::collections::BTreeMap;

use crate::{
    combination::{Combination, Strict},
    devtools::{Browser, Connection},
    jar::Jar,
    matrix::{tell, that_build},
    server::Server,
    setup::COMBINATIONS,
    visit::Driver,
};

const SITE: &str = "partitioned.test";

/// The top-level sites; the first is our own.
const TOPS: [&str; 3] = [SITE, "one.test", "two.test"];

fn drivers(connection: &Connection) -> [Driver; 3] {
    let own = Server::shared().https(&format!("pages.{SITE}"), "/driver");
    TOPS.map(|top| {
        if top == SITE {
            Driver::on_top(connection, &own)
        } else {
            Driver::within(connection, &format!("www.{top}"), &own)
        }
    })
}

fn address(number: &usize, act: &str) -> String {
    let host = format!("app.c{number}.{SITE}");
    Server::shared().https(&host, &format!("/app/{act}?as=c{number}"))
}

/// The partitions in which the browser keeps the cookie, in alphabetical order.
fn partitions(jar: &Jar, number: usize) -> Vec<Option<String>> {
    let kept = jar.of(&format!("c{number}.{SITE}"));
    let mut partitions: Vec<_> = kept.iter().map(|cookie| cookie.partition.clone()).collect();
    partitions.sort();
    partitions
}

#[test]
fn a_partitioned_session_is_one_for_each_site_on_top() {
    let numbers = that_build(|combination: &Combination| {
        let plain = combination.strict == Strict::No && combination.private;
        // The two stores in turn, each with one kind of lifetime.
        plain && combination.partitioned && combination.persistent == combination.memory
    });
    let connection = Browser::shared();
    let drivers = drivers(&connection);
    let mut complaints: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut demand = |number: usize, holds: bool, told: String| {
        if !holds {
            complaints.entry(number).or_default().push(told);
        }
    };
    // Each session counts to a different number.
    for (index, driver) in drivers.iter().enumerate() {
        for n in 1..=index as u64 + 1 {
            let addresses: Vec<_> = numbers.iter().map(|c| address(c, "count")).collect();
            for (number, seen) in numbers.iter().zip(driver.ask(&addresses)) {
                let told = format!("on {}, the count must be {n}: {seen:?}", TOPS[index]);
                demand(*number, seen.n == Some(n), told);
            }
        }
    }
    // They end one after the other; none ends another.
    for (ended, driver) in drivers.iter().enumerate() {
        let jar = Jar::look(&connection);
        for number in &numbers {
            let mut wanted: Vec<_> = TOPS[ended..]
                .iter()
                .map(|top| Some(format!("https://{top}")))
                .collect();
            wanted.sort();
            let found = partitions(&jar, *number);
            let told = format!("the cookie must be in {wanted:?}; it is in {found:?}");
            demand(*number, found == wanted, told);
        }
        let addresses: Vec<_> = numbers.iter().map(|c| address(c, "purge")).collect();
        driver.ask(&addresses);
        for (index, driver) in drivers.iter().enumerate() {
            let addresses: Vec<_> = numbers.iter().map(|c| address(c, "who")).collect();
            let wanted = (index > ended).then_some(index as u64 + 1);
            for (number, seen) in numbers.iter().zip(driver.ask(&addresses)) {
                let told = format!(
                    "after the end on {}, {} was to have {wanted:?}: {seen:?}",
                    TOPS[ended], TOPS[index]
                );
                demand(*number, seen.n == wanted, told);
            }
        }
    }
    let jar = Jar::look(&connection);
    for number in &numbers {
        let found = partitions(&jar, *number);
        demand(*number, found.is_empty(), format!("{found:?} is left"));
    }
    let failed: Vec<_> = complaints
        .iter()
        .map(|(number, all)| format!("{}\n    {}", COMBINATIONS[*number], all.join("\n    ")))
        .collect();
    tell(&failed, numbers.len());
}
