//! The tables of a report.

use super::super::Page;
use super::words::{self, Outcome, time};
use super::{ended_at, escape};
use crate::http::describe::operation::word;
use model::{
    DatacenterName, GateOutcome, GateVerdict, Operation, OperationSpec, PlannedInstance, StepName, StepRun, StepState,
    UnixMs,
};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Instances named in one cell; of more, their number is told.
const NAMED_MAX: usize = 24;

/// What went wrong.
pub fn failures(out: &mut String, operation: &Operation) {
    if operation.failures.is_empty() {
        return;
    }
    out.push_str("<div class=\"card alarm\"><b class=\"bad\">What went wrong</b><ul>");
    for failure in &operation.failures {
        let _ = write!(out, "<li>{}</li>", escape(failure));
    }
    out.push_str("</ul></div>\n");
}

/// The figures at a glance.
pub fn facts(out: &mut String, page: &Page, outcome: Outcome) {
    let operation = &page.operation;
    let (word, class) = outcome.word();
    let mut facts = vec![
        ("outcome", format!("<b class=\"{class}\">{word}</b>")),
        ("asked by", escape(&operation.who)),
        ("took", time(ended_at(page).saturating_sub(operation.created_at))),
        (
            if outcome.is_undone() { "planned" } else { "instances" },
            format!("+{} −{}", operation.adds.len(), operation.removes.len()),
        ),
    ];
    if page.wanted > 0 && !outcome.is_undone() {
        let class = if page.healthy < page.wanted { "bad" } else { "" };
        facts.push(("healthy", format!("<span class=\"{class}\">{} of {}</span>", page.healthy, page.wanted)));
    }
    if !operation.verdicts.is_empty() {
        let requests: u64 = operation.verdicts.iter().map(|at| at.requests_new).sum();
        facts.push(("requests judged", requests.to_string()));
    }
    out.push_str("<dl class=\"card\">");
    for (name, value) in facts {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    out.push_str("</dl>\n");
}

/// Instances added and removed, by datacenter.
pub fn changes(out: &mut String, operation: &Operation, outcome: Outcome) {
    let all = operation.adds.iter().chain(&operation.removes);
    let datacenters: BTreeSet<&DatacenterName> = all.map(|at| &at.datacenter).collect();
    if datacenters.is_empty() {
        return;
    }
    let wanted = match &operation.spec {
        OperationSpec::Scale { instances, .. } => Some(instances),
        _ => None,
    };
    let title = if outcome.is_undone() { "What was planned, and taken back" } else { "What changed" };
    let _ = write!(out, "<h2>{title}</h2>\n<table><tr><th>datacenter</th>");
    if wanted.is_some() {
        out.push_str("<th class=\"n\">instances</th>");
    }
    out.push_str("<th>added</th><th>removed</th></tr>");
    for datacenter in datacenters {
        let of = |list: &[PlannedInstance]| -> Vec<PlannedInstance> {
            list.iter().filter(|at| at.datacenter == *datacenter).cloned().collect()
        };
        let (adds, removes) = (of(&operation.adds), of(&operation.removes));
        let _ = write!(out, "<tr><td>{datacenter}</td>");
        if let Some(wanted) = wanted {
            let after = wanted.get(datacenter).copied().unwrap_or(0) as usize;
            let before = (after + removes.len()).saturating_sub(adds.len());
            let _ = write!(out, "<td class=\"n\">{before} → {after}</td>");
        }
        let _ = write!(out, "<td>{}</td><td>{}</td></tr>", named(&adds), named(&removes));
    }
    out.push_str("</table>\n");
}

/// `sso-3 <on> host-a2, …`.
fn named(list: &[PlannedInstance]) -> String {
    if list.is_empty() {
        return "<span class=\"dim\">none</span>".to_owned();
    }
    let name = |at: &PlannedInstance| {
        format!("<span class=\"one\">{} <span class=\"dim\">on {}</span></span>", at.instance, at.host)
    };
    let mut names: Vec<String> = list.iter().take(NAMED_MAX).map(name).collect();
    if list.len() > NAMED_MAX {
        names.push(format!("and {} more", list.len() - NAMED_MAX));
    }
    names.join(", ")
}

/// What a step does.
fn meaning(name: StepName) -> &'static str {
    match name {
        StepName::Attributes => "planned from the CMDB, checked by other code",
        StepName::Deploy => "package and config brought to the hosts",
        StepName::Silence => "alarms of the new instances muted, with an end",
        StepName::Start => "started and self-checked",
        StepName::Gray => "traffic at 1, 10 and 100% of full weight, each judged",
        StepName::Drain => "traffic taken away",
        StepName::Stop => "stopped and removed",
        StepName::Report => "this page",
    }
}

/// The steps, with their durations as bars.
pub fn steps(out: &mut String, operation: &Operation, now: UnixMs) {
    let from = operation.created_at;
    let span = operation.finished_at.unwrap_or(now).saturating_sub(from).max(1);
    let _ = write!(
        out,
        "<h2>Steps</h2>\n<table><tr><th>step</th><th>state</th><th class=\"n\">targets</th><th class=\"n\">took</th>\
         <th><div class=\"ends\"><span>0</span><span>{}</span></div></th></tr>",
        time(span)
    );
    for step in &operation.steps {
        let (state, class) = match (step.name, step.state) {
            (StepName::Report, StepState::Running) => ("being written".to_owned(), ""),
            (_, StepState::Failed) => (word(step.state), "bad"),
            (_, StepState::Waiting | StepState::Skipped) => (word(step.state), "dim"),
            _ => (word(step.state), ""),
        };
        let took = step.started_at.map(|begun| time(step.finished_at.unwrap_or(now).saturating_sub(begun)));
        let message = if step.message.is_empty() { meaning(step.name).to_owned() } else { escape(&step.message) };
        let _ = write!(
            out,
            "<tr><td><b>{}</b><small>{message}</small></td><td class=\"{class}\">{state}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td><div class=\"bar\">{}</div></td></tr>",
            word(step.name),
            targets(step),
            took.unwrap_or_default(),
            bar(step, from, span, now),
        );
    }
    out.push_str("</table>\n");
}

fn bar(step: &StepRun, from: UnixMs, span_ms: u64, now: UnixMs) -> String {
    let Some(begun) = step.started_at else { return String::new() };
    let share = |ms: u64| (100.0 * ms as f64 / span_ms as f64).clamp(0.0, 100.0);
    let left = share(begun.saturating_sub(from));
    let width = share(step.finished_at.unwrap_or(now).saturating_sub(begun)).min(100.0 - left);
    let class = if step.state == StepState::Failed { " class=\"failed\"" } else { "" };
    // A short step at the very end stays inside.
    format!("<i{class} style=\"left:min({left:.2}%,100% - 3px);width:{width:.2}%\"></i>")
}

fn targets(step: &StepRun) -> String {
    match (step.name, step.total) {
        (StepName::Report, _) | (_, 0) => String::new(),
        (_, total) => format!("{} of {total}", step.done),
    }
}

/// The judgements of the gray release.
pub fn verdicts(out: &mut String, verdicts: &[GateVerdict]) {
    if verdicts.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Gray release</h2>\n<p class=\"note\">At each share of their full weight the new instances were held against \
         the running ones, over the same seconds.</p>\n<table><tr><th class=\"g\" colspan=\"2\"></th><th class=\"g\" colspan=\"2\">requests</th>\
         <th class=\"g\" colspan=\"2\">errors</th><th class=\"g\" colspan=\"2\">p99 latency</th></tr>\
         <tr><th class=\"n\">weight</th><th>verdict</th><th class=\"n\">new</th><th class=\"n\">running</th>\
         <th class=\"n\">new</th><th class=\"n\">running</th><th class=\"n\">new</th><th class=\"n\">running</th></tr>",
    );
    for at in verdicts {
        let (class, note) = verdict(at.outcome);
        let rate = |requests: u64, rate: f64| match requests {
            0 => "–".to_owned(),
            _ if rate >= words::ERRORS_MANY => format!("<span class=\"bad\">{:.3}%</span>", rate * 100.0),
            _ => format!("{:.3}%", rate * 100.0),
        };
        let p99 = |ms: f64| if ms > 0.0 { format!("{ms:.1} ms") } else { "–".to_owned() };
        let _ = write!(
            out,
            "<tr><td class=\"n\">{}%</td><td><span class=\"{class}\">{}</span><small>{note}</small></td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            f64::from(at.gray_permille) / 10.0,
            word(at.outcome),
            at.requests_new,
            at.requests_running,
            rate(at.requests_new, at.error_rate_new),
            rate(at.requests_running, at.error_rate_running),
            p99(at.latency_p99_ms_new),
            p99(at.latency_p99_ms_running),
        );
    }
    out.push_str("</table>\n");
}

/// The colour of an outcome, and what followed from it.
fn verdict(outcome: GateOutcome) -> (&'static str, &'static str) {
    match outcome {
        GateOutcome::Passed => ("good", "no worse than the running fleet"),
        GateOutcome::ErrorsWorse | GateOutcome::LatencyWorse => ("bad", "stopped and taken back"),
        GateOutcome::TooFewRequests => ("warn", "promoted on health alone"),
        GateOutcome::Skipped => ("warn", "unjudged: an operator skipped the gate"),
        GateOutcome::NoRunningFleet => ("dim", "nothing ran yet to compare with: promoted on health alone"),
    }
}

/// What happened, in order of time.
pub fn log(out: &mut String, operation: &Operation) {
    out.push_str("<h2>Log</h2>\n<table>");
    for line in &operation.log {
        let after = words::time(line.at.saturating_sub(operation.created_at));
        let _ = write!(
            out,
            "<tr><td class=\"n dim\">+{after}</td><td style=\"width:100%\">{}</td></tr>",
            escape(&line.text)
        );
    }
    out.push_str("</table>\n");
}
