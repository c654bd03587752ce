//! What the series say: cost per request, capacity with its interval, knee, binding resource.

use super::series::Series;
use model::{BindingResource, Interval};

/// A normal distribution's 97.5% point, with room for few degrees of freedom.
const Z95: f64 = 2.1;
/// Nothing here is known better than this, relative.
const HALF_WIDTH_MIN: f64 = 0.015;
/// Shortest stretch of saturation that counts.
const STRETCH_S_MIN: f64 = 0.5;
/// Readings averaged at each end of a stretch.
const ENDS: usize = 3;
/// Share of the quota in use at saturation from which CPU is what ran out.
const CPU_BOUND: f64 = 0.9;
/// The same when the slice was throttled besides.
const CPU_BOUND_THROTTLED: f64 = 0.7;
/// Share of time throttled that counts as throttled.
const THROTTLED_MIN: f64 = 0.05;

/// What was found.
#[derive(Debug, Clone)]
pub(super) struct Fit {
    pub cpu_us_per_request: Interval,
    pub background_cores: f64,
    pub capacity_rps: Interval,
    pub knee_rps: f64,
    pub binding: BindingResource,
    /// Requests in flight from which the instance is certainly busy.
    pub floor: f64,
    /// Time of saturation the estimate rests on.
    pub saturated_s: f64,
}

/// A slope with its relative standard error.
#[derive(Debug, Clone, Copy)]
struct Slope {
    value: f64,
    relative_error: f64,
    length: f64,
}

/// Reads the series.
pub(super) fn fit(series: &Series, quota_cores: f64, hold_from_s: Option<f64>, wait_bound_s: f64) -> Fit {
    let now = series.now_s();
    let (background, cost_all) = utilisation_law(series);
    let rate = series.completed_rate(1.0);
    let floor = (rate * series.base_s()).ceil().max(1.0) + 1.0;
    let stretches = hold_from_s.map_or(Vec::new(), |from| stretches(series, from, floor));
    let direct = slope(&stretches.iter().map(|s| traffic_points(series, *s)).collect::<Vec<_>>());
    let busy = hold_from_s.map(|from| (from + 0.2, now)).filter(|(a, b)| b - a >= STRETCH_S_MIN);
    let per_cpu = busy.and_then(|span| slope(&[cpu_points(series, span)]));
    let used = busy.map_or(0.0, |span| cpu_share(series, span, quota_cores));
    let throttled = busy.map_or(0.0, |span| throttled_share(series, span));
    let cpu_bound = used >= CPU_BOUND || (used >= CPU_BOUND_THROTTLED && throttled >= THROTTLED_MIN);
    let cost = busy.zip(per_cpu).map(|(span, per_cpu)| {
        let idle = background * (span.1 - span.0) / per_cpu.length.max(1e-9);
        (((1.0 - idle).max(0.1)) / per_cpu.value, per_cpu.relative_error)
    });
    let law = cost.filter(|_| cpu_bound).map(|(cost_s, relative_error)| Slope {
        value: (quota_cores - background).max(0.01) / cost_s,
        relative_error,
        length: busy.map_or(0.0, |(a, b)| b - a),
    });
    let reached = direct.is_some() || law.is_some();
    let highest = highest_rate(series);
    let capacity = match (direct, law) {
        (Some(direct), Some(law)) => interval(combine(direct, law)),
        (Some(only), None) | (None, Some(only)) => interval(only),
        (None, None) => Interval { value: highest, low: highest, high: highest },
    };
    let (cost_s, cost_error) = cost.unwrap_or((cost_all, 0.1));
    Fit {
        cpu_us_per_request: interval(Slope { value: cost_s * 1e6, relative_error: cost_error, length: 0.0 }),
        background_cores: background,
        capacity_rps: capacity,
        knee_rps: knee(series, capacity.value, wait_bound_s, reached),
        binding: binding(reached, cpu_bound, capacity.value * series.base_s()),
        floor,
        saturated_s: if cpu_bound { busy.map_or(0.0, |(a, b)| b - a) } else { direct.map_or(0.0, |d| d.length) },
    }
}

fn binding(reached: bool, cpu_bound: bool, parallel: f64) -> BindingResource {
    match (reached, cpu_bound) {
        (false, _) => BindingResource::NotReached,
        (true, true) => BindingResource::Cpu,
        (true, false) if parallel < 1.5 => BindingResource::Serial,
        (true, false) => BindingResource::Concurrency { limit: parallel.round() },
    }
}

fn interval(of: Slope) -> Interval {
    let half = (Z95 * of.relative_error).clamp(HALF_WIDTH_MIN, 1.0) * of.value;
    Interval { value: of.value, low: of.value - half, high: of.value + half }
}

/// Inverse-variance mean; when the two disagree by more than their errors allow, the error grows accordingly.
fn combine(a: Slope, b: Slope) -> Slope {
    let weight = |s: Slope| 1.0 / (s.relative_error.max(0.005) * s.value).powi(2).max(1e-12);
    let (wa, wb) = (weight(a), weight(b));
    let value = (a.value * wa + b.value * wb) / (wa + wb);
    let apart = (wa * (a.value - value).powi(2) + wb * (b.value - value).powi(2)).max(1.0);
    let error = (1.0 / (wa + wb)).sqrt() * apart.sqrt().min(2.0);
    Slope { value, relative_error: error / value.max(1e-9), length: a.length.max(b.length) }
}

/// Spans of the hold in which the backlog never fell below the floor.
fn stretches(series: &Series, from: f64, floor: f64) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start: Option<usize> = None;
    let readings = &series.readings;
    for (i, r) in readings.iter().enumerate() {
        let goes_on = r.at_s >= from && r.in_flight >= floor && start.is_none_or(|s| readings[s].epoch == r.epoch);
        match (goes_on, start) {
            (true, None) => start = Some(i),
            (false, Some(s)) => {
                found.push((s, i - 1));
                start = None;
            }
            _ => {}
        }
    }
    found.extend(start.map(|s| (s, readings.len() - 1)));
    found.retain(|(a, b)| readings[*b].at_s - readings[*a].at_s >= STRETCH_S_MIN);
    found
}

fn traffic_points(series: &Series, (a, b): (usize, usize)) -> Vec<(f64, f64)> {
    series.readings[a..=b].iter().map(|r| (r.at_s, r.completed)).collect()
}

/// Completions against CPU: the utilisation law, along the hold.
fn cpu_points(series: &Series, (from, to): (f64, f64)) -> Vec<(f64, f64)> {
    let within = series.cpu.iter().filter(|r| r.at_s >= from && r.at_s <= to);
    within.map(|r| (r.cpu_s, series.completed_at(r.at_s))).collect()
}

fn cpu_share(series: &Series, (from, to): (f64, f64), quota_cores: f64) -> f64 {
    ends(series, from, to).map_or(0.0, |(a, b)| (b.cpu_s - a.cpu_s) / (b.at_s - a.at_s) / quota_cores.max(1e-3))
}

fn throttled_share(series: &Series, (from, to): (f64, f64)) -> f64 {
    ends(series, from, to).map_or(0.0, |(a, b)| (b.throttled_s - a.throttled_s) / (b.at_s - a.at_s))
}

fn ends(series: &Series, from: f64, to: f64) -> Option<(&super::series::CpuReading, &super::series::CpuReading)> {
    let mut within = series.cpu.iter().filter(|r| r.at_s >= from && r.at_s <= to);
    let first = within.next()?;
    Some((first, within.next_back().filter(|last| last.at_s > first.at_s)?))
}

/// Rise per run over stretches of a staircase: ends averaged against the stairs, and an error made of two noises, one that
/// grows with the run (service times differ) and one that stays at the ends (stairs, jitter of the readings).
fn slope(stretches: &[Vec<(f64, f64)>]) -> Option<Slope> {
    let (mut run, mut rise, mut ends) = (0.0, 0.0, 0.0);
    for points in stretches.iter().filter(|p| p.len() >= 2) {
        let k = ENDS.min(points.len() / 2);
        let mean = |of: &[(f64, f64)]| {
            let n = of.len() as f64;
            (of.iter().map(|p| p.0).sum::<f64>() / n, of.iter().map(|p| p.1).sum::<f64>() / n)
        };
        let ((x0, y0), (x1, y1)) = (mean(&points[..k]), mean(&points[points.len() - k..]));
        run += x1 - x0;
        rise += y1 - y0;
        ends += 2.0 / k as f64;
    }
    if run <= 0.0 || rise <= 0.0 {
        return None;
    }
    let value = rise / run;
    let spread = |lag: usize| {
        let squares: Vec<(f64, f64)> = stretches
            .iter()
            .flat_map(|p| p.windows(lag + 1).map(|w| (w[lag].0 - w[0].0, w[lag].1 - w[0].1)))
            .map(|(dx, dy)| (dx, (dy - value * dx).powi(2)))
            .collect();
        let n = squares.len() as f64;
        (squares.len() >= 3)
            .then(|| (squares.iter().map(|s| s.0).sum::<f64>() / n, squares.iter().map(|s| s.1).sum::<f64>() / n))
    };
    let (short, long) = (spread(5)?, spread(15));
    let walk = long.map_or(short.1 / short.0, |long| ((long.1 - short.1) / (long.0 - short.0)).max(0.0));
    let edge = ((short.1 - walk * short.0) / 2.0).max(0.1);
    let error = (walk * run + edge * ends).sqrt() / run;
    Some(Slope { value, relative_error: error / value, length: run })
}

/// Background and CPU per request by least squares of Δcpu on Δtime and Δcompletions (the utilisation law).
fn utilisation_law(series: &Series) -> (f64, f64) {
    let windows = series.cpu.windows(6).step_by(5);
    let (mut tt, mut tc, mut cc, mut ty, mut cy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for w in windows {
        let dt = w[5].at_s - w[0].at_s;
        let dc = series.completed_at(w[5].at_s) - series.completed_at(w[0].at_s);
        let dy = w[5].cpu_s - w[0].cpu_s;
        tt += dt * dt;
        tc += dt * dc;
        cc += dc * dc;
        ty += dt * dy;
        cy += dc * dy;
    }
    let det = tt * cc - tc * tc;
    let plain = if cc > 0.0 { cy / cc } else { 0.0 };
    if det <= 1e-9 * tt * cc || det == 0.0 {
        return (0.0, plain);
    }
    let background = (ty * cc - cy * tc) / det;
    let cost = (cy * tt - ty * tc) / det;
    if background < 0.0 || cost < 0.0 { (0.0, plain) } else { (background, cost) }
}

/// Highest rate served over half a second.
fn highest_rate(series: &Series) -> f64 {
    let rates = series.readings.windows(11).filter(|w| w[0].epoch == w[10].epoch);
    rates.map(|w| (w[10].completed - w[0].completed) / (w[10].at_s - w[0].at_s).max(0.1)).fold(0.0, f64::max)
}

/// The rate at which the mean wait passes the bound: W = a·ρ ÷ (1 − ρ) through the points below saturation.
fn knee(series: &Series, capacity: f64, wait_bound_s: f64, reached: bool) -> f64 {
    if !reached || capacity <= 0.0 {
        return capacity;
    }
    let (mut top, mut bottom) = (0.0, 0.0);
    for w in series.readings.windows(6).step_by(5).filter(|w| w[0].epoch == w[5].epoch) {
        let rho = (w[5].completed - w[0].completed) / (w[5].at_s - w[0].at_s).max(0.1) / capacity;
        let mean = w[1..].iter().map(|r| r.latency_mean_s).sum::<f64>() / 5.0;
        if rho < 0.9 && rho > 0.05 {
            let shape = rho / (1.0 - rho);
            top += shape * (mean - series.base_s()).max(0.0);
            bottom += shape * shape;
        }
    }
    let scale: f64 = if bottom > 0.0 { top / bottom } else { 0.0 };
    capacity * wait_bound_s / (wait_bound_s + scale)
}

/// Chance of at least `k` of `n` with probability `p` each.
pub(super) fn binomial_at_least(k: f64, n: f64, p: f64) -> f64 {
    let mut term = (n * (1.0 - p).ln()).exp();
    let mut below = 0.0;
    let mut i = 0.0;
    while i < k && i < n {
        below += term;
        term *= (n - i) / (i + 1.0) * p / (1.0 - p);
        i += 1.0;
    }
    (1.0 - below).max(0.0)
}
