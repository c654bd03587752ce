//! What dies under a running stress test: the weights are back within 5 s, the test ends and says why, and nothing else
//! is restarted.

use crate::probe;
use crate::shares;
use anyhow::{Context, Result, ensure};
use model::{Operation, OperationPhase};
use springtide_bench::fleet::Fleet;
use springtide_bench::load::Load;
use springtide_bench::machine::Process;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Time in which a killed process must be gone: a throttled slice gets to die only when its next period begins.
const DEATH_MAX: Duration = Duration::from_secs(10);
/// Time in which weights must be back, whatever dies.
const BACK: Duration = Duration::from_secs(5);
/// Time for which is watched whether they stay so.
const WATCH: Duration = Duration::from_secs(9);

/// A fleet whose instance `victim` is under test, with traffic moved to it.
struct UnderTest {
    fleet: Fleet,
    load: Load,
    victim: String,
    host: String,
    operation: String,
    endpoints: BTreeMap<String, String>,
    before: BTreeMap<String, Process>,
    parts: BTreeMap<String, Process>,
}

async fn under_test(seed: u64) -> Result<UnderTest> {
    let fleet = probe::costly_fleet().await?;
    let load = Load::start(fleet.entry, "/probe/work", probe::COSTLY_RPS, seed);
    let instances = fleet.client.instances(Some("probe"), None).await?;
    let victim = instances.first().context("four instances are placed")?;
    let (victim, host) = (victim.instance.to_string(), victim.host.clone());
    let endpoints = shares::endpoints(&fleet).await?;
    let before = fleet.instance_processes().await?.into_iter().collect();
    let parts = parts(&fleet);
    // As a user would; the command goes on watching the test in vain when the server dies, so it is not waited for.
    let told = fleet.cli(&["stress", "probe", "--instance", &victim, "--no-wait"])?;
    let operation = told.split_whitespace().find(|word| word.starts_with("op-")).context("it names the operation")?;
    let operation = operation.trim_end_matches(|c: char| !c.is_ascii_digit()).to_owned();
    shares::await_moved(&endpoints, 15).await?;
    Ok(UnderTest { fleet, load, victim, host, operation, endpoints, before, parts })
}

/// The parts of the fleet, by name.
fn parts(fleet: &Fleet) -> BTreeMap<String, Process> {
    let named = [("server", None), ("proxy", None), ("agent", Some("host-a1")), ("agent", Some("host-b1"))];
    let found = named.into_iter().filter_map(|(part, host)| {
        let name = host.map_or(part.to_owned(), |host| format!("{part} of {host}"));
        Some((name, fleet.part(part, host)?))
    });
    found.collect()
}

impl UnderTest {
    /// After `dead` was killed: weights, outcome, and whom it touched. Gives the operation as it ended.
    async fn judge(self, dead: &Process, killed: Instant, restarted: &str) -> Result<Operation> {
        let moved = shares::last_moved(&self.endpoints, killed, WATCH).await?;
        ensure!(moved <= BACK, "traffic was still moved {moved:?} after the death");
        let ended = self.fleet.await_operation(&self.operation, 30).await?;
        self.fleet.await_steady(60).await?;
        ensure!(!dead.lives(), "what was killed lives");
        let after: BTreeMap<String, Process> = self.fleet.instance_processes().await?.into_iter().collect();
        for (instance, process) in &self.before {
            let untouched = after.get(instance) == Some(process);
            ensure!(
                untouched || instance == restarted,
                "{instance} was touched: {process:?} is {:?}",
                after.get(instance)
            );
        }
        let now = parts(&self.fleet);
        for (part, process) in &self.parts {
            let untouched = now.get(part) == Some(process);
            ensure!(untouched || part == restarted, "{part} was touched: {process:?} is {:?}", now.get(part));
        }
        self.load.stop()?;
        let left = self.fleet.stop().await?;
        ensure!(left.is_empty(), "left behind: {left:#?}");
        Ok(ended)
    }
}

/// The test ended as failed, and names the cause.
fn says(ended: &Operation, cause: &str) -> Result<()> {
    ensure!(ended.phase == OperationPhase::Failed, "{:?}: {:?}", ended.phase, ended.failures);
    ensure!(ended.failures.iter().any(|why| why.contains(cause)), "{:?} does not say {cause:?}", ended.failures);
    Ok(())
}

#[tokio::test]
async fn the_agent_of_the_instance_under_test_dies() -> Result<()> {
    let at = under_test(11).await?;
    let (host, part) = (at.host.clone(), format!("agent of {}", at.host));
    let agent = at.fleet.part("agent", Some(&host)).context("the host has an agent")?;
    agent.kill()?;
    let ended = at.judge(&agent, Instant::now(), &part).await?;
    // Where the machine stood still meanwhile, it was away for so long that the host counted as lost.
    says(&ended, &format!("the agent of {host} was away")).or_else(|_| says(&ended, &format!("host {host} vanished")))
}

#[tokio::test]
async fn the_agent_of_the_instance_under_test_dies_for_good() -> Result<()> {
    let at = under_test(12).await?;
    let host = at.host.clone();
    at.fleet.set_revival(false)?;
    let agent = at.fleet.part("agent", Some(&host)).context("the host has an agent")?;
    agent.kill()?;
    let killed = Instant::now();
    let moved = shares::last_moved(&at.endpoints, killed, WATCH).await?;
    ensure!(moved <= BACK, "traffic was still moved {moved:?} after the death");
    let ended = at.fleet.await_operation(&at.operation, 30).await?;
    at.fleet.set_revival(true)?;
    says(&ended, &host)?;
    at.fleet.await_steady(60).await?;
    let after: BTreeMap<String, Process> = at.fleet.instance_processes().await?.into_iter().collect();
    ensure!(after == at.before, "instances changed: {:?} became {after:?}", at.before);
    ensure!(at.load.stop()?.errors.total() == 0, "requests failed although only an agent died");
    ensure!(at.fleet.stop().await?.is_empty(), "something was left behind");
    Ok(())
}

#[tokio::test]
async fn the_proxy_dies() -> Result<()> {
    let at = under_test(13).await?;
    let proxy = at.fleet.part("proxy", None).context("the proxy runs")?;
    proxy.kill()?;
    says(&at.judge(&proxy, Instant::now(), "proxy").await?, "a proxy went away")
}

#[tokio::test]
async fn the_instance_under_test_dies() -> Result<()> {
    let at = under_test(14).await?;
    let victim = at.victim.clone();
    let process = at.before.get(&victim).context("it runs")?.clone();
    process.kill()?;
    let asked = Instant::now();
    while process.lives() {
        ensure!(asked.elapsed() < DEATH_MAX, "it was not killed");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let killed = Instant::now();
    says(&at.judge(&process, killed, &victim).await?, &victim)
}
