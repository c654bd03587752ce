//! The service that the tests deploy: the sample business's probe, cheap and quick to stop.

use anyhow::Result;
use springtide_bench::fleet::{self, Fleet, Size};
use springtide_bench::manifests::{Probe, probes};

/// Two datacenters of one host each.
pub const SMALL: Size = Size { datacenters: 2, hosts: 1, cpu: "2", memory: "2GiB" };

/// Manifests of the probe, one or more instances in each datacenter; `mark` changes its config.
pub fn manifests(each: u32, mark: u32) -> Result<String> {
    of(0.1, 200, each, mark)
}

fn of(cpu: f64, cpu_us: u32, each: u32, mark: u32) -> Result<String> {
    let config = format!(r#"{{"cpu_us": {cpu_us}, "version": {mark}}}"#);
    let probe = Probe { name: "probe", cpu, config: &config, instances: &[each, each], more: "" };
    Ok(probes(&fleet::built("red-packet")?, "1", &[probe]))
}

/// A small fleet that runs the probe, healthy.
pub async fn fleet(each: u32) -> Result<Fleet> {
    running(&manifests(each, 1)?).await
}

/// Requests a second of which one instance of [`costly_fleet`] takes more than half, and never all.
pub const COSTLY_RPS: f64 = 320.0;

/// Four instances of 0.3 cores at 1.5 ms of CPU a request: that is far more than what carries one, so that a capacity is
/// the same on machines fast and slow.
pub async fn costly_fleet() -> Result<Fleet> {
    running(&of(0.3, 1_500, 2, 1)?).await
}

async fn running(manifests: &str) -> Result<Fleet> {
    let fleet = Fleet::start(&SMALL).await?;
    fleet.apply(manifests).await?;
    fleet.await_steady(60).await?;
    Ok(fleet)
}
