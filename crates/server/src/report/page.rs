//! The page around the plots: what, who, when, how it ended; failures first.

use super::Page;
use crate::http::describe::operation::{purpose, word};
use model::{GateVerdict, Operation, OperationPhase, PlannedInstance, StepRun, StepState, UnixMs};
use std::fmt::Write;

const STYLE: &str = "
:root{color-scheme:light dark;--fg:#1c2024;--dim:#60646c;--bg:#fcfcfd;--card:#fff;--edge:#d9dce1;--good:#18794e;--bad:#c62a2f;--c0:#0b68cb;--c1:#b35309}
@media (prefers-color-scheme:dark){:root{--fg:#edeef0;--dim:#9a9fa8;--bg:#111214;--card:#191a1d;--edge:#363a40;--good:#4cc38a;--bad:#ff6369;--c0:#70b8ff;--c1:#f5b061}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}.dim,figcaption,th{color:var(--dim)}
.good{color:var(--good)}.bad{color:var(--bad)}.alarm{border-left:4px solid var(--bad);padding:.5rem 1rem;background:var(--card)}
table{border-collapse:collapse;width:100%;background:var(--card)}th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--edge);vertical-align:top}
th{font-weight:500}td.n{text-align:right;font-variant-numeric:tabular-nums}.bar{position:relative;height:.8rem;min-width:14rem}
.bar i{position:absolute;top:0;bottom:0;min-width:2px;border-radius:2px;background:var(--c0)}.bar i.failed{background:var(--bad)}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:1rem}figure{margin:0;background:var(--card);border:1px solid var(--edge);border-radius:6px;padding:.6rem}
svg{width:100%;height:auto}svg text{font-size:11px;fill:var(--dim)}.grid{stroke:var(--edge);fill:none}.mark{stroke:var(--dim);stroke-dasharray:3 3;fill:none}
.line{fill:none;stroke-width:1.6}.line.c0{stroke:var(--c0)}.line.c1{stroke:var(--c1)}.key{display:inline-block;width:.7rem;height:.7rem;border-radius:2px;margin:0 .3rem 0 .8rem}.key.c0{background:var(--c0)}.key.c1{background:var(--c1)}
";

/// Makes a text harmless in HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// Draws the page.
pub fn html(page: &Page) -> String {
    let operation = &page.operation;
    let mut out = String::with_capacity(64 * 1024);
    let title = format!("{}: {}", operation.id, purpose(&operation.spec));
    // Writing into a text never fails.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{0}</title><style>{STYLE}</style></head><body>\n\
         <h1>{0}</h1>\n",
        escape(&title)
    );
    summary(&mut out, page);
    failures(&mut out, operation);
    steps(&mut out, operation, page.written_at);
    verdicts(&mut out, &operation.verdicts);
    if !page.plots.is_empty() {
        out.push_str("<h2>The service around the operation</h2>\n<div class=\"plots\">");
        page.plots.iter().for_each(|plot| out.push_str(&plot.svg()));
        out.push_str("</div>\n");
    }
    instances(&mut out, "Instances added", &operation.adds);
    instances(&mut out, "Instances removed", &operation.removes);
    log(&mut out, operation);
    out.push_str("</body></html>\n");
    out
}

fn summary(out: &mut String, page: &Page) {
    let operation = &page.operation;
    let bad =
        matches!(operation.phase, OperationPhase::Failed | OperationPhase::RolledBack | OperationPhase::RollingBack)
            || !operation.failures.is_empty();
    // The report is a step of the operation itself: one that got this far without failures has done its work.
    let ended = match operation.phase {
        OperationPhase::Running if bad => "done in part".to_owned(),
        OperationPhase::Running => "succeeded".to_owned(),
        phase => word(phase),
    };
    let class = if bad { "bad" } else { "good" };
    let _ = write!(
        out,
        "<p><b class=\"{class}\">{}</b> · asked by {} · {} · took {}",
        escape(&ended),
        escape(&operation.who),
        utc(operation.created_at),
        seconds(operation.finished_at.unwrap_or(page.written_at).saturating_sub(operation.created_at)),
    );
    if page.wanted > 0 {
        let _ = write!(out, " · {} of {} instances healthy when written", page.healthy, page.wanted);
    }
    out.push_str("</p>\n");
}

fn failures(out: &mut String, operation: &Operation) {
    if operation.failures.is_empty() {
        return;
    }
    out.push_str("<div class=\"alarm\"><b class=\"bad\">What went wrong</b><ul>");
    for failure in &operation.failures {
        let _ = write!(out, "<li>{}</li>", escape(failure));
    }
    out.push_str("</ul></div>\n");
}

fn steps(out: &mut String, operation: &Operation, now: UnixMs) {
    let from = operation.created_at;
    let span = operation.finished_at.unwrap_or(now).saturating_sub(from).max(1) as f64;
    out.push_str(
        "<h2>Steps</h2>\n<table><tr><th>step</th><th>state</th><th>took</th><th>when</th><th>done</th><th></th></tr>",
    );
    for step in &operation.steps {
        let begun = step.started_at;
        let took = begun.map(|begun| step.finished_at.unwrap_or(now).saturating_sub(begun));
        let share = |ms: u64| 100.0 * ms as f64 / span;
        let bar = begun.zip(took).map(|(begun, took)| {
            let class = if step.state == StepState::Failed { " class=\"failed\"" } else { "" };
            let left = share(begun.saturating_sub(from)).clamp(0.0, 100.0);
            format!("<i{class} style=\"left:{left:.2}%;width:{:.2}%\"></i>", share(took).min(100.0 - left))
        });
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"{}\">{}</td><td class=\"n\">{}</td><td><div class=\"bar\">{}</div></td>\
             <td class=\"n\">{}</td><td class=\"dim\">{}</td></tr>",
            word(step.name),
            if step.state == StepState::Failed { "bad" } else { "" },
            word(step.state),
            took.map(seconds).unwrap_or_default(),
            bar.unwrap_or_default(),
            targets(step),
            escape(&step.message),
        );
    }
    out.push_str("</table>\n");
}

fn targets(step: &StepRun) -> String {
    match step.total {
        0 => String::new(),
        total => format!("{} of {total}", step.done),
    }
}

fn verdicts(out: &mut String, verdicts: &[GateVerdict]) {
    if verdicts.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Gray release</h2>\n<table><tr><th>weight</th><th>verdict</th><th>requests, new</th><th>running</th>\
         <th>errors, new</th><th>running</th><th>p99, new</th><th>running</th></tr>",
    );
    for at in verdicts {
        let _ = write!(
            out,
            "<tr><td>{}%</td><td class=\"{}\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{:.3}%</td><td class=\"n\">{:.3}%</td><td class=\"n\">{:.1} ms</td><td class=\"n\">{:.1} ms</td></tr>",
            f64::from(at.gray_permille) / 10.0,
            if at.outcome.promotes() { "good" } else { "bad" },
            word(at.outcome),
            at.requests_new,
            at.requests_running,
            at.error_rate_new * 100.0,
            at.error_rate_running * 100.0,
            at.latency_p99_ms_new,
            at.latency_p99_ms_running,
        );
    }
    out.push_str("</table>\n");
}

fn instances(out: &mut String, title: &str, instances: &[PlannedInstance]) {
    if instances.is_empty() {
        return;
    }
    let _ = write!(out, "<details><summary>{title}: {}</summary><table>", instances.len());
    for at in instances {
        let _ = write!(out, "<tr><td>{}</td><td>{}</td><td>{}</td></tr>", at.instance, at.host, at.datacenter);
    }
    out.push_str("</table></details>\n");
}

fn log(out: &mut String, operation: &Operation) {
    out.push_str("<h2>Log</h2>\n<table>");
    for line in &operation.log {
        let after = seconds(line.at.saturating_sub(operation.created_at));
        let _ = write!(out, "<tr><td class=\"n dim\">+{after}</td><td>{}</td></tr>", escape(&line.text));
    }
    out.push_str("</table>\n");
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

/// A time in UTC, `2026-02-16 20:00:00 UTC` (days to a date: Howard Hinnant's `civil_from_days`).
fn utc(at: UnixMs) -> String {
    let (days, rest) = ((at / 86_400_000) as i64, at / 1_000 % 86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_771_271_999_000), "2026-02-16 19:59:59 UTC");
    }
}
