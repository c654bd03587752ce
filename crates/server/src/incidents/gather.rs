//! Samples of agents and proxies, as they arrive, made into frames: one for each second.
//!
//! Each source speaks about once a second, at a moment of its own. A sample counts for the second that it mostly covers, and
//! samples that follow one another count for seconds that do. A second is closed when every source that lives has spoken of
//! it, at the latest [`GRACE_MS`] after its end; where most have not, the collection is held up, and it waits until
//! [`HELD_UP_MS`]. Time is that of arrival, less what a sample was held up on its way: a source's clock may be minutes off.

mod excuse;
mod machine;
mod rhythm;

use super::edges::{Edges, Sum};
use super::names::Names;
use api::fleet::{AgentSamples, ProxySamples};
use detect::{Dropped, Frame, Topology};
use excuse::{Counted, Excuses};
use machine::Machine;
use model::UnixMs;
use rhythm::{Arrival, Rhythm};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Time after a second's end for which it waits for those who have not spoken.
pub const GRACE_MS: u64 = 800;
/// The same when less than [`HEARD_SHARE`] of the proxies or of the agents that live have spoken: half a fleet does not fall
/// silent in one second, but a network or a server may stop for that long.
const HELD_UP_MS: u64 = 2_000;
/// Share that must have spoken for the shorter wait.
const HEARD_SHARE: f64 = 0.5;
/// Names told of those who are late.
const SILENT_NAMES_MAX: usize = 5;
/// A source silent for this long is not waited for.
const WAITED_FOR_MS: u64 = 3_000;
/// A proxy silent for this long is forgotten with its edges.
const FORGOTTEN_MS: u64 = 60_000;
/// Seconds open at the same time; a source beyond them speaks too late.
const OPEN_MAX: usize = 4;
/// Edges known at most, over all proxies; beyond, new ones are left out and counted.
const EDGES_MAX: usize = 1_000_000;
/// A sample that covers more than this is brought down to a second.
const COVERED_MS_MAX: u64 = 1_300;
/// A sample this long after the last one of everything is one of everything.
const WHOLE_MS: u64 = 900;
/// Time that one sample may cover: after a longer silence counters begin anew.
const SILENCE_MS_MAX: u64 = 5_000;

/// A proxy as heard.
#[derive(Debug, Default)]
struct Proxy {
    edges: Edges,
    policies: Counted,
    rhythm: Rhythm,
    time_us: u64,
    /// Time of the newest sample of everything.
    whole_us: u64,
}

/// What came in one second.
#[derive(Debug, Default)]
struct Second {
    at: u64,
    instances: Vec<Sum>,
    services: Vec<Sum>,
    pairs: HashMap<(u32, u32), Sum>,
    excuses: Excuses,
    /// Proxies that spoke of it.
    proxies: BTreeSet<u32>,
}

impl Second {
    fn clear(&mut self, at: u64) {
        self.at = at;
        self.instances.iter_mut().chain(&mut self.services).filter(|sum| sum.any).for_each(Sum::clear);
        self.pairs.values_mut().for_each(Sum::clear);
        self.excuses.clear();
        self.proxies.clear();
    }

    /// Takes off what policies rejected: only what is beyond them is asked of the service, and to be judged.
    fn excuse(&mut self, left: &mut BTreeMap<u32, f32>) {
        let (services, pairs) = self.excuses.settle(left);
        for (service, rejects) in services {
            self.services.get_mut(service as usize).into_iter().for_each(|sum| sum.excuse(rejects));
        }
        for (pair, rejects) in pairs {
            self.pairs.get_mut(&pair).into_iter().for_each(|sum| sum.excuse(rejects));
        }
    }
}

fn slot(sums: &mut Vec<Sum>, at: u32) -> &mut Sum {
    let at = at as usize;
    if at >= sums.len() {
        sums.resize_with(at + 1, Sum::default);
    }
    &mut sums[at]
}

/// Gathers samples.
#[derive(Debug, Default)]
pub struct Gather {
    names: Names,
    services: Names,
    proxy_names: Names,
    proxies: BTreeMap<u32, Proxy>,
    /// Proxies that carry an instance, by its number.
    carriers: Vec<Vec<u32>>,
    machine: Machine,
    open: VecDeque<Second>,
    spare: Vec<Second>,
    /// Seconds before this are closed.
    next: Option<u64>,
    /// Calls between services that were seen.
    calls: BTreeSet<(u32, u32)>,
    called: Vec<(String, String)>,
    /// When the proxies that report were last other ones than before.
    changed_ms: Option<UnixMs>,
    /// Rejections by policies that edges have still to show, by service.
    unexcused: BTreeMap<u32, f32>,
    refused: u64,
}

/// Where the entities of a topology are found among what was gathered.
#[derive(Debug, Default)]
pub struct Places {
    instances: Vec<Option<u32>>,
    services: Vec<Option<u32>>,
    hosts: Vec<Option<u32>>,
    pairs: Vec<Option<(u32, u32)>>,
}

impl Gather {
    /// Takes what an agent read.
    pub fn agent(&mut self, host: &str, samples: &AgentSamples, now: UnixMs) {
        self.machine.take(&mut self.names, host, samples, now);
    }

    /// Takes what a proxy counted.
    pub fn proxy(&mut self, name: &str, samples: &ProxySamples, now: UnixMs) {
        let Some(number) = self.proxy_names.number(name) else { return };
        let known: usize = self.proxies.values().map(|proxy| proxy.edges.len()).sum();
        if !self.proxies.contains_key(&number) {
            self.changed_ms = Some(now);
        }
        let proxy = self.proxies.entry(number).or_default();
        let silent_ms = now.saturating_sub(proxy.rhythm.heard_ms());
        if silent_ms > WAITED_FOR_MS {
            self.changed_ms = Some(now);
        }
        let time_us = samples.time_unix_us;
        if time_us == proxy.time_us {
            return;
        }
        // By the proxy's own clock, unless that was set meanwhile.
        let since = |before_us: u64| match time_us.checked_sub(before_us) {
            Some(us) if us / 1_000 <= SILENCE_MS_MAX => (us / 1_000).max(1),
            _ => silent_ms.clamp(1, SILENCE_MS_MAX),
        };
        // While a service is under stress its edges come ten times a second, and all others still once.
        let (fast_ms, whole_ms) = (since(proxy.time_us), since(proxy.whole_us));
        let whole = whole_ms >= WHOLE_MS;
        let covered_ms = if whole { whole_ms } else { fast_ms };
        proxy.time_us = time_us;
        if whole {
            proxy.whole_us = time_us;
        }
        let at = proxy.rhythm.second(Arrival { sent_ms: time_us / 1_000, now }, covered_ms);
        let scale = if covered_ms > COVERED_MS_MAX { 1_000.0 / covered_ms as f32 } else { 1.0 };
        let Some(mut second) = self.take_second(at) else { return };
        second.proxies.insert(number);
        self.policies(number, samples, scale, &mut second);
        self.edges(number, samples, (known, scale), &mut second);
        self.put_second(second);
    }

    fn policies(&mut self, number: u32, samples: &ProxySamples, scale: f32, second: &mut Second) {
        let Some(proxy) = self.proxies.get_mut(&number) else { return };
        for sample in &samples.protection {
            let Some(service) = self.services.number(&sample.service) else { continue };
            let rejects = proxy.policies.take(service, sample, samples.time_unix_us);
            second.excuses.policies(service, rejects as f32 * scale);
        }
        proxy.policies.met();
    }

    fn edges(&mut self, number: u32, samples: &ProxySamples, (known, scale): (usize, f32), second: &mut Second) {
        let Some(proxy) = self.proxies.get_mut(&number) else { return };
        let mut room = EDGES_MAX.saturating_sub(known);
        for sample in &samples.edges {
            let service = self.services.number(&sample.service);
            let caller = self.services.number(&sample.caller);
            let instance =
                if sample.instance.is_empty() { Some(u32::MAX) } else { self.names.number(&sample.instance) };
            let (Some(service), Some(caller), Some(instance)) = (service, caller, instance) else {
                self.refused += 1;
                continue;
            };
            let key = (caller, service, instance);
            let is_new = !proxy.edges.knows(key);
            if is_new && room == 0 {
                self.refused += 1;
                continue;
            }
            room -= usize::from(is_new);
            let by_proxy = instance == u32::MAX;
            let all = proxy.edges.take(key, sample);
            // What a policy answers in the service's place is no answer of the service. Without one acting, an edge to no
            // instance also is the way to what has none, such as an external.
            let instead = by_proxy && proxy.policies.acts(service, samples.time_unix_us);
            let delta = if instead { all.failed() } else { all };
            let pair = second.pairs.entry((caller, service)).or_default();
            if instead {
                pair.count(delta, sample, scale);
            } else {
                pair.add(delta, sample, scale);
            }
            if is_new && self.calls.insert((caller, service)) {
                self.called.push((sample.caller.clone(), sample.service.clone()));
            }
            if by_proxy {
                second.excuses.proxy(caller, service, delta.rejects * scale);
                slot(&mut second.services, service).add(delta, sample, scale);
                continue;
            }
            slot(&mut second.instances, instance).add(delta, sample, scale);
            if is_new {
                let at = instance as usize;
                if at >= self.carriers.len() {
                    self.carriers.resize_with(at + 1, Vec::new);
                }
                if !self.carriers[at].contains(&number) {
                    self.carriers[at].push(number);
                }
            }
        }
    }

    /// The open second, made when it is new; none when it is closed already.
    fn take_second(&mut self, at: u64) -> Option<Second> {
        if self.next.is_some_and(|next| at < next) {
            return None;
        }
        self.next.get_or_insert(at);
        if let Some(found) = self.open.iter().position(|second| second.at == at) {
            return self.open.remove(found);
        }
        let mut second = self.spare.pop().unwrap_or_default();
        second.clear(at);
        Some(second)
    }

    fn put_second(&mut self, second: Second) {
        let at = self.open.partition_point(|other| other.at < second.at);
        self.open.insert(at, second);
        while self.open.len() > OPEN_MAX {
            self.spare.extend(self.open.pop_front());
        }
    }

    /// The next second, once it is complete or its time is up. `now` is the time up to which all that arrived was given.
    pub fn due(&self, now: UnixMs) -> Option<u64> {
        let next = self.next.or_else(|| self.machine.first_second())?;
        let end_ms = (next + 1) * 1_000;
        if now < end_ms {
            return None;
        }
        if now >= end_ms + HELD_UP_MS {
            return Some(next);
        }
        let live = |rhythm: &&Rhythm| rhythm.heard_ms() + WAITED_FOR_MS >= now;
        let mut proxies = self.proxies.values().map(|proxy| &proxy.rhythm).filter(live);
        let mut agents = self.machine.rhythms().filter(live);
        let spoke = |rhythm: &Rhythm| rhythm.last() >= next;
        let is_due = if now < end_ms + GRACE_MS {
            proxies.all(spoke) && agents.all(spoke)
        } else {
            are_most(proxies.map(spoke)) && are_most(agents.map(spoke))
        };
        is_due.then_some(next)
    }

    /// Who lives and has not spoken of a second yet: how many, and the names of some.
    pub fn silent(&self, at: u64, now: UnixMs) -> (usize, Vec<&str>) {
        let is_silent = |rhythm: &Rhythm| rhythm.heard_ms() + WAITED_FOR_MS >= now && rhythm.last() < at;
        let proxies = || self.proxies.iter().filter(|(_, proxy)| is_silent(&proxy.rhythm)).map(|(number, _)| *number);
        let names = proxies().filter_map(|number| self.proxy_names.name(number));
        let names = names.chain(self.machine.names(is_silent)).take(SILENT_NAMES_MAX).collect();
        (proxies().count() + self.machine.rhythms().filter(|rhythm| is_silent(rhythm)).count(), names)
    }

    /// After a long stop what lies between is left out: nobody can act on it any more.
    pub fn catch_up(&mut self, now: UnixMs, behind_s_max: u64) {
        let oldest = (now / 1_000).saturating_sub(behind_s_max);
        if self.next.is_some_and(|next| next < oldest) {
            self.next = Some(oldest);
            while self.open.front().is_some_and(|second| second.at < oldest) {
                self.spare.extend(self.open.pop_front());
            }
        }
    }

    /// Fills a frame with a second and closes it. Give the second that was due.
    pub fn close(&mut self, at: u64, topology: &Topology, places: &Places, frame: &mut Frame) {
        frame.clear(topology, at);
        let found = self.open.iter().position(|second| second.at <= at);
        let second = found.and_then(|found| self.open.remove(found)).filter(|second| second.at == at);
        if let Some(mut second) = second {
            second.excuse(&mut self.unexcused);
            self.fill_instances(&mut second, places, frame);
            fill_services(&mut second, places, frame);
            fill_pairs(&mut second, places, frame);
            self.spare.push(second);
        }
        self.machine.fill(at, (&places.instances, &places.hosts), frame);
        self.next = Some(at + 1);
    }

    fn fill_instances(&self, second: &mut Second, places: &Places, frame: &mut Frame) {
        let columns = &mut frame.instances;
        for (at, place) in places.instances.iter().enumerate() {
            let Some(number) = *place else { continue };
            if let Some(sum) = second.instances.get_mut(number as usize).filter(|sum| sum.any) {
                (columns.requests[at], columns.errors[at]) = (sum.counts.requests, sum.counts.errors);
                (columns.rejects[at], columns.in_flight[at]) = (sum.counts.rejects, sum.in_flight);
                (columns.latency_ms[at], columns.tail_ms[at]) = sum.latency_ms();
                continue;
            }
            // Nothing moved at it: none when everybody who carries it has spoken, unknown when not.
            let carriers = self.carriers.get(number as usize).map_or(&[][..], Vec::as_slice);
            if !carriers.is_empty() && carriers.iter().all(|proxy| second.proxies.contains(proxy)) {
                (columns.requests[at], columns.errors[at], columns.rejects[at]) = (0.0, 0.0, 0.0);
            }
        }
    }

    /// Where the entities of a topology are.
    pub fn places(&mut self, topology: &Topology) -> Places {
        let services = topology.services();
        let numbers: Vec<Option<u32>> = services.iter().map(|at| self.services.number(&at.name)).collect();
        let pair = |pair: &detect::Pair| Some((numbers[pair.caller as usize]?, numbers[pair.callee as usize]?));
        Places {
            instances: topology.instances().iter().map(|at| self.names.number(&at.name)).collect(),
            hosts: topology.hosts().iter().map(|at| self.machine.host(&at.name)).collect(),
            pairs: topology.pairs().iter().map(pair).collect(),
            services: numbers,
        }
    }

    /// Calls seen since they were last asked for, as names of caller and callee.
    pub fn take_called(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.called)
    }

    /// Forgets proxies that are gone; gives when the proxies that report were last other ones.
    pub fn look_at_proxies(&mut self, now: UnixMs) -> Option<UnixMs> {
        let silent = |proxy: &Proxy, ms: u64| proxy.rhythm.heard_ms() + ms < now;
        if self.proxies.values().any(|proxy| silent(proxy, WAITED_FOR_MS) && !silent(proxy, 2 * WAITED_FOR_MS)) {
            self.changed_ms = Some(now);
        }
        let gone: BTreeSet<u32> =
            self.proxies.iter().filter(|(_, proxy)| silent(proxy, FORGOTTEN_MS)).map(|(number, _)| *number).collect();
        if !gone.is_empty() {
            self.proxies.retain(|number, _| !gone.contains(number));
            self.carriers.iter_mut().for_each(|carriers| carriers.retain(|proxy| !gone.contains(proxy)));
        }
        self.changed_ms
    }

    /// Proxies known, and edges of theirs.
    pub fn proxies(&self) -> (usize, usize) {
        (self.proxies.len(), self.proxies.values().map(|proxy| proxy.edges.len()).sum())
    }

    /// Samples that were not taken, or not as they said.
    pub fn dropped(&self) -> (Dropped, u64) {
        (self.machine.dropped(), self.refused)
    }
}

/// Whether enough have spoken for a second to be closed without the others; true of nobody at all.
fn are_most(spoke: impl Iterator<Item = bool>) -> bool {
    let (all, heard) = spoke.fold((0, 0), |(all, heard), spoke| (all + 1, heard + u32::from(spoke)));
    f64::from(heard) >= HEARD_SHARE * f64::from(all)
}

fn fill_services(second: &mut Second, places: &Places, frame: &mut Frame) {
    let columns = &mut frame.services;
    for (at, place) in places.services.iter().enumerate() {
        let sum = place.and_then(|number| second.services.get(number as usize)).filter(|sum| sum.any);
        let counts = sum.map(|sum| sum.counts).unwrap_or_default();
        (columns.requests[at], columns.errors[at], columns.rejects[at]) =
            (counts.requests, counts.errors, counts.rejects);
    }
}

fn fill_pairs(second: &mut Second, places: &Places, frame: &mut Frame) {
    let columns = &mut frame.pairs;
    for (at, place) in places.pairs.iter().enumerate() {
        let Some(sum) = place.and_then(|pair| second.pairs.get_mut(&pair)).filter(|sum| sum.any) else {
            (columns.requests[at], columns.errors[at], columns.rejects[at]) = (0.0, 0.0, 0.0);
            continue;
        };
        (columns.requests[at], columns.errors[at], columns.rejects[at]) =
            (sum.counts.requests, sum.counts.errors, sum.counts.rejects);
        (columns.latency_ms[at], columns.tail_ms[at]) = sum.latency_ms();
    }
}

#[cfg(test)]
mod tests;
