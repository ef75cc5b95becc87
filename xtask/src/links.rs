//! Whether the documentation leads anywhere: each link of each page, and each test that a page names.

use std::fs;
use std::path::{Path, PathBuf};

/// The crate's documentation is one page, made of these.
const ONE_PAGE: [&str; 3] = ["overview.md", "migrating.md", "glossary.md"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The repository's own pages.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut folders = vec![repository()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let is_folder = entry.file_type().unwrap().is_dir();
            if is_folder && !name.starts_with('.') && name != "target" && name != "data" {
                folders.push(entry.path());
            } else if name.ends_with(".md") {
                pages.push(entry.path());
            }
        }
    }
    pages
}

/// The lines outside of code blocks.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The text and the target of each link in a line.
fn links(line: &str) -> Vec<(&str, &str)> {
    let mut links = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("](") {
        let (target, following) = after.split_once(')').unwrap_or((after, ""));
        let text = before.rsplit_once('[').map_or(before, |(_, text)| text);
        links.push((text, target));
        rest = following;
    }
    let definition = line.strip_prefix('[').and_then(|it| it.split_once("]: "));
    links.extend(definition);
    links
}

/// As hosts of repositories and `rustdoc` name a heading.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|it| it.is_alphanumeric() || "-_ ".contains(*it));
    kept.collect::<String>().replace(' ', "-")
}

fn has_heading(page: &str, anchor: &str) -> bool {
    let mut headings = prose(page).filter(|line| line.starts_with('#'));
    headings.any(|line| slug(line) == anchor)
}

/// The pages that `rustdoc` reads, and that may link to Rust items.
const OF_RUSTDOC: [&str; 9] = [
    "overview.md",
    "migrating.md",
    "glossary.md",
    "cookbook.md",
    "observability.md",
    "testing.md",
    "stores.md",
    "stores-sql.md",
    "threats.md",
];

/// Paths of Rust items, which `rustdoc` checks, and other hosts.
fn is_elsewhere(page: &Path, target: &str) -> bool {
    let is_read = page.parent().is_some_and(|it| it.ends_with("docs"))
        && OF_RUSTDOC.iter().any(|name| page.ends_with(name));
    let is_item = !target.contains(['/', '.', '#']) && page.ends_with("docs/overview.md");
    is_item || target.contains("://") || is_read && target.contains("::")
}

/// What is wrong with a link.
fn complaint(page: &Path, text: &str, target: &str) -> Option<String> {
    if is_elsewhere(page, target) {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if file.is_empty() {
        page.to_owned()
    } else {
        page.with_file_name(file)
    };
    if !file.exists() {
        return Some(format!("there is no file {}", file.display()));
    }
    let contents = fs::read_to_string(&file).unwrap_or_default();
    if file.extension().is_some_and(|it| it == "rs") && text.contains("::") {
        let function = text
            .trim_matches('`')
            .rsplit("::")
            .next()
            .unwrap_or_default();
        let is_there = contents.contains(&format!("fn {function}"));
        return (!is_there).then(|| format!("{} has no fn {function}", file.display()));
    }
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let mut parts = vec![contents];
    if ONE_PAGE.contains(&name) {
        let part = |name| fs::read_to_string(file.with_file_name(name)).unwrap_or_default();
        parts.extend(ONE_PAGE.map(part));
    }
    let is_there = anchor.is_empty() || parts.iter().any(|part| has_heading(part, anchor));
    (!is_there).then(|| format!("{} has no heading #{anchor}", file.display()))
}

#[test]
fn each_link_leads_somewhere() {
    let mut complaints = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let links = prose(&text).flat_map(links);
        let wrong = links.filter_map(|(text, target)| complaint(&page, text, target));
        complaints.extend(wrong.map(|it| format!("{}: {it}", page.display())));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Where a link in code is no link, and a heading may have marks.
#[test]
fn links_and_headings_are_found() {
    let page = "# One\n```\n[a](b)\n```\n[c](d) and [e](f#g)\n[h]: i\n";
    let found: Vec<_> = prose(page).flat_map(links).collect();
    assert_eq!(found, [("c", "d"), ("e", "f#g"), ("h", "i")]);
    assert_eq!(
        slug("## Which of `clear` and `purge`?"),
        "which-of-clear-and-purge"
    );
    let page = repository().join("README.md");
    assert!(complaint(&page, "x", "no-such-file").is_some());
    assert!(complaint(&page, "x", "#no-such-heading").is_some());
    assert!(complaint(&page, "x", "crate::Session").is_some());
    assert!(complaint(&page, "`links::no_such_test`", "xtask/src/links.rs").is_some());
    assert_eq!(
        complaint(
            &page,
            "`links::each_link_leads_somewhere`",
            "xtask/src/links.rs"
        ),
        None
    );
}

/// Each example says how to run it, and shows one idea: it fits on a page. Stores are there to be
/// copied, and may be longer.
#[test]
fn examples_are_short_and_say_how_to_run_them() {
    let folder = repository().join("actix-session/examples");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let mut head = text.lines().take_while(|line| line.starts_with("//!"));
        let command = format!("--example {name}");
        let says = head.any(|line| line.contains("cargo run ") && line.contains(&command));
        assert!(
            says,
            "the comment at the top of {name} must say how to run it"
        );
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
        let (lines, most) = (text.lines().filter(is_code).count(), most_lines(name));
        assert!(
            lines < most,
            "{name} has {lines} lines of code, not fewer than {most}"
        );
    }
}

fn most_lines(example: &str) -> usize {
    match example {
        // It has nine methods, not three or five.
        "compare_and_set_store" => 300,
        store if store.ends_with("_store") => 150,
        _ => 60,
    }
}
