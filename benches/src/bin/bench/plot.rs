//! Plots in SVG, by hand: bars side by side, and curves of growth.
//!
//! The colours are readable on white and on black, and told apart by whoever sees no red or green.

use std::fmt::Write as _;

const COLOURS: [&str; 5] = ["#0072b2", "#56b4e9", "#d55e00", "#9a9a9a", "#009e73"];
const WIDTH: f64 = 760.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 90.0;

/// Groups of bars: one group for each thing that is measured, one bar for each that is compared.
#[derive(Debug)]
pub(crate) struct Bars {
    /// What the numbers are.
    pub(crate) title: String,
    /// What is compared, in the order of the colours.
    pub(crate) series: Vec<String>,
    /// A group's name, and a number for each of the series that has one.
    pub(crate) groups: Vec<(String, Vec<Option<f64>>)>,
}

impl Bars {
    /// The picture.
    #[must_use]
    pub(crate) fn svg(&self) -> String {
        const BAR: f64 = 14.0;
        let largest = self
            .groups
            .iter()
            .flat_map(|(_, bars)| bars.iter().flatten());
        let largest = largest.copied().fold(1.0, f64::max);
        let (mut y, mut body) = (58.0, legend(&self.series));
        for (name, bars) in &self.groups {
            let present = bars
                .iter()
                .zip(COLOURS)
                .filter_map(|(bar, c)| Some(((*bar)?, c)));
            let top = y;
            for (number, colour) in present {
                let width = (WIDTH - LEFT - RIGHT) * number.max(0.0) / largest;
                let _ = writeln!(
                    body,
                    r#"<rect x="{LEFT}" y="{y:.1}" width="{width:.1}" height="{:.1}" fill="{colour}"/>"#,
                    BAR - 2.0
                );
                body += &text(
                    LEFT + width + 5.0,
                    y + 10.0,
                    "start",
                    &crate::table::whole(number),
                );
                y += BAR;
            }
            body += &text(LEFT - 8.0, f64::midpoint(top, y) + 3.0, "end", name);
            y += 9.0;
        }
        frame(&self.title, y, &body)
    }
}

/// Curves over something that grows, on logarithmic axes.
#[derive(Debug)]
pub(crate) struct Curves {
    /// What the numbers are.
    pub(crate) title: String,
    /// What grows.
    pub(crate) over: String,
    /// The name of a curve, and its points.
    pub(crate) curves: Vec<(String, Vec<(f64, f64)>)>,
}

impl Curves {
    /// The picture.
    #[must_use]
    pub(crate) fn svg(&self) -> String {
        const TOP: f64 = 66.0;
        const BOTTOM: f64 = 330.0;
        let points = || {
            self.curves
                .iter()
                .flat_map(|(_, points)| points.iter().copied())
        };
        let x = Axis::over(points().map(|(x, _)| x), LEFT, WIDTH - RIGHT);
        let y = Axis::over(points().map(|(_, y)| y), BOTTOM, TOP);
        let names: Vec<String> = self.curves.iter().map(|(name, _)| name.clone()).collect();
        let mut body = legend(&names);
        for (value, at) in y.ticks() {
            let _ = writeln!(
                body,
                r#"<path d="M{LEFT} {at:.1}H{:.1}" stroke="gray" stroke-opacity=".3"/>"#,
                WIDTH - RIGHT
            );
            body += &text(LEFT - 8.0, at + 4.0, "end", &crate::table::whole(value));
        }
        for (value, at) in x.ticks() {
            body += &text(at, BOTTOM + 20.0, "middle", &crate::table::whole(value));
        }
        for ((_, points), colour) in self.curves.iter().zip(COLOURS) {
            let points = points
                .iter()
                .map(|(a, b)| format!("{:.1},{:.1}", x.at(*a), y.at(*b)));
            let points = points.collect::<Vec<_>>().join(" ");
            let _ = writeln!(
                body,
                r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>"#
            );
        }
        body += &text(
            f64::midpoint(LEFT, WIDTH - RIGHT),
            BOTTOM + 42.0,
            "middle",
            &self.over,
        );
        frame(&self.title, BOTTOM + 55.0, &body)
    }
}

/// From powers of ten to places in the picture.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let logs = values.map(|value| value.max(1e-9).log10());
        let range = logs.map(|log| (log, log));
        let range = range.reduce(|(low, high), (log, _)| (low.min(log), high.max(log)));
        // Without points the axis is empty.
        let (low, high) = range.unwrap_or_default();
        let (low, high) = (low.floor(), high.ceil().max(low.floor() + 1.0));
        Self {
            low,
            high,
            from,
            to,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.max(1e-9).log10() - self.low) / (self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<(f64, f64)> {
        let mut ticks = Vec::new();
        let mut power = self.low;
        while power <= self.high {
            let value = 10f64.powf(power);
            ticks.push((value, self.at(value)));
            power += 1.0;
        }
        ticks
    }
}

fn legend(names: &[String]) -> String {
    let (mut x, mut body) = (LEFT, String::new());
    for (name, colour) in names.iter().zip(COLOURS) {
        let _ = writeln!(
            body,
            r#"<rect x="{x:.1}" y="34" width="11" height="11" fill="{colour}"/>"#
        );
        body += &text(x + 16.0, 44.0, "start", name);
        // The width of a letter, nearly.
        x += 34.0 + 6.6 * name.chars().count() as f64;
    }
    body
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n")
}

fn frame(title: &str, height: f64, body: &str) -> String {
    let title = text(10.0, 18.0, "start", title).replacen("<text", "<text font-weight=\"bold\"", 1);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<g fill=\"#222\">\n{title}{body}</g>\n</svg>\n"
    )
}
