//! Is an instance deployed, healthy, gone? Questions to what agents reported; an agent that is silent is unknown, not dead.

use crate::contract::{HostState, InstanceObserved, Phase};
use crate::limits::{FAILED_MS_MAX, HOST_LOST_MS_MAX, START_RESTARTS_MAX};
use crate::recall::View;
use model::{HostName, InstanceId, PlannedInstance};

/// What an instance is awaited to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Package and config are on the host.
    Deployed,
    /// It runs and is well.
    Healthy,
    /// It is well, and any lapse is a failure.
    StaysHealthy,
}

/// How far a set of instances is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Those that reached the goal.
    pub done: u32,
    /// Those still on their way.
    pub waiting: Vec<String>,
    /// Those that failed, with the reason.
    pub failed: Vec<String>,
}

/// Looks at each target.
pub(crate) fn progress<'a>(
    view: View<'_>,
    targets: impl Iterator<Item = &'a PlannedInstance>,
    goal: Goal,
    waited_ms: u64,
) -> Progress {
    let mut progress = Progress::default();
    for target in targets {
        match reached(view, target, goal, waited_ms) {
            Ok(true) => progress.done += 1,
            Ok(false) => progress.waiting.push(format!("{} on {}", target.instance, target.host)),
            Err(why) => progress.failed.push(why),
        }
    }
    progress
}

fn reached(view: View<'_>, target: &PlannedInstance, goal: Goal, waited_ms: u64) -> Result<bool, String> {
    let PlannedInstance { instance, host, .. } = target;
    if let Some(lost) = view.observed.hosts.get(host).filter(|at| at.state == HostState::Lost) {
        let lost_ms = view.now.saturating_sub(lost.since).min(waited_ms);
        if lost_ms >= HOST_LOST_MS_MAX {
            return Err(format!("host {host} vanished under {instance} (lost for {} s)", lost_ms / 1_000));
        }
        return Ok(false);
    }
    let Some(seen) = view.observed.instances.get(instance) else { return Ok(false) };
    let failed = |what: &str| Err(format!("{instance} on {host} {what}{}", because(seen)));
    match (goal, seen.phase) {
        (_, Phase::Healthy) => Ok(true),
        (Goal::Deployed, Phase::Deployed | Phase::Starting | Phase::Unhealthy) => Ok(true),
        (Goal::StaysHealthy, Phase::Unhealthy) => failed("became unhealthy"),
        (Goal::StaysHealthy, Phase::Backoff | Phase::Failed | Phase::Stopped) => failed("went down"),
        (_, Phase::Failed) if view.now.saturating_sub(seen.since).min(waited_ms) >= FAILED_MS_MAX => {
            failed("cannot be brought up")
        }
        (_, Phase::Backoff) if seen.restarts >= START_RESTARTS_MAX => failed("keeps exiting"),
        _ => Ok(false),
    }
}

fn because(seen: &InstanceObserved) -> String {
    if seen.message.is_empty() { String::new() } else { format!(": {}", seen.message) }
}

/// True when nothing of the instance is left, as far as its agent says.
pub(crate) fn is_gone(view: View<'_>, host: &HostName, instance: &InstanceId) -> bool {
    let connected = is_connected(view, host);
    let phase = view.observed.instances.get(instance).map(|seen| seen.phase);
    connected && matches!(phase, None | Some(Phase::Stopped))
}

/// True when the host's agent is known to be lost, so that nothing can be awaited from it.
pub(crate) fn is_lost(view: View<'_>, host: &HostName) -> bool {
    view.observed.hosts.get(host).is_some_and(|at| at.state == HostState::Lost)
}

/// True when the host's agent is connected.
pub(crate) fn is_connected(view: View<'_>, host: &HostName) -> bool {
    view.observed.hosts.get(host).is_some_and(|at| at.state == HostState::Connected)
}
