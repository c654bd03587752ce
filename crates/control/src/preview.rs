//! What a scale would do, before anyone asks for it: the same plan and check as the operation's own, all batches at once.

use crate::contract::Observed;
use crate::place;
use crate::recall::View;
use crate::wanted::{difference, placed_counts};
use model::{DatacenterName, HostName, InstanceId, PlannedInstance, ServiceName, Snapshot, UnixMs};
use std::collections::BTreeMap;

/// What would be added and removed, and what stands in the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// New instances, with their hosts.
    pub adds: Vec<PlannedInstance>,
    /// Instances that would go.
    pub removes: Vec<PlannedInstance>,
    /// Why it cannot be done, for people; empty when it can.
    pub shortages: Vec<String>,
}

/// The plan that a scale to these counts would begin with now.
pub fn preview(
    snapshot: &Snapshot,
    observed: &Observed,
    service: &ServiceName,
    instances: &BTreeMap<DatacenterName, u32>,
    now: UnixMs,
) -> Preview {
    let view = View { snapshot, observed, now };
    let (adds, removes) = difference(instances, &placed_counts(snapshot, service));
    let mut preview = Preview::default();
    match if adds.is_empty() { Ok(Vec::new()) } else { place::place(view, snapshot, service, &adds, None) } {
        Ok(added) => preview.adds.extend(added.into_iter().map(|at| PlannedInstance {
            instance: at.instance,
            host: at.host,
            datacenter: at.datacenter,
            batch: 0,
        })),
        Err(shortages) => preview.shortages = shortages,
    }
    let removed = place::victims(snapshot, service, &removes);
    preview.removes.extend(removed.into_iter().filter_map(|(host, instance)| planned(snapshot, host, instance)));
    preview
}

fn planned(snapshot: &Snapshot, host: HostName, instance: InstanceId) -> Option<PlannedInstance> {
    let datacenter = snapshot.datacenter_of(&host)?.clone();
    Some(PlannedInstance { instance, host, datacenter, batch: 0 })
}
