//! Tables, as Markdown has them.

use std::fmt;

/// A table. The first column has words, the others numbers.
#[derive(Debug, Default)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new<T: Into<String>>(head: impl IntoIterator<Item = T>) -> Self {
        Self {
            head: head.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Whatever it lacks is a dash.
    pub(crate) fn push(&mut self, mut row: Vec<String>) {
        row.resize(self.head.len(), "-".to_owned());
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let numbers = self.head.iter().skip(1).map(|_| "---:".to_owned());
        let rule: Vec<String> = std::iter::once("---".to_owned()).chain(numbers).collect();
        f.write_str(&line(&self.head))?;
        f.write_str(&line(&rule))?;
        self.rows.iter().try_for_each(|row| f.write_str(&line(row)))
    }
}

/// A number with commas, without a fraction.
#[must_use]
pub(crate) fn whole(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if number <= -0.5 {
        format!("-{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(["store", "/read", "/write"]);
        table.push(vec!["memory".into(), whole(14_761.4)]);
        let expected =
            "| store | /read | /write |\n| --- | ---: | ---: |\n| memory | 14,761 | - |\n";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn numbers_have_commas() {
        for (number, text) in [
            (0.0, "0"),
            (-0.4, "0"),
            (999.0, "999"),
            (1_000.0, "1,000"),
            (-1_234_567.0, "-1,234,567"),
        ] {
            assert_eq!(whole(number), text);
        }
    }
}
