//! Scale-in: which instances go, so that those that stay are spread as well as can be.

use model::{DatacenterName, HostName, InstanceId, InstanceIntent, RackName, ServiceName, Snapshot};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// An instance that may go.
struct Candidate<'a> {
    instance: &'a InstanceId,
    host: &'a HostName,
    rack: &'a RackName,
    number: u64,
}

/// Chooses victims: `removes` of them in each datacenter, fewer where there are fewer. From the rack with the most of the
/// service, there from the host with the most, there the newest. Those that drain already neither count nor are chosen.
pub fn remove(
    snapshot: &Snapshot,
    service: &ServiceName,
    removes: &BTreeMap<DatacenterName, u32>,
) -> Vec<(HostName, InstanceId)> {
    let mut victims = Vec::new();
    for (datacenter, &count) in removes {
        let mut staying = candidates(snapshot, service, datacenter);
        for _ in 0..count.min(staying.len() as u32) {
            let victim = staying.remove(worst(&staying));
            victims.push((victim.host.clone(), victim.instance.clone()));
        }
    }
    victims
}

fn candidates<'a>(
    snapshot: &'a Snapshot,
    service: &'a ServiceName,
    datacenter: &'a DatacenterName,
) -> Vec<Candidate<'a>> {
    let here = snapshot.placements_of(service).filter(|(host, placement)| {
        placement.intent != InstanceIntent::Draining && snapshot.datacenter_of(host) == Some(datacenter)
    });
    here.filter_map(|(host, placement)| {
        let rack = &snapshot.host(host)?.rack;
        Some(Candidate { instance: &placement.instance, host, rack, number: number_of(&placement.instance) })
    })
    .collect()
}

/// Numbers are never reused, so that the highest is the newest.
fn number_of(instance: &InstanceId) -> u64 {
    let number = instance.as_str().rsplit_once('-').and_then(|(_, number)| number.parse().ok());
    number.unwrap_or(0)
}

fn worst(staying: &[Candidate<'_>]) -> usize {
    let mut in_rack = BTreeMap::new();
    let mut on_host = BTreeMap::new();
    for candidate in staying {
        *in_rack.entry(candidate.rack).or_insert(0_u32) += 1;
        *on_host.entry(candidate.host).or_insert(0_u32) += 1;
    }
    let rank = |at: usize| {
        let candidate: &Candidate<'_> = &staying[at];
        (in_rack[candidate.rack], on_host[candidate.host], candidate.number, Reverse(candidate.host))
    };
    (0..staying.len()).max_by_key(|at| rank(*at)).expect("asked only while some stay")
}
