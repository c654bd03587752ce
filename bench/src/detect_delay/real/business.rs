//! One business: a generated fleet with names of its own, and each second of it.

use super::super::faults::Fault;
use super::super::fleet::{Fleet, Hurt, Size};
use super::super::run::Said;
use detect::{Frame, Topology};

/// A business.
pub struct Business {
    pub number: u32,
    pub fleet: Fleet,
    pub topology: Topology,
    pub frame: Frame,
    prefix: String,
}

impl Business {
    /// The business of a number and a seed.
    pub fn new(number: u32, seed: u64, size: Size) -> Self {
        let mut fleet = Fleet::new(seed, size);
        let prefix = format!("b{number}-");
        fleet.services.iter_mut().for_each(|at| at.name.insert_str(0, &prefix));
        fleet.members.iter_mut().for_each(|at| at.name.insert_str(0, &prefix));
        fleet.hosts.iter_mut().for_each(|at| at.name.insert_str(0, &prefix));
        fleet.racks.iter_mut().for_each(|at| at.name.insert_str(0, &prefix));
        let topology = fleet.topology();
        let frame = Frame::new(&topology);
        Self { number, fleet, topology, frame, prefix }
    }

    /// Generates one second with these faults; the traffic is that of the second `of_day`.
    pub fn second(&mut self, second: u64, of_day: u64, faults: &[Fault]) {
        let fleet = &mut self.fleet;
        fleet.hurt_services.fill(Hurt::NONE);
        fleet.hurt_members.fill(Hurt::NONE);
        fleet.hurt_hosts.fill(false);
        faults.iter().for_each(|fault| fault.apply(fleet, second));
        fleet.fill(&self.topology, of_day, &mut self.frame);
    }

    /// True when an incident is about this business.
    pub fn is_about(&self, one: &Said) -> bool {
        one.services.iter().any(|name| name.starts_with(&self.prefix))
            || one.first.iter().any(|cause| cause.entity.name.starts_with(&self.prefix))
    }
}
