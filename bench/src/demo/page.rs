//! The night on one page: the crowd as a plot, what happened when, the curves, links to the health reports.

mod crowd;

use loadgen::Second;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

const STYLE: &str = "
:root{color-scheme:light dark;--fg:#1c2024;--dim:#60646c;--bg:#f7f8fa;--card:#fff;--edge:#dfe2e7;--bad:#c62a2f;--c0:#0b68cb;--c1:#b35309}
@media (prefers-color-scheme:dark){:root{--fg:#edeef0;--dim:#9a9fa8;--bg:#111214;--card:#191a1d;--edge:#34373d;--bad:#ff7b80;--c0:#70b8ff;--c1:#f5b061}}
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:1080px;margin:2.5rem auto;padding:0 1.25rem}
h1{font-size:1.9rem;margin:0 0 .4rem}h2{font-size:1.15rem;margin:2rem 0 .6rem}h2 small{color:var(--dim);font-weight:400;font-variant-numeric:tabular-nums;margin-right:.5rem}
.lead{font-size:1.05rem;margin:0 0 1.4rem;max-width:46rem}a{color:var(--c0)}p{margin:.2rem 0 .6rem}
pre,figure{background:var(--card);border:1px solid var(--edge);border-radius:8px;margin:0 0 1rem;padding:.8rem 1rem;overflow-x:auto}pre{font-size:12.5px;line-height:1.45}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:1rem;align-items:start}
figcaption{color:var(--dim)}figcaption b{color:var(--fg)}svg{display:block;width:100%;height:auto}
.crowd text{font-size:11px;fill:var(--dim)}.crowd .grid{stroke:var(--edge);fill:none}.crowd .mark{stroke:var(--dim);stroke-dasharray:3 3;fill:none}
.crowd .line{fill:none;stroke-width:1.8;stroke-linejoin:round}.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.bad{stroke:var(--bad)}.key{display:inline-block;width:.7rem;height:.7rem;border-radius:2px;margin:0 .3rem 0 .9rem}
.key.k0{background:var(--c0)}.key.k1{background:var(--c1)}.key.kbad{background:var(--bad)}
";

/// The page being written.
#[derive(Default)]
pub struct Page {
    chapters: Vec<Chapter>,
}

/// Something that happened, and what there is to show of it.
struct Chapter {
    at: Duration,
    title: String,
    body: String,
    figures: String,
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Page {
    /// A thing that happened.
    pub fn line(&mut self, at: Duration, text: &str) {
        let title = text.to_owned();
        self.chapters.push(Chapter { at, title, body: String::new(), figures: String::new() });
    }

    /// The chapter being written.
    fn chapter(&mut self) -> &mut Chapter {
        if self.chapters.is_empty() {
            self.line(Duration::ZERO, "the beginning");
        }
        self.chapters.last_mut().expect("there is one now")
    }

    /// What was printed.
    pub fn text(&mut self, text: &str) {
        let text = escaped(text.trim_end());
        writeln!(self.chapter().body, "<pre>{text}</pre>").expect("a String takes all");
    }

    /// A curve.
    pub fn figure(&mut self, title: &str, svg: &str) {
        let title = escaped(title);
        let figure = format_args!("<figure>{svg}<figcaption>{title}</figcaption></figure>\n").to_string();
        self.chapter().figures.push_str(&figure);
    }

    /// A health report beside this page.
    pub fn link(&mut self, path: &Path) {
        let name = path.file_name().map(|name| escaped(&name.to_string_lossy())).unwrap_or_default();
        writeln!(self.chapter().body, "<p><a href=\"{name}\">health report</a></p>").expect("a String takes all");
    }

    /// The whole page.
    pub fn html(&self, seconds: &[Second]) -> String {
        let sum = |of: fn(&Second) -> u64| seconds.iter().map(of).sum::<u64>();
        let (offered, rejected, failed) = (sum(|at| at.offered), sum(|at| at.rejected), sum(|at| at.errors));
        let most = seconds.iter().map(|second| second.offered).max().unwrap_or_default();
        let mut body = String::new();
        for Chapter { at, title, body: text, figures } in &self.chapters {
            let (seconds, title) = (at.as_secs_f64(), escaped(title));
            write!(body, "<h2><small>{seconds:.1} s</small>{title}</h2>\n{text}").expect("a String takes all");
            if !figures.is_empty() {
                writeln!(body, "<div class=figures>{figures}</div>").expect("a String takes all");
            }
        }
        format!(
            "<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\">\
             <title>Springtide: New Year's Eve</title><style>{STYLE}</style>\n<h1>New Year's Eve</h1>\n\
             <p class=lead>A red-packet business on one machine, from a quiet evening through midnight and back: \
             {offered} draws asked for, {rejected} turned away, {failed} failed, {most} in the busiest second.</p>\n{}\n{body}</html>\n",
            crowd::plots(seconds, &self.marks()),
        )
    }

    /// When the chapters began, in seconds since the first: that is when the crowd came.
    fn marks(&self) -> Vec<(f64, String)> {
        let first = self.chapters.first().map(|chapter| chapter.at).unwrap_or_default();
        let short = |title: &str| title.split([':', ',']).next().unwrap_or_default().to_owned();
        self.chapters.iter().map(|at| (at.at.saturating_sub(first).as_secs_f64(), short(&at.title))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at: u32) -> Second {
        let offered = if (60..80).contains(&at) { 300 } else { 150 };
        let (errors, p99_ms) = (u64::from(at == 65), 20.0 + f64::from(at % 7));
        let (at_s, done, rejected, dropped) = (f64::from(at), offered, 0, 0);
        Second { at_s, offered, done, errors, rejected, dropped, p50_ms: 4.0, p99_ms }
    }

    #[test]
    fn the_night_is_told_in_chapters() {
        let mut page = Page::default();
        page.line(Duration::from_secs(3), "the evening: the crowd grows");
        page.line(Duration::from_secs(20), "stress test of lottery: live traffic moves onto one instance");
        page.figure("lottery", "<svg></svg>");
        page.line(Duration::from_secs(63), "midnight: 300 requests a second");
        page.text("<b> & co");
        page.link(Path::new("target/op-9.html"));
        let html = page.html(&(1..100).map(second).collect::<Vec<_>>());
        assert!(html.contains("17850 draws asked for, 0 turned away, 1 failed, 300 in the busiest second"));
        assert!(html.contains("<pre>&lt;b&gt; &amp; co</pre>") && html.contains("<a href=\"op-9.html\">"));
        assert!(html.contains(">stress test of lottery</text>") && html.contains(">midnight</text>"));
        assert!(!html.contains("NaN") && !html.contains("inf"));
        assert!(Page::default().html(&[]).ends_with("</html>\n"), "a night without a crowd is a page too");
    }
}
