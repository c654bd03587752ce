//! Waiting for long work: operations are followed all at once, and a server that restarts meanwhile is waited for.

mod board;

use super::failure::Failure;
use super::output::Output;
use super::tables::word;
use api::client::{Client, Error};
use api::http::ApplyResponse;
use board::Board;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use model::{Operation, OperationId, OperationPhase, Revision};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::{Duration, Instant};

/// Times the watch is taken up again while no server answers, a second apart.
const RECONNECTS_MAX: u32 = 60;
/// Time between looks at the services that settle.
const LOOK_MS: u64 = 300;
/// Time between looks at what is to be told: what happened within it is told in order of time.
const TELL_MS: u64 = 500;
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

/// How a wait ended.
enum Waited<T> {
    Done(T),
    TimeUp,
    Interrupted,
}

/// Waits for `work` and tells people meanwhile.
async fn waited<T>(
    board: &Board,
    wait: &Wait,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<Waited<T>, Failure> {
    let (mut work, mut interrupted) = (pin!(work), pin!(tokio::signal::ctrl_c()));
    let mut limit = pin!(tokio::time::sleep(Duration::from_secs(wait.wait_seconds)));
    let mut tell = tokio::time::interval(Duration::from_millis(TELL_MS));
    let ended = loop {
        tokio::select! {
            done = &mut work => break done.map(Waited::Done),
            () = &mut limit => break Ok(Waited::TimeUp),
            _ = &mut interrupted => break Ok(Waited::Interrupted),
            _ = tell.tick() => board.tell()?,
        }
    };
    board.finish()?;
    ended
}

/// Follows an operation to its end, or to where it waits for a decision.
///
/// # Errors
/// It did not succeed; or it goes on past the wait.
pub async fn follow(client: &Client, id: &OperationId, wait: &Wait, output: Output) -> Result<Operation, Failure> {
    let mut ended = follow_all(client, std::slice::from_ref(id), wait, output).await?;
    Ok(ended.remove(0))
}

/// Follows operations to their ends, all at once.
///
/// # Errors
/// Not all succeeded; or some go on past the wait.
pub async fn follow_all(
    client: &Client,
    ids: &[OperationId],
    wait: &Wait,
    output: Output,
) -> Result<Vec<Operation>, Failure> {
    let board = Board::new(output);
    let work = async { join_all(ids.iter().map(|id| watch(client, id.clone(), &board))).await.into_iter().collect() };
    let ended: Vec<Operation> = match waited(&board, wait, work).await? {
        Waited::Done(ended) => ended,
        Waited::TimeUp => return Err(Failure::Refused(not_ended(client, ids).await)),
        Waited::Interrupted => return Err(Failure::Interrupted(goes_on(ids, "no longer watched"))),
    };
    let failed: Vec<String> = ended.iter().filter_map(shortfall).collect();
    if failed.is_empty() { Ok(ended) } else { Err(Failure::Refused(failed.join("\n"))) }
}

fn goes_on(ids: &[OperationId], why: &str) -> String {
    let line = |id| format!("{id}: {why}; it goes on at the server: springtide operation watch {id}");
    ids.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What is said when the time of a wait is up: what is paused does not go on by itself.
async fn not_ended(client: &Client, ids: &[OperationId]) -> String {
    let mut lines = Vec::new();
    for id in ids {
        lines.push(match client.operation(id.as_str()).await {
            Ok(operation) if operation.phase == OperationPhase::Paused => format!("{id}: {}", stands(&operation)),
            _ => goes_on(std::slice::from_ref(id), "not ended yet"),
        });
    }
    lines.join("\n")
}

/// Where a paused operation stands, and what goes on from there.
fn stands(operation: &Operation) -> String {
    let id = &operation.id;
    if operation.held_at().is_none() {
        return format!("{}; go on with: springtide operation resume {id}", reason(operation));
    }
    format!(
        "held {}; go on with: springtide operation retry {id}, operation skip {id}, or operation rollback {id}",
        reason(operation)
    )
}

/// Nothing more happens by itself: it ended, or waits at a failed step for somebody's decision.
fn is_over(operation: &Operation) -> bool {
    operation.phase.is_final() || operation.held_at().is_some()
}

/// Why an operation that is over is no success; absent when it is one.
fn shortfall(operation: &Operation) -> Option<String> {
    if operation.phase == OperationPhase::Succeeded {
        return None;
    }
    if operation.held_at().is_some() {
        return Some(format!("{}: {}", operation.id, stands(operation)));
    }
    let why =
        if operation.failures.is_empty() { "no reason recorded".to_owned() } else { operation.failures.join("; ") };
    Some(format!("{}: {}: {why}", operation.id, phase(operation.phase)))
}

/// Why an operation that is over fails what was written at `revision`; one that was planned before and overtaken by it does
/// not.
fn failure(ended: &Operation, revision: Revision) -> Option<String> {
    shortfall(ended).filter(|_| !(ended.overtaken && ended.planned_at < revision))
}

async fn watch(client: &Client, id: OperationId, board: &Board) -> Result<Operation, Failure> {
    let mut failures = 0;
    loop {
        match watch_once(client, &id, board, &mut failures).await {
            Ok(Some(ended)) => return Ok(ended),
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
    board: &Board,
    failures: &mut u32,
) -> Result<Option<Operation>, Failure> {
    let mut events = client.watch_operation(id.as_str()).await?;
    while let Some(event) = events.next().await {
        let operation = event?;
        *failures = 0;
        board.show(&operation);
        if is_over(&operation) {
            return Ok(Some(operation));
        }
    }
    let now = client.operation(id.as_str()).await?;
    board.show(&now);
    Ok(is_over(&now).then_some(now))
}

/// Operations that were there before an apply.
pub async fn known(client: &Client) -> Result<BTreeSet<OperationId>, Failure> {
    Ok(client.operations().await?.into_iter().map(|operation| operation.id).collect())
}

/// Waits until the services named by the consequences of an apply or a delete (`name: …`) have settled, those that are
/// no longer declared until their last instance is gone; follows the operations that were not `known` before it.
pub async fn settle(
    client: &Client,
    applied: &ApplyResponse,
    known: BTreeSet<OperationId>,
    wait: &Wait,
    output: Output,
) -> Result<(), Failure> {
    let board = Board::new(output);
    let mut settling = Settling {
        client,
        board: &board,
        revision: applied.revision,
        waiting: named(&applied.consequences),
        behind: BTreeMap::new(),
        known,
        touched: BTreeSet::new(),
        failed: Vec::new(),
    };
    match waited(&board, wait, settling.run()).await? {
        Waited::Done(()) if settling.failed.is_empty() => Ok(()),
        Waited::Done(()) => Err(Failure::Refused(settling.failed.join("\n"))),
        Waited::TimeUp => {
            let behind = match client.operations().await {
                Ok(all) => behind(&all, &settling.waiting, &settling.known),
                Err(_) => settling.behind,
            };
            let name = |name: &String| behind.get(name).map_or_else(|| name.clone(), |why| format!("{name} {why}"));
            let names: Vec<String> = settling.waiting.iter().map(name).collect();
            Err(Failure::Refused(format!("not settled after {} s: {}", wait.wait_seconds, names.join(", "))))
        }
        Waited::Interrupted => Err(Failure::Interrupted("no longer waiting; what was applied goes on".to_owned())),
    }
}

/// Services on their way to what was applied.
struct Settling<'a> {
    client: &'a Client,
    board: &'a Board,
    /// What was applied is of this revision.
    revision: Revision,
    waiting: BTreeSet<String>,
    /// What services wait for that does not go on by itself, as it was told.
    behind: BTreeMap<String, String>,
    known: BTreeSet<OperationId>,
    touched: BTreeSet<String>,
    failed: Vec<String>,
}

impl Settling<'_> {
    async fn run(&mut self) -> Result<(), Failure> {
        let (client, board, begun) = (self.client, self.board, Instant::now());
        let mut following = FuturesUnordered::new();
        let mut look = tokio::time::interval(Duration::from_millis(LOOK_MS));
        while !self.waiting.is_empty() || !following.is_empty() {
            tokio::select! {
                Some(ended) = following.next() => self.take(&ended?),
                _ = look.tick() => {
                    let all = patient(async || client.operations().await).await?;
                    self.tell_behind(&all)?;
                    for (id, service) in new_operations(all, &self.waiting, &self.known) {
                        self.known.insert(id.clone());
                        self.touched.insert(service);
                        following.push(watch(client, id, board));
                    }
                    self.drop_settled(begun.elapsed().as_millis() > OPERATION_BEGINS_MS_MAX).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes in how an operation that was followed is over; a service that is held does not settle by itself.
    fn take(&mut self, ended: &Operation) {
        self.failed.extend(failure(ended, self.revision));
        if ended.held_at().is_some()
            && let Some(service) = ended.spec.service()
        {
            self.waiting.remove(service.as_str());
        }
    }

    /// Tells of operations from before that are held or paused: what was applied waits until they go on.
    fn tell_behind(&mut self, all: &[Operation]) -> Result<(), Failure> {
        let behind = behind(all, &self.waiting, &self.known);
        for (service, why) in &behind {
            if self.behind.get(service) != Some(why) {
                self.board.say(&format!("{service} {why}"))?;
            }
        }
        self.behind = behind;
        Ok(())
    }

    async fn drop_settled(&mut self, is_late: bool) -> Result<(), Failure> {
        let services = patient(async || self.client.services().await).await?;
        for service in &services {
            let began = self.touched.contains(&service.name) || is_late;
            let settled = service.operation.is_none() && (service.healthy == service.wanted || !self.failed.is_empty());
            if began && settled {
                self.waiting.remove(&service.name);
            }
        }
        let is_declared = |name: &str| services.iter().any(|service| service.name == name);
        let deleted: Vec<String> = self.waiting.iter().filter(|name| !is_declared(name)).cloned().collect();
        for name in deleted {
            let left = patient(async || self.client.instances(Some(&name), None).await).await?;
            if left.is_empty() || !self.failed.is_empty() {
                self.waiting.remove(&name);
            }
        }
        Ok(())
    }
}

/// The services that consequences name.
fn named(consequences: &[String]) -> BTreeSet<String> {
    consequences.iter().filter_map(|text| Some(text.split_once(':')?.0.to_owned())).collect()
}

/// What services wait for: `waits for op-15, held at step start: …`.
fn behind(all: &[Operation], services: &BTreeSet<String>, known: &BTreeSet<OperationId>) -> BTreeMap<String, String> {
    let paused = all.iter().filter(|one| one.phase == OperationPhase::Paused && known.contains(&one.id));
    let line = |one: &Operation| {
        let service = one.spec.service()?.to_string();
        services.contains(&service).then(|| (service, format!("waits for {}, {}", one.id, stands(one))))
    };
    paused.filter_map(line).collect()
}

/// Operations on the services that were not known, oldest first.
fn new_operations(
    mut found: Vec<Operation>,
    services: &BTreeSet<String>,
    known: &BTreeSet<OperationId>,
) -> Vec<(OperationId, String)> {
    found.retain(|operation| !known.contains(&operation.id));
    found.sort_by_key(|operation| operation.created_at);
    let ours = found.into_iter().filter_map(|operation| {
        let service = operation.spec.service()?.to_string();
        services.contains(&service).then_some((operation.id, service))
    });
    ours.collect()
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

/// Where an operation stands, in a word: its phase, or that it is held at a step that failed.
pub fn standing(operation: &Operation) -> &'static str {
    if operation.held_at().is_some() { "held" } else { phase(operation.phase) }
}

/// Why an operation stands where it does: what failed, or who paused it.
pub fn reason(operation: &Operation) -> String {
    if let Some(step) = operation.held_at() {
        let why = if step.message.is_empty() { String::new() } else { format!(": {}", step.message) };
        return format!("at step {}{why}", word(&step.name));
    }
    let paused = || operation.log.last().filter(|_| operation.phase == OperationPhase::Paused);
    operation.failures.first().or_else(|| Some(&paused()?.text)).cloned().unwrap_or_default()
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

#[cfg(test)]
mod tests;
