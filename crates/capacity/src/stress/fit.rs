//! What the series say: cost per request, capacity with its interval, knee, binding resource.

use super::series::{Reading, Series};
use model::{BindingResource, Interval};

/// A normal distribution's 97.5% point, with room for few degrees of freedom.
const Z95: f64 = 2.1;
/// Nothing here is known better than this, relative.
const HALF_WIDTH_MIN: f64 = 0.015;
/// Shortest stretch of the hold that counts.
const STRETCH_S_MIN: f64 = 0.5;
/// Time between two readings.
const READING_S: f64 = 0.1;
/// Time before the hold from which CPU is charged to requests.
const CHARGED_BEFORE_S: f64 = 1.0;
/// Length of the span of lightest load: the baseline.
const LIGHT_S: f64 = 1.0;
/// Load of the lightest span, as a share of the heaviest, up to which the two tell background from cost.
const LIGHT_MAX: f64 = 0.6;
/// Largest mean wait that counts as below the knee.
const KNEE_WAIT_S_MAX: f64 = 0.04;
/// Requests by which unfinished work scatters a count.
const UNFINISHED: f64 = 1.5;
/// Longest time between two readings that a stretch bridges.
const GAP_S_MAX: f64 = 0.5;
/// Readings averaged at each end of a stretch.
const ENDS: usize = 5;
/// Readings from which a stretch counts as long. Short ones are taken from end to end: averaging would cut off the falls
/// that ended them.
const LONG: usize = 30;
/// Share of the quota in use at saturation from which CPU is what ran out.
const CPU_BOUND: f64 = 0.9;
/// The same when the slice was throttled besides.
const CPU_BOUND_THROTTLED: f64 = 0.75;
/// Share of time throttled that counts as throttled; on a busy machine a slice that lacks CPU is rarely stopped for its quota.
const THROTTLED_MIN: f64 = 0.02;

/// Requests in flight that saturate, as a multiple of rate × idle latency: service times differ.
const FLOOR_ROOM: f64 = 1.2;

/// What was found.
#[derive(Debug, Clone)]
pub(super) struct Fit {
    pub cpu_us_per_request: Interval,
    pub background_cores: f64,
    pub capacity_rps: Interval,
    pub knee_rps: f64,
    pub binding: BindingResource,
    /// Requests in flight from which it is certainly busy until the next reading.
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
pub(super) fn fit(series: &Series, quota_cores: f64, hold_from_s: Option<f64>, slo_s: f64) -> Fit {
    let now = series.now_s();
    let (background, cost_all) = utilisation_law(series, hold_from_s);
    let highest = highest_rate(series);
    // A service that was late before the test began is not one with much parallelism: the SLO bounds its service time.
    let parallel = (FLOOR_ROOM * highest * series.calm_s().min(slo_s)).ceil().max(1.0);
    // Between two readings the backlog wanders by about the square root of what comes and goes.
    let floor = parallel + (highest * READING_S).sqrt();
    let from = hold_from_s.and_then(|from| first_busy(series, from, floor));
    let stretches = from.map_or(Vec::new(), |from| stretches(series, from, floor, parallel));
    let direct = slope(&stretches);
    let busy = from.map(|from| (from, now)).filter(|(a, b)| b - a >= STRETCH_S_MIN);
    // The cost counts from a little earlier, when fewer requests were half done: they end in the span, their CPU came before.
    let charged = busy.zip(hold_from_s).map(|((_, to), from)| ((from - CHARGED_BEFORE_S).max(0.0), to));
    let per_cpu = charged.and_then(|span| slope(&[cpu_points(series, span)]));
    let used = busy.map_or(0.0, |span| cpu_share(series, span, quota_cores));
    let throttled = busy.map_or(0.0, |span| throttled_share(series, span));
    let cpu_bound = used >= CPU_BOUND || (used >= CPU_BOUND_THROTTLED && throttled >= THROTTLED_MIN);
    let cost = charged.zip(per_cpu).map(|(span, per_cpu)| {
        let idle = background * (span.1 - span.0) / per_cpu.length.max(1e-9);
        (((1.0 - idle).max(0.1)) / per_cpu.value, per_cpu.relative_error)
    });
    let law = cost.filter(|_| cpu_bound).map(|(cost_s, relative_error)| Slope {
        value: (quota_cores - background).max(0.01) / cost_s,
        relative_error,
        length: busy.map_or(0.0, |(a, b)| b - a),
    });
    let reached = direct.is_some() || law.is_some();
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
        knee_rps: knee(series, capacity.value, (slo_s / 5.0).min(KNEE_WAIT_S_MAX), reached),
        binding: binding(reached, cpu_bound, capacity.value * series.calm_s()),
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

/// When the backlog first reached the floor.
fn first_busy(series: &Series, from: f64, floor: f64) -> Option<f64> {
    series.readings.iter().find(|r| r.at_s >= from && r.in_flight > floor).map(|r| r.at_s)
}

/// Completions against busy time, in stretches of the hold that begin with a reading at the floor and end with the first
/// one below it. The last interval counts (in part): both ends are then stopping times, and a random service's slow
/// times are not picked out.
fn stretches(series: &Series, from: f64, floor: f64, parallel: f64) -> Vec<Vec<(f64, f64)>> {
    let mut found: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut open: Option<&Reading> = None;
    for r in series.readings.iter().filter(|r| r.at_s >= from) {
        let full = r.in_flight >= floor;
        match open.filter(|last| last.epoch == r.epoch && r.at_s - last.at_s <= GAP_S_MAX) {
            Some(last) => {
                let stretch = found.last_mut().expect("an open stretch was pushed");
                let busy = stretch.last().expect("a stretch is never empty").0;
                let part = (1.0 + (r.in_flight / parallel).min(1.0)) / 2.0;
                stretch.push((busy + (r.at_s - last.at_s) * part, r.completed));
            }
            None if full => found.push(vec![(0.0, r.completed)]),
            None => {}
        }
        open = full.then_some(r);
    }
    found.retain(|stretch| stretch.len() > 1);
    found
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
        let k = if points.len() >= LONG { ENDS } else { 1 };
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

/// Background and CPU per request by the utilisation law, from two groups of readings: the lightest load and the heaviest
/// (Wald 1940; least squares over short windows would blame the scatter of unfinished requests on the background). A
/// background that is not clearly there counts as none.
fn utilisation_law(series: &Series, hold_from_s: Option<f64>) -> (f64, f64) {
    let now = series.now_s();
    let light = rates(series, 0.0, LIGHT_S);
    let heavy = rates(series, hold_from_s.unwrap_or(now - LIGHT_S).max(LIGHT_S), now);
    let Some((heavy_rps, heavy_cores, heavy_s)) = heavy else {
        return (0.0, light.map_or(0.0, |(rps, cores, _)| cores / rps.max(1e-9)));
    };
    let plain = heavy_cores / heavy_rps.max(1e-9);
    let Some((light_rps, light_cores, light_s)) = light.filter(|light| light.0 < LIGHT_MAX * heavy_rps) else {
        return (0.0, plain);
    };
    let cost = (heavy_cores - light_cores) / (heavy_rps - light_rps);
    let background = light_cores - cost * light_rps;
    let scatter =
        UNFINISHED * cost.max(0.0) * (1.0 / light_s + light_rps / (heavy_rps - light_rps) / heavy_s.min(light_s));
    if cost <= 0.0 || background < 2.0 * scatter { (0.0, plain) } else { (background, cost) }
}

/// Completions a second, cores and length of a span.
fn rates(series: &Series, from: f64, to: f64) -> Option<(f64, f64, f64)> {
    let (a, b) = ends(series, from, to)?;
    let time = b.at_s - a.at_s;
    let completed = series.completed_at(b.at_s) - series.completed_at(a.at_s);
    (completed > 0.0).then(|| (completed / time, (b.cpu_s - a.cpu_s) / time, time))
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
    // Before any point: half a service time at half load, as with one server and even service times.
    let (mut top, mut bottom) = (series.base_s() / 2.0, 1.0);
    for w in series.readings.windows(6).step_by(5).filter(|w| w[0].epoch == w[5].epoch) {
        let rho = (w[5].completed - w[0].completed) / (w[5].at_s - w[0].at_s).max(0.1) / capacity;
        let mean = w[1..].iter().map(|r| r.latency_mean_s).sum::<f64>() / 5.0;
        if rho < 0.9 && rho > 0.05 {
            let shape = rho / (1.0 - rho);
            top += shape * (mean - series.base_s()).max(0.0);
            bottom += shape * shape;
        }
    }
    (capacity * wait_bound_s / (wait_bound_s + top / bottom)).min(capacity)
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
