//! A fleet in virtual time: services that call one another, instances on hosts in racks, a day's load, and the noise of
//! the real thing (bursts of failures, pauses of single instances, lost samples). It fills frames second by second.
//!
//! Latency and failures run up the calls; load redistributes when instances go. The truth about faults is kept apart, in
//! `faults`; nothing here knows what `detect` looks for.

use super::noise::Noise;
use detect::{Frame, Host, Instance, Pair, Parts, Rack, Service, Topology};
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A service's nature.
#[derive(Debug, Clone)]
pub struct Nature {
    /// Name.
    pub name: String,
    /// A dependency outside.
    pub external: bool,
    /// Requests a second from outside at a typical hour; 0 unless an entry.
    pub outside_rps: f32,
    /// Services and externals called, and calls for each request.
    pub calls: Vec<(u32, f32)>,
    /// Own latency, ms.
    pub own_ms: f32,
    /// Own share of failures.
    pub errors: f32,
    /// Instances at the start.
    pub instances: u32,
    /// Share of its capacity used at a typical hour.
    pub use_share: f32,
    /// Standard deviation of single requests' log latency.
    pub spread: f32,
}

/// An instance's nature and state.
#[derive(Debug, Clone)]
pub struct Member {
    /// Name.
    pub name: String,
    /// Its service.
    pub service: u32,
    /// Its host.
    pub host: u32,
    /// Its version.
    pub version: u32,
    /// Wanted as it is.
    pub wanted: bool,
    /// How much slower than its peers it always is.
    pub factor: f32,
    /// Share of traffic against its peers.
    pub weight: f32,
    /// Seconds since it serves.
    pub age_s: u32,
    phase: f32,
}

/// What faults do to a service or instance in one second; neutral unless set.
#[derive(Debug, Clone, Copy)]
pub struct Hurt {
    /// Latency is multiplied by this.
    pub slow: f32,
    /// Share of requests that fail on top.
    pub errors: f32,
    /// Share of requests rejected on top.
    pub rejects: f32,
    /// CPU is multiplied by this.
    pub cpu: f32,
    /// Demand from outside is multiplied by this.
    pub demand: f32,
    /// Share of the second in which it is gone.
    pub gone: f32,
    /// Seconds that it is gone; load balancers need two to notice.
    pub gone_s: u32,
}

impl Hurt {
    pub const NONE: Self = Self { slow: 1.0, errors: 0.0, rejects: 0.0, cpu: 1.0, demand: 1.0, gone: 0.0, gone_s: 0 };
}

/// Seconds in which load balancers still send to an instance that is gone.
const NOTICE_S: u32 = 2;
/// Share of failed calls that callers hide by a retry.
const HIDDEN: f32 = 0.5;

/// The fleet.
pub struct Fleet {
    pub services: Vec<Nature>,
    pub members: Vec<Member>,
    pub hosts: Vec<Host>,
    pub racks: Vec<Rack>,
    pub datacenters: Vec<String>,
    pub pairs: Vec<Pair>,
    pub hurt_services: Vec<Hurt>,
    pub hurt_members: Vec<Hurt>,
    pub hurt_hosts: Vec<bool>,
    /// Load from outside is multiplied by this (an event).
    pub crowd: f32,
    /// Datacenter taken out by a drill.
    pub drilled: Option<u32>,
    by_service: Vec<Vec<u32>>,
    pair_at: Vec<Vec<u32>>,
    noise: Noise,
    slow_wave: f32,
    demand: Vec<f32>,
    typical_ms: Vec<f32>,
    failing: Vec<f32>,
    next_name: u32,
    usual_rps: Vec<f32>,
    /// Seconds for which an agent still says nothing, by host.
    stalled_s: Vec<u8>,
}

/// How large a fleet is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Services.
    pub services: u32,
    /// Externals.
    pub externals: u32,
    /// Instances, about.
    pub instances: u32,
}

impl Fleet {
    /// The fleet of a seed.
    pub fn new(seed: u64, size: Size) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let datacenters: Vec<String> = (0..3).map(|at| format!("dc{at}")).collect();
        let rack = |at: u32| Rack { name: format!("rack{at}"), datacenter: at % 3 };
        let racks: Vec<Rack> = (0..12).map(rack).collect();
        let hosts_count = (size.instances / 8).max(24);
        let host = |at: u32| Host { name: format!("host{at}"), rack: at % 12 };
        let hosts: Vec<Host> = (0..hosts_count).map(host).collect();
        let mut services = natures(&mut random, size);
        let demand = flow(&services);
        for (service, demand) in services.iter_mut().zip(&demand) {
            // Between 15 and 300 requests a second and instance, as real services are.
            service.instances = service.instances.min((demand / 15.0) as u32).max(3);
        }
        let pair = |(caller, nature): (usize, &Nature)| {
            nature
                .calls
                .iter()
                .map(move |(callee, _)| Pair { caller: caller as u32, callee: *callee })
                .collect::<Vec<_>>()
        };
        let pairs: Vec<Pair> = services.iter().enumerate().flat_map(pair).collect();
        let count = services.len();
        let mut fleet = Self {
            hurt_services: vec![Hurt::NONE; count],
            hurt_members: Vec::new(),
            hurt_hosts: vec![false; hosts.len()],
            crowd: 1.0,
            drilled: None,
            members: Vec::new(),
            by_service: Vec::new(),
            pair_at: Vec::new(),
            noise: Noise::new(seed ^ 0x5EED),
            slow_wave: 0.0,
            demand: vec![0.0; count],
            typical_ms: vec![0.0; count],
            failing: vec![0.0; count],
            next_name: 0,
            usual_rps: flow(&services),
            stalled_s: vec![0; hosts.len()],
            services,
            hosts,
            racks,
            datacenters,
            pairs,
        };
        for service in 0..count as u32 {
            let first = random.random_range(0..hosts_count);
            for number in 0..fleet.services[service as usize].instances {
                // Spread over racks and datacenters, several services to a host.
                fleet.add(service, (first + number * 7) % hosts_count, 1, &mut random);
            }
        }
        fleet.index();
        fleet
    }

    /// Adds an instance that has served for long.
    pub fn add(&mut self, service: u32, host: u32, version: u32, random: &mut impl Rng) {
        if self.services[service as usize].external {
            return;
        }
        self.next_name += 1;
        self.members.push(Member {
            name: format!("{}-{}", self.services[service as usize].name, self.next_name),
            service,
            host,
            version,
            wanted: true,
            factor: 1.0 + 0.15 * random.random_range(-1.0..1.0_f32),
            weight: 1.0 + 0.1 * random.random_range(-1.0..1.0_f32),
            age_s: 1_000,
            phase: random.random(),
        });
    }

    /// After members were added or removed.
    pub fn index(&mut self) {
        self.by_service = vec![Vec::new(); self.services.len()];
        for (member, at) in self.members.iter().zip(0..) {
            self.by_service[member.service as usize].push(at);
        }
        self.pair_at = vec![Vec::new(); self.services.len()];
        for (pair, at) in self.pairs.iter().zip(0..) {
            self.pair_at[pair.caller as usize].push(at);
        }
        self.hurt_members = vec![Hurt::NONE; self.members.len()];
    }

    /// Members of a service.
    pub fn of(&self, service: u32) -> &[u32] {
        &self.by_service[service as usize]
    }

    /// Requests a second of a service at a typical hour.
    pub fn usual_rps(&self, service: u32) -> f32 {
        self.usual_rps[service as usize]
    }

    /// As `detect` is told.
    pub fn topology(&self) -> Topology {
        let service = |nature: &Nature| Service { name: nature.name.clone(), external: nature.external };
        let instance = |member: &Member| Instance {
            name: member.name.clone(),
            service: member.service,
            host: member.host,
            version: member.version,
            wanted: member.wanted,
        };
        Topology::new(Parts {
            datacenters: self.datacenters.clone(),
            racks: self.racks.clone(),
            hosts: self.hosts.clone(),
            services: self.services.iter().map(service).collect(),
            instances: self.members.iter().map(instance).collect(),
            pairs: self.pairs.clone(),
        })
        .expect("a generated fleet is whole")
    }

    /// Fills a frame with one second.
    pub fn fill(&mut self, topology: &Topology, second: u64, frame: &mut Frame) {
        frame.clear(topology, second);
        self.load(second);
        for host in 0..self.hosts.len() {
            self.stalled_s[host] = self.stalled_s[host].saturating_sub(1);
            if self.noise.uniform() < STALL {
                self.stalled_s[host] = 1 + (self.noise.uniform() * 3.0) as u8;
            }
        }
        for service in (0..self.services.len()).rev() {
            self.serve(service, frame);
        }
        self.hosts(frame);
    }

    /// Demand of each service: callers come before callees.
    fn load(&mut self, second: u64) {
        let day = (second % 86_400) as f32 / 86_400.0;
        let tide = 0.75 - 0.45 * (std::f32::consts::TAU * (day + 0.1)).cos();
        self.slow_wave = 0.995 * self.slow_wave + 0.003 * self.noise.normal();
        self.demand.fill(0.0);
        for service in 0..self.services.len() {
            let nature = &self.services[service];
            let outside = nature.outside_rps * tide * (1.0 + self.slow_wave) * self.crowd;
            let jitter = 1.0 + 0.02 * self.noise.normal();
            self.demand[service] += outside * jitter * self.hurt_services[service].demand;
            for (callee, calls) in &self.services[service].calls {
                self.demand[*callee as usize] += self.demand[service] * calls;
            }
        }
    }

    /// One service's second: callees have served theirs.
    fn serve(&mut self, service: usize, frame: &mut Frame) {
        let nature = self.services[service].clone();
        let hurt = self.hurt_services[service];
        let mut below_ms = 0.0;
        let mut below_failing = 0.0;
        for (callee, calls) in &nature.calls {
            below_ms += calls * self.typical_ms[*callee as usize];
            below_failing += calls * self.failing[*callee as usize] * (1.0 - HIDDEN);
        }
        // Failures come in bursts: the chance itself varies.
        let burst = (1.0 + 0.25 * self.noise.normal()).max(0.2);
        let failing = (nature.errors * burst + hurt.errors + below_failing).min(1.0);
        if nature.external {
            self.typical_ms[service] = nature.own_ms * hurt.slow * (1.0 + 0.03 * self.noise.normal());
            self.failing[service] = failing + hurt.rejects;
        } else {
            let own_ms = nature.own_ms * (1.0 + 0.02 * self.noise.normal());
            let shape = Shape { own_ms, below_ms, slow: hurt.slow, failing, rejecting: hurt.rejects };
            self.members_of(service, &nature, shape, frame);
        }
        self.pairs_of(service, &nature, frame);
    }

    fn members_of(&mut self, service: usize, nature: &Nature, shape: Shape, frame: &mut Frame) {
        let members = std::mem::take(&mut self.by_service[service]);
        let takes = |fleet: &Self, at: u32| {
            let (member, hurt) = (&fleet.members[at as usize], fleet.hurt_members[at as usize]);
            let drilled =
                fleet.drilled == Some(fleet.racks[fleet.hosts[member.host as usize].rack as usize].datacenter);
            let out = hurt.gone_s > NOTICE_S || !member.wanted || drilled;
            if out { 0.0 } else { member.weight }
        };
        let weights: f32 = members.iter().map(|at| takes(self, *at)).sum();
        let usual = nature.instances as f32;
        let (mut sums, mut mean_ms, mut lost) = (0.0, 0.0, 0.0);
        for &at in &members {
            let weight = takes(self, at);
            let rps = if weights > 0.0 { self.demand[service] * weight / weights } else { 0.0 };
            // Who expects a crowd has scaled for it.
            let busy = nature.use_share * rps * usual / (self.usual_rps[service].max(1.0) * self.crowd);
            let one = self.member(at, rps, busy, nature, shape, frame);
            mean_ms += one.0 * rps;
            sums += rps;
            lost += one.1 * rps;
        }
        self.by_service[service] = members;
        self.typical_ms[service] = if sums > 0.0 { mean_ms / sums } else { nature.own_ms };
        self.failing[service] = if sums > 0.0 { lost / sums } else { 1.0 };
    }

    /// One instance's second; gives its latency and share of failures.
    fn member(&mut self, at: u32, rps: f32, busy: f32, nature: &Nature, shape: Shape, frame: &mut Frame) -> (f32, f32) {
        let (id, hurt) = (at as usize, self.hurt_members[at as usize]);
        let columns = &mut frame.instances;
        self.members[id].age_s += 1;
        let young = self.members[id].age_s < 4;
        let requests = self.noise.poisson(rps);
        let failing = (shape.failing + hurt.errors + hurt.gone * (1.0 - shape.failing)).min(1.0);
        let rejecting = (shape.rejecting + hurt.rejects).min(1.0 - failing);
        let queue = 1.0 + 0.25 * busy.min(0.95) * busy.min(0.95) / (1.05 - busy.min(0.95));
        let ms = (shape.own_ms * self.members[id].factor * queue + shape.below_ms) * shape.slow * hurt.slow;
        let ms = if young { 1.6 * ms } else { ms };
        let gone = hurt.gone >= 1.0;
        let heard = self.noise.uniform() > LOST_SAMPLE;
        if heard {
            columns.requests[id] = requests;
            columns.errors[id] = self.noise.poisson(requests * failing).min(requests);
            columns.rejects[id] = self.noise.poisson(requests * rejecting).min(requests - columns.errors[id]);
        }
        if requests > 0.0 && !gone && heard {
            let grain = 0.02 + 1.25 * nature.spread / requests.sqrt();
            // A pause (garbage, a page fault storm) of one instance for about a second.
            let pause = if self.noise.uniform() < PAUSE { 1.5 + 2.5 * self.noise.uniform() } else { 1.0 };
            let median = (ms * pause * (1.0 + grain * self.noise.normal())).max(0.05);
            columns.latency_ms[id] = median;
            columns.tail_ms[id] = median * (1.0 + 4.0 * nature.spread) * (1.0 + 0.15 * self.noise.normal()).max(0.3);
        }
        let stalled = self.stalled_s[self.members[id].host as usize] > 0;
        if hurt.gone <= 0.0 && !stalled && self.noise.uniform() > LOST_SAMPLE {
            let used = requests * 0.002 * hurt.cpu * self.members[id].factor;
            columns.cpu[id] = (0.02 + used * (1.0 + 0.05 * self.noise.normal())).max(0.0);
            columns.in_flight[id] = (requests * ms / 1_000.0).max(0.0).round();
            let wave = (self.members[id].phase + frame.second as f32 / 3_000.0).fract();
            columns.memory[id] = 2e8 * (1.0 + 0.3 * wave);
        }
        (ms, (failing + rejecting).min(1.0))
    }

    fn pairs_of(&mut self, service: usize, nature: &Nature, frame: &mut Frame) {
        let pairs = std::mem::take(&mut self.pair_at[service]);
        for (&pair, (callee, calls)) in pairs.iter().zip(&nature.calls) {
            let (id, callee) = (pair as usize, *callee as usize);
            let requests = self.noise.poisson(self.demand[service] * calls);
            let rejecting = self.hurt_services[callee].rejects;
            let failing = (self.failing[callee] - rejecting).clamp(0.0, 1.0);
            frame.pairs.requests[id] = requests;
            frame.pairs.errors[id] = self.noise.poisson(requests * failing).min(requests);
            frame.pairs.rejects[id] = self.noise.poisson(requests * rejecting).min(requests);
            if requests > 0.0 {
                let ms = self.typical_ms[callee] * (1.0 + 0.02 * self.noise.normal());
                frame.pairs.latency_ms[id] = ms.max(0.05);
                frame.pairs.tail_ms[id] = ms * 3.0;
            }
        }
        self.pair_at[service] = pairs;
    }

    fn hosts(&mut self, frame: &mut Frame) {
        for host in 0..self.hosts.len() {
            if self.hurt_hosts[host] || self.stalled_s[host] > 0 {
                continue;
            }
            frame.hosts.cpu[host] = (0.4 + 0.03 * self.noise.normal()).clamp(0.0, 1.0);
            frame.hosts.memory[host] = (0.6 + 0.005 * self.noise.normal()).clamp(0.0, 1.0);
            frame.hosts.pressure[host] = (0.02 + 0.005 * self.noise.normal()).max(0.0);
        }
    }
}

/// Chance that a sample is lost on its way.
const LOST_SAMPLE: f32 = 0.001;
/// Chance that an agent begins to say nothing for one to three seconds.
const STALL: f32 = 0.00005;
/// Chance of a pause in an instance's second.
const PAUSE: f32 = 0.0005;

#[derive(Clone, Copy)]
struct Shape {
    own_ms: f32,
    below_ms: f32,
    slow: f32,
    failing: f32,
    rejecting: f32,
}

/// Demand at a typical hour: callers come before callees.
fn flow(services: &[Nature]) -> Vec<f32> {
    let mut demand: Vec<f32> = services.iter().map(|nature| nature.outside_rps).collect();
    for (at, nature) in services.iter().enumerate() {
        for (callee, calls) in &nature.calls {
            demand[*callee as usize] += demand[at] * calls;
        }
    }
    demand
}

/// Entry services first, then logic, then storage, then externals: calls only go onwards.
fn natures(random: &mut ChaCha8Rng, size: Size) -> Vec<Nature> {
    let entries = (size.services / 10).max(2);
    let storages = size.services / 3;
    let count = size.services + size.externals;
    let mut natures = Vec::new();
    for at in 0..count {
        let external = at >= size.services;
        let entry = at < entries;
        let storage = !external && at >= size.services - storages;
        let mut calls = Vec::new();
        if !external && !storage {
            let later: Vec<u32> = (at.max(entries - 1) + 1..size.services).collect();
            let near = later.len().min(20);
            let fan = random.random_range(1..=3_usize);
            for callee in later[..near].sample(random, fan) {
                calls.push((*callee, random.random_range(0.3..1.0)));
            }
        }
        if !external && size.externals > 0 && random.random::<f32>() < 0.12 {
            calls.push((size.services + random.random_range(0..size.externals), 0.5));
        }
        let kind = if external {
            "ext"
        } else if entry {
            "entry"
        } else if storage {
            "store"
        } else {
            "logic"
        };
        natures.push(Nature {
            name: format!("{kind}{at}"),
            external,
            outside_rps: if entry { random.random_range(600.0..3_000.0) } else { 0.0 },
            calls,
            own_ms: random.random_range(2.0..25.0),
            errors: *[0.0003, 0.001, 0.003, 0.01].choose(random).expect("not empty"),
            instances: (size.instances / size.services).max(3) * random.random_range(50..150) / 100,
            use_share: random.random_range(0.3..0.6),
            spread: random.random_range(0.3..0.6),
        });
    }
    // Who is called by nobody is called by an entry.
    for at in entries..count {
        let called = natures.iter().any(|nature: &Nature| nature.calls.iter().any(|(callee, _)| *callee == at));
        if !called {
            let caller = random.random_range(0..entries) as usize;
            natures[caller].calls.push((at, random.random_range(0.2..0.6)));
        }
    }
    natures
}
