//! The service that the tests deploy: the sample business's probe, cheap and quick to stop.

use anyhow::Result;
use springtide_bench::fleet::{self, Fleet, Size};
use springtide_bench::manifests::{Probe, probes};

/// Two datacenters of one host each.
pub const SMALL: Size = Size { datacenters: 2, hosts: 1, cpu: "2", memory: "2GiB" };

/// CPU of a request, in microseconds: hardly more than what carries it.
const CPU_US: u32 = 200;

/// Manifests of the probe, one or more instances in each datacenter; `mark` changes its config.
pub fn manifests(each: u32, mark: u32) -> Result<String> {
    costing(CPU_US, each, mark)
}

fn costing(cpu_us: u32, each: u32, mark: u32) -> Result<String> {
    let config = format!(r#"{{"cpu_us": {cpu_us}, "version": {mark}}}"#);
    let probe = Probe { name: "probe", cpu: 0.1, config: &config, instances: &[each, each], more: "" };
    Ok(probes(&fleet::built("red-packet")?, "1", &[probe]))
}

/// A small fleet that runs the probe, healthy.
pub async fn fleet(each: u32) -> Result<Fleet> {
    fleet_costing(CPU_US, each).await
}

/// The same, where a request takes this much CPU: with far more than what carries it, an instance's capacity is the same on
/// machines fast and slow.
pub async fn fleet_costing(cpu_us: u32, each: u32) -> Result<Fleet> {
    let fleet = Fleet::start(&SMALL).await?;
    fleet.apply(&costing(cpu_us, each, 1)?).await?;
    fleet.await_steady(60).await?;
    Ok(fleet)
}
