//! A small fleet for the tests of this crate.

use crate::fault::Fault;
use crate::manifest::{Declared, parse};
use crate::plan::{ApplyPlan, plan};
use crate::snapshot::Snapshot;

/// Two datacenters, one host in each, and a business of three services.
pub const FLEET: &str = r#"
kind: Region
name: cn
---
kind: Datacenter
name: east
region: cn
---
kind: Datacenter
name: west
region: cn
---
kind: Circuit
name: east-west
between: [east, west]
bandwidth_mbps: 10000
---
kind: Rack
name: e1
datacenter: east
---
kind: Rack
name: w1
datacenter: west
---
kind: HostType
name: small
cpu: 4
memory: 8GiB
---
kind: Host
name: host-e
rack: e1
host_type: small
address: 127.1.1.1
---
kind: Host
name: host-w
rack: w1
host_type: small
address: 127.1.2.1
---
kind: Business
name: red-packet
---
kind: External
name: bank
requests_per_second_max: 500
---
kind: Package
name: app
version: 1.10
digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
command: [bin/app, --port, "${PORT_HTTP}"]
---
kind: Environment
name: night
variables: {LEVEL: info}
datacenters:
  east: {PEER: w}
  west: {PEER: e}
---
kind: ConfigSet
name: app
files:
  app.conf: |
    level = ${LEVEL}
    peer = ${PEER}
    host = ${SPRINGTIDE_HOST}
---
kind: Service
name: sso
business: red-packet
layer: access
package: app
environment: night
shape: 1C1G
ports: [http]
routes: [{path_prefix: /login}]
dependencies: [{on: lottery, calls_per_request: 1.5}]
instances: {east: 1, west: 1}
---
kind: Service
name: lottery
business: red-packet
layer: logic
package: app
config: app
environment: night
shape: {cpu: 500m, memory: 256MiB}
ports: [http]
dependencies: [{on: bank}]
instances: {east: 2, west: 2}
---
kind: Service
name: records
business: red-packet
layer: storage
package: app
shape: 1C1G
ports: [http]
persistent_paths: [data]
instances: {west: 1}
---
kind: Event
name: midnight
business: red-packet
starts_at: 2027-02-05T20:00:00+08:00
entry_requests_per_second: {sso: 2000}
"#;

/// The manifests of one file, `fleet.yaml`.
pub fn declared(text: &str) -> Vec<Declared> {
    parse(&[("fleet.yaml".to_owned(), text.to_owned())]).expect("the sample is right by itself")
}

/// What applying a file to an empty store would do; faults as text.
pub fn planned(text: &str) -> Result<ApplyPlan, Vec<String>> {
    plan(&Snapshot::default(), &declared(text), false).map_err(|faults| texts(&faults))
}

/// Faults as text.
pub fn texts(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

/// A store to which a file was applied.
pub fn stored(text: &str) -> Snapshot {
    let plan = planned(text).expect("the sample is right as a whole");
    let mut snapshot = Snapshot::default();
    for change in plan.changes {
        let json = serde_json::to_vec(&change.after.expect("all is new")).expect("a resource is JSON");
        snapshot.fold(&crate::keys::resource(&change.key), Some(&json), 1).expect("written is read");
    }
    snapshot
}
