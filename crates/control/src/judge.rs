//! The one place that calls the gray gate of `capacity`, and the words for its verdicts.

use crate::contract::{Observed, Traffic};
use crate::limits::{GATE_IDLE_MS_MAX, GATE_REQUESTS_MIN, GATE_WAIT_MS_MAX};
use capacity::gate::{self, GateConfig, GateWindow};
use model::{GateOutcome, GateVerdict, InstanceId, UnixMs};
use std::collections::{BTreeMap, BTreeSet};

/// What reached some instances since `before`.
pub(crate) fn window(
    observed: &Observed,
    before: &BTreeMap<InstanceId, Traffic>,
    of: &BTreeSet<InstanceId>,
) -> GateWindow {
    let mut window = GateWindow::default();
    let nothing = Traffic::default();
    for id in of {
        let Some(now) = observed.traffic.get(id) else { continue };
        let was = before.get(id).filter(|was| was.requests <= now.requests).unwrap_or(&nothing);
        window.requests += now.requests - was.requests;
        window.errors += now.errors.saturating_sub(was.errors);
        window.latency.merge(&now.latency.since(&was.latency));
    }
    window
}

/// Judges a stage; `None` while undecided. `heard_ms`: how long proxies have been heard.
pub(crate) fn judge(
    new: &GateWindow,
    running: &GateWindow,
    has_fleet: bool,
    waited_ms: u64,
    heard_ms: u64,
) -> Option<GateOutcome> {
    // No news of traffic is news only from proxies that had the time to come back to this server.
    let idle = new.requests + running.requests == 0 && heard_ms >= GATE_WAIT_MS_MAX;
    let wait_ms_max = if idle { GATE_IDLE_MS_MAX } else { GATE_WAIT_MS_MAX };
    if new.requests < GATE_REQUESTS_MIN && waited_ms < wait_ms_max {
        return None;
    }
    let config = GateConfig { requests_min: GATE_REQUESTS_MIN, wait_ms_max, ..GateConfig::default() };
    let outcome = gate::judge(new, running, waited_ms, &config)?;
    let quiet = outcome == GateOutcome::NoRunningFleet && has_fleet && new.requests < GATE_REQUESTS_MIN;
    Some(if quiet { GateOutcome::TooFewRequests } else { outcome })
}

/// The record of a judgement.
pub(crate) fn verdict(
    gray_permille: u32,
    at: UnixMs,
    outcome: GateOutcome,
    new: &GateWindow,
    running: &GateWindow,
) -> GateVerdict {
    GateVerdict {
        gray_permille,
        at,
        outcome,
        requests_new: new.requests,
        requests_running: running.requests,
        error_rate_new: rate(new),
        error_rate_running: rate(running),
        latency_p99_ms_new: p99_ms(new),
        latency_p99_ms_running: p99_ms(running),
    }
}

fn rate(window: &GateWindow) -> f64 {
    window.errors as f64 / window.requests.max(1) as f64
}

fn p99_ms(window: &GateWindow) -> f64 {
    window.latency.quantile_us(0.99).unwrap_or_default() / 1_000.0
}

/// A verdict in words.
pub(crate) fn describe(verdict: &GateVerdict) -> String {
    let stage = f64::from(verdict.gray_permille) / 10.0;
    let GateVerdict { requests_new, error_rate_new, error_rate_running, .. } = verdict;
    match verdict.outcome {
        GateOutcome::Passed => format!("gray stage {stage}% passed on {requests_new} requests"),
        GateOutcome::ErrorsWorse => format!(
            "gray stage {stage}%: {:.2}% of {requests_new} requests to new instances failed, {:.2}% elsewhere",
            error_rate_new * 100.0,
            error_rate_running * 100.0
        ),
        GateOutcome::LatencyWorse => format!(
            "gray stage {stage}%: new instances are slower (p99 {:.1} ms, elsewhere {:.1} ms)",
            verdict.latency_p99_ms_new, verdict.latency_p99_ms_running
        ),
        GateOutcome::TooFewRequests => {
            format!("gray stage {stage}%: only {requests_new} requests came; promoted on health alone")
        }
        GateOutcome::NoRunningFleet => {
            format!("gray stage {stage}%: nothing to compare with; promoted on health alone")
        }
        GateOutcome::Skipped => format!("gray stage {stage}%: unjudged, as an operator wanted it"),
    }
}
