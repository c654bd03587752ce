//! What a run showed: counted while it runs, and summed up at its end.
//!
//! Tasks are judged by their arrival: those that arrive before `measure_from_s` count for nothing but the course over time.

use crate::scheme::Refusal;
use crate::script::Script;
use serde::Serialize;
use std::collections::BTreeMap;

/// Resolution of the course over time, in microseconds.
pub const BIN_US: u64 = 100_000;

/// A task that is over.
pub(crate) struct Ended {
    pub stream: usize,
    pub user: u64,
    pub arrived_us: u64,
    pub work_us: u64,
    pub measured: bool,
    pub outcome: Result<(), Refusal>,
}

/// A tenth of a second of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// Tasks that arrived.
    pub arrived: u32,
    /// Of those, the ones that succeeded, whenever that was.
    pub arrived_ok: u32,
    /// Tasks that were completed in time, whenever they arrived.
    pub done: u32,
    /// Queue delay of the calls whose work began or was refused at a worker: sum in microseconds, and count.
    pub delay_sum_us: u64,
    /// See `delay_sum_us`.
    pub delays: u32,
    /// First attempts that were sent, and further ones.
    pub first_attempts: u32,
    /// See `first_attempts`.
    pub retries: u32,
    /// The last level that was told.
    pub level: Option<u32>,
}

/// One second of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Second {
    /// Which, from 0.
    pub at_s: usize,
    /// Tasks that arrived.
    pub arrived: u32,
    /// Tasks that were completed in time.
    pub done: u32,
    /// Mean queue delay, in milliseconds.
    pub queue_delay_ms: f64,
    /// The last level that a copy told; absent while none was told.
    pub level: Option<u32>,
}

/// What became of one stream, or of all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The stream; `all` for the sum.
    pub name: String,
    /// Business class; 0 for the sum.
    pub class: u8,
    /// Tasks that arrived.
    pub arrived: u64,
    /// Tasks that succeeded within their deadline.
    pub ok: u64,
    /// `ok` over `arrived`.
    pub success: f64,
    /// Median latency of the tasks that succeeded, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of the same.
    pub p99_ms: f64,
    /// Why the others failed.
    pub failed: BTreeMap<Refusal, u64>,
}

/// What a run showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The script.
    pub script: String,
    /// The overload control.
    pub scheme: String,
    /// The seed.
    pub seed: u64,
    /// All streams.
    pub all: Outcome,
    /// Each stream.
    pub streams: Vec<Outcome>,
    /// Success that was possible at the best: capacity over demand, at most 1 (the mean over the measured tasks).
    pub optimum: f64,
    /// Success over `optimum`.
    pub of_optimum: f64,
    /// Tasks done per second of the measured time.
    pub goodput_rps: f64,
    /// Share of all work that went into tasks that failed, or into answers that nobody waited for.
    pub wasted_work: f64,
    /// Attempts sent over calls of which one was sent.
    pub attempts_per_call: f64,
    /// Calls made by measured tasks, each counted once however often it was tried.
    pub calls: u64,
    /// Mean time between a call's arrival at a copy and its turn, in milliseconds, over the measured time.
    pub queue_delay_ms: f64,
    /// Share of calls that the overload control refused.
    pub shed_calls: f64,
    /// Attempts by why they failed.
    pub refusals: BTreeMap<Refusal, u64>,
    /// Jain's index of the users' served shares; 1 when all are served alike, 0 when nobody is.
    pub jain: f64,
    /// The course over time.
    pub seconds: Vec<Second>,
    /// The same, finer.
    #[serde(skip)]
    pub bins: Vec<Bin>,
}

#[derive(Default, Clone)]
struct Tally {
    arrived: u64,
    failed: [u64; Refusal::ALL.len()],
    latencies_us: Vec<u32>,
}

/// Counts while a run goes on.
pub(crate) struct Recorder {
    streams: Vec<Tally>,
    bins: Vec<Bin>,
    users: Vec<(u32, u32)>,
    optimum_sum: f64,
    optimum_by_bin: Vec<f64>,
    calls: u64,
    first_attempts: u64,
    attempts: u64,
    refusals: [u64; Refusal::ALL.len()],
    work_us: u64,
    work_ok_us: u64,
}

fn bin(at_us: u64) -> usize {
    (at_us / BIN_US) as usize
}

impl Recorder {
    pub fn new(script: &Script) -> Self {
        let bins = bin((script.duration_s * 1e6) as u64) + 1;
        Self {
            streams: vec![Tally::default(); script.streams.len()],
            bins: vec![Bin::default(); bins],
            users: vec![(0, 0); script.users as usize],
            optimum_sum: 0.0,
            optimum_by_bin: (0..bins).map(|i| script.optimum((i as f64 + 0.5) * BIN_US as f64 / 1e6)).collect(),
            calls: 0,
            first_attempts: 0,
            attempts: 0,
            refusals: [0; Refusal::ALL.len()],
            work_us: 0,
            work_ok_us: 0,
        }
    }

    fn bin(&mut self, at_us: u64) -> &mut Bin {
        let at = bin(at_us);
        if at >= self.bins.len() {
            self.bins.resize(at + 1, Bin::default());
        }
        &mut self.bins[at]
    }

    pub fn arrived(&mut self, stream: usize, now_us: u64, user: u64, measured: bool) {
        self.bin(now_us).arrived += 1;
        if measured {
            self.streams[stream].arrived += 1;
            self.users[user as usize].0 += 1;
            self.optimum_sum += self.optimum_by_bin.get(bin(now_us)).copied().unwrap_or(1.0);
        }
    }

    pub fn ended(&mut self, task: &Ended, now_us: u64) {
        if task.outcome.is_ok() {
            self.bin(task.arrived_us).arrived_ok += 1;
            self.bin(now_us).done += 1;
        }
        if !task.measured {
            return;
        }
        match task.outcome {
            Ok(()) => {
                self.streams[task.stream].latencies_us.push((now_us - task.arrived_us) as u32);
                self.users[task.user as usize].1 += 1;
                self.work_ok_us += task.work_us;
            }
            Err(why) => self.streams[task.stream].failed[why as usize] += 1,
        }
    }

    pub fn called(&mut self, measured: bool) {
        self.calls += u64::from(measured);
    }

    pub fn attempted(&mut self, now_us: u64, again: bool) {
        self.attempts += 1;
        self.first_attempts += u64::from(!again);
        let bin = self.bin(now_us);
        bin.first_attempts += u32::from(!again);
        bin.retries += u32::from(again);
    }

    pub fn refused(&mut self, why: Refusal, measured: bool) {
        self.refusals[why as usize] += u64::from(measured);
    }

    pub fn worked(&mut self, work_us: u64, measured: bool) {
        self.work_us += if measured { work_us } else { 0 };
    }

    pub fn delayed(&mut self, now_us: u64, delay_us: u64) {
        let bin = self.bin(now_us);
        bin.delay_sum_us += delay_us;
        bin.delays += 1;
    }

    pub fn advertised(&mut self, now_us: u64, level: u32) {
        if level != u32::MAX {
            self.bin(now_us).level = Some(level);
        }
    }

    pub fn finish(self, script: &Script, scheme: String, seed: u64) -> Report {
        let mut all = Tally::default();
        for stream in &self.streams {
            all.arrived += stream.arrived;
            all.failed.iter_mut().zip(stream.failed).for_each(|(sum, one)| *sum += one);
            all.latencies_us.extend(&stream.latencies_us);
        }
        let all = all.outcome("all", 0);
        let streams = self.streams.into_iter().zip(&script.streams);
        let optimum = if all.arrived > 0 { self.optimum_sum / all.arrived as f64 } else { 1.0 };
        let shed: u64 =
            Refusal::ALL.iter().filter(|why| why.is_shedding()).map(|why| self.refusals[*why as usize]).sum();
        Report {
            script: script.name.clone(),
            scheme,
            seed,
            streams: streams.map(|(tally, stream)| tally.outcome(&stream.name, stream.class)).collect(),
            optimum,
            of_optimum: all.success / optimum,
            goodput_rps: all.ok as f64 / (script.duration_s - script.measure_from_s),
            wasted_work: share(self.work_us - self.work_ok_us, self.work_us),
            attempts_per_call: self.attempts as f64 / self.first_attempts.max(1) as f64,
            calls: self.calls,
            queue_delay_ms: mean_delay_ms(&self.bins[bin((script.measure_from_s * 1e6) as u64)..]),
            shed_calls: share(shed, self.calls),
            refusals: counted(&self.refusals),
            jain: jain(self.users.iter().filter(|user| user.0 > 0).map(|user| f64::from(user.1) / f64::from(user.0))),
            seconds: seconds(&self.bins),
            bins: self.bins,
            all,
        }
    }
}

impl Tally {
    fn outcome(mut self, name: &str, class: u8) -> Outcome {
        self.latencies_us.sort_unstable();
        let ok = self.latencies_us.len() as u64;
        let quantile = |q: f64| {
            let rank = (ok as f64 * q).ceil() as usize;
            self.latencies_us.get(rank.max(1) - 1).map_or(0.0, |us| f64::from(*us) / 1000.0)
        };
        Outcome {
            name: name.to_owned(),
            class,
            arrived: self.arrived,
            ok,
            success: share(ok, self.arrived),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            failed: counted(&self.failed),
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn counted(counts: &[u64; Refusal::ALL.len()]) -> BTreeMap<Refusal, u64> {
    Refusal::ALL.iter().map(|why| (*why, counts[*why as usize])).filter(|(_, count)| *count > 0).collect()
}

/// Jain's fairness index, (Σx)² / n Σx²: Jain, Chiu and Hawe, DEC-TR-301, 1984. 0 when nobody is served.
pub fn jain(shares: impl Iterator<Item = f64>) -> f64 {
    let (n, sum, squares) = shares.fold((0.0, 0.0, 0.0), |(n, sum, squares), x| (n + 1.0, sum + x, squares + x * x));
    if squares == 0.0 { 0.0 } else { sum * sum / (n * squares) }
}

fn mean_delay_ms(bins: &[Bin]) -> f64 {
    let (sum_us, count) =
        bins.iter().fold((0, 0), |sum, bin| (sum.0 + bin.delay_sum_us, sum.1 + u64::from(bin.delays)));
    share(sum_us, count) / 1000.0
}

fn seconds(bins: &[Bin]) -> Vec<Second> {
    let per_second = (1_000_000 / BIN_US) as usize;
    let chunks = bins.chunks(per_second).enumerate();
    let second = |(at_s, bins): (usize, &[Bin])| {
        let delays: u32 = bins.iter().map(|bin| bin.delays).sum();
        let delay_us: u64 = bins.iter().map(|bin| bin.delay_sum_us).sum();
        Second {
            at_s,
            arrived: bins.iter().map(|bin| bin.arrived).sum(),
            done: bins.iter().map(|bin| bin.done).sum(),
            queue_delay_ms: (delay_us as f64 / f64::from(delays.max(1)) / 10.0).round() / 100.0,
            level: bins.iter().rev().find_map(|bin| bin.level),
        }
    };
    chunks.map(second).collect()
}

impl Report {
    /// Tasks completed per second from one moment to another.
    pub fn done_rps(&self, from_s: f64, until_s: f64) -> f64 {
        let at = |s: f64| ((s * 1e6 / BIN_US as f64).round() as usize).min(self.bins.len());
        let done: u32 = self.bins[at(from_s)..at(until_s)].iter().map(|bin| bin.done).sum();
        f64::from(done) / (until_s - from_s)
    }

    /// The share of the tasks that arrived between two moments which succeeded.
    pub fn success_between(&self, from_s: f64, until_s: f64) -> f64 {
        let at = |s: f64| ((s * 1e6 / BIN_US as f64).round() as usize).min(self.bins.len());
        let bins = &self.bins[at(from_s)..at(until_s)];
        let (arrived, ok) = bins.iter().fold((0, 0), |sum, bin| (sum.0 + bin.arrived, sum.1 + bin.arrived_ok));
        share(u64::from(ok), u64::from(arrived))
    }

    /// Attempts sent over calls sent between two moments.
    pub fn attempts_between(&self, from_s: f64, until_s: f64) -> f64 {
        let at = |s: f64| ((s * 1e6 / BIN_US as f64).round() as usize).min(self.bins.len());
        let bins = &self.bins[at(from_s)..at(until_s)];
        let (first, more) = bins.iter().fold((0, 0), |sum, bin| (sum.0 + bin.first_attempts, sum.1 + bin.retries));
        1.0 + f64::from(more) / f64::from(first.max(1))
    }

    /// How long after `from_s` the tasks done per second reached `rps` for good, in seconds: the first moment from which
    /// on both the next two seconds and all the time until `until_s` average at least that. Absent when they never do.
    pub fn recovered_after_s(&self, from_s: f64, until_s: f64, rps: f64) -> Option<f64> {
        let steps = ((until_s - 2.0 - from_s) * 10.0) as usize;
        let moments = (0..=steps).map(|step| step as f64 / 10.0);
        let holds = |after: &f64| {
            let at = from_s + after;
            self.done_rps(at, at + 2.0) >= rps && self.done_rps(at, until_s) >= rps
        };
        moments.into_iter().find(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jain_of_equal_and_of_unequal_shares() {
        assert!((jain([0.5, 0.5, 0.5].into_iter()) - 1.0).abs() < 1e-12);
        assert!((jain([1.0, 0.0].into_iter()) - 0.5).abs() < 1e-12);
    }
}
