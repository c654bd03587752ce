//! What the server wants of this host, checked: the wire's [`api::fleet::Assignment`] as this crate's own type, which is
//! also what is kept on disk. Deliberately absent: what became of it (`instance`).

use api::fleet;
use model::{Digest, InstanceId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Shortest pause between two scrapes of an instance, whatever the server says.
const METRICS_INTERVAL_MS_MIN: u64 = 1_000;

/// The state in which an instance is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Package and config are here; it does not run.
    Deployed,
    /// It runs.
    Running,
    /// It runs, gets no new traffic and will be stopped.
    Draining,
    /// It is stopped and leaves nothing behind.
    Removed,
}

/// How an instance's health is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Path of the GET.
    pub path: String,
    /// Port asked.
    pub port: u16,
    /// Pause between two questions.
    pub interval_ms: u64,
    /// Longest wait for the answer.
    pub timeout_ms: u64,
    /// Failures in a row that make it unhealthy.
    pub failures_max: u32,
    /// Longest time from start to first health.
    pub start_ms_max: u64,
}

/// Where an instance tells its own numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// Path of the GET.
    pub path: String,
    /// Port asked.
    pub port: u16,
    /// Pause between two scrapes.
    pub interval_ms: u64,
}

/// One instance, as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The instance.
    pub instance: InstanceId,
    /// Its service.
    pub service: String,
    /// The service's layer; storage gets a data folder.
    pub layer: String,
    /// The business.
    pub business: String,
    /// Where this host is.
    pub datacenter: String,
    /// What is wanted.
    pub wish: Wish,
    /// The package.
    pub package: Digest,
    /// Digest of variables and config files together.
    pub config_digest: String,
    /// Program and arguments, `${NAME}` unresolved.
    pub command: Vec<String>,
    /// Variables of the environment.
    pub variables: BTreeMap<String, String>,
    /// Config files, `${NAME}` unresolved.
    pub config_files: BTreeMap<String, String>,
    /// CPU quota.
    pub cpu_millis: u32,
    /// Memory limit.
    pub memory_bytes: u64,
    /// Limit of processes and threads.
    pub pids_max: u32,
    /// Ports it listens on.
    pub ports: BTreeMap<String, u16>,
    /// Address it listens on.
    pub address: IpAddr,
    /// Health check; absent: it is well while it runs.
    pub check: Option<Check>,
    /// Its own numbers; absent: it tells none.
    #[serde(default)]
    pub metrics: Option<Metrics>,
    /// How long it drains before it is stopped.
    pub drain_ms: u64,
    /// How long it may take to stop before it is killed.
    pub grace_ms: u64,
    /// Host folders it persists to; `data` is its own data folder.
    pub persistent_paths: Vec<String>,
}

/// Why an assignment cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server sent a bad assignment: {field} is {value:?}, wanted {wanted}")]
pub struct BadAssignment {
    field: &'static str,
    value: String,
    wanted: &'static str,
}

fn bad(field: &'static str, value: impl ToString, wanted: &'static str) -> BadAssignment {
    BadAssignment { field, value: value.to_string(), wanted }
}

fn port(field: &'static str, number: u32) -> Result<u16, BadAssignment> {
    u16::try_from(number).ok().filter(|port| *port > 0).ok_or_else(|| bad(field, number, "a port from 1 to 65535"))
}

/// A file name stays inside the config folder.
fn file_name(name: &str) -> bool {
    let parts = || name.split('/');
    !name.is_empty() && parts().all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'))
}

fn path(field: &'static str, path: String) -> Result<String, BadAssignment> {
    if path.starts_with('/') && !path.contains(char::is_whitespace) {
        return Ok(path);
    }
    Err(bad(field, path, "a path from / without spaces"))
}

impl Metrics {
    fn from_wire(wire: fleet::MetricsEndpoint) -> Result<Self, BadAssignment> {
        Ok(Self {
            path: path("metrics.path", wire.path)?,
            port: port("metrics.port", wire.port)?,
            interval_ms: u64::from(wire.interval_ms).max(METRICS_INTERVAL_MS_MIN),
        })
    }
}

impl Check {
    fn from_wire(wire: fleet::HealthCheck) -> Result<Self, BadAssignment> {
        Ok(Self {
            path: path("health_check.path", wire.path)?,
            port: port("health_check.port", wire.port)?,
            interval_ms: u64::from(wire.interval_ms).max(10),
            timeout_ms: u64::from(wire.timeout_ms).max(10),
            failures_max: wire.failures_max.max(1),
            start_ms_max: u64::from(wire.start_ms_max).max(100),
        })
    }
}

impl TryFrom<fleet::Assignment> for Assignment {
    type Error = BadAssignment;

    fn try_from(wire: fleet::Assignment) -> Result<Self, BadAssignment> {
        let wish = match wire.intent() {
            fleet::Intent::Deployed => Wish::Deployed,
            fleet::Intent::Running => Wish::Running,
            fleet::Intent::Draining => Wish::Draining,
            fleet::Intent::Unspecified => return Err(bad("intent", wire.intent, "1, 2 or 3")),
        };
        if wire.command.is_empty() {
            return Err(bad("command", "", "at least a program"));
        }
        if wire.cpu_millis == 0 || wire.memory_bytes == 0 || wire.pids_max == 0 {
            let shape = format!("{} / {} / {}", wire.cpu_millis, wire.memory_bytes, wire.pids_max);
            return Err(bad("cpu_millis / memory_bytes / pids_max", shape, "more than 0 of each"));
        }
        if let Some(name) = wire.config_files.keys().find(|name| !file_name(name)) {
            return Err(bad("config_files", name, "relative names without .."));
        }
        let ports: Result<_, _> =
            wire.ports.into_iter().map(|(name, number)| Ok((name, port("ports", number)?))).collect();
        Ok(Self {
            instance: InstanceId::new(&wire.instance).map_err(|_| bad("instance", &wire.instance, "an instance id"))?,
            service: wire.service,
            layer: wire.layer,
            business: wire.business,
            datacenter: wire.datacenter,
            wish,
            package: wire
                .package_digest
                .parse()
                .map_err(|_| bad("package_digest", &wire.package_digest, "sha256:…"))?,
            config_digest: wire.config_digest,
            command: wire.command,
            variables: wire.variables.into_iter().collect(),
            config_files: wire.config_files.into_iter().collect(),
            cpu_millis: wire.cpu_millis,
            memory_bytes: wire.memory_bytes,
            pids_max: wire.pids_max,
            ports: ports?,
            address: wire.address.parse().map_err(|_| bad("address", &wire.address, "an IP address"))?,
            check: wire.health_check.map(Check::from_wire).transpose()?,
            metrics: wire.metrics.map(Metrics::from_wire).transpose()?,
            drain_ms: u64::from(wire.drain_ms),
            grace_ms: u64::from(wire.grace_ms),
            persistent_paths: wire.persistent_paths,
        })
    }
}

impl Assignment {
    /// Whether a running instance must be started anew to become `other`.
    pub fn needs_restart(&self, other: &Self) -> bool {
        let alike = |a: &Self, b: &Self| {
            a.package == b.package
                && a.config_digest == b.config_digest
                && a.command == b.command
                && a.variables == b.variables
                && a.config_files == b.config_files
                && a.ports == b.ports
                && a.address == b.address
        };
        !alike(self, other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> fleet::Assignment {
        fleet::Assignment {
            instance: "lottery-1".into(),
            intent: fleet::Intent::Running.into(),
            package_digest: Digest::of(b"x").to_string(),
            command: vec!["run".into()],
            cpu_millis: 100,
            memory_bytes: 1 << 20,
            pids_max: 10,
            address: "127.1.1.1".into(),
            ..Default::default()
        }
    }

    #[test]
    fn good_ones_pass_and_bad_ones_say_which_field() {
        Assignment::try_from(wire()).expect("good");
        let metrics = |path: &str, port| fleet::MetricsEndpoint { path: path.into(), port, interval_ms: 6_000 };
        let cases: [(&str, fleet::Assignment); 9] = [
            ("metrics.path", fleet::Assignment { metrics: Some(metrics("metrics", 80)), ..wire() }),
            ("metrics.port", fleet::Assignment { metrics: Some(metrics("/metrics", 0)), ..wire() }),
            ("intent", fleet::Assignment { intent: 0, ..wire() }),
            ("instance", fleet::Assignment { instance: "../x".into(), ..wire() }),
            ("command", fleet::Assignment { command: vec![], ..wire() }),
            ("package_digest", fleet::Assignment { package_digest: "sha256:../..".into(), ..wire() }),
            ("address", fleet::Assignment { address: "host".into(), ..wire() }),
            ("ports", fleet::Assignment { ports: [("http".into(), 70_000)].into(), ..wire() }),
            ("config_files", fleet::Assignment { config_files: [("a/../b".into(), String::new())].into(), ..wire() }),
        ];
        for (field, wire) in cases {
            let error = Assignment::try_from(wire).expect_err(field).to_string();
            assert!(error.contains(&format!(": {field} is")), "{error}");
        }
    }

    #[test]
    fn only_what_the_process_sees_needs_a_restart() {
        let one = Assignment::try_from(wire()).expect("good");
        let drained = Assignment { wish: Wish::Draining, grace_ms: 9, ..one.clone() };
        assert!(!one.needs_restart(&drained));
        assert!(one.needs_restart(&Assignment { config_digest: "other".into(), ..one.clone() }));
    }
}
