//! Long work: a bar on a terminal, plain lines in a pipe. A server that restarts meanwhile is waited for.

use super::failure::Failure;
use super::output::{self, Output, duration};
use api::client::{Client, Error};
use indicatif::{ProgressBar, ProgressStyle};
use model::{Operation, OperationId, OperationPhase, StepState};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Times the watch is taken up again while no server answers, a second apart.
const RECONNECTS_MAX: u32 = 60;
/// Time between looks at the services that settle.
const LOOK_MS: u64 = 300;
/// Time in which an operation must have begun for a service that an apply changed; later, its state alone counts.
const OPERATION_BEGINS_MS_MAX: u128 = 5_000;

/// Whether to wait for the operations that follow.
#[derive(clap::Args, Debug, Clone)]
pub struct Wait {
    /// Return at once; the operation goes on at the server
    #[arg(long)]
    pub no_wait: bool,
    /// Longest wait; what goes on then goes on at the server
    #[arg(long, default_value_t = 900, value_name = "SECONDS")]
    pub wait_seconds: u64,
}

/// Follows an operation to its end.
///
/// # Errors
/// It did not succeed; or it goes on past the wait.
pub async fn follow(client: &Client, id: &OperationId, wait: &Wait, output: Output) -> Result<Operation, Failure> {
    let watched = watch(client, id, Reporter::new(output));
    let limit = tokio::time::sleep(Duration::from_secs(wait.wait_seconds));
    let ended = tokio::select! {
        ended = watched => ended?,
        () = limit => return Err(Failure::Refused(goes_on(id, "still not ended"))),
        _ = tokio::signal::ctrl_c() => return Err(Failure::Interrupted(goes_on(id, "no longer watched"))),
    };
    verdict(&ended).map(|()| ended)
}

fn goes_on(id: &OperationId, why: &str) -> String {
    format!("{id}: {why}; it goes on at the server: springtide operation watch {id}")
}

fn verdict(operation: &Operation) -> Result<(), Failure> {
    if operation.phase == OperationPhase::Succeeded {
        return Ok(());
    }
    let why =
        if operation.failures.is_empty() { "no reason recorded".to_owned() } else { operation.failures.join("; ") };
    Err(Failure::Refused(format!("{}: {}: {why}", operation.id, phase(operation.phase))))
}

async fn watch(client: &Client, id: &OperationId, mut reporter: Reporter) -> Result<Operation, Failure> {
    let mut failures = 0;
    loop {
        match watch_once(client, id, &mut reporter, &mut failures).await {
            Ok(Some(ended)) => {
                reporter.finish();
                return Ok(ended);
            }
            Ok(None) => {}
            Err(Failure::Server(Error::Unreachable { .. } | Error::Garbled { .. })) if failures < RECONNECTS_MAX => {}
            Err(failure) => return Err(failure),
        }
        failures += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// One stream; `None` when it broke off.
async fn watch_once(
    client: &Client,
    id: &OperationId,
    reporter: &mut Reporter,
    failures: &mut u32,
) -> Result<Option<Operation>, Failure> {
    let mut events = client.watch_operation(id.as_str()).await?;
    while let Some(event) = events.next().await {
        let operation = event?;
        *failures = 0;
        reporter.show(&operation)?;
        if operation.phase.is_final() {
            return Ok(Some(operation));
        }
    }
    let now = client.operation(id.as_str()).await?;
    reporter.show(&now)?;
    Ok(now.phase.is_final().then_some(now))
}

/// Operations that were there before an apply.
pub async fn known(client: &Client) -> Result<BTreeSet<OperationId>, Failure> {
    Ok(client.operations().await?.into_iter().map(|operation| operation.id).collect())
}

/// Waits until the services named by the consequences of an apply (`name: …`) have settled; follows the operations that
/// were not `known` before it.
pub async fn settle(
    client: &Client,
    consequences: &[String],
    mut known: BTreeSet<OperationId>,
    wait: &Wait,
    output: Output,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut waiting = named(client, consequences).await?;
    let mut touched = BTreeSet::new();
    let mut failed = Vec::new();
    while !waiting.is_empty() {
        let since_ms = begun.elapsed().as_millis();
        if since_ms > u128::from(wait.wait_seconds) * 1_000 {
            let names: Vec<String> = waiting.into_iter().collect();
            return Err(Failure::Refused(format!("not settled after {} s: {}", wait.wait_seconds, names.join(", "))));
        }
        for (id, service) in new_operations(client, &waiting, &known).await? {
            known.insert(id.clone());
            touched.insert(service);
            match follow(client, &id, wait, output).await {
                Err(Failure::Refused(why)) => failed.push(why),
                other => drop(other?),
            }
        }
        for service in patient(async || client.services().await).await? {
            let began = touched.contains(&service.name) || since_ms > OPERATION_BEGINS_MS_MAX;
            let settled = service.operation.is_none() && (service.healthy == service.wanted || !failed.is_empty());
            if began && settled {
                waiting.remove(&service.name);
            }
        }
        // Once watched, Ctrl-C no longer ends the process by itself.
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(LOOK_MS)) => {}
            _ = tokio::signal::ctrl_c() => return Err(Failure::Interrupted("no longer waiting".to_owned())),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::Refused(failed.join("\n"))) }
}

/// The services that consequences name.
async fn named(client: &Client, consequences: &[String]) -> Result<BTreeSet<String>, Failure> {
    let names: BTreeSet<&str> = consequences.iter().filter_map(|text| Some(text.split_once(':')?.0)).collect();
    let services = patient(async || client.services().await).await?.into_iter().map(|service| service.name);
    Ok(services.filter(|name| names.contains(name.as_str())).collect())
}

/// Operations on the services that were not known, oldest first.
async fn new_operations(
    client: &Client,
    services: &BTreeSet<String>,
    known: &BTreeSet<OperationId>,
) -> Result<Vec<(OperationId, String)>, Failure> {
    let mut found = patient(async || client.operations().await).await?;
    found.retain(|operation| !known.contains(&operation.id));
    found.sort_by_key(|operation| operation.created_at);
    let ours = found.into_iter().filter_map(|operation| {
        let service = operation.spec.service()?.to_string();
        services.contains(&service).then_some((operation.id, service))
    });
    Ok(ours.collect())
}

/// Asks again while no server answers: it may be restarting.
async fn patient<T>(ask: impl AsyncFn() -> Result<T, Error>) -> Result<T, Failure> {
    let mut failures = 0;
    loop {
        match ask().await {
            Err(Error::Unreachable { .. }) if failures < RECONNECTS_MAX => failures += 1,
            other => return Ok(other?),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Tells people what an operation does.
struct Reporter {
    output: Output,
    bar: Option<ProgressBar>,
    told: BTreeMap<String, String>,
    log_lines: BTreeSet<(u64, String)>,
}

impl Reporter {
    fn new(output: Output) -> Self {
        let bar = output::terminal_width().is_some().then(|| {
            let style =
                ProgressStyle::with_template("{spinner} {prefix} [{bar:30}] {percent:>3}% {elapsed} {wide_msg}");
            let bar = ProgressBar::new(1_000);
            bar.set_style(style.expect("the template is valid").progress_chars("█▉▊▋▌▍▎▏ "));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { output, bar, told: BTreeMap::new(), log_lines: BTreeSet::new() }
    }

    fn show(&mut self, operation: &Operation) -> Result<(), Failure> {
        let lines = self.news(operation);
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(format!("{} {}", operation.id, title(operation)));
                bar.set_position((share_done(operation) * 1_000.0) as u64);
                bar.set_message(now(operation));
            }
            None => {
                for line in &lines {
                    self.output.note(line)?;
                }
            }
        }
        for line in &operation.log {
            if self.log_lines.insert((line.at, line.text.clone())) {
                self.say(&format!("{} {}", operation.id, line.text))?;
            }
        }
        if operation.phase.is_final() {
            self.finish();
            self.say(&ended(operation))?;
        }
        Ok(())
    }

    /// Lines for steps and phases that changed since they were told last.
    fn news(&mut self, operation: &Operation) -> Vec<String> {
        let mut lines = Vec::new();
        for step in operation.steps.iter().filter(|step| step.state != StepState::Waiting) {
            let name = super::tables::word(&step.name);
            let done = if step.total > 0 { format!(" {}/{}", step.done, step.total) } else { String::new() };
            let batch = if operation.batches > 1 {
                format!(" (batch {} of {})", operation.batch + 1, operation.batches)
            } else {
                String::new()
            };
            let logged = operation.log.iter().any(|line| line.text == step.message);
            let message = if step.message.is_empty() || logged { String::new() } else { format!(": {}", step.message) };
            let line = format!("{} {name} {}{done}{batch}{message}", operation.id, super::tables::word(&step.state));
            if self.told.get(&name) != Some(&line) {
                self.told.insert(name, line.clone());
                lines.push(line);
            }
        }
        lines
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        match &self.bar {
            Some(bar) if !bar.is_finished() => bar.println(text),
            _ => return self.output.note(text),
        }
        Ok(())
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `scale lottery`, for people.
pub fn title(operation: &Operation) -> String {
    use model::OperationSpec::*;
    match &operation.spec {
        Scale { service, .. } => format!("scale {service}"),
        Rollout { service, .. } => format!("rollout {service}"),
        Drain { host } => format!("drain {host}"),
        Stress { service, .. } => format!("stress {service}"),
    }
}

/// A phase, for people.
pub fn phase(phase: OperationPhase) -> &'static str {
    match phase {
        OperationPhase::Pending => "pending",
        OperationPhase::Running => "running",
        OperationPhase::Paused => "paused",
        OperationPhase::RollingBack => "rolling back",
        OperationPhase::Succeeded => "succeeded",
        OperationPhase::RolledBack => "rolled back",
        OperationPhase::Failed => "failed",
    }
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

fn now(operation: &Operation) -> String {
    let running = operation.steps.iter().find(|step| step.state == StepState::Running);
    match running {
        Some(step) => {
            let done = if step.total > 0 { format!(" {}/{}", step.done, step.total) } else { String::new() };
            format!("{}{done} {}", super::tables::word(&step.name), step.message)
        }
        None => phase(operation.phase).to_owned(),
    }
}

/// How an operation ended, in one line.
fn ended(operation: &Operation) -> String {
    let took = operation.finished_at.map(|at| duration(at.saturating_sub(operation.created_at)));
    let took = took.map_or_else(String::new, |took| format!(" in {took}"));
    format!("{} {} {}{took}", operation.id, title(operation), phase(operation.phase))
}

#[cfg(test)]
mod tests;
