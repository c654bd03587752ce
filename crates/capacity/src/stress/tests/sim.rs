//! A service and its live traffic in virtual time: servers of known capacity behind proxies that are read with jitter.

use crate::stress::{Config, Controller, Estimate, Move, Sample};
use model::{CpuMillis, LatencyHistogram, Slo, StressEnd};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;

/// Step of virtual time.
const DT_S: f64 = 0.000_5;
/// Clients give up here.
const TIMEOUT_S: f64 = 1.0;
/// The kernel's period of CPU bandwidth.
const PERIOD_S: f64 = 0.1;

/// What runs out first.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A CPU quota, shared by threads.
    Cpu { quota: f64, cost_s: f64, threads: usize },
    /// Some workers that each hold a request for a time; before them a part that is never short.
    Workers { count: usize, hold_s: f64, before_s: f64 },
}

/// One experiment.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub kind: Kind,
    /// Spread of service times: standard deviation ÷ mean.
    pub cv: f64,
    /// Live traffic of the whole service, as a multiple of the instance's capacity.
    pub traffic: f64,
    /// Growth of the traffic each second, as a share of it.
    pub growth: f64,
    /// Requests come evenly spaced instead of at random.
    pub even: bool,
    /// Share of the instance under its steady weight.
    pub neutral: f64,
    /// Proxies whose counters are summed, each read at its own time.
    pub proxies: usize,
    /// Share of its traffic that an instance loses to balancing by least load, for each request in flight.
    pub shy: f64,
    /// Chance, each period, of another tenant stopping the machine's CPU, and for how long at most.
    pub stalls: (f64, f64),
    /// Error of the readings' time stamps, either way.
    pub stamp_error_s: f64,
    /// Every answer fails from this load on, as a share of capacity.
    pub fails_above: Option<f64>,
    /// Readings freeze at this time.
    pub freezes_at_s: Option<f64>,
    /// The slice is not read any more from this time on.
    pub cpu_silent_from_s: Option<f64>,
    /// Counters restart at this time.
    pub resets_at_s: Option<f64>,
}

impl Case {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            cv: 0.04,
            traffic: 3.0,
            growth: 0.0,
            even: false,
            neutral: 0.25,
            proxies: 1,
            shy: 0.0,
            stalls: (0.1, 0.01),
            stamp_error_s: 0.0,
            fails_above: None,
            freezes_at_s: None,
            cpu_silent_from_s: None,
            resets_at_s: None,
        }
    }

    /// Saturation throughput.
    pub fn truth(&self) -> f64 {
        match self.kind {
            Kind::Cpu { quota, cost_s, .. } => (quota - BACKGROUND_CORES) / cost_s,
            Kind::Workers { count, hold_s, .. } => count as f64 / hold_s,
        }
    }

    fn quota(&self) -> f64 {
        match self.kind {
            Kind::Cpu { quota, .. } => quota,
            Kind::Workers { .. } => 0.5,
        }
    }
}

/// CPU that an instance uses without requests.
const BACKGROUND_CORES: f64 = 0.002;

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub estimate: Estimate,
    pub relative_error: f64,
    pub covered: bool,
    pub ended: Option<StressEnd>,
    pub seconds: f64,
    /// Requests that took longer than clients wait, or failed.
    pub failed: u64,
    /// When the first of them did.
    pub first_failed_s: Option<f64>,
    pub latency: LatencyHistogram,
    /// Each move with its time.
    pub moves: Vec<(f64, Move)>,
}

#[derive(Debug, Clone, Default)]
struct Counters {
    started: u64,
    completed: u64,
    errors: u64,
    service: u64,
    in_flight: i64,
    latency: LatencyHistogram,
}

struct Job {
    arrived_s: f64,
    left_s: f64,
    proxy: usize,
}

struct World<'a> {
    case: &'a Case,
    rng: ChaCha8Rng,
    now_s: f64,
    share: f64,
    /// Shares on their way: when each takes effect.
    coming: VecDeque<(f64, f64)>,
    next_arrival_s: f64,
    before: VecDeque<Job>,
    queue: VecDeque<Job>,
    busy: Vec<Job>,
    budget_s: f64,
    next_period_s: f64,
    stalled_until_s: f64,
    cpu_s: f64,
    throttled_s: f64,
    proxies: Vec<Counters>,
    /// Requests of the last second, for instances that fail under load.
    pace: f64,
    failed: u64,
    first_failed_s: Option<f64>,
    latency: LatencyHistogram,
    /// Slow noise on service times, redrawn each 100 ms.
    slow_noise: f64,
    balance: f64,
}

impl<'a> World<'a> {
    fn new(case: &'a Case, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let next_period_s = rng.random::<f64>() * PERIOD_S;
        // Weighted balancing gives a little more or less than asked for.
        let balance = 0.92 + 0.16 * rng.random::<f64>();
        Self {
            case,
            rng,
            now_s: 0.0,
            share: case.neutral,
            coming: VecDeque::new(),
            next_arrival_s: 0.0,
            before: VecDeque::new(),
            queue: VecDeque::new(),
            busy: Vec::new(),
            budget_s: case.quota() * PERIOD_S,
            next_period_s,
            stalled_until_s: 0.0,
            cpu_s: 0.0,
            throttled_s: 0.0,
            proxies: vec![Counters::default(); case.proxies],
            pace: 0.0,
            failed: 0,
            first_failed_s: None,
            latency: LatencyHistogram::default(),
            slow_noise: 1.0,
            balance,
        }
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.rng.random::<f64>()).sum::<f64>() - 6.0
    }

    fn service_s(&mut self) -> f64 {
        let mean = match self.case.kind {
            Kind::Cpu { cost_s, .. } => cost_s,
            Kind::Workers { hold_s, .. } => hold_s,
        };
        if self.case.cv > 0.5 {
            return -mean * (1.0 - self.rng.random::<f64>()).ln();
        }
        mean * self.slow_noise * (1.0 + self.case.cv * self.normal()).max(0.05)
    }

    fn set_share(&mut self, share: f64) {
        if self.coming.back().map_or(self.share, |(_, s)| *s) != share {
            let delay = 0.1 + 0.2 * self.rng.random::<f64>();
            self.coming.push_back((self.now_s + delay, share));
        }
    }

    fn arrivals(&mut self) {
        while self.next_arrival_s <= self.now_s {
            let rate = self.case.traffic * self.case.truth() * (1.0 + self.case.growth * self.now_s);
            let gap = if self.case.even { 1.0 } else { -(1.0 - self.rng.random::<f64>()).ln() };
            self.next_arrival_s += gap / rate;
            let proxy = self.rng.random_range(0..self.case.proxies);
            self.proxies[proxy].service += 1;
            let share = if self.share < 0.999 { (self.share * self.balance).min(1.0) } else { 1.0 };
            let backlog = (self.queue.len() + self.busy.len()) as f64;
            if self.rng.random::<f64>() >= share / (1.0 + self.case.shy * backlog) {
                continue;
            }
            let left_s = self.service_s();
            self.pace += 1.0;
            self.proxies[proxy].started += 1;
            self.proxies[proxy].in_flight += 1;
            self.before.push_back(Job { arrived_s: self.now_s, left_s, proxy });
        }
        let before_s = match self.case.kind {
            Kind::Workers { before_s, .. } => before_s,
            Kind::Cpu { .. } => 0.0,
        };
        while self.before.front().is_some_and(|job| job.arrived_s + before_s <= self.now_s) {
            self.queue.extend(self.before.pop_front());
        }
    }

    fn complete(&mut self, job: Job) {
        let latency_s = self.now_s - job.arrived_s + 0.0005;
        let fails = self.case.fails_above.is_some_and(|above| self.pace > above * self.case.truth());
        let failed = latency_s > TIMEOUT_S || fails;
        let us = (latency_s.min(TIMEOUT_S) * 1e6) as u64;
        let proxy = &mut self.proxies[job.proxy];
        proxy.completed += 1;
        proxy.in_flight -= 1;
        proxy.errors += u64::from(failed);
        proxy.latency.record(us);
        self.failed += u64::from(failed);
        if failed {
            self.first_failed_s = self.first_failed_s.or(Some(self.now_s));
        }
        self.latency.record(us);
    }

    /// Fills free servers from the queue.
    fn fill(&mut self, servers: usize) {
        while self.busy.len() < servers {
            let Some(job) = self.queue.pop_front() else { return };
            self.busy.push(job);
        }
    }

    /// Lets each busy server work for `each_s`; what one leaves over goes to the next request in its queue. Answers the time used.
    fn work(&mut self, servers: usize, each_s: f64) -> f64 {
        let mut used = 0.0;
        let mut i = 0;
        while i < self.busy.len() {
            let mut left = each_s;
            while left > 0.0 && i < self.busy.len() {
                let doing = self.busy[i].left_s.min(left);
                self.busy[i].left_s -= doing;
                left -= doing;
                used += doing;
                if self.busy[i].left_s > 1e-12 {
                    break;
                }
                let done = self.busy.swap_remove(i);
                self.complete(done);
                if let Some(next) = self.queue.pop_front() {
                    self.busy.push(next);
                    let last = self.busy.len() - 1;
                    self.busy.swap(i, last);
                } else {
                    break;
                }
            }
            i += 1;
        }
        self.fill(servers);
        used
    }

    fn tick(&mut self) {
        self.now_s += DT_S;
        self.pace *= 1.0 - DT_S;
        while self.coming.front().is_some_and(|(at, _)| *at <= self.now_s) {
            self.share = self.coming.pop_front().expect("just seen").1;
        }
        if self.now_s >= self.next_period_s {
            self.next_period_s += PERIOD_S;
            self.budget_s = self.case.quota() * PERIOD_S;
            self.slow_noise = 1.0 + 0.02 * self.normal();
            if self.rng.random::<f64>() < self.case.stalls.0 {
                self.stalled_until_s = self.now_s + self.case.stalls.1 * self.rng.random::<f64>();
            }
        }
        self.arrivals();
        match self.case.kind {
            Kind::Cpu { threads, .. } => self.tick_cpu(threads),
            Kind::Workers { count, .. } => {
                self.fill(count);
                self.cpu_s += (BACKGROUND_CORES + 0.02 * self.busy.len() as f64) * DT_S;
                self.work(count, DT_S);
            }
        }
    }

    fn tick_cpu(&mut self, threads: usize) {
        self.fill(threads);
        let background = BACKGROUND_CORES * DT_S;
        self.cpu_s += background;
        self.budget_s -= background;
        if self.busy.is_empty() || self.now_s < self.stalled_until_s {
            return;
        }
        let cores = self.busy.len().min(2) as f64;
        let able = (cores * DT_S).min(self.budget_s).max(0.0);
        if able < cores * DT_S * 0.5 {
            self.throttled_s += DT_S;
        }
        let used = self.work(threads, able / self.busy.len() as f64);
        self.cpu_s += used;
        self.budget_s -= used;
    }
}

/// The readings that a server would make of it.
struct Reader {
    traffic: Vec<(f64, Counters)>,
    /// Latencies since the last sample.
    latency: LatencyHistogram,
    offset: Counters,
    slice: (f64, f64, f64),
}

/// Runs a test to its end.
pub fn run(case: &Case, seed: u64) -> Outcome {
    let mut world = World::new(case, seed);
    let mut controller = Controller::new(Config {
        quota: CpuMillis((case.quota() * 1_000.0).round() as u32),
        slo: Slo::default(),
        duration_ms_max: 20_000,
    });
    let mut reader = Reader {
        traffic: vec![(0.0, Counters::default()); case.proxies],
        latency: LatencyHistogram::default(),
        offset: Counters::default(),
        slice: (0.0, 0.0, 0.0),
    };
    let mut next_read: Vec<f64> = (0..=case.proxies).map(|i| 0.5 + 0.037 * i as f64).collect();
    let mut moves = Vec::new();
    let mut sent: Option<Sample> = None;
    let mut soonest = 0.0;
    // Half a second passes before the first reading.
    while world.now_s < 25.0 {
        world.tick();
        if world.now_s < soonest {
            continue;
        }
        let due: Vec<usize> = (0..next_read.len()).filter(|at| world.now_s >= next_read[*at]).collect();
        for at in due {
            let beat = 0.1 * ((next_read[at] / 0.1).round() + 1.0);
            next_read[at] = beat + 0.01 + 0.02 * world.rng.random::<f64>() + 0.02 * at as f64;
            if at < case.proxies || case.cpu_silent_from_s.is_none_or(|from| world.now_s < from) {
                read(&mut reader, &mut world, at);
            }
            // One reading in fifty is lost on the way.
            if at != 0 || world.rng.random::<f64>() < 0.02 {
                continue;
            }
            let mut sample = sample(case, &mut reader, &mut world);
            if case.freezes_at_s.is_some_and(|from| world.now_s >= from) {
                sample = sent.clone().expect("freezes after the first sample");
            }
            // And one in fifty comes twice.
            for _ in 0..if world.rng.random::<f64>() < 0.02 { 2 } else { 1 } {
                let to = controller.step(&sample);
                moves.push((world.now_s, to));
                world.set_share(if to.neutral { case.neutral } else { to.share });
            }
            sent = Some(sample);
        }
        soonest = next_read.iter().copied().fold(f64::INFINITY, f64::min);
        if moves.last().is_some_and(|(_, to)| to.ended.is_some()) {
            break;
        }
    }
    outcome(case, &controller, world, moves)
}

fn read(reader: &mut Reader, world: &mut World, at: usize) {
    if at < world.proxies.len() {
        reader.latency.merge(&std::mem::take(&mut world.proxies[at].latency));
        reader.traffic[at] = (world.now_s, world.proxies[at].clone());
    } else {
        reader.slice = (world.now_s, world.cpu_s, world.throttled_s);
    }
}

fn sample(case: &Case, reader: &mut Reader, world: &mut World) -> Sample {
    let mut sum = Counters::default();
    for (_, counters) in &reader.traffic {
        sum.started += counters.started;
        sum.completed += counters.completed;
        sum.errors += counters.errors;
        sum.service += counters.service;
        sum.in_flight += counters.in_flight;
    }
    let latency = std::mem::take(&mut reader.latency);
    if case.resets_at_s.is_some_and(|at| world.now_s >= at) && reader.offset.service == 0 {
        reader.offset = Counters {
            started: sum.started,
            completed: sum.completed,
            errors: sum.errors,
            service: sum.service,
            ..Counters::default()
        };
    }
    let time = reader.traffic.iter().map(|(at, _)| *at).fold(0.0, f64::max);
    let base = 1_000_000_000.0;
    let time = time + case.stamp_error_s * (2.0 * world.rng.random::<f64>() - 1.0);
    Sample {
        traffic_time_us: (base + time * 1e6) as u64,
        started: sum.started - reader.offset.started,
        completed: sum.completed - reader.offset.completed,
        errors: sum.errors - reader.offset.errors,
        latency,
        in_flight: sum.in_flight.max(0) as u32,
        service_started: sum.service - reader.offset.service,
        slice_time_us: if reader.slice.0 > 0.0 { (base + reader.slice.0 * 1e6) as u64 } else { 0 },
        cpu_usage_us: (reader.slice.1 * 1e6) as u64,
        throttled_us: (reader.slice.2 * 1e6) as u64,
    }
}

fn outcome(case: &Case, controller: &Controller, world: World, moves: Vec<(f64, Move)>) -> Outcome {
    let estimate = controller.estimate();
    let truth = case.truth();
    let capacity = estimate.capacity_rps;
    Outcome {
        relative_error: capacity.value / truth - 1.0,
        covered: capacity.low <= truth && truth <= capacity.high,
        ended: estimate.ended,
        seconds: estimate.duration_ms as f64 / 1_000.0,
        failed: world.failed,
        first_failed_s: world.first_failed_s,
        latency: world.latency,
        moves,
        estimate,
    }
}
