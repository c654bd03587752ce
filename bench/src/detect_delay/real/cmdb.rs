//! The CMDB of the businesses, as if they had been deployed: written into the store before the server opens it.

use super::business::Business;
use anyhow::{Context, Result};
use model::{
    Digest, Host, HostName, HostPlacements, InstanceIntent, Placement, Service, Snapshot, config, keys, manifest,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use store::{Op, RedbStore, Store, Txn};

/// Operations in one transaction.
const OPS: usize = 100;
/// What is said to be deployed.
pub const PACKAGE: &[u8] = b"a package that no host fetches";

/// Writes it; the store is closed when this returns.
pub async fn write(data: &Path, businesses: &[Business]) -> Result<()> {
    std::fs::create_dir_all(data)?;
    let store = RedbStore::open(&data.join("store.redb"))?;
    let mut puts = vec![(keys::FORMAT_VERSION.to_owned(), b"1".to_vec())];
    let snapshot = resources(businesses, &mut puts)?;
    for business in businesses {
        puts.extend(placements(business, &snapshot)?);
    }
    for chunk in puts.chunks(OPS) {
        let put = |(key, value): &(String, Vec<u8>)| Op::Put { key: key.clone(), value: value.clone(), lease: None };
        store.txn(Txn { compares: Vec::new(), ops: chunk.iter().map(put).collect() }).await?;
    }
    Ok(())
}

fn resources(businesses: &[Business], puts: &mut Vec<(String, Vec<u8>)>) -> Result<Snapshot> {
    let text = manifests(businesses)?;
    let declared = manifest::parse(&[("bench.yaml".to_owned(), text)])
        .map_err(|faults| anyhow::anyhow!("{}", faults.first().map(ToString::to_string).unwrap_or_default()))?;
    let mut snapshot = Snapshot::default();
    for one in &declared {
        let (key, value) = (keys::resource(&one.resource.key()), serde_json::to_vec(&one.resource)?);
        snapshot.fold(&key, Some(&value), 1)?;
        puts.push((key, value));
    }
    Ok(snapshot)
}

fn manifests(businesses: &[Business]) -> Result<String> {
    let mut text = String::from("kind: Region\nname: here\n---\nkind: HostType\nname: big\ncpu: 64\nmemory: 256GiB\n");
    for datacenter in &businesses[0].fleet.datacenters {
        write!(text, "---\nkind: Datacenter\nname: {datacenter}\nregion: here\n")?;
    }
    let digest = Digest::of(PACKAGE);
    write!(text, "---\nkind: Package\nname: app\nversion: '1'\ndigest: {digest}\ncommand: [app]\n")?;
    for business in businesses {
        let fleet = &business.fleet;
        write!(text, "---\nkind: Business\nname: b{}\n", business.number)?;
        for rack in &fleet.racks {
            let datacenter = &fleet.datacenters[rack.datacenter as usize];
            write!(text, "---\nkind: Rack\nname: {}\ndatacenter: {datacenter}\n", rack.name)?;
        }
        for (host, at) in fleet.hosts.iter().zip(0_u32..) {
            let rack = &fleet.racks[host.rack as usize].name;
            let address = format!("127.{}.{}.{}", 10 + business.number, at / 250, at % 250 + 1);
            write!(text, "---\nkind: Host\nname: {}\nrack: {rack}\nhost_type: big\naddress: {address}\n", host.name)?;
        }
        for service in 0..fleet.services.len() as u32 {
            text.push_str(&service_manifest(business, service)?);
        }
    }
    Ok(text)
}

fn service_manifest(business: &Business, service: u32) -> Result<String> {
    let fleet = &business.fleet;
    let nature = &fleet.services[service as usize];
    if nature.external {
        return Ok(format!("---\nkind: External\nname: {}\nrequests_per_second_max: 100000\n", nature.name));
    }
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for member in fleet.of(service) {
        let host = fleet.members[*member as usize].host;
        let datacenter = fleet.racks[fleet.hosts[host as usize].rack as usize].datacenter;
        *counts.entry(&fleet.datacenters[datacenter as usize]).or_default() += 1;
    }
    let mut text = format!(
        "---\nkind: Service\nname: {}\nbusiness: b{}\nlayer: logic\npackage: app\nshape: 0.5C256M\ninstances:\n",
        nature.name, business.number
    );
    for (datacenter, count) in counts {
        writeln!(text, "  {datacenter}: {count}")?;
    }
    if !nature.calls.is_empty() {
        text.push_str("dependencies:\n");
        for (callee, calls) in &nature.calls {
            writeln!(text, "- {{on: {}, calls_per_request: {calls:.3}}}", fleet.services[*callee as usize].name)?;
        }
    }
    Ok(text)
}

/// Where an instance of a business is, as the store says it.
fn placements(business: &Business, snapshot: &Snapshot) -> Result<Vec<(String, Vec<u8>)>> {
    let fleet = &business.fleet;
    let mut digests: BTreeMap<(u32, String), Digest> = BTreeMap::new();
    let mut on: BTreeMap<u32, Vec<Placement>> = BTreeMap::new();
    for member in &fleet.members {
        let name = &fleet.services[member.service as usize].name;
        let service: &Service = snapshot.service(name).context("a service that was declared")?;
        let host: &Host = snapshot.host(&fleet.hosts[member.host as usize].name).context("a host that was declared")?;
        let datacenter = snapshot.datacenter_of(&host.name).context("a host stands somewhere")?;
        let key = (member.service, datacenter.to_string());
        if !digests.contains_key(&key) {
            let resolved =
                config::resolve(snapshot, service, datacenter).map_err(|fault| anyhow::anyhow!("{fault:?}"))?;
            digests.insert(key.clone(), resolved.digest);
        }
        on.entry(member.host).or_default().push(Placement {
            instance: member.name.parse().map_err(|_| anyhow::anyhow!("{} is no id", member.name))?,
            service: service.name.clone(),
            layer: service.layer,
            package: service.package.clone(),
            package_version: "1".to_owned(),
            package_digest: Digest::of(PACKAGE),
            config_digest: digests[&key].clone(),
            shape: service.shape,
            ports: BTreeMap::new(),
            intent: InstanceIntent::Running,
        });
    }
    let mut puts = Vec::new();
    for (at, mut instances) in on {
        instances.sort_by(|a, b| a.instance.cmp(&b.instance));
        let host: HostName = fleet.hosts[at as usize].name.parse().map_err(|_| anyhow::anyhow!("no host name"))?;
        let value = serde_json::to_vec(&HostPlacements { host: host.clone(), instances })?;
        puts.push((keys::placements(&host), value));
    }
    Ok(puts)
}
