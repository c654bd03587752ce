//! The online stress test: live traffic moves to one instance by a leased override, renewed while this process lives.
//!
//! The journal is written at the begin and at the end only. Everything between is memory: a restarted server finds a
//! running test without memory of it, and ends it; the weights have returned by themselves.

use crate::contract::{Action, Override, Phase, StressSample};
use crate::draft::Draft;
use crate::endpoints::{WEIGHT_FULL, endpoints};
use crate::instances::is_lost;
use crate::journal;
use crate::limits::*;
use crate::open::healthy_instances;
use crate::recall::{Recall, View};
use crate::wanted::is_overtaken;
use capacity::stress::{Config, Controller, Move};
use model::{
    Curve, HostName, InstanceId, Operation, OperationPhase, OperationSpec, Placement, ServiceName, StepName, StressEnd,
    UnixMs, Versioned,
};

const RESTARTED: &str = "the server restarted during the test; weights returned by themselves; run it again";

/// A test in progress.
#[derive(Debug)]
pub(crate) struct Run {
    instance: InstanceId,
    controller: Controller,
    began_at: UnixMs,
    /// Time without a reading, as far as this process was awake.
    silent_ms: u64,
    looked_at: UnixMs,
    wanted: Vec<Override>,
    sent: Vec<Override>,
    sent_at: UnixMs,
    fast_at: UnixMs,
    ended: Option<(StressEnd, UnixMs)>,
}

/// Takes a stress test as far as it goes now.
pub(crate) fn advance(view: View<'_>, at: &Versioned<Operation>, recall: &mut Recall) -> Vec<Action> {
    let OperationSpec::Stress { service, instance, duration_ms_max } = &at.value.spec else { return Vec::new() };
    match at.value.phase {
        OperationPhase::Pending => begin(view, at, recall, service, instance.as_ref(), *duration_ms_max),
        OperationPhase::Running => drive(view, at, recall, service, *duration_ms_max),
        OperationPhase::Paused => recall.stress.take().map(|_| give_back(service)).into_iter().collect(),
        OperationPhase::RollingBack => {
            recall.stress = None;
            let mut actions = vec![give_back(service)];
            actions.extend(end(view, at, OperationPhase::RolledBack, None));
            actions
        }
        _ => Vec::new(),
    }
}

/// Takes a reading.
pub(crate) fn take_sample(view: View<'_>, op: &Operation, recall: &mut Recall, sample: &StressSample) {
    let Some(service) = op.spec.service() else { return };
    if op.phase != OperationPhase::Running {
        return;
    }
    let Some(run) = recall.stress.as_mut().filter(|run| run.ended.is_none()) else { return };
    let told = run.controller.step(sample);
    run.silent_ms = 0;
    run.wanted = overrides(view, service, &run.instance, told);
    run.ended = told.ended.map(|why| (why, view.now));
}

fn begin(
    view: View<'_>,
    at: &Versioned<Operation>,
    recall: &mut Recall,
    service: &ServiceName,
    instance: Option<&InstanceId>,
    duration_ms_max: u32,
) -> Vec<Action> {
    let healthy = healthy_instances(view.snapshot, view.observed, service);
    let chosen = match instance {
        Some(instance) => healthy.iter().find(|id| *id == instance),
        None if healthy.len() >= 2 => healthy.first(),
        None => None,
    };
    let Some((instance, (_, placement))) = chosen.and_then(|id| Some((id, placement(view, service, id)?))) else {
        if recall.waited_ms(&at.value, view.now) < SETTLE_MS_MAX && !view.observed.settled {
            return Vec::new();
        }
        let why =
            format!("{service} has no instance that could be tested by now: it takes 2 healthy ones, or a named one");
        return end(view, at, OperationPhase::Failed, Some(why)).into_iter().collect();
    };
    let slo = view.snapshot.service(service).map(|service| service.slo.clone()).unwrap_or_default();
    let config = Config { quota: placement.shape.cpu, slo, duration_ms_max };
    recall.stress = Some(Box::new(Run {
        instance: instance.clone(),
        controller: Controller::new(config),
        began_at: view.now,
        silent_ms: 0,
        looked_at: view.now,
        wanted: Vec::new(),
        sent: Vec::new(),
        sent_at: 0,
        fast_at: 0,
        ended: None,
    }));
    let mut draft = Draft::new(view.snapshot, at, view.now);
    let op = draft.change();
    op.phase = OperationPhase::Running;
    op.spec = OperationSpec::Stress { service: service.clone(), instance: Some(instance.clone()), duration_ms_max };
    draft.log(format!("traffic moves to {instance} for at most {} s", duration_ms_max / 1_000));
    draft.commit().map(Action::Commit).into_iter().collect()
}

fn placement<'a>(view: View<'a>, service: &'a ServiceName, id: &InstanceId) -> Option<(&'a HostName, &'a Placement)> {
    view.snapshot.placements_of(service).find(|(_, placement)| &placement.instance == id)
}

fn drive(
    view: View<'_>,
    at: &Versioned<Operation>,
    recall: &mut Recall,
    service: &ServiceName,
    duration_ms_max: u32,
) -> Vec<Action> {
    let Some(run) = recall.stress.as_mut() else {
        return end(view, at, OperationPhase::Failed, Some(RESTARTED.to_owned())).into_iter().collect();
    };
    if let Some((why, since)) = run.ended {
        return conclude(view, at, recall, service, why, since);
    }
    // Whoever stood still did not listen either.
    run.silent_ms += view.now.saturating_sub(run.looked_at).min(STRESS_LOOK_MS_MAX);
    run.looked_at = view.now;
    if let Some(why) = trouble(view, run, service, duration_ms_max) {
        recall.stress = None;
        let mut actions = vec![give_back(service)];
        actions.extend(end(view, at, OperationPhase::Failed, Some(why)));
        return actions;
    }
    renew(view, run, &at.value, service)
}

/// Renews the lease on weights and on fast sampling; a changed weight goes out at once.
fn renew(view: View<'_>, run: &mut Run, op: &Operation, service: &ServiceName) -> Vec<Action> {
    let mut actions = Vec::new();
    if view.now >= run.fast_at + OVERRIDE_RENEW_MS {
        run.fast_at = view.now;
        actions.push(Action::SampleFast {
            operation: op.id.clone(),
            service: service.clone(),
            instance: run.instance.clone(),
            life_ms: OVERRIDE_LIFE_MS,
        });
    }
    let is_due = !run.wanted.is_empty() && view.now >= run.sent_at + OVERRIDE_RENEW_MS;
    if run.wanted != run.sent || is_due {
        run.sent.clone_from(&run.wanted);
        run.sent_at = view.now;
        actions.push(Action::Override {
            service: service.clone(),
            overrides: run.wanted.clone(),
            life_ms: OVERRIDE_LIFE_MS,
        });
    }
    actions
}

fn give_back(service: &ServiceName) -> Action {
    Action::Override { service: service.clone(), overrides: Vec::new(), life_ms: OVERRIDE_LIFE_MS }
}

/// Why the test cannot go on, if so.
fn trouble(view: View<'_>, run: &Run, service: &ServiceName, duration_ms_max: u32) -> Option<String> {
    let Run { instance, .. } = run;
    let Some((host, _)) = placement(view, service, instance) else { return Some(format!("{instance} is gone")) };
    if is_lost(view, host) {
        return Some(format!("host {host} vanished under {instance}; weights are back"));
    }
    match view.observed.instances.get(instance).map(|seen| seen.phase) {
        None | Some(Phase::Healthy) => {}
        Some(Phase::Unhealthy) => return Some(format!("{instance} became unhealthy under the load; weights are back")),
        Some(_) => return Some(format!("{instance} went down during the test; weights are back")),
    }
    // Their readings have a gap, and what was moved meanwhile was watched by nobody.
    if view.observed.hosts.get(host).is_some_and(|seen| seen.since > run.began_at) {
        return Some(format!("the agent of {host} was away during the test; weights are back; run it again"));
    }
    if view.observed.traffic_since > run.began_at {
        return Some("a proxy went away during the test; weights are back; run it again".to_owned());
    }
    if run.silent_ms >= STRESS_SILENT_MS_MAX {
        let silent_s = STRESS_SILENT_MS_MAX / 1_000;
        return Some(format!(
            "no reading of {instance} came for {silent_s} s: a proxy and its agent must be connected"
        ));
    }
    let is_over = view.now >= run.began_at + u64::from(duration_ms_max) + STRESS_MARGIN_MS;
    is_over.then(|| format!("the test of {instance} did not end in time"))
}

/// The override that gives the instance its share among the others.
fn overrides(view: View<'_>, service: &ServiceName, instance: &InstanceId, told: Move) -> Vec<Override> {
    if told.neutral || told.ended.is_some() {
        return Vec::new();
    }
    let mut others = endpoints(view.snapshot, view.observed, service);
    others.retain(|endpoint| !endpoint.draining && &endpoint.instance != instance);
    let total: u64 = others.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
    if total == 0 {
        return Vec::new();
    }
    if told.share >= 1.0 {
        let silent = others.into_iter().map(|endpoint| Override { instance: endpoint.instance, weight: 0 });
        let all = Override { instance: instance.clone(), weight: WEIGHT_FULL };
        return std::iter::once(all).chain(silent).collect();
    }
    let weight = (told.share / (1.0 - told.share) * total as f64).round();
    let weight = weight.clamp(1.0, f64::from(OVERRIDE_WEIGHT_MAX)) as u32;
    vec![Override { instance: instance.clone(), weight }]
}

/// Gives the weights back and writes the curve, until it is written.
fn conclude(
    view: View<'_>,
    at: &Versioned<Operation>,
    recall: &mut Recall,
    service: &ServiceName,
    why: StressEnd,
    since: UnixMs,
) -> Vec<Action> {
    let Some(run) = recall.stress.as_mut() else { return Vec::new() };
    let mut actions = Vec::new();
    if !run.sent.is_empty() {
        run.sent.clear();
        actions.push(give_back(service));
    }
    let curve = curve(view, &at.value, run, service, why).filter(|curve| curve.capacity_rps.value > 0.0);
    let failure = match (why, &curve) {
        (StressEnd::Errors, _) => Some(format!("requests failed at {} under the load; weights are back", run.instance)),
        (StressEnd::Aborted, _) => Some("readings brought no news for too long; weights are back".to_owned()),
        (_, None) => Some(format!("{service} got no traffic that could be measured: put load on it, then try again")),
        _ if view.now >= since + RECORD_MS_MAX => Some("the curve could not be written in time".to_owned()),
        _ => None,
    };
    if let Some(why) = failure {
        actions.extend(end(view, at, OperationPhase::Failed, Some(why)));
    } else if let Some(record) = recall.record.clone() {
        let mut draft = Draft::new(view.snapshot, at, view.now);
        draft.change().report = Some(record);
        actions.extend(finish(draft, view.now, OperationPhase::Succeeded, None));
    } else if recall.record_asked.is_none_or(|asked| view.now >= asked + RECORD_RETRY_MS) {
        recall.record_asked = Some(view.now);
        actions.extend(curve.map(|curve| Action::WriteCurve(Box::new(curve))));
    }
    actions
}

fn curve(view: View<'_>, op: &Operation, run: &Run, service: &ServiceName, ended: StressEnd) -> Option<Curve> {
    let (host, placement) = placement(view, service, &run.instance)?;
    let estimate = run.controller.estimate();
    Some(Curve {
        operation: op.id.clone(),
        service: service.clone(),
        host_type: view.snapshot.host(host)?.host_type.clone(),
        package_version: placement.package_version.clone(),
        instance: run.instance.clone(),
        shape: placement.shape,
        measured_at: view.now,
        duration_ms: estimate.duration_ms,
        cpu_us_per_request: estimate.cpu_us_per_request,
        background_cores: estimate.background_cores,
        knee_rps: estimate.knee_rps,
        capacity_rps: estimate.capacity_rps,
        binding: estimate.binding,
        plain_estimate_rps: estimate.plain_estimate_rps,
        requests: estimate.requests,
        errors: estimate.errors,
        ended,
        points: estimate.points,
    })
}

fn end(view: View<'_>, at: &Versioned<Operation>, phase: OperationPhase, failure: Option<String>) -> Option<Action> {
    let mut draft = Draft::new(view.snapshot, at, view.now);
    draft.change().overtaken = is_overtaken(view.snapshot, &at.value);
    finish(draft, view.now, phase, failure)
}

fn finish(mut draft: Draft<'_>, now: UnixMs, phase: OperationPhase, failure: Option<String>) -> Option<Action> {
    if phase == OperationPhase::Succeeded {
        journal::begin(draft.change(), StepName::Report, 1, now);
        journal::finish(draft.change(), StepName::Report, now);
    } else {
        journal::skip(draft.change(), StepName::Report, "no curve", now);
    }
    draft.log(failure.clone().unwrap_or_else(|| "weights are back".to_owned()));
    let op = draft.change();
    op.failures.extend(failure);
    op.phase = phase;
    op.finished_at = Some(now);
    draft.commit().map(Action::Commit)
}
