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
///
/// Each need is seated by itself and the largest count taken: every seating alone grows with the load everywhere, and so
/// does their maximum. Seats that one loss asks for must not count towards another's: rounding would then take them back.
pub(super) fn needed(erlangs: f64, weights: &BTreeMap<DatacenterName, u32>) -> BTreeMap<DatacenterName, u32> {
    let aim = total(erlangs, if weights.len() == 1 { UTILISATION_LOST_MAX } else { UTILISATION_MAX });
    let mut counts = seats(weights, aim);
    if weights.len() > 1 {
        let enough = ceiling(erlangs / UTILISATION_LOST_MAX);
        for lost in weights.keys() {
            let left = weights.iter().filter(|(dc, _)| *dc != lost).map(|(dc, weight)| (dc.clone(), *weight)).collect();
            for (dc, seats) in seats(&left, enough) {
                counts.entry(dc).and_modify(|count| *count = (*count).max(seats));
            }
        }
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

/// One seat each, then seats along the weights until there are `aim` (Jefferson's divisors: more in all never means fewer
/// anywhere).
fn seats(weights: &BTreeMap<DatacenterName, u32>, aim: u32) -> BTreeMap<DatacenterName, u32> {
    let all: u64 = weights.values().map(|weight| u64::from(*weight)).sum();
    // What the divisors give in any case, even when each of the others takes a seat beyond its share.
    let sure = u64::from(aim).saturating_sub(weights.len() as u64);
    let quota = |weight: u32| (sure * u64::from(weight) / all.max(1)) as u32;
    let mut counts: BTreeMap<DatacenterName, u32> =
        weights.iter().map(|(dc, weight)| (dc.clone(), quota(*weight).max(1))).collect();
    for _ in counts.values().sum::<u32>()..aim {
        let score = |(dc, count): &(&DatacenterName, &mut u32)| f64::from(weights[*dc]) / f64::from(**count + 1);
        let next = counts.iter_mut().max_by(|a, b| score(a).total_cmp(&score(b)).then(b.0.cmp(a.0)));
        let Some((_, count)) = next else { break };
        *count += 1;
    }
    counts
}

/// Utilisation with all up, and with the worst one lost.
pub(super) fn utilisation(erlangs: f64, counts: &BTreeMap<DatacenterName, u32>) -> (f64, f64) {
    let all: u32 = counts.values().sum();
    let of = |n: u32| if n == 0 { 0.0 } else { erlangs / f64::from(n) };
    let most = counts.values().copied().max().unwrap_or(0);
    (of(all), of(if counts.len() > 1 { all - most } else { all }))
}
