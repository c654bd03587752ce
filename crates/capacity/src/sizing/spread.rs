//! How many instances, and how they spread over datacenters.

use super::{INSTANCES_MAX, UTILISATION_AIM, UTILISATION_LOST_MAX, UTILISATION_MAX, UTILISATION_MIN};
use model::{DatacenterName, Service, Snapshot};
use std::collections::BTreeMap;

/// The spread to keep: today's counts, else the manifest's, else one each where hosts of the pool stand.
pub(super) fn weights(
    snapshot: &Snapshot,
    service: &Service,
    now: &BTreeMap<DatacenterName, u32>,
) -> BTreeMap<DatacenterName, u32> {
    let used = |of: &BTreeMap<DatacenterName, u32>| -> BTreeMap<DatacenterName, u32> {
        of.iter().filter(|(_, n)| **n > 0).map(|(dc, n)| (dc.clone(), *n)).collect()
    };
    let found = [used(now), used(&service.instances)].into_iter().find(|of| !of.is_empty());
    found.unwrap_or_else(|| {
        let hosts = snapshot.hosts().filter(|host| host.pool == service.pool);
        hosts.filter_map(|host| Some((snapshot.datacenter_of(&host.name)?.clone(), 1))).collect()
    })
}

/// Instances in each datacenter for a load of `erlangs` (load ÷ capacity of one). Never less than one in each.
pub(super) fn needed(erlangs: f64, weights: &BTreeMap<DatacenterName, u32>) -> BTreeMap<DatacenterName, u32> {
    let mut counts: BTreeMap<DatacenterName, u32> = weights.keys().map(|dc| (dc.clone(), 1)).collect();
    if weights.is_empty() {
        return counts;
    }
    let aim = total(erlangs, if weights.len() == 1 { UTILISATION_LOST_MAX } else { UTILISATION_MAX });
    seat(&mut counts, weights, aim, None);
    if weights.len() > 1 {
        cover_loss(&mut counts, weights, ceiling(erlangs / UTILISATION_LOST_MAX));
    }
    counts
}

/// Instances in all: as near 55% as whole instances allow, not over `most`, and not under 50% when one fewer would do.
fn total(erlangs: f64, most: f64) -> u32 {
    let aim = ceiling(erlangs / UTILISATION_AIM).max(1);
    let fewer = aim - 1;
    let spare = fewer >= 1 && erlangs / f64::from(aim) < UTILISATION_MIN && erlangs / f64::from(fewer) <= most;
    if spare { fewer } else { aim }
}

fn ceiling(value: f64) -> u32 {
    // A hair below a whole number is that number.
    (value - 1e-9).ceil().clamp(0.0, f64::from(INSTANCES_MAX)) as u32
}

/// Raises the counts to `aim` in all along the weights, leaving out one datacenter (Jefferson's divisors: more in all never
/// means fewer anywhere).
fn seat(
    counts: &mut BTreeMap<DatacenterName, u32>,
    weights: &BTreeMap<DatacenterName, u32>,
    aim: u32,
    without: Option<&DatacenterName>,
) {
    let takes_part = |dc: &DatacenterName| Some(dc) != without;
    let all: u64 = weights.iter().filter(|(dc, _)| takes_part(dc)).map(|(_, w)| u64::from(*w)).sum();
    for (dc, weight) in weights.iter().filter(|(dc, _)| takes_part(dc)) {
        let quota = (u64::from(aim) * u64::from(*weight) / all.max(1)) as u32;
        let count = counts.get_mut(dc).expect("counts hold every weighted datacenter");
        *count = (*count).max(quota);
    }
    let mut sum: u32 = counts.iter().filter(|(dc, _)| takes_part(dc)).map(|(_, n)| *n).sum();
    // Quotas leave less than one seat a datacenter.
    while sum < aim {
        let next = weights
            .iter()
            .filter(|(dc, _)| takes_part(dc))
            .max_by(|a, b| {
                let score = |(dc, w): &(&DatacenterName, &u32)| f64::from(**w) / f64::from(counts[*dc] + 1);
                score(a).total_cmp(&score(b)).then(b.0.cmp(a.0))
            })
            .map(|(dc, _)| dc.clone());
        let Some(dc) = next else { return };
        *counts.get_mut(&dc).expect("counts hold every weighted datacenter") += 1;
        sum += 1;
    }
}

/// Adds to the others until those left after the loss of any one datacenter are enough. Adding for one loss never
/// unmakes another's cover.
fn cover_loss(counts: &mut BTreeMap<DatacenterName, u32>, weights: &BTreeMap<DatacenterName, u32>, enough: u32) {
    let mut order: Vec<DatacenterName> = weights.keys().cloned().collect();
    order.sort_by_key(|dc| std::cmp::Reverse(counts[dc]));
    for lost in order {
        seat(counts, weights, enough, Some(&lost));
    }
}

/// Utilisation with all up, and with the worst one lost.
pub(super) fn utilisation(erlangs: f64, counts: &BTreeMap<DatacenterName, u32>) -> (f64, f64) {
    let all: u32 = counts.values().sum();
    let of = |n: u32| if n == 0 { 0.0 } else { erlangs / f64::from(n) };
    let most = counts.values().copied().max().unwrap_or(0);
    (of(all), of(if counts.len() > 1 { all - most } else { all }))
}
