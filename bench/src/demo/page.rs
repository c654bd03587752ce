//! The night on one page: what happened when, the crowd as a plot, the curves, links to the health reports.

use loadgen::Second;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// Width and height of the plot.
const PLOT: (f64, f64) = (860.0, 180.0);

/// The page being written.
#[derive(Default)]
pub struct Page {
    body: String,
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Page {
    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        self.body.write_fmt(text).expect("a String takes all");
    }

    /// A thing that happened.
    pub fn line(&mut self, at: Duration, text: &str) {
        self.add(format_args!("<h3><small>{:.1} s</small> {}</h3>\n", at.as_secs_f64(), escaped(text)));
    }

    /// What was printed.
    pub fn text(&mut self, text: &str) {
        self.add(format_args!("<pre>{}</pre>\n", escaped(text)));
    }

    /// A curve.
    pub fn figure(&mut self, title: &str, svg: &str) {
        self.add(format_args!("<figure>{svg}<figcaption>{}</figcaption></figure>\n", escaped(title)));
    }

    /// A health report beside this page.
    pub fn link(&mut self, path: &Path) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.add(format_args!("<p><a href=\"{name}\">health report {name}</a></p>\n"));
    }

    /// The whole page.
    pub fn html(&self, seconds: &[Second]) -> String {
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>Springtide: the night</title><style>\
             :root{{color-scheme:light dark}}body{{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2rem auto;padding:0 1rem}}\
             pre{{overflow-x:auto;font-size:12px}}small{{opacity:.6}}svg{{max-width:100%;height:auto}}</style>\
             <h1>New Year's Eve</h1>\n<h2>The crowd at the entry</h2>\n{}\n{}</html>\n",
            plot(seconds),
            self.body
        )
    }
}

/// Requests a second offered (line) and failed (red).
fn plot(seconds: &[Second]) -> String {
    let (width, height) = PLOT;
    let most = seconds.iter().map(|second| second.offered).max().unwrap_or(1).max(1) as f64;
    let line = |value: fn(&Second) -> u64| {
        let at = |(x, second): (usize, &Second)| {
            let x = x as f64 / seconds.len().max(2) as f64 * width;
            format!("{x:.1},{:.1}", height - value(second) as f64 / most * (height - 20.0))
        };
        seconds.iter().enumerate().map(at).collect::<Vec<_>>().join(" ")
    };
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=img aria-label=\"requests a second\">\
         <polyline points=\"{}\" fill=none stroke=\"#2a78d6\" stroke-width=2 />\
         <polyline points=\"{}\" fill=none stroke=\"#d63a2a\" stroke-width=2 />\
         <text x=4 y=14 fill=currentColor font-size=12>{most:.0} requests/s at most; red: failed</text></svg>",
        line(|second| second.offered),
        line(|second| second.errors)
    )
}
