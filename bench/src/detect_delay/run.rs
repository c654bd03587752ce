//! One fleet run in virtual time: faults come and go, the detector gets a frame a second, and what it says is kept.

use super::faults::{Fault, FaultKind};
use super::fleet::{Fleet, Hurt};
use detect::{Activity, ActivityKind, Cause, Change, Config, Detector, EntityKind, EntityRef, Frame, IncidentState};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

/// Time from a second's end to the detector having its frame: what agents and proxies need to report.
pub const DELIVERY_MS: u64 = 300;
/// Time after a fault's end in which an incident still belongs to it.
const AFTERMATH_MS: u64 = 20_000;
/// Time after an incident opened in which what it says is kept.
const LATER_MS_MAX: u64 = 10_000;
/// Time before a release serves, in which it is already an operation.
const RELEASE_BEFORE_S: u64 = 8;

/// What an incident said, as it opened and ten seconds after its fault's onset.
#[derive(Debug, Clone)]
pub struct Said {
    pub id: String,
    pub at_ms: u64,
    pub services: BTreeSet<String>,
    pub first: Vec<Cause>,
    pub later: Vec<Cause>,
    /// The one it was merged into, which speaks for it from then on.
    pub into: Option<usize>,
    /// When it ended.
    pub ended_ms: Option<u64>,
}

/// Activities and members that come and go beside faults.
#[derive(Debug, Clone)]
pub enum Turn {
    /// A healthy rollout begins.
    Rollout { service: u32 },
    /// An announced crowd begins, by this factor, over this time; it stays as long and goes as fast.
    Crowd { factor: f32, ramp_s: u64, stay_s: u64 },
    /// A datacenter is taken out on purpose, for this time.
    Drill { datacenter: u32, stay_s: u64 },
}

/// The run.
pub struct Run {
    pub fleet: Fleet,
    pub detector: Detector,
    frame: Frame,
    random: ChaCha8Rng,
    activities: Vec<Activity>,
    pub said: Vec<Said>,
    open: BTreeMap<String, usize>,
    crowd: Option<(u64, f32, u64, u64)>,
    drill_until_s: u64,
    bad: Option<u32>,
    /// Instances that faults will hit: a rollout replaces others.
    pub kept: BTreeSet<String>,
    /// CPU time of the detector alone.
    pub detect_ns: u64,
    /// Time stands at this second.
    pub second: u64,
}

impl Run {
    /// A run of a fleet that begins at this second.
    pub fn new(fleet: Fleet, seed: u64, begin_s: u64) -> Self {
        let mut detector = Detector::new(Config::default());
        detector.retarget(fleet.topology());
        Self {
            frame: Frame::new(detector.topology()),
            detector,
            fleet,
            random: ChaCha8Rng::seed_from_u64(seed ^ 0xFA17),
            activities: Vec::new(),
            said: Vec::new(),
            open: BTreeMap::new(),
            crowd: None,
            drill_until_s: 0,
            bad: None,
            kept: BTreeSet::new(),
            detect_ns: 0,
            second: begin_s,
        }
    }

    /// Runs one second with these faults.
    pub fn step(&mut self, faults: &[&Fault]) {
        let second = self.second;
        self.fleet.hurt_services.fill(Hurt::NONE);
        self.fleet.hurt_members.fill(Hurt::NONE);
        self.fleet.hurt_hosts.fill(false);
        self.releases(faults);
        faults.iter().for_each(|fault| fault.apply(&mut self.fleet, second));
        self.move_crowd();
        if self.fleet.drilled.is_some() && second >= self.drill_until_s {
            self.fleet.drilled = None;
        }
        self.fleet.fill(self.detector.topology(), second, &mut self.frame);
        let now_ms = (second + 1) * 1_000 + DELIVERY_MS;
        let begun = cpu_ns();
        let changes = self.detector.tick(&self.frame, now_ms);
        self.detect_ns += cpu_ns() - begun;
        changes.iter().for_each(|change| self.note(change, now_ms));
        for (id, at) in &self.open {
            if let Some(incident) = self.detector.incident(id) {
                self.said[*at].services.extend(incident.blast.services.iter().cloned());
            }
        }
        self.second += 1;
    }

    fn note(&mut self, change: &Change, now_ms: u64) {
        let id = change.id().to_owned();
        match change {
            Change::Opened(_) | Change::Reopened(_) => {
                let Some(incident) = self.detector.incident(&id) else { return };
                let said = Said {
                    id: id.clone(),
                    at_ms: now_ms,
                    services: incident.blast.services.iter().cloned().collect(),
                    first: incident.causes.clone(),
                    later: incident.causes.clone(),
                    into: None,
                    ended_ms: None,
                };
                self.open.insert(id, self.said.len());
                self.said.push(said);
            }
            Change::Resolved(_) => {
                if let Some(at) = self.open.remove(&id) {
                    self.said[at].ended_ms = Some(now_ms);
                }
            }
            Change::Merged(_, into) => {
                if let Some(at) = self.open.remove(&id) {
                    self.said[at].into = self.open.get(into).copied();
                }
            }
            _ => {}
        }
    }

    /// Keeps what open incidents say of their cause now: call it ten seconds after a fault's onset.
    pub fn keep_later(&mut self) {
        let now_ms = self.second * 1_000 + DELIVERY_MS;
        for incident in self.detector.incidents().filter(|incident| incident.state != IncidentState::Resolved) {
            let at = self.open.get(&incident.id).filter(|at| now_ms <= self.said[**at].at_ms + LATER_MS_MAX);
            if let Some(at) = at {
                self.said[*at].later.clone_from(&incident.causes);
            }
        }
        for at in 0..self.said.len() {
            if let Some(into) = self.said[at].into {
                self.said[at].later = self.said[into].later.clone();
            }
        }
    }

    /// Something intended begins now.
    pub fn turn(&mut self, turn: &Turn) {
        let from_ms = self.second * 1_000;
        match turn {
            Turn::Rollout { service } => self.roll_out(*service, 4, from_ms + 120_000),
            Turn::Crowd { factor, ramp_s, stay_s } => {
                self.crowd = Some((self.second, *factor, *ramp_s, *stay_s));
                let until_ms = Some(from_ms + (2 * ramp_s + stay_s + 60) * 1_000);
                let entries = self.fleet.services.iter().filter(|nature| nature.outside_rps > 0.0);
                let services = entries.map(|nature| nature.name.clone()).collect();
                self.activity(ActivityKind::Event { services }, from_ms, until_ms);
            }
            Turn::Drill { datacenter, stay_s } => {
                self.fleet.drilled = Some(*datacenter);
                self.drill_until_s = self.second + stay_s;
                let name = self.fleet.datacenters[*datacenter as usize].clone();
                let place = EntityRef { kind: EntityKind::Datacenter, name };
                self.activity(ActivityKind::Drill { place }, from_ms, Some(from_ms + stay_s * 1_000));
            }
        }
    }

    fn activity(&mut self, kind: ActivityKind, from_ms: u64, until_ms: Option<u64>) {
        let now_ms = self.second * 1_000;
        self.activities.retain(|activity| activity.until_ms.is_none_or(|until_ms| until_ms + 1_000_000 > now_ms));
        self.activities.push(Activity { kind, from_ms, until_ms });
        self.detector.set_activities(self.activities.clone());
    }

    /// Replaces one in `every` instances of a service by ones of a new version.
    fn roll_out(&mut self, service: u32, every: usize, until_ms: u64) {
        let mut members = self.fleet.of(service).to_vec();
        members.retain(|at| !self.kept.contains(&self.fleet.members[*at as usize].name));
        let version = members.iter().map(|at| self.fleet.members[*at as usize].version).max().unwrap_or(1) + 1;
        let count = self.fleet.of(service).len().div_ceil(every);
        let old: Vec<u32> = members.sample(&mut self.random, count).copied().collect();
        for at in &old {
            let host = self.fleet.members[*at as usize].host;
            self.fleet.add(service, host, version, &mut self.random);
            self.fleet.members.last_mut().expect("one was added").age_s = 0;
        }
        let gone: BTreeSet<u32> = old.into_iter().collect();
        let mut at = 0..;
        self.fleet.members.retain(|_| !gone.contains(&at.next().expect("it never ends")));
        self.rebuild();
        let service = self.fleet.services[service as usize].name.clone();
        let kind = ActivityKind::Operation { service, release: Some(version) };
        self.activity(kind, (self.second - RELEASE_BEFORE_S) * 1_000, Some(until_ms));
    }

    fn rebuild(&mut self) {
        self.fleet.index();
        self.detector.retarget(self.fleet.topology());
        self.frame = Frame::new(self.detector.topology());
    }

    /// Bad releases begin to serve at their onset, and are rolled back at their end.
    fn releases(&mut self, faults: &[&Fault]) {
        let (from, to) = (self.second * 1_000, self.second * 1_000 + 1_000);
        let bad = faults
            .iter()
            .find(|fault| fault.kind == FaultKind::BadRelease && fault.onset_ms < to && fault.until_ms > from);
        match (bad, self.bad) {
            (Some(fault), None) => {
                for member in &mut self.fleet.members {
                    // What is not new is version 1, so that the fault knows its own.
                    member.version = 1;
                }
                self.roll_out(fault.at, 4, fault.until_ms);
                self.bad = Some(fault.at);
            }
            (None, Some(service)) => {
                for member in self.fleet.members.iter_mut().filter(|member| member.service == service) {
                    member.version = 1;
                    member.age_s = 100;
                }
                self.rebuild();
                self.bad = None;
            }
            _ => {}
        }
    }

    fn move_crowd(&mut self) {
        let Some((from, factor, ramp, stay)) = self.crowd else { return };
        let at = self.second - from;
        let risen = if at < ramp {
            at as f32 / ramp as f32
        } else if at < ramp + stay {
            1.0
        } else {
            1.0 - (at - ramp - stay) as f32 / ramp as f32
        };
        self.fleet.crowd = factor.powf(risen.clamp(0.0, 1.0));
        if at >= 2 * ramp + stay {
            (self.crowd, self.fleet.crowd) = (None, 1.0);
        }
    }
}

/// CPU time of this thread: other work on the machine does not count.
fn cpu_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How a fault fared.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub fault: Fault,
    /// Onset to incident; none: missed.
    pub delay_ms: Option<u64>,
    /// Rank of the true cause when the incident opened, and ten seconds after the onset (0 is first).
    pub rank_first: Option<usize>,
    pub rank_later: Option<usize>,
    /// The first three causes ten seconds after the onset.
    pub blamed: String,
    /// From the fault's end to the incident's.
    pub lasted_ms: Option<u64>,
    /// More incidents of the same fault.
    pub duplicates: u32,
}

/// Pairs what was said with the faults; the rest is false.
pub fn judge(fleet: &Fleet, faults: &[Fault], said: &[Said]) -> (Vec<Verdict>, Vec<Said>) {
    let mut verdicts: Vec<Verdict> = faults.iter().map(blank).collect();
    let touches: Vec<Vec<bool>> = faults.iter().map(|fault| fault.touches(fleet)).collect();
    let mut wrong = Vec::new();
    for one in said {
        let concerns = |at: &usize| {
            let (fault, touched) = (&faults[*at], &touches[*at]);
            let in_time = (fault.onset_ms..fault.until_ms + AFTERMATH_MS).contains(&one.at_ms);
            let mut names = fleet.services.iter().zip(touched).filter(|(_, is)| **is).map(|(nature, _)| &nature.name);
            in_time && (names.any(|name| one.services.contains(name)) || one.later.iter().any(|c| fault.named_by(c)))
        };
        // With faults at the same time, the one it names is meant.
        let named = |at: &usize| one.later.first().is_some_and(|cause| faults[*at].named_by(cause));
        let mut candidates: Vec<usize> = (0..faults.len()).filter(concerns).collect();
        candidates.sort_by_key(|at| (!named(at), verdicts[*at].delay_ms.is_some()));
        let Some(at) = candidates.first() else {
            wrong.push(one.clone());
            continue;
        };
        let verdict = &mut verdicts[*at];
        if verdict.delay_ms.is_some() {
            verdict.duplicates += 1;
            continue;
        }
        let rank = |causes: &[Cause]| causes.iter().position(|cause| verdict.fault.named_by(cause));
        (verdict.rank_first, verdict.rank_later) = (rank(&one.first), rank(&one.later));
        verdict.delay_ms = Some(one.at_ms - verdict.fault.onset_ms);
        verdict.lasted_ms = one.ended_ms.map(|ended_ms| ended_ms.saturating_sub(verdict.fault.until_ms));
        let text = |cause: &Cause| format!("{} {} {:.2}", cause.kind, cause.entity, cause.score);
        verdict.blamed = one.later.iter().take(3).map(text).collect::<Vec<_>>().join(", ");
    }
    (verdicts, wrong)
}

fn blank(fault: &Fault) -> Verdict {
    let fault = fault.clone();
    Verdict {
        fault,
        delay_ms: None,
        rank_first: None,
        rank_later: None,
        blamed: String::new(),
        lasted_ms: None,
        duplicates: 0,
    }
}

/// A uniform choice of a service for a rollout.
pub fn any_service(run: &mut Run) -> u32 {
    let services: Vec<u32> = (0..run.fleet.services.len() as u32).filter(|at| run.fleet.of(*at).len() >= 4).collect();
    services[run.random.random_range(0..services.len())]
}
