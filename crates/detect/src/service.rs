//! One service's second: its instances compared with one another, and the service with its own past.

use crate::activity::Context;
use crate::calibrate::Tail;
use crate::canary::Canary;
use crate::demand::{Demand, Moved};
use crate::finding::{Entity, Finding, Signal};
use crate::frame::{Frame, count, measure};
use crate::kept::kept;
use crate::level::{Level, LevelTest, log};
use crate::peers::lower_median;
use crate::presence::{self, Presence};
use crate::ratio::{Ratio, RatioTest};
use crate::season::Season;
use crate::topology::Topology;

/// Seconds after which an instance is grown: newborns adopt its level.
const GROWN_S: u16 = 60;
/// Samples below which an instance is young: compared with its peers only, and with more patience.
const YOUNG_AGE: u16 = 30;
/// What a young instance's deviation counts.
const YOUNG_SHARE: f32 = 0.6;
/// Seconds without traffic after which what was usual for an instance is stale: its peers went on.
const STALE_S: u16 = 30;
/// Samples of a newborn that start-up may have slowed.
const NEWBORN_AGE: u16 = 4;

/// Thresholds of all tests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tests {
    pub(crate) instance_ratio: RatioTest,
    pub(crate) service_ratio: RatioTest,
    pub(crate) instance_latency: LevelTest,
    pub(crate) service_latency: LevelTest,
    pub(crate) service_tail: LevelTest,
    pub(crate) instance_cpu: LevelTest,
    pub(crate) evidence: LevelTest,
}

impl Default for Tests {
    fn default() -> Self {
        let latency = LevelTest { h: 8.0, drift: 1.5, clip: 6.0, effect_min: 0.3, scale_min: 0.04 };
        Self {
            instance_ratio: RatioTest { h: 14.0, lift: 3.0, step: 0.03, effect_min: 0.02 },
            service_ratio: RatioTest { h: 20.0, lift: 2.5, step: 0.012, effect_min: 0.01 },
            instance_latency: LevelTest { h: 10.5, effect_min: 0.4, ..latency },
            service_latency: latency,
            service_tail: LevelTest { h: 12.0, effect_min: 0.6, scale_min: 0.08, ..latency },
            instance_cpu: LevelTest { h: 16.0, effect_min: 0.5, scale_min: 0.08, ..latency },
            evidence: LevelTest { h: 16.0, effect_min: 0.5, scale_min: 0.1, ..latency },
        }
    }
}

/// Tails that calibrate the thresholds, by kind of series.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tails {
    pub(crate) instance_ratio: Tail,
    pub(crate) service_ratio: Tail,
    pub(crate) instance_latency: Tail,
    pub(crate) service_latency: Tail,
    pub(crate) instance_cpu: Tail,
}

kept!(Tails { instance_ratio, service_ratio, instance_latency, service_latency, instance_cpu });

impl Tails {
    pub(crate) fn all(&mut self) -> [&mut Tail; 5] {
        [
            &mut self.instance_ratio,
            &mut self.service_ratio,
            &mut self.instance_latency,
            &mut self.service_latency,
            &mut self.instance_cpu,
        ]
    }

    /// The base tests with their thresholds as calibrated.
    pub(crate) fn calibrate(&self, base: &Tests) -> Tests {
        let mut tests = *base;
        tests.instance_ratio.h *= self.instance_ratio.factor();
        tests.service_ratio.h *= self.service_ratio.factor();
        tests.instance_latency.h *= self.instance_latency.factor();
        tests.service_latency.h *= self.service_latency.factor();
        tests.service_tail.h *= self.service_latency.factor();
        tests.instance_cpu.h *= self.instance_cpu.factor();
        tests
    }
}

/// All that is kept of an instance.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct InstanceState {
    pub(crate) presence: Presence,
    pub(crate) errors: Ratio,
    pub(crate) rejects: Ratio,
    pub(crate) latency: Level,
    tail: Level,
    cpu: Level,
    in_flight: Level,
    memory: Level,
    /// Requests a second at which the scales were learnt.
    usual_requests: f32,
    /// Seconds with traffic since it was first seen, or came back, saturating.
    pub(crate) age: u16,
    /// Seconds without traffic, saturating.
    idle_s: u16,
    /// Its service's drift when it last had traffic.
    drift: f32,
}

kept!(InstanceState {
    presence,
    errors,
    rejects,
    latency,
    tail,
    cpu,
    in_flight,
    memory,
    usual_requests,
    age,
    idle_s,
    drift,
});

/// A service's second in sums.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sums {
    pub(crate) requests: f32,
    pub(crate) errors: f32,
    pub(crate) rejects: f32,
}

/// All that is kept of a service.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceState {
    pub(crate) errors: Ratio,
    pub(crate) rejects: Ratio,
    pub(crate) latency: Level,
    tail: Level,
    pub(crate) demand: Demand,
    season: Season,
    canary: Option<Box<Canary>>,
    usual_requests: f32,
    /// What its members' levels moved together, so far (natural log).
    drift: f32,
    pub(crate) age: u16,
    pub(crate) sums: Sums,
    /// Typical latency of the second, and what it would have been (ms).
    pub(crate) latency_ms: f32,
    pub(crate) latency_usual_ms: f32,
}

kept!(ServiceState {
    errors, rejects, latency, tail, demand, season, usual_requests, drift, age,
} rest Self::default());

impl ServiceState {
    /// False for what no writer wrote.
    pub(crate) fn is_whole(&self) -> bool {
        self.season.is_whole() && self.demand.is_whole()
    }
}

/// What one pass over the fleet shares.
pub(crate) struct Pass<'a> {
    pub(crate) topology: &'a Topology,
    pub(crate) frame: &'a Frame,
    pub(crate) context: &'a Context,
    pub(crate) warm_s: u16,
    pub(crate) base: &'a Tests,
    pub(crate) tests: &'a Tests,
    pub(crate) tails: &'a mut Tails,
    pub(crate) findings: &'a mut Vec<Finding>,
    pub(crate) scratch: &'a mut Scratch,
}

/// Reused memory: one entry for each member of the service at hand.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    latency: Vec<f32>,
    tail: Vec<f32>,
    cpu: Vec<f32>,
    sorted: Vec<f32>,
}

/// The middles of a service's residuals.
#[derive(Debug, Clone, Copy, Default)]
struct Middles {
    latency: Option<f32>,
    tail: Option<f32>,
    cpu: Option<f32>,
    /// Geometric mean of the members' usual latencies, ms.
    usual_ms: f32,
}

/// A newborn starts from the middle of its grown peers.
fn newborn(member: u32, members: &[u32], service: &ServiceState, instances: &mut [InstanceState], warm_s: u16) {
    let grown = |peer: &&InstanceState| peer.age >= GROWN_S.min(warm_s) && peer.idle_s == 0;
    let middle = |of: &dyn Fn(&InstanceState) -> f32| {
        let peers = members.iter().map(|peer| &instances[*peer as usize]).filter(grown);
        lower_median(&mut peers.map(of).collect())
    };
    let latency = middle(&|peer| peer.latency.level()).zip(middle(&|peer| peer.latency.scale()));
    let tail = middle(&|peer| peer.tail.level()).zip(middle(&|peer| peer.tail.scale()));
    let cpu = middle(&|peer| peer.cpu.level()).zip(middle(&|peer| peer.cpu.scale()));
    let state = &mut instances[member as usize];
    for (level, adopted) in [(&mut state.latency, latency), (&mut state.tail, tail), (&mut state.cpu, cpu)] {
        if let Some((value, scale)) = adopted {
            level.adopt(value, scale);
        }
    }
    state.errors.adopt(service.errors.baseline());
    state.rejects.adopt(service.rejects.baseline());
}

/// Mean of the values that are numbers.
fn mean(values: &[f32]) -> Option<f32> {
    let known = values.iter().filter(|value| value.is_finite());
    let (sum, count) = known.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then_some(sum / count)
}

impl Pass<'_> {
    fn second(&self) -> u32 {
        self.frame.second as u32
    }

    /// Runs one service.
    pub(crate) fn service(&mut self, id: u32, service: &mut ServiceState, instances: &mut [InstanceState]) {
        let members = self.topology.members(id);
        if members.is_empty() {
            return;
        }
        let sums = self.sums(id, members);
        service.sums = sums;
        self.adopt(members, service, instances);
        let middles = self.middles(members, instances);
        self.whole(id, service, sums, middles);
        let frozen = service.latency.cusum.on() || service.errors.cusum.on() || service.rejects.cusum.on();
        let warm = service.age >= self.warm_s;
        let (mut moved, mut learnt) = (0.0, 0.0_f32);
        for (at, &member) in members.iter().enumerate() {
            let state = &mut instances[member as usize];
            let before = state.latency.level();
            self.presence(member, state, sums, warm);
            self.ratios(member, state, service, sums, (warm, frozen));
            self.levels((member, at), state, middles, (warm, frozen));
            if state.age > YOUNG_AGE && state.idle_s == 0 {
                (moved, learnt) = (moved + state.latency.level() - before, learnt + 1.0);
            }
        }
        service.drift += moved / learnt.max(1.0);
        if warm {
            self.canary(id, service, instances);
        }
    }

    /// While a release runs, its instances together against the others together.
    fn canary(&mut self, id: u32, service: &mut ServiceState, instances: &[InstanceState]) {
        let Some(release) = self.context.releases.get(&id).filter(|release| release.running) else {
            service.canary = None;
            return;
        };
        let canary = service.canary.get_or_insert_default();
        canary.begin(release.version);
        for (&member, off) in self.topology.members(id).iter().zip(&self.scratch.latency) {
            let (at, columns) = (member as usize, &self.frame.instances);
            let is_new = self.topology.instances[at].version == release.version;
            let failed = count(columns.errors[at]) + count(columns.rejects[at]);
            let grown = instances[at].age >= NEWBORN_AGE;
            canary.add(is_new, count(columns.requests[at]), failed, if grown { *off } else { f32::NAN });
        }
        let tests = (&self.tests.service_ratio, &self.tests.service_latency);
        let usual = service.errors.baseline() + service.rejects.baseline();
        for (signal, level) in canary.close(tests, usual, self.frame.second as u32) {
            for &member in self.topology.members(id) {
                let is_new = self.topology.instances[member as usize].version == release.version;
                if is_new && count(self.frame.instances.requests[member as usize]) > 0.0 {
                    self.findings.push(Finding { entity: Entity::Instance(member), signal, ..level });
                }
            }
        }
    }

    fn sums(&self, id: u32, members: &[u32]) -> Sums {
        let (i, s) = (&self.frame.instances, &self.frame.services);
        let at = id as usize;
        let mut sums =
            Sums { requests: count(s.requests[at]), errors: count(s.errors[at]), rejects: count(s.rejects[at]) };
        for &member in members {
            let at = member as usize;
            sums.requests += count(i.requests[at]);
            sums.errors += count(i.errors[at]);
            sums.rejects += count(i.rejects[at]);
        }
        sums
    }

    /// Gives a newborn the level and the failures of its peers, so that it can be compared from its first seconds; and one
    /// that comes back what its peers' levels moved meanwhile.
    fn adopt(&mut self, members: &[u32], service: &ServiceState, instances: &mut [InstanceState]) {
        if service.age < self.warm_s {
            return;
        }
        for &member in members {
            let has_traffic = count(self.frame.instances.requests[member as usize]) > 0.0;
            let state = &mut instances[member as usize];
            let back = has_traffic && state.idle_s >= STALE_S && state.age > 0;
            state.idle_s = if has_traffic { 0 } else { state.idle_s.saturating_add(1) };
            if back {
                let moved = service.drift - state.drift;
                state.latency.shift(moved);
                state.tail.shift(moved);
                state.age = 1;
            } else if has_traffic && state.age == 0 {
                newborn(member, members, service, instances, self.warm_s);
            }
            if has_traffic {
                instances[member as usize].drift = service.drift;
            }
        }
    }

    fn middles(&mut self, members: &[u32], instances: &[InstanceState]) -> Middles {
        let columns = &self.frame.instances;
        let Scratch { latency, tail, cpu, sorted } = &mut *self.scratch;
        latency.clear();
        tail.clear();
        cpu.clear();
        let (mut levels, mut heard) = (0.0, 0.0);
        for &member in members {
            let (at, state) = (member as usize, &instances[member as usize]);
            let has_traffic = count(columns.requests[at]) > 0.0;
            let residual = |level: &Level, value: f32| {
                let known = measure(value).filter(|value| has_traffic && *value > 0.0);
                known.and_then(|value| level.residual(log(value))).unwrap_or(f32::NAN)
            };
            latency.push(residual(&state.latency, columns.latency_ms[at]));
            if latency.last().is_some_and(|off| off.is_finite()) {
                (levels, heard) = (levels + state.latency.level(), heard + 1.0_f32);
            }
            tail.push(residual(&state.tail, columns.tail_ms[at]));
            let used = measure(columns.cpu[at]).and_then(|used| state.cpu.residual(log(used + CPU_FLOOR)));
            cpu.push(used.unwrap_or(f32::NAN));
        }
        let mut middle = |values: &[f32]| {
            sorted.clear();
            sorted.extend_from_slice(values);
            lower_median(sorted)
        };
        let usual_ms = (levels / heard.max(1.0)).exp();
        Middles { latency: middle(latency), tail: middle(tail), cpu: middle(cpu), usual_ms }
    }

    /// The service against its own past.
    fn whole(&mut self, id: u32, service: &mut ServiceState, sums: Sums, middles: Middles) {
        let (entity, second) = (Entity::Service(id), self.second());
        let warm = service.age >= self.warm_s;
        let test = &self.tests.service_ratio;
        let explained = self.context.demand_moves[id as usize];
        let moved = service.demand.step(sums.requests, explained, self.frame.second);
        for (signal, ratio, hits) in
            [(Signal::Errors, &mut service.errors, sums.errors), (Signal::Rejects, &mut service.rejects, sums.rejects)]
        {
            let on = warm && ratio.test(hits, sums.requests, 0.0, test, second);
            self.tails.service_ratio.count(ratio.cusum.calm(self.base.service_ratio.h));
            if on {
                self.findings.push(of_ratio(entity, signal, ratio, test.h, true));
            }
            ratio.learn(hits, sums.requests, test.h, false);
        }
        if let Some(moved) = moved {
            self.findings.push(Finding {
                entity,
                signal: Signal::Requests,
                score: service.demand.score(),
                baseline: service.demand.baseline(),
                observed: sums.requests,
                since_s: service.demand.rise_s(),
                opens: moved == Moved::Up,
            });
        }
        self.whole_latency(entity, service, middles, warm);
        service.age = service.age.saturating_add(u16::from(sums.requests > 0.0));
    }

    fn whole_latency(&mut self, entity: Entity, service: &mut ServiceState, middles: Middles, warm: bool) {
        let second = self.second();
        let noise = noise(&mut service.usual_requests, service.sums.requests);
        let Some(off) = middles.latency.or_else(|| mean(&self.scratch.latency)) else { return };
        let typical = middles.usual_ms * off.exp();
        (service.latency_ms, service.latency_usual_ms) = (typical, middles.usual_ms);
        let usual_now = service.season.usual(self.frame.second, log(typical));
        let test = &self.tests.service_latency;
        let on = service.latency.test(if usual_now { off.min(0.2) } else { off }, noise, test, second) && warm;
        self.tails.service_latency.count(service.latency.cusum.calm(self.base.service_latency.h));
        if on {
            self.findings.push(of_level(entity, Signal::Latency, &service.latency, test.h, typical, off, true));
        } else if !service.latency.cusum.suspects(test.h) {
            service.season.learn(self.frame.second, log(typical));
        }
        // The level of a service's residual is zero by construction: only the scale is learnt.
        service.latency.learn(0.0, off, test.h, false);
        if let Some(off) = middles.tail.or_else(|| mean(&self.scratch.tail)) {
            let test = &self.tests.service_tail;
            if service.tail.test(off, noise, test, second) && warm {
                self.findings.push(of_level(entity, Signal::LatencyTail, &service.tail, test.h, off.exp(), off, true));
            }
            service.tail.learn(0.0, off, test.h, false);
        }
    }

    fn presence(&mut self, member: u32, state: &mut InstanceState, sums: Sums, warm: bool) {
        let (at, columns) = (member as usize, &self.frame.instances);
        let failed = |of: Sums| of.errors + of.rejects;
        let answered = count(columns.requests[at]) - count(columns.errors[at]) - count(columns.rejects[at]);
        let host = self.topology.instances[at].host;
        let one = presence::Second {
            answered,
            heard: columns.requests[at].is_finite(),
            service_answered: (sums.requests - failed(sums)).max(0.0),
            beat: columns.cpu[at].is_finite(),
            host_beat: self.frame.hosts.cpu[host as usize].is_finite(),
            second: self.second(),
        };
        if state.presence.test(one, !warm || self.context.absent[at]) {
            self.findings.push(Finding {
                entity: Entity::Instance(member),
                signal: Signal::Presence,
                score: state.presence.cusum.score(presence::H),
                baseline: state.presence.expected(one.service_answered),
                observed: answered,
                since_s: state.presence.cusum.rise_s(),
                opens: true,
            });
        }
        state.presence.learn(one);
    }

    fn ratios(
        &mut self,
        member: u32,
        state: &mut InstanceState,
        service: &ServiceState,
        sums: Sums,
        (warm, frozen): (bool, bool),
    ) {
        let (at, columns) = (member as usize, &self.frame.instances);
        let requests = count(columns.requests[at]);
        let (test, second) = (&self.tests.instance_ratio, self.second());
        let others = sums.requests - requests;
        let excused = self.context.absent[at] && count(columns.cpu[at]) <= 0.0;
        for (signal, ratio, hits, sum, whole) in [
            (Signal::Errors, &mut state.errors, count(columns.errors[at]), sums.errors, &service.errors),
            (Signal::Rejects, &mut state.rejects, count(columns.rejects[at]), sums.rejects, &service.rejects),
        ] {
            let floor = if others > 0.0 { ((sum - hits) / others).max(0.0) } else { 0.0 };
            let on = ratio.test(hits, requests, floor.max(whole.baseline()), test, second);
            self.tails.instance_ratio.count(ratio.cusum.calm(self.base.instance_ratio.h));
            if on && warm && !excused {
                self.findings.push(of_ratio(Entity::Instance(member), signal, ratio, test.h, true));
            }
            ratio.learn(hits, requests, test.h, frozen);
        }
        state.age = state.age.saturating_add(u16::from(requests > 0.0));
    }

    fn levels(
        &mut self,
        (member, at): (u32, usize),
        state: &mut InstanceState,
        middles: Middles,
        (warm, frozen): (bool, bool),
    ) {
        let (id, columns) = (member as usize, &self.frame.instances);
        let requests = count(columns.requests[id]);
        let entity = Entity::Instance(member);
        // What is to be away, or is just back from a drill, is cold or alone: its own latency says nothing.
        let speaks = warm && !self.context.absent[id] && !self.context.hot.contains(&member);
        let noise = noise(&mut state.usual_requests, requests);
        if let Some(value) = measure(columns.latency_ms[id]).filter(|value| requests > 0.0 && *value > 0.0) {
            let own = self.scratch.latency[at];
            let apart = own - middles.latency.unwrap_or(f32::NAN);
            let off = patient(apart, state.age);
            let test = &self.tests.instance_latency;
            let on = off.is_finite() && state.latency.test(off, noise, test, self.second());
            self.tails.instance_latency.count(state.latency.cusum.calm(self.base.instance_latency.h));
            if on && speaks {
                self.findings.push(of_level(entity, Signal::Latency, &state.latency, test.h, value, off, true));
            }
            // The scale is learnt on the whole deviation: patience is for the judgement only.
            let spread = if apart.is_finite() { apart } else { own };
            state.latency.learn(log(value), if spread.is_finite() { spread } else { 0.0 }, test.h, frozen);
        }
        let h = self.tests.instance_cpu.h;
        if let Some(value) = measure(columns.cpu[id]).filter(|_| requests > 0.0) {
            let apart = self.scratch.cpu[at] - middles.cpu.unwrap_or(f32::NAN);
            let off = patient(apart, state.age.min(state.cpu.age()));
            let on = off.is_finite() && state.cpu.test(off, noise, &self.tests.instance_cpu, self.second());
            self.tails.instance_cpu.count(state.cpu.cusum.calm(self.base.instance_cpu.h));
            if on && speaks {
                self.findings.push(of_level(entity, Signal::Cpu, &state.cpu, h, value, off, true));
            }
            state.cpu.learn(log(value + CPU_FLOOR), if apart.is_finite() { apart } else { 0.0 }, h, frozen);
        }
        self.evidence(member, at, state, middles, speaks);
    }

    /// Signals that support a cause and open nothing.
    fn evidence(&mut self, member: u32, at: usize, state: &mut InstanceState, middles: Middles, speaks: bool) {
        let (id, columns) = (member as usize, &self.frame.instances);
        let (test, second) = (&self.tests.evidence, self.second());
        let tail_middle = middles.tail.unwrap_or(0.0);
        for (signal, level, value, middle) in [
            (Signal::LatencyTail, &mut state.tail, columns.tail_ms[id], tail_middle),
            (Signal::InFlight, &mut state.in_flight, columns.in_flight[id] + 1.0, 0.0),
            (Signal::Memory, &mut state.memory, columns.memory[id], 0.0),
        ] {
            let Some(value) = measure(value).filter(|value| *value > 0.0) else { continue };
            let own = if signal == Signal::LatencyTail { self.scratch.tail[at] } else { f32::NAN };
            let own = if own.is_finite() { own } else { level.residual(log(value)).unwrap_or(0.0) };
            let off = patient(own - middle, level.age());
            if level.test(off, 1.0, test, second) && speaks {
                self.findings.push(of_level(Entity::Instance(member), signal, level, test.h, value, off, false));
            }
            level.learn(log(value), off, test.h, false);
        }
    }
}

/// How much wider a second with these requests scatters than those that the scale was learnt on: a median of n requests
/// scatters by 1/sqrt(n). Keeps track of the usual n.
fn noise(usual: &mut f32, requests: f32) -> f32 {
    if requests <= 0.0 {
        return 1.0;
    }
    if *usual <= 0.0 {
        *usual = requests;
    }
    *usual += (requests - *usual) / USUAL_S;
    (*usual / requests).sqrt().max(1.0)
}

/// Seconds over which the usual number of requests forgets: as the scales do.
const USUAL_S: f32 = 300.0;

/// A young instance's deviation counts less, a newborn's not at all.
fn patient(off: f32, age: u16) -> f32 {
    match age {
        0..NEWBORN_AGE => off.min(0.0),
        NEWBORN_AGE..YOUNG_AGE => off * YOUNG_SHARE,
        _ => off,
    }
}

/// Cores below which use is noise.
const CPU_FLOOR: f32 = 0.02;

pub(crate) fn of_ratio(entity: Entity, signal: Signal, ratio: &Ratio, h: f32, opens: bool) -> Finding {
    Finding {
        entity,
        signal,
        score: ratio.cusum.score(h),
        baseline: ratio.baseline(),
        observed: ratio.recent(),
        since_s: ratio.cusum.rise_s(),
        opens,
    }
}

pub(crate) fn of_level(
    entity: Entity,
    signal: Signal,
    level: &Level,
    h: f32,
    observed: f32,
    off: f32,
    opens: bool,
) -> Finding {
    Finding {
        entity,
        signal,
        score: level.cusum.score(h),
        baseline: observed / off.exp(),
        observed,
        since_s: level.cusum.rise_s(),
        opens,
    }
}
