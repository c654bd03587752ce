//! Faults, what they do to a fleet, and what a detector should name as their cause.

use super::fleet::{Fleet, Hurt};
use detect::{Cause, CauseKind, EntityKind};
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use serde::Deserialize;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// One instance dies.
    InstanceLoss,
    /// A service rejects a share of its requests.
    FastRejectBurst,
    /// A service becomes slower by a factor.
    Latency,
    /// A service fails a share of its requests.
    Errors,
    /// One instance becomes slower and burns CPU.
    HotInstance,
    /// New instances of a rollout fail, or are slow.
    BadRelease,
    /// A dependency outside becomes slower by a factor.
    SlowDependency,
    /// One instance fails a share of its requests.
    ErroringInstance,
    /// All instances of a host become slower by a factor.
    SlowHost,
    /// A host dies.
    HostLoss,
    /// A rack dies.
    RackLoss,
    /// A datacenter dies.
    DatacenterLoss,
    /// Requests from outside are multiplied, unannounced.
    DemandSurge,
}

impl FaultKind {
    /// The seven that the issue names, then the others.
    pub const ALL: [Self; 13] = [
        Self::InstanceLoss,
        Self::FastRejectBurst,
        Self::Latency,
        Self::Errors,
        Self::HotInstance,
        Self::BadRelease,
        Self::SlowDependency,
        Self::ErroringInstance,
        Self::SlowHost,
        Self::HostLoss,
        Self::RackLoss,
        Self::DatacenterLoss,
        Self::DemandSurge,
    ];

    /// As printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::InstanceLoss => "instance_loss",
            Self::FastRejectBurst => "fast_reject_burst",
            Self::Latency => "latency",
            Self::Errors => "errors",
            Self::HotInstance => "hot_instance",
            Self::BadRelease => "bad_release",
            Self::SlowDependency => "slow_dependency",
            Self::ErroringInstance => "erroring_instance",
            Self::SlowHost => "slow_host",
            Self::HostLoss => "host_loss",
            Self::RackLoss => "rack_loss",
            Self::DatacenterLoss => "datacenter_loss",
            Self::DemandSurge => "demand_surge",
        }
    }

    /// How strong it is when nothing is said: a factor, or a share.
    pub fn strength(self, random: &mut impl Rng) -> f32 {
        match self {
            Self::FastRejectBurst => random.random_range(0.05..0.4),
            Self::Latency => 2.0,
            Self::SlowDependency => random.random_range(2.0..4.0),
            Self::Errors => 0.05,
            Self::HotInstance => random.random_range(1.8..4.0),
            Self::SlowHost => random.random_range(1.8..3.0),
            Self::ErroringInstance => random.random_range(0.15..0.5),
            Self::BadRelease => random.random_range(0.05..0.3),
            Self::DemandSurge => random.random_range(2.5..6.0),
            Self::InstanceLoss | Self::HostLoss | Self::RackLoss | Self::DatacenterLoss => 1.0,
        }
    }
}

/// One fault of a run.
#[derive(Debug, Clone)]
pub struct Fault {
    pub kind: FaultKind,
    /// Name of what is hurt: service, external, instance, host, rack or datacenter.
    pub target: String,
    /// Its id among services, hosts, racks or datacenters; an instance's service.
    pub at: u32,
    pub onset_ms: u64,
    pub until_ms: u64,
    pub strength: f32,
}

/// Requests a second of a service, or an instance of it, below which a share cannot be told from chance in seconds.
const SERVICE_RPS_MIN: f32 = 200.0;
const INSTANCE_RPS_MIN: f32 = 20.0;

impl Fault {
    /// Picks a target: a named one, or any that carries traffic.
    pub fn pick(kind: FaultKind, named: Option<&str>, fleet: &Fleet, random: &mut impl Rng) -> Option<(String, u32)> {
        let all = 0..fleet.services.len() as u32;
        let carries = |at: &u32| fleet.usual_rps(*at) >= SERVICE_RPS_MIN;
        let peers = |at: &u32| fleet.of(*at).len() >= 4;
        let dense = |at: &u32| fleet.usual_rps(*at) / fleet.of(*at).len().max(1) as f32 >= INSTANCE_RPS_MIN;
        let services: Vec<u32> = all
            .filter(|at| match kind {
                FaultKind::SlowDependency => fleet.services[*at as usize].external && fleet.usual_rps(*at) > 20.0,
                FaultKind::DemandSurge => fleet.services[*at as usize].outside_rps > 0.0,
                FaultKind::Latency | FaultKind::Errors | FaultKind::FastRejectBurst => {
                    !fleet.services[*at as usize].external && carries(at)
                }
                _ => !fleet.services[*at as usize].external && carries(at) && peers(at) && dense(at),
            })
            .collect();
        if let Some(name) = named {
            return find(kind, name, fleet);
        }
        match kind {
            FaultKind::InstanceLoss | FaultKind::HotInstance | FaultKind::ErroringInstance => {
                let service = *services.choose(random)?;
                let member = *fleet.of(service).choose(random)?;
                Some((fleet.members[member as usize].name.clone(), service))
            }
            FaultKind::HostLoss | FaultKind::SlowHost => {
                let full = |at: &u32| {
                    let here = fleet.members.iter().filter(|member| member.host == *at);
                    here.filter(|member| peers(&member.service) && dense(&member.service)).count() >= 3
                };
                let hosts: Vec<u32> = (0..fleet.hosts.len() as u32).filter(full).collect();
                let host = *hosts.choose(random)?;
                Some((fleet.hosts[host as usize].name.clone(), host))
            }
            FaultKind::RackLoss => {
                let rack = random.random_range(0..fleet.racks.len());
                Some((fleet.racks[rack].name.clone(), rack as u32))
            }
            FaultKind::DatacenterLoss => {
                let datacenter = random.random_range(0..fleet.datacenters.len());
                Some((fleet.datacenters[datacenter].clone(), datacenter as u32))
            }
            _ => {
                let service = *services.choose(random)?;
                Some((fleet.services[service as usize].name.clone(), service))
            }
        }
    }

    /// Sets what it does in the second that begins at `second`.
    pub fn apply(&self, fleet: &mut Fleet, second: u64) {
        let (from, to) = (second * 1_000, second * 1_000 + 1_000);
        let overlap_ms = self.until_ms.min(to).saturating_sub(self.onset_ms.max(from));
        if overlap_ms == 0 {
            return;
        }
        let part = overlap_ms as f32 / 1_000.0;
        let slow = 1.0 + (self.strength - 1.0) * part;
        let gone_s = (to.saturating_sub(self.onset_ms) / 1_000) as u32;
        let lost = Hurt { gone: part, gone_s, ..Hurt::NONE };
        let here = |fleet: &Fleet, member: usize| {
            let host = fleet.members[member].host;
            let rack = fleet.hosts[host as usize].rack;
            match self.kind {
                FaultKind::HostLoss | FaultKind::SlowHost => host == self.at,
                FaultKind::RackLoss => rack == self.at,
                FaultKind::DatacenterLoss => fleet.racks[rack as usize].datacenter == self.at,
                FaultKind::BadRelease => fleet.members[member].service == self.at && fleet.members[member].version > 1,
                _ => fleet.members[member].name == self.target,
            }
        };
        let hurt_members = |fleet: &mut Fleet, hurt: Hurt| {
            for member in 0..fleet.members.len() {
                if here(fleet, member) {
                    fleet.hurt_members[member] = hurt;
                }
            }
        };
        let at = self.at as usize;
        match self.kind {
            FaultKind::FastRejectBurst => fleet.hurt_services[at].rejects = self.strength * part,
            FaultKind::Latency | FaultKind::SlowDependency => fleet.hurt_services[at].slow = slow,
            FaultKind::Errors => {
                let rest = (self.strength - fleet.services[at].errors).max(0.0);
                fleet.hurt_services[at].errors = rest * part;
            }
            FaultKind::DemandSurge => fleet.hurt_services[at].demand = slow,
            FaultKind::HotInstance => hurt_members(fleet, Hurt { slow, cpu: slow, ..Hurt::NONE }),
            FaultKind::SlowHost => hurt_members(fleet, Hurt { slow, ..Hurt::NONE }),
            FaultKind::ErroringInstance => {
                hurt_members(fleet, Hurt { errors: self.strength * part, ..Hurt::NONE });
            }
            // A bad release either fails or is slow.
            FaultKind::BadRelease if self.strength > 0.2 => {
                hurt_members(fleet, Hurt { slow: 1.0 + 4.0 * self.strength * part, ..Hurt::NONE })
            }
            FaultKind::BadRelease => hurt_members(fleet, Hurt { errors: self.strength * part, ..Hurt::NONE }),
            FaultKind::InstanceLoss => hurt_members(fleet, lost),
            FaultKind::HostLoss | FaultKind::RackLoss | FaultKind::DatacenterLoss => {
                hurt_members(fleet, lost);
                for host in 0..fleet.hosts.len() {
                    let rack = fleet.hosts[host].rack;
                    fleet.hurt_hosts[host] |= match self.kind {
                        FaultKind::HostLoss => host == at,
                        FaultKind::RackLoss => rack == self.at,
                        _ => fleet.racks[rack as usize].datacenter == self.at,
                    };
                }
            }
        }
    }

    /// True when a cause names this fault: its kind and its target, exactly. A slow instance may be called slow or hot.
    pub fn named_by(&self, cause: &Cause) -> bool {
        use EntityKind as E;
        let (kinds, entity): (&[CauseKind], EntityKind) = match self.kind {
            FaultKind::InstanceLoss => (&[CauseKind::Loss], E::Instance),
            FaultKind::FastRejectBurst => (&[CauseKind::Rejects], E::Service),
            FaultKind::Latency => (&[CauseKind::Slow], E::Service),
            FaultKind::Errors => (&[CauseKind::Errors], E::Service),
            FaultKind::HotInstance => (&[CauseKind::Hot, CauseKind::Slow], E::Instance),
            FaultKind::BadRelease => (&[CauseKind::Release], E::Service),
            FaultKind::SlowDependency => (&[CauseKind::Slow], E::External),
            FaultKind::ErroringInstance => (&[CauseKind::Errors], E::Instance),
            FaultKind::SlowHost => (&[CauseKind::Slow], E::Host),
            FaultKind::HostLoss => (&[CauseKind::Loss], E::Host),
            FaultKind::RackLoss => (&[CauseKind::Loss], E::Rack),
            FaultKind::DatacenterLoss => (&[CauseKind::Loss], E::Datacenter),
            FaultKind::DemandSurge => (&[CauseKind::DemandSurge], E::Service),
        };
        kinds.contains(&cause.kind) && cause.entity.kind == entity && cause.entity.name == self.target
    }

    /// Services that it touches: where it sits, who calls them (near and far), and whom a surge reaches.
    pub fn touches(&self, fleet: &Fleet) -> Vec<bool> {
        let mut touched = vec![false; fleet.services.len()];
        let located = |member: usize| {
            let host = fleet.members[member].host;
            let rack = fleet.hosts[host as usize].rack;
            match self.kind {
                FaultKind::HostLoss | FaultKind::SlowHost => host == self.at,
                FaultKind::RackLoss => rack == self.at,
                _ => fleet.racks[rack as usize].datacenter == self.at,
            }
        };
        match self.kind {
            FaultKind::HostLoss | FaultKind::SlowHost | FaultKind::RackLoss | FaultKind::DatacenterLoss => {
                (0..fleet.members.len())
                    .filter(|at| located(*at))
                    .for_each(|at| touched[fleet.members[at].service as usize] = true);
            }
            _ => touched[self.at as usize] = true,
        }
        for _ in 0..fleet.services.len() {
            let before = touched.iter().filter(|is| **is).count();
            for pair in &fleet.pairs {
                let down = self.kind == FaultKind::DemandSurge && touched[pair.caller as usize];
                touched[pair.caller as usize] |= touched[pair.callee as usize];
                touched[pair.callee as usize] |= down;
            }
            if before == touched.iter().filter(|is| **is).count() {
                break;
            }
        }
        touched
    }
}

fn find(kind: FaultKind, name: &str, fleet: &Fleet) -> Option<(String, u32)> {
    let at = |found: Option<usize>| Some((name.to_owned(), found? as u32));
    match kind {
        FaultKind::InstanceLoss | FaultKind::HotInstance | FaultKind::ErroringInstance => {
            // Instances have generated names: a service's name means one of its instances.
            let service = fleet.services.iter().position(|nature| nature.name == name)? as u32;
            let member = *fleet.of(service).first()?;
            Some((fleet.members[member as usize].name.clone(), service))
        }
        FaultKind::HostLoss | FaultKind::SlowHost => at(fleet.hosts.iter().position(|host| host.name == name)),
        FaultKind::RackLoss => at(fleet.racks.iter().position(|rack| rack.name == name)),
        FaultKind::DatacenterLoss => at(fleet.datacenters.iter().position(|known| known == name)),
        _ => at(fleet.services.iter().position(|nature| nature.name == name)),
    }
}
