//! Whether the documentation leads anywhere: each link of each page, and each test and each place in the
//! code that a page names.

use std::fs;
use std::path::{Path, PathBuf};

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
    let mut links = in_place(line);
    links.extend(definition(line));
    links
}

/// Links whose targets stand beside their texts.
fn in_place(line: &str) -> Vec<(&str, &str)> {
    let mut links = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("](") {
        let (target, following) = after.split_once(')').unwrap_or((after, ""));
        let text = before.rsplit_once('[').map_or(before, |(_, text)| text);
        links.push((text, target));
        rest = following;
    }
    links
}

/// The name of a link and its target.
fn definition(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix('[')?.split_once("]: ")
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

/// The pages that `rustdoc` reads.
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

/// Where these define the names of links anew.
const DEFINE: [&str; 2] = ["lib.rs", "testing/mod.rs"];

/// What is wrong with a link.
fn complaint(page: &Path, text: &str, target: &str) -> Option<String> {
    if target.contains("://") {
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
    let is_there = anchor.is_empty() || has_heading(&contents, anchor);
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

/// What is wrong with a line of a page that `rustdoc` reads: a file lies elsewhere there, so that a link to
/// it has a name, and the code that reads the page defines that too.
fn complaints_of_rustdoc(line: &str, code: &str) -> Vec<String> {
    let is_here = |target: &str| target.starts_with('#') || target.contains("://");
    let mut complaints: Vec<_> = in_place(line)
        .into_iter()
        .filter(|(_, target)| !is_here(target))
        .map(|(text, _)| format!("the link on {text} must have a name"))
        .collect();
    if let Some((name, target)) = definition(line) {
        let anchor = target.split_once('#').map_or("", |(_, anchor)| anchor);
        let is_defined = code.lines().any(|line| {
            let defined = line.split_once(&format!("[{name}]: "));
            defined.is_some_and(|(_, to)| to.trim_end_matches(['"', ']']).ends_with(anchor))
        });
        if !is_defined {
            complaints.push(format!("{DEFINE:?} must define [{name}], on #{anchor}"));
        }
    }
    complaints
}

#[test]
fn pages_lead_somewhere_in_rustdoc_too() {
    let folder = repository().join("actix-session");
    let read = |file| fs::read_to_string(folder.join(file)).unwrap();
    let code = DEFINE.map(|file| read(format!("src/{file}"))).concat();
    let mut complaints = Vec::new();
    for page in OF_RUSTDOC {
        let text = read(format!("docs/{page}"));
        let wrong = prose(&text).flat_map(|line| complaints_of_rustdoc(line, &code));
        complaints.extend(wrong.map(|it| format!("{page}: {it}")));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// What a text has in back quotes.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What is wrong with a cell that names files of the crate or folders of the repository, and what is in them.
fn places_complaints(cell: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut contents = None;
    for span in spans(cell) {
        if span.contains('/') {
            let places = [repository().join("actix-session"), repository()];
            let place = places
                .map(|it| it.join(span))
                .into_iter()
                .find(|it| it.exists());
            contents = place.map(|it| fs::read_to_string(it).unwrap_or_default());
            if contents.is_none() {
                complaints.push(format!("there is no {span}"));
            }
        } else if let Some(contents) = &contents {
            let name = span.rsplit("::").next().unwrap_or_default();
            if !contents.contains(name) {
                complaints.push(format!("{span} is not there"));
            }
        }
    }
    complaints
}

/// The table of ASVS says where each requirement is met.
#[test]
fn places_in_the_code_are_there() {
    let page = repository().join("actix-session/docs/threats.md");
    let text = fs::read_to_string(page).unwrap();
    let mut rows = prose(&text)
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .skip_while(|cells| cells.get(1) != Some(&"no."));
    let place = rows
        .next()
        .and_then(|head| head.iter().position(|cell| *cell == "where"))
        .unwrap();
    let cells: Vec<_> = rows
        .map_while(|row| row.get(place).map(|cell| (*cell).to_owned()))
        .collect();
    assert!(cells.iter().any(|cell| spans(cell).count() > 1));
    let complaints: Vec<_> = cells
        .iter()
        .flat_map(|cell| places_complaints(cell))
        .collect();
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
    let code = "[one]: crate::two#three\n";
    assert!(complaints_of_rustdoc("[one](#here), [one]", code).is_empty());
    assert!(complaints_of_rustdoc("[one]: two.md#three", code).is_empty());
    for wrong in ["[one](two.md)", "[one]: two.md#four", "[two]: two.md"] {
        assert_eq!(complaints_of_rustdoc(wrong, code).len(), 1, "{wrong}");
    }
    assert!(places_complaints("`src/lib.rs`: `crate::SessionManager`; `sessions/`").is_empty());
    assert_eq!(
        places_complaints("`src/lib.rs`: `Missing`; `src/missing.rs`").len(),
        2
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
