//! The service that the tests deploy: the sample business's probe, cheap and quick to stop.

use anyhow::Result;
use springtide_bench::fleet::{self, Fleet, Size};
use springtide_bench::manifests::{Probe, probes};

/// Two datacenters of one host each.
pub const SMALL: Size = Size { datacenters: 2, hosts: 1, cpu: "2", memory: "2GiB" };

/// Manifests of the probe, one or more instances in each datacenter; `mark` changes its config.
pub fn manifests(each: u32, mark: u32) -> Result<String> {
    let config = format!(r#"{{"cpu_us": 200, "version": {mark}}}"#);
    let probe = Probe { name: "probe", cpu: 0.1, config: &config, instances: &[each, each], more: "" };
    Ok(probes(&fleet::built("red-packet")?, "1", &[probe]))
}

/// A small fleet that runs the probe, healthy.
pub async fn fleet(each: u32) -> Result<Fleet> {
    let fleet = Fleet::start(&SMALL).await?;
    fleet.apply(&manifests(each, 1)?).await?;
    fleet.await_steady(60).await?;
    Ok(fleet)
}
