//! Texts that a terminal may be shown.

use std::fmt::Write as _;

use serde_json::Value;

/// A text on one line. What a terminal would take for a command, or not show, is escaped: names and
/// devices come from whoever logs in.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' => plain.push(c),
            _ => plain.extend(c.escape_debug()),
        }
    }
    plain
}

/// JSON on indented lines, with the same in its own escapes.
pub(crate) fn json(value: &Value) -> String {
    let text = format!("{value:#}\n");
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        let is_shown = c.is_ascii() && c != '\x7f' || c.escape_debug().count() == 1;
        if is_shown {
            plain.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a `String` cannot fail.
            let _ = write!(plain, "\\u{unit:04x}");
        }
    }
    plain
}

/// Columns under their headings, each as wide as its widest cell.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let width = |text: &str| text.chars().count();
    let mut widths = headings.map(width);
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    let headings = headings.map(str::to_owned);
    let mut text = String::new();
    for row in std::iter::once(&headings).chain(rows) {
        let mut line = String::new();
        for (cell, widest) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:widest$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        for (text, shown) in [
            ("Ada's \"phone\"", "Ada's \"phone\""),
            ("Zoë 東京", "Zoë 東京"),
            ("\x1b[2J", "\\u{1b}[2J"),
            ("a\nb", "a\\nb"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("evil\u{202e}gpj", "evil\\u{202e}gpj"),
            ("a\\u{1b}", "a\\\\u{1b}"),
        ] {
            assert_eq!(plain(text), shown);
        }
    }

    #[test]
    fn json_shows_the_same_and_stays_json() {
        let value = json!({ "device": "\x1b[2J\u{7f}\u{9b}\u{202e}\u{e0001}Zoë" });
        let text = json(&value);
        assert!(
            text.chars()
                .all(|c| c == '\n' || c.escape_debug().count() == 1 || "\"\\".contains(c)),
            "{text:?}"
        );
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert!(text.contains("Zoë"));
    }

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [
            ["a".to_owned(), "b".to_owned()],
            ["ccc".to_owned(), String::new()],
        ];
        assert_eq!(table(["X", "YY"], &rows), "X    YY\na    b\nccc\n");
    }
}
