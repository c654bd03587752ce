//! The detector: one call a second, a frame in, changes of incidents out.

use crate::activity::{ACTIVITIES_MAX, Activity, Context};
use crate::finding::{Entity, Finding, Signal};
use crate::frame::{Frame, count, measure};
use crate::fuse::{Change, Fusion};
use crate::incident::Incident;
use crate::kept::{self, Kept, StateFault, kept};
use crate::level::{Level, log};
use crate::picture::World;
use crate::ratio::Ratio;
use crate::service::{InstanceState, Pass, Scratch, ServiceState, Tails, Tests, of_level, of_ratio};
use crate::topology::{Parts, Topology};
use std::collections::BTreeMap;

/// Seconds without a frame after which what was gathered is void.
const GAP_S_MAX: u64 = 10;
/// Seconds of silence after such a gap, and after the first frame.
const SETTLE_S: u64 = 10;
/// A clock set back further than this begins anew; less is a late frame, which is refused.
const BACK_S_MAX: u64 = 60;
/// Share of all instances without any report that means: the collection failed, not the fleet.
const BLIND_SHARE: f64 = 0.9;
/// Findings looked at in one second; more are counted and left.
pub const FINDINGS_MAX: usize = 20_000;
/// Seconds of traffic before a series says anything, unless the configuration says otherwise.
const WARM_S: u16 = 60;
/// Seconds between fits of the thresholds.
const FIT_S: u64 = 60;

/// How a detector starts.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Number of the first incident.
    pub first_number: u64,
    /// Seconds of traffic before a series says anything. Less than the default means more false incidents.
    pub warm_s: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self { first_number: 1, warm_s: WARM_S }
    }
}

/// How the detector itself does.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Health {
    /// Frames taken.
    pub frames: u64,
    /// Frames refused: late, repeated, or of another shape.
    pub refused: u64,
    /// Frames in which nearly nobody was heard: the collection failed, and nothing was concluded.
    pub blind: u64,
    /// Gaps and steps of the clock after which evidence was void.
    pub gaps: u64,
    /// Findings beyond [`FINDINGS_MAX`] in a second.
    pub findings_left: u64,
    /// Series watched.
    pub series: usize,
    /// Memory of the states, by their sizes.
    pub state_bytes: usize,
    /// Factors on the base thresholds, as calibrated: instance failures, service failures, instance latency, service
    /// latency, instance CPU.
    pub threshold_factors: [f32; 5],
}

#[derive(Debug, Clone, Default)]
pub(crate) struct PairState {
    pub(crate) errors: Ratio,
    pub(crate) rejects: Ratio,
    pub(crate) latency: Level,
    age: u16,
    pub(crate) requests: f32,
    pub(crate) latency_ms: f32,
    pub(crate) latency_usual_ms: f32,
}

#[derive(Debug, Clone, Copy, Default)]
struct HostState {
    cpu: Level,
    memory: Level,
    pressure: Level,
    age: u16,
    silent_s: u16,
}

kept!(PairState { errors, rejects, latency, age, requests, latency_ms, latency_usual_ms });
kept!(HostState { cpu, memory, pressure, age, silent_s });

/// Watches one fleet, or one shard of it.
#[derive(Debug)]
pub struct Detector {
    warm_s: u16,
    topology: Topology,
    activities: Vec<Activity>,
    context: Context,
    instances: Vec<InstanceState>,
    services: Vec<ServiceState>,
    pairs: Vec<PairState>,
    hosts: Vec<HostState>,
    base: Tests,
    tests: Tests,
    tails: Tails,
    findings: Vec<Finding>,
    scratch: Scratch,
    fusion: Fusion,
    last_s: Option<u64>,
    speaks_from_s: u64,
    health: Health,
}

impl Detector {
    /// Nothing watched yet.
    pub fn new(config: Config) -> Self {
        let tests = Tests::default();
        Self {
            warm_s: config.warm_s,
            topology: Topology::default(),
            activities: Vec::new(),
            context: Context::default(),
            instances: Vec::new(),
            services: Vec::new(),
            pairs: Vec::new(),
            hosts: Vec::new(),
            base: tests,
            tests,
            tails: Tails::default(),
            findings: Vec::new(),
            scratch: Scratch::default(),
            fusion: Fusion::new(config.first_number),
            last_s: None,
            speaks_from_s: 0,
            health: Health::default(),
        }
    }

    /// Watches another topology; states go along by name, and those of what is gone are dropped.
    pub fn retarget(&mut self, topology: Topology) {
        fn carry<K: Ord, S: Default>(old: Vec<S>, old_keys: Vec<K>, new_keys: impl Iterator<Item = K>) -> Vec<S> {
            let mut known: BTreeMap<K, S> = old_keys.into_iter().zip(old).collect();
            new_keys.map(|key| known.remove(&key).unwrap_or_default()).collect()
        }
        let old = std::mem::replace(&mut self.topology, topology);
        let new = &self.topology;
        self.instances = carry(
            std::mem::take(&mut self.instances),
            old.instances.iter().map(|instance| instance.name.as_str()).collect(),
            new.instances.iter().map(|instance| instance.name.as_str()),
        );
        self.services = carry(
            std::mem::take(&mut self.services),
            old.services.iter().map(|service| service.name.as_str()).collect(),
            new.services.iter().map(|service| service.name.as_str()),
        );
        self.hosts = carry(
            std::mem::take(&mut self.hosts),
            old.hosts.iter().map(|host| host.name.as_str()).collect(),
            new.hosts.iter().map(|host| host.name.as_str()),
        );
        let mut known = std::mem::take(&mut self.pairs);
        let before = old.pair_names();
        let take = |name: &(&str, &str)| before.get(name).map(|at| std::mem::take(&mut known[*at as usize]));
        let mut pairs = vec![PairState::default(); new.pairs.len()];
        let mut take = take;
        for (name, at) in new.pair_names() {
            pairs[at as usize] = take(&name).unwrap_or_default();
        }
        self.pairs = pairs;
        self.fusion.retarget(&old, new);
        self.context = Context::resolve(&self.activities, new, self.last_s.unwrap_or(0));
    }

    /// Says what is going on by intent; replaces what was said before. Beyond [`ACTIVITIES_MAX`] the rest is left.
    pub fn set_activities(&mut self, mut activities: Vec<Activity>) {
        activities.truncate(ACTIVITIES_MAX);
        if self.activities != activities {
            self.activities = activities;
            self.context = Context::resolve(&self.activities, &self.topology, self.last_s.unwrap_or(0));
        }
    }

    /// The topology watched.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Takes one second, and says what changed about incidents. `now_ms` is when it is looked at.
    pub fn tick(&mut self, frame: &Frame, now_ms: u64) -> Vec<Change> {
        if !frame.fits(&self.topology) || !self.in_order(frame.second) {
            self.health.refused += 1;
            return Vec::new();
        }
        self.health.frames += 1;
        if self.blind(frame) {
            self.health.blind += 1;
            return Vec::new();
        }
        if self.context.stale(frame.second) {
            self.context = Context::resolve(&self.activities, &self.topology, frame.second);
        }
        self.findings.clear();
        self.watch_services(frame);
        self.watch_pairs(frame);
        self.watch_hosts(frame);
        self.tails.all().into_iter().for_each(|tail| tail.close());
        if frame.second.is_multiple_of(FIT_S) {
            self.tails.all().into_iter().for_each(|tail| tail.fit());
            self.tests = self.tails.calibrate(&self.base);
        }
        if self.findings.len() > FINDINGS_MAX {
            self.health.findings_left += (self.findings.len() - FINDINGS_MAX) as u64;
            self.findings.truncate(FINDINGS_MAX);
        }
        if frame.second < self.speaks_from_s {
            self.findings.clear();
        }
        let world = World {
            topology: &self.topology,
            context: &self.context,
            instances: &self.instances,
            services: &self.services,
            pairs: &self.pairs,
        };
        self.fusion.step(&world, &self.findings, frame.second, now_ms)
    }

    /// All incidents kept, oldest first.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.fusion.incidents()
    }

    /// One incident.
    pub fn incident(&self, id: &str) -> Option<&Incident> {
        self.fusion.incident(id)
    }

    /// Notes that someone looks after an incident; false when it is not open.
    pub fn acknowledge(&mut self, id: &str, who: &str, now_ms: u64) -> bool {
        self.fusion.acknowledge(id, who, now_ms)
    }

    /// All that was learnt, as bytes; incidents are not in it, they are records.
    pub fn save(&self) -> Vec<u8> {
        kept::seal(|out| {
            self.topology.parts().put(out);
            self.instances.put(out);
            self.services.put(out);
            self.pairs.put(out);
            self.hosts.put(out);
            self.tails.put(out);
        })
    }

    /// Takes what an earlier detector has learnt; the next [`Detector::retarget`] carries it over by name.
    ///
    /// # Errors
    /// The bytes are damaged, or of another version; the detector stays as it was.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), StateFault> {
        let mut from = kept::open(bytes)?;
        let read = |from: &mut &[u8]| {
            let topology = Topology::new(Parts::take(from)?).ok()?;
            let states = (Vec::take(from)?, Vec::take(from)?, Vec::take(from)?, Vec::take(from)?);
            Some((topology, states, Tails::take(from)?))
        };
        let (topology, (instances, services, pairs, hosts), tails) = read(&mut from).ok_or(StateFault::Damaged)?;
        let fits = instances.len() == topology.instances.len()
            && services.len() == topology.services.len()
            && services.iter().all(ServiceState::is_whole)
            && pairs.len() == topology.pairs.len()
            && hosts.len() == topology.hosts.len();
        if !fits {
            return Err(StateFault::Damaged);
        }
        self.retarget(topology);
        (self.instances, self.services, self.pairs, self.hosts) = (instances, services, pairs, hosts);
        self.tests = tails.calibrate(&self.base);
        self.tails = tails;
        Ok(())
    }

    /// Takes incidents of an earlier detector, the oldest first: one that was open stays the same incident. Call it
    /// before the first frame.
    pub fn resume(&mut self, incidents: Vec<Incident>) {
        self.fusion.resume(incidents);
    }

    /// Takes the next number, for an incident that is opened elsewhere (by a rule).
    pub fn take_number(&mut self) -> u64 {
        self.fusion.take_number()
    }

    /// How the detector itself does.
    pub fn health(&self) -> Health {
        let bytes = self.instances.len() * size_of::<InstanceState>()
            + self.services.len() * (size_of::<ServiceState>() + 2 * 288 * 8)
            + self.pairs.len() * size_of::<PairState>()
            + self.hosts.len() * size_of::<HostState>();
        let tails = &self.tails;
        Health {
            series: Frame::series(&self.topology),
            state_bytes: bytes,
            threshold_factors: [
                tails.instance_ratio.factor(),
                tails.service_ratio.factor(),
                tails.instance_latency.factor(),
                tails.service_latency.factor(),
                tails.instance_cpu.factor(),
            ],
            ..self.health
        }
    }

    /// Frames come in order; a gap or a step of the clock voids the evidence.
    fn in_order(&mut self, second: u64) -> bool {
        let step = match self.last_s {
            None => true,
            Some(last) if second <= last && last - second <= BACK_S_MAX => return false,
            Some(last) => second < last || second - last > GAP_S_MAX,
        };
        if step {
            self.health.gaps += u64::from(self.last_s.is_some());
            self.speaks_from_s = second + SETTLE_S;
            self.fusion.wait_until(&self.topology, second + SETTLE_S);
            for state in &mut self.instances {
                state.presence.cusum.reset();
                state.latency.cusum.reset();
                state.errors.cusum.reset();
                state.rejects.cusum.reset();
            }
            self.context = Context::resolve(&self.activities, &self.topology, second);
        }
        self.last_s = Some(second);
        true
    }

    /// Nobody is heard, though there is a fleet: the collection failed. Silence of all is not the death of all.
    fn blind(&self, frame: &Frame) -> bool {
        let columns = &frame.instances;
        let silent = columns.cpu.iter().zip(&columns.requests);
        let silent = silent.filter(|(cpu, requests)| cpu.is_nan() && requests.is_nan()).count();
        !columns.cpu.is_empty() && silent as f64 > BLIND_SHARE * columns.cpu.len() as f64
    }

    fn watch_services(&mut self, frame: &Frame) {
        let mut pass = Pass {
            topology: &self.topology,
            frame,
            context: &self.context,
            warm_s: self.warm_s,
            base: &self.base,
            tests: &self.tests,
            tails: &mut self.tails,
            findings: &mut self.findings,
            scratch: &mut self.scratch,
        };
        for (service, id) in self.services.iter_mut().zip(0..) {
            pass.service(id, service, &mut self.instances);
        }
    }

    fn watch_pairs(&mut self, frame: &Frame) {
        let (columns, second) = (&frame.pairs, frame.second as u32);
        let (ratio_test, level_test) = (self.tests.service_ratio, self.tests.service_latency);
        for (pair, at) in self.pairs.iter_mut().zip(0_u32..) {
            let id = at as usize;
            let requests = count(columns.requests[id]);
            let outside = self.topology.services[self.topology.pairs[id].callee as usize].external;
            let (warm, entity) = (pair.age >= self.warm_s, Entity::Pair(at));
            pair.requests = requests;
            for (signal, ratio, hits) in [
                (Signal::Errors, &mut pair.errors, count(columns.errors[id])),
                (Signal::Rejects, &mut pair.rejects, count(columns.rejects[id])),
            ] {
                if ratio.test(hits, requests, 0.0, &ratio_test, second) && warm {
                    self.findings.push(of_ratio(entity, signal, ratio, ratio_test.h, outside));
                }
                ratio.learn(hits, requests, ratio_test.h, false);
            }
            pair.age = pair.age.saturating_add(u16::from(requests > 0.0));
            let Some(value) = measure(columns.latency_ms[id]).filter(|ms| *ms > 0.0 && requests > 0.0) else {
                continue;
            };
            let off = pair.latency.residual(log(value)).unwrap_or(0.0);
            (pair.latency_ms, pair.latency_usual_ms) = (value, value / off.exp());
            if pair.latency.test(off, 1.0, &level_test, second) && warm {
                let finding = of_level(entity, Signal::Latency, &pair.latency, level_test.h, value, off, outside);
                self.findings.push(finding);
            }
            pair.latency.learn(log(value), off, level_test.h, false);
        }
    }

    fn watch_hosts(&mut self, frame: &Frame) {
        let (columns, second) = (&frame.hosts, frame.second as u32);
        let test = self.tests.evidence;
        for (host, at) in self.hosts.iter_mut().zip(0_u32..) {
            let (id, entity) = (at as usize, Entity::Host(at));
            if columns.cpu[id].is_finite() {
                (host.age, host.silent_s) = (host.age.saturating_add(1), 0);
            } else {
                host.silent_s = host.silent_s.saturating_add(1);
                if host.silent_s >= 2 && host.age >= self.warm_s {
                    self.findings.push(Finding {
                        entity,
                        signal: Signal::Presence,
                        score: 1.0,
                        baseline: 1.0,
                        observed: 0.0,
                        since_s: second.saturating_sub(u32::from(host.silent_s) - 1),
                        opens: false,
                    });
                }
            }
            for (signal, level, value) in [
                (Signal::Cpu, &mut host.cpu, columns.cpu[id]),
                (Signal::Memory, &mut host.memory, columns.memory[id]),
                (Signal::Pressure, &mut host.pressure, columns.pressure[id]),
            ] {
                let Some(value) = measure(value) else { continue };
                let off = level.residual(log(value + 0.02)).unwrap_or(0.0);
                if level.test(off, 1.0, &test, second) && host.age >= self.warm_s {
                    self.findings.push(of_level(entity, signal, level, test.h, value, off, false));
                }
                level.learn(log(value + 0.02), off, test.h, false);
            }
        }
    }
}
