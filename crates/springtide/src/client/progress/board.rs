//! What people are told of running operations: a line for each thing that happened, in order of time, and on a terminal a
//! bar for each operation under the lines.

use super::super::failure::Failure;
use super::super::output::{self, Output, duration};
use super::super::tables::word;
use super::{phase, title};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use model::{Operation, OperationId, OperationPhase, StepState, UnixMs};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// In a pipe, a step in progress is told when nothing was heard of its operation for so long.
const QUIET_MS: u64 = 3_000;

/// All that is told.
pub struct Board {
    output: Output,
    bars: Option<MultiProgress>,
    told: RefCell<Told>,
}

#[derive(Default)]
struct Told {
    /// Times are told as what passed since then.
    since: Option<UnixMs>,
    operations: BTreeMap<OperationId, Followed>,
    /// Not yet printed, in order of time, then of operations as they were opened, then of arrival.
    pending: BTreeMap<(UnixMs, usize, OperationId, usize), String>,
    arrived: usize,
}

struct Followed {
    title: String,
    bar: Option<ProgressBar>,
    lines: BTreeSet<(UnixMs, String)>,
    /// The step in progress, and what was told of it last.
    now: String,
    now_told: String,
    latest: UnixMs,
    heard: Instant,
}

impl Board {
    /// Nothing to tell yet.
    pub fn new(output: Output) -> Self {
        let bars = output::terminal_width().is_some().then(MultiProgress::new);
        Self { output, bars, told: RefCell::default() }
    }

    /// Takes in how an operation stands.
    pub fn show(&self, operation: &Operation) {
        let told = &mut *self.told.borrow_mut();
        let followed = told.operations.entry(operation.id.clone()).or_insert_with(|| self.begin(operation));
        if let Some(bar) = &followed.bar {
            bar.set_position((share_done(operation) * 1_000.0) as u64);
            bar.set_message(now(operation));
        }
        // That it runs is no news.
        followed.now = if is_between_steps(operation) { String::new() } else { now(operation) };
        let since = *told.since.get_or_insert(operation.created_at);
        let news = followed.news(operation);
        for (at, text) in news {
            told.arrived += 1;
            let line = format!("{} {} {}: {text}", offset(at, since), operation.id, followed.title);
            told.pending.insert((at, operation.id.as_str().len(), operation.id.clone(), told.arrived), line);
        }
        if super::is_over(operation) {
            followed.now.clear();
            if let (Some(bar), Some(bars)) = (followed.bar.take(), &self.bars) {
                bar.finish_and_clear();
                bars.remove(&bar);
            }
        }
    }

    fn begin(&self, operation: &Operation) -> Followed {
        let bar = self.bars.as_ref().map(|bars| {
            let style = ProgressStyle::with_template("{spinner} {prefix} [{bar:24}] {percent:>3}% {wide_msg}");
            let bar = bars.add(ProgressBar::new(1_000));
            bar.set_style(style.expect("the template is valid").progress_chars("█▉▊▋▌▍▎▏ "));
            bar.set_prefix(format!("{} {}", operation.id, title(operation)));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let (now, now_told, lines) = (String::new(), String::new(), BTreeSet::new());
        Followed {
            title: title(operation),
            bar,
            lines,
            now,
            now_told,
            latest: operation.created_at,
            heard: Instant::now(),
        }
    }

    /// Prints a line that is of no operation's log.
    pub fn say(&self, line: &str) -> Result<(), Failure> {
        match &self.bars {
            // A terminal that is gone has nobody to tell.
            Some(bars) => drop(bars.println(line)),
            None => self.output.note(line)?,
        }
        Ok(())
    }

    /// Prints what has come.
    pub fn tell(&self) -> Result<(), Failure> {
        let told = &mut *self.told.borrow_mut();
        if self.bars.is_none() {
            told.quiet_steps();
        }
        for (_, line) in std::mem::take(&mut told.pending) {
            self.say(&line)?;
        }
        Ok(())
    }

    /// Prints the rest and clears the bars.
    pub fn finish(&self) -> Result<(), Failure> {
        self.tell()?;
        for followed in self.told.borrow_mut().operations.values_mut() {
            followed.bar.take().iter().for_each(ProgressBar::finish_and_clear);
        }
        Ok(())
    }
}

impl Told {
    /// Adds the steps of operations that have been silent.
    fn quiet_steps(&mut self) {
        let since = self.since.unwrap_or_default();
        for (id, followed) in &mut self.operations {
            let is_quiet = followed.heard.elapsed() >= Duration::from_millis(QUIET_MS);
            if !is_quiet || followed.now.is_empty() || followed.now_told.starts_with(&followed.now) {
                continue;
            }
            // The server's clock may differ from this one: time does not run backwards in what is told.
            let at = output::now_ms().max(followed.latest);
            followed.heard = Instant::now();
            followed.now_told.clone_from(&followed.now);
            self.arrived += 1;
            let line = format!("{} {id} {}: {}", offset(at, since), followed.title, followed.now);
            self.pending.insert((at, id.as_str().len(), id.clone(), self.arrived), line);
        }
    }
}

impl Followed {
    /// What happened and was not told yet.
    fn news(&mut self, operation: &Operation) -> Vec<(UnixMs, String)> {
        let mut news: Vec<(UnixMs, String)> = Vec::new();
        let is_final = operation.phase.is_final();
        for line in &operation.log {
            // How it ended is told below, with the time it took.
            let is_end = is_final && line.text == phase(operation.phase);
            if self.lines.insert((line.at, line.text.clone())) && !is_end {
                news.push((line.at, line.text.clone()));
            }
        }
        if is_final
            && let Some((at, text)) = ended(operation)
            && self.lines.insert((at, text.clone()))
        {
            news.push((at, text));
        }
        if let Some((at, _)) = news.last() {
            self.latest = *at;
            self.heard = Instant::now();
        }
        news
    }
}

/// `   +1.2 s`.
fn offset(at: UnixMs, since: UnixMs) -> String {
    format!("{:>9}", format!("+{:.1} s", at.saturating_sub(since) as f64 / 1_000.0))
}

/// Share of the whole that is done, 0 to 1: whole batches, and the steps of this one.
fn share_done(operation: &Operation) -> f64 {
    if operation.phase == OperationPhase::Succeeded {
        return 1.0;
    }
    let done = |step: &model::StepRun| match step.state {
        StepState::Done | StepState::Skipped => 1.0,
        _ if step.total > 0 => f64::from(step.done) / f64::from(step.total),
        _ => 0.0,
    };
    let steps = operation.steps.len().max(1) as f64;
    let of_batch = operation.steps.iter().map(done).sum::<f64>() / steps;
    ((f64::from(operation.batch) + of_batch) / f64::from(operation.batches.max(1))).min(1.0)
}

/// The step in progress: `start, 3 of 4: waiting for lottery-4`. What the log says is not said twice.
fn now(operation: &Operation) -> String {
    let Some(step) = operation.steps.iter().find(|step| step.state == StepState::Running) else {
        return if operation.phase.is_final() { String::new() } else { phase(operation.phase).to_owned() };
    };
    let done = if step.total > 0 { format!(", {} of {}", step.done, step.total) } else { String::new() };
    let logged = operation.log.iter().any(|line| line.text == step.message);
    let message = if step.message.is_empty() || logged { String::new() } else { format!(": {}", step.message) };
    format!("{}{done}{message}", word(&step.name))
}

fn is_between_steps(operation: &Operation) -> bool {
    operation.phase == OperationPhase::Running && operation.steps.iter().all(|step| step.state != StepState::Running)
}

/// When and how an operation ended: `succeeded in 3.5 s`.
fn ended(operation: &Operation) -> Option<(UnixMs, String)> {
    let at = operation.finished_at.or(operation.log.last().map(|line| line.at))?;
    Some((at, format!("{} in {}", phase(operation.phase), duration(at.saturating_sub(operation.created_at)))))
}

#[cfg(test)]
pub(super) mod tests;
