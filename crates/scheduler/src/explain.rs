//! Why a host would, or would not, take one more instance: for `describe`.

use crate::columns::Columns;
use crate::demand::Demand;
use crate::score::Cost;
use crate::why::WhyNot;
use model::{HostName, ServiceName, Snapshot};
use std::collections::BTreeSet;

/// Every host by name, with its score for one more instance (1 is best) or the reason why it takes none. Datacenters
/// where the service wants no instance count as other ones. Empty when there is no such service.
pub fn explain(
    snapshot: &Snapshot,
    service: &ServiceName,
    unavailable: &BTreeSet<HostName>,
) -> Vec<(HostName, Result<f64, WhyNot>)> {
    let Some(service) = snapshot.service(service) else { return Vec::new() };
    let mut columns = Columns::new(snapshot);
    let wanted = snapshot.instances_wanted(service);
    let wanted_in = wanted.keys().collect();
    let demand = Demand::new(snapshot, &mut columns, service, unavailable, &wanted_in);
    let verdict = |host| match demand.refusal(&columns, host) {
        Some(refusal) => Err(demand.why(&columns, host, refusal)),
        None => Ok(Cost::of(&columns, &demand, host).score()),
    };
    columns.names.iter().enumerate().map(|(host, name)| (name.clone(), verdict(host))).collect()
}
