//! The kinds of operation: how each is made ready, asked for, and awaited through restarts of the server.

use super::witness::Witness;
use anyhow::{Context, Result, bail};
use api::http::OperationRequest;
use clap::ValueEnum;
use model::{Operation, OperationPhase, OperationSpec, StepName, StepState};
use springtide_bench::fleet::{self, Fleet};
use std::time::{Duration, Instant};

/// Instances before a scale-out and after a scale-in: one, so that gray stages soon have their requests.
const FEW: u32 = 1;
/// Instances of a service under a stress test: the others carry what is moved back.
const PAIR: u32 = 2;
/// Instances after a scale-out and before a scale-in.
const MANY: u32 = 12;

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// From few to many.
    ScaleOut,
    /// From many to few.
    ScaleIn,
    /// A changed config.
    Rollout,
    /// A host emptied.
    Drain,
    /// A stress test.
    Stress,
    /// A scale-out that is paused and resumed at each of its stages.
    Pause,
    /// A scale-out that is rolled back from one of its stages.
    Rollback,
}

/// Stages of a scale-out from which it is rolled back: deploy, start, and the gray weights.
const STAGES: u32 = 5;

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::ScaleOut, Self::ScaleIn, Self::Rollout, Self::Drain, Self::Stress, Self::Pause, Self::Rollback];

    /// The stages at which it is steered, an operation for each.
    pub fn stages(self) -> std::ops::RangeInclusive<u32> {
        1..=if self == Self::Rollback { STAGES } else { 1 }
    }

    /// Instances that must run once it has ended.
    pub fn wanted(self) -> u32 {
        match self {
            Self::ScaleOut | Self::Pause => MANY,
            Self::Stress => PAIR,
            Self::ScaleIn | Self::Rollout | Self::Drain | Self::Rollback => FEW,
        }
    }

    /// Brings the fleet to where the operation has something to do.
    pub async fn prepare(self, fleet: &Fleet, witness: &Witness) -> Result<()> {
        if self == Self::Drain {
            for host in fleet.client.hosts().await?.into_iter().filter(|host| host.cordoned) {
                fleet.client.open_operation(&OperationRequest::Undrain { host: host.name }).await?;
            }
        }
        let before = match self {
            Self::ScaleIn => MANY,
            Self::Stress => PAIR,
            Self::ScaleOut | Self::Rollout | Self::Drain | Self::Pause | Self::Rollback => FEW,
        };
        let placed = fleet.client.instances(Some("probe"), None).await?.len();
        if placed != before as usize {
            self.scale(fleet, before, 60).await?;
        }
        fleet.await_steady(60).await?;
        witness.forget()
    }

    /// Asks for it and waits for its end.
    pub async fn run(self, fleet: &Fleet, witness: &Witness, seconds_max: u64) -> Result<()> {
        match self {
            Self::ScaleOut => self.scale(fleet, MANY, seconds_max).await,
            Self::ScaleIn => self.scale(fleet, FEW, seconds_max).await,
            Self::Rollout => self.rollout(fleet, witness, seconds_max).await,
            Self::Drain => self.drain(fleet, seconds_max).await,
            Self::Stress => self.stress(fleet, seconds_max).await,
            Self::Pause => self.pause(fleet, seconds_max).await,
            Self::Rollback => self.roll_back(fleet, witness.stage(), seconds_max).await,
        }
    }

    async fn scale(self, fleet: &Fleet, to: u32, seconds_max: u64) -> Result<()> {
        let request = OperationRequest::Scale { service: "probe".into(), to: Some(to), instances: Default::default() };
        self.ask(fleet, request, seconds_max).await
    }

    /// Empties a host that has something to lose.
    async fn drain(self, fleet: &Fleet, seconds_max: u64) -> Result<()> {
        let instances = fleet.client.instances(Some("probe"), None).await?;
        let host = instances.into_iter().next().context("an instance is placed")?.host;
        self.ask(fleet, OperationRequest::Drain { host }, seconds_max).await
    }

    async fn ask(self, fleet: &Fleet, request: OperationRequest, seconds_max: u64) -> Result<()> {
        let id = self.click(fleet, request, seconds_max).await?;
        fleet::succeeded(&fleet.await_operation(&id, seconds_max).await?)
    }

    /// The click is repeated while no answer came: a server that died while answering may have taken it or not. When it
    /// has, the second click is refused (already at work, or nothing to do), and the first one's operation is the one.
    async fn click(self, fleet: &Fleet, request: OperationRequest, seconds_max: u64) -> Result<String> {
        let newest = newest(fleet).await.map(|operation| operation.id);
        let deadline = Instant::now() + Duration::from_secs(seconds_max);
        while Instant::now() < deadline {
            let opened = fleet.client.open_operation(&request).await;
            let id = match opened {
                Ok(operation) => Some(operation.id),
                Err(api::client::Error::Refused(..)) => self
                    .newest_of_kind(fleet)
                    .await
                    .map(|operation| operation.id)
                    .filter(|id| Some(id) != newest.as_ref()),
                Err(_) => None,
            };
            if let Some(id) = id {
                return Ok(id.to_string());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the operation was not taken within {seconds_max} s")
    }

    /// Paused and resumed once at each stage it reaches.
    async fn pause(self, fleet: &Fleet, seconds_max: u64) -> Result<()> {
        let request =
            OperationRequest::Scale { service: "probe".into(), to: Some(MANY), instances: Default::default() };
        let id = self.click(fleet, request, seconds_max).await?;
        let deadline = Instant::now() + Duration::from_secs(seconds_max);
        let mut paused_at = 0;
        while Instant::now() < deadline {
            let operation = look_at(fleet, &id).await;
            match operation.as_ref().map(|operation| (operation.phase, stage(operation))) {
                Some((phase, _)) if phase.is_final() => {
                    anyhow::ensure!(paused_at > 0, "{id} ended before it could be paused");
                    return fleet::succeeded(&fleet.await_operation(&id, seconds_max).await?);
                }
                // Answers may be lost with the server: what counts is what the next look shows.
                Some((OperationPhase::Paused, stage)) => {
                    paused_at = paused_at.max(stage);
                    drop(fleet.client.steer_operation(&id, "resume").await);
                }
                Some((_, stage)) if stage > paused_at => {
                    let paused = fleet.client.steer_operation(&id, "pause").await;
                    paused_at = paused.map_or(paused_at, |_| stage);
                }
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("{id} did not end within {seconds_max} s")
    }

    /// Rolled back once it has reached a stage; nothing of it is left.
    async fn roll_back(self, fleet: &Fleet, from: u32, seconds_max: u64) -> Result<()> {
        let request =
            OperationRequest::Scale { service: "probe".into(), to: Some(MANY), instances: Default::default() };
        let id = self.click(fleet, request, seconds_max).await?;
        let deadline = Instant::now() + Duration::from_secs(seconds_max);
        while Instant::now() < deadline {
            let operation = look_at(fleet, &id).await;
            match operation.as_ref().map(|operation| (operation.phase, stage(operation))) {
                Some((phase, _)) if phase.is_final() => break,
                Some((OperationPhase::RollingBack, _)) => {}
                Some((_, stage)) if stage >= from => drop(fleet.client.steer_operation(&id, "rollback").await),
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let ended = fleet.await_operation(&id, seconds_max).await?;
        anyhow::ensure!(
            ended.phase == OperationPhase::RolledBack,
            "{id} was to be rolled back from stage {from} and ended {:?}: {}",
            ended.phase,
            ended.failures.join("; ")
        );
        Ok(())
    }

    async fn rollout(self, fleet: &Fleet, witness: &Witness, seconds_max: u64) -> Result<()> {
        let newest = newest(fleet).await.map(|operation| operation.id);
        let manifests = witness.manifests(witness.next_version())?;
        let deadline = Instant::now() + Duration::from_secs(seconds_max);
        while fleet.apply(&manifests).await.is_err() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        while Instant::now() < deadline {
            let opened = self.newest_of_kind(fleet).await.filter(|operation| Some(&operation.id) != newest.as_ref());
            if let Some(operation) = opened {
                return fleet::succeeded(&fleet.await_operation(operation.id.as_str(), seconds_max).await?);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("no rollout began within {seconds_max} s")
    }

    /// A test that the server's death interrupts must end as failed, with the weights back; undisturbed it succeeds.
    async fn stress(self, fleet: &Fleet, seconds_max: u64) -> Result<()> {
        let request =
            OperationRequest::Stress { service: "probe".into(), instance: None, duration_ms_max: Some(3_000) };
        let newest = newest(fleet).await.map(|operation| operation.id);
        drop(fleet.client.open_operation(&request).await);
        let deadline = Instant::now() + Duration::from_secs(seconds_max);
        while Instant::now() < deadline {
            let latest = self.newest_of_kind(fleet).await.filter(|operation| Some(&operation.id) != newest.as_ref());
            if latest.is_some_and(|operation| operation.phase.is_final()) {
                return Ok(());
            }
            if fleet.client.status().await.is_ok_and(|status| status.operations_open == 0) {
                // It died before it had taken the click: there is nothing to resume.
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the stress test did not end within {seconds_max} s")
    }

    async fn newest_of_kind(self, fleet: &Fleet) -> Option<Operation> {
        let operations = fleet.client.operations().await.ok()?;
        operations.into_iter().filter(|operation| self.is_kind(operation)).max_by_key(number)
    }

    fn is_kind(self, operation: &Operation) -> bool {
        match self {
            Self::ScaleOut | Self::ScaleIn | Self::Pause | Self::Rollback => {
                matches!(operation.spec, OperationSpec::Scale { .. })
            }
            Self::Rollout => matches!(operation.spec, OperationSpec::Rollout { .. }),
            Self::Drain => matches!(operation.spec, OperationSpec::Drain { .. }),
            Self::Stress => matches!(operation.spec, OperationSpec::Stress { .. }),
        }
    }
}

fn number(operation: &Operation) -> u64 {
    operation.id.as_str().rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

async fn newest(fleet: &Fleet) -> Option<Operation> {
    fleet.client.operations().await.ok()?.into_iter().max_by_key(number)
}

/// The operation as it is now, if a server answers.
async fn look_at(fleet: &Fleet, id: &str) -> Option<Operation> {
    fleet.client.operation(id).await.ok()
}

/// How far a scale-out is: 0 before its deploy, up to [`STAGES`].
fn stage(operation: &Operation) -> u32 {
    let begun = |name| operation.steps.iter().any(|step| step.name == name && step.state != StepState::Waiting);
    match operation.gray_permille {
        1_000.. => STAGES,
        100.. => 4,
        1.. => 3,
        0 if begun(StepName::Start) => 2,
        0 => u32::from(begun(StepName::Deploy)),
    }
}
