//! Reads what slices and the host use: every second, and every 100 ms for services under stress.
//!
//! A thread of its own, so that neither a busy runtime nor a slow connection moves the moments of reading. Samples are
//! current or worthless: what the stream cannot take is dropped, never queued up.

mod gauge;

pub use gauge::{Gauge, machine};

use crate::host::{now_unix_ms, now_unix_us};
use api::fleet::{AgentSamples, SliceSample};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Pause between two samples of everything.
pub const SAMPLE_MS: u64 = 1_000;
/// Pause between two samples of a service under stress.
pub const FAST_SAMPLE_MS: u64 = 100;
/// Time over which the samples of many agents are spread.
const SPREAD_MS: u64 = 100;
/// Samples waiting for the stream.
pub const SAMPLES_QUEUE_MAX: usize = 64;
/// Services sampled fast at a time.
pub const FAST_SERVICES_MAX: usize = 64;

enum Order {
    Add { instance: String, service: String, gauge: Gauge },
    Remove { instance: String },
    Fast { services: BTreeSet<String>, until: Instant },
}

/// The sampler's handle; the thread ends with the last one.
#[derive(Debug, Clone)]
pub struct Sampler {
    orders: Sender<Order>,
}

impl Sampler {
    /// Starts the thread. Samples come out of the receiver.
    pub fn start() -> (Self, mpsc::Receiver<AgentSamples>) {
        let (orders, inbox) = channel();
        let (out, samples) = mpsc::channel(SAMPLES_QUEUE_MAX);
        let sampling = Sampling { inbox, out, watched: BTreeMap::new(), fast: None };
        thread::Builder::new().name("sampler".into()).spawn(move || sampling.run()).expect("a thread can be started");
        (Self { orders }, samples)
    }

    /// Samples an instance from now on, in place of an earlier one of that name.
    pub fn add(&self, instance: &str, service: &str, gauge: Gauge) {
        self.send(Order::Add { instance: instance.into(), service: service.into(), gauge });
    }

    /// Samples it no longer.
    pub fn remove(&self, instance: &str) {
        self.send(Order::Remove { instance: instance.into() });
    }

    /// Samples these services fast, and no others, until the life runs out.
    pub fn fast(&self, services: Vec<String>, life_ms: u32) {
        let services = services.into_iter().take(FAST_SERVICES_MAX).collect();
        self.send(Order::Fast { services, until: Instant::now() + Duration::from_millis(life_ms.into()) });
    }

    fn send(&self, order: Order) {
        self.orders.send(order).expect("the thread lives as long as a handle does");
    }
}

struct Watched {
    service: String,
    gauge: Gauge,
}

struct Sampling {
    inbox: Receiver<Order>,
    out: mpsc::Sender<AgentSamples>,
    watched: BTreeMap<String, Watched>,
    fast: Option<(BTreeSet<String>, Instant)>,
}

impl Sampling {
    fn run(mut self) {
        let mut next_all = Instant::now() + to_second(now_unix_ms());
        let mut next_fast = Instant::now();
        loop {
            let now = Instant::now();
            if self.fast.as_ref().is_some_and(|(_, until)| now >= *until) {
                self.fast = None;
            }
            if now >= next_all {
                self.sample(true);
                next_all = following(next_all, SAMPLE_MS, now);
                next_fast = following(next_fast, FAST_SAMPLE_MS, now);
            } else if self.fast.is_some() && now >= next_fast {
                self.sample(false);
                next_fast = following(next_fast, FAST_SAMPLE_MS, now);
            }
            let next = if self.fast.is_some() { next_all.min(next_fast) } else { next_all };
            match self.inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(order) => self.take(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Add { instance, service, gauge } => {
                self.watched.insert(instance, Watched { service, gauge });
            }
            Order::Remove { instance } => {
                self.watched.remove(&instance);
            }
            Order::Fast { services, until } => {
                self.fast = Some((services, until)).filter(|(services, _)| !services.is_empty());
            }
        }
    }

    fn sample(&self, all: bool) {
        let wanted = |service: &str| all || self.fast.as_ref().is_some_and(|(services, _)| services.contains(service));
        let mut slices = Vec::with_capacity(self.watched.len());
        for (instance, watched) in self.watched.iter().filter(|(_, watched)| wanted(&watched.service)) {
            // A slice that is just going has nothing to say.
            if let Ok(usage) = watched.gauge.read() {
                slices.push(SliceSample {
                    instance: instance.clone(),
                    service: watched.service.clone(),
                    cpu_usage_us: usage.cpu_usage_us,
                    throttled_us: usage.throttled_us,
                    throttled_periods: usage.throttled_periods,
                    periods: usage.periods,
                    memory_bytes: usage.memory_bytes,
                    pids: usage.pids,
                    oom_kills: usage.oom_kills,
                    cpu_pressure_us: usage.cpu_pressure_us,
                    memory_pressure_us: usage.memory_pressure_us,
                    time_unix_us: now_unix_us(),
                });
            }
        }
        let host = all.then(gauge::read_host).flatten();
        if host.is_some() || !slices.is_empty() {
            let _nobody_listens = self.out.try_send(AgentSamples { time_unix_ms: now_unix_ms(), host, slices });
        }
    }
}

/// Time to shortly after the next whole second: what all agents and proxies read together is of the same second. The
/// processes of a machine are spread over a part of it.
fn to_second(unix_ms: u64) -> Duration {
    Duration::from_millis(1_000 - unix_ms % 1_000 + u64::from(std::process::id()) % SPREAD_MS)
}

/// The next moment of the rhythm after `now`; missed ones are left out.
fn following(last: Instant, pause_ms: u64, now: Instant) -> Instant {
    let pause = Duration::from_millis(pause_ms);
    let next = last + pause;
    if next > now {
        return next;
    }
    let missed = now.duration_since(last).as_millis() as u64 / pause_ms;
    last + pause * u32::try_from(missed + 1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rhythm_is_kept_and_missed_beats_are_left_out() {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        assert_eq!(following(start, 100, ms(5)), ms(100));
        assert_eq!(following(start, 100, ms(350)), ms(400));
        assert_eq!(following(start, 100, ms(400)), ms(500));
    }

    #[test]
    fn fast_sampling_ends_by_itself() {
        let (sampler, mut samples) = Sampler::start();
        let own = || Gauge::open(None, "lottery-1", std::process::id());
        sampler.add("lottery-1", "lottery", own());
        sampler.add("gift-1", "gift", own());
        sampler.fast(vec!["lottery".into()], 350);
        let until = Instant::now() + Duration::from_millis(1_800);
        let (mut fast, mut full) = (Vec::new(), 0);
        while Instant::now() < until {
            match samples.try_recv() {
                Ok(sample) if sample.host.is_none() => fast.push((Instant::now(), sample)),
                Ok(_) => full += 1,
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
        assert!(full >= 1, "the second's sample goes on");
        assert!((1..=5).contains(&fast.len()), "{} fast samples in 350 ms", fast.len());
        assert!(fast.iter().all(|(_, s)| s.slices.iter().all(|slice| slice.service == "lottery")));
    }
}
