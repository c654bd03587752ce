//! What a host is told to run: its placements, with everything an agent needs to bring each up.
//!
//! A placement is bound to the config it was made with (its digest), not to the newest one: the rollout replaces
//! instances, it never changes them. So what a digest stands for is kept, in memory and as a record.

use api::fleet::{Assignment, HealthCheck, Intent, MetricsEndpoint};
use model::{
    CpuMillis, DatacenterName, HostName, InstanceIntent, Layer, MemoryBytes, Placement, Shape, Snapshot, UnixMs,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Templates kept in memory; all are in the records.
const TEMPLATES_MAX: usize = 20_000;

/// What all instances of one package and config in one datacenter share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    business: String,
    command: Vec<String>,
    variables: BTreeMap<String, String>,
    config_files: BTreeMap<String, String>,
    health_check: Option<model::HealthCheck>,
    first_port: Option<String>,
    stop: model::Stop,
    persistent_paths: Vec<String>,
    made_at: UnixMs,
}

/// What identifies a template, also as a record's id.
pub fn template_id(placement: &Placement, datacenter: &DatacenterName) -> String {
    format!("{}-{}-{datacenter}", placement.config_digest.hex(), placement.package_digest.hex())
}

/// Templates by id, and those that are not in the records yet.
#[derive(Debug, Default)]
pub struct Templates {
    known: BTreeMap<String, Arc<Template>>,
    /// Made here and to be recorded by the caller.
    pub unrecorded: Vec<(String, Arc<Template>)>,
}

impl Templates {
    /// The template of a placement: known, made from the snapshot when that still says what the digests say, or
    /// recalled from the records.
    pub fn get(
        &mut self,
        snapshot: &Snapshot,
        placement: &Placement,
        datacenter: &DatacenterName,
        recall: &dyn Fn(&str) -> Option<Template>,
        now: UnixMs,
    ) -> Option<Arc<Template>> {
        let id = template_id(placement, datacenter);
        if let Some(known) = self.known.get(&id) {
            return Some(known.clone());
        }
        let found = match make(snapshot, placement, datacenter, now) {
            Some(made) => {
                let made = Arc::new(made);
                self.unrecorded.push((id.clone(), made.clone()));
                made
            }
            None => Arc::new(recall(&id)?),
        };
        if self.known.len() >= TEMPLATES_MAX {
            self.known.pop_first();
        }
        self.known.insert(id, found.clone());
        Some(found)
    }
}

fn make(snapshot: &Snapshot, placement: &Placement, datacenter: &DatacenterName, now: UnixMs) -> Option<Template> {
    let service = snapshot.service(&placement.service)?;
    let package = snapshot.package(&placement.package)?;
    let config = model::config::resolve(snapshot, service, datacenter).ok()?;
    if config.digest != placement.config_digest || package.digest.as_ref() != Some(&placement.package_digest) {
        return None;
    }
    Some(Template {
        business: service.business.to_string(),
        command: package.command.iter().chain(&service.args).cloned().collect(),
        variables: config.variables,
        config_files: config.files,
        health_check: service.health_check.clone(),
        first_port: service.ports.first().cloned(),
        stop: service.stop.clone(),
        persistent_paths: service.persistent_paths.clone(),
        made_at: now,
    })
}

/// The assignment of one placement.
pub fn assignment(
    snapshot: &Snapshot,
    host: &HostName,
    datacenter: &DatacenterName,
    placement: &Placement,
    template: &Template,
) -> Option<Assignment> {
    let address = snapshot.host(host)?.address.to_string();
    let Shape { cpu: CpuMillis(cpu_millis), memory: MemoryBytes(memory_bytes), pids_max } = placement.shape;
    let health_check = template.health_check.as_ref().and_then(|check| {
        let name = check.port.as_ref().or(template.first_port.as_ref())?;
        Some(HealthCheck {
            path: check.path.clone(),
            port: u32::from(*placement.ports.get(name)?),
            interval_ms: check.interval_ms,
            timeout_ms: check.timeout_ms,
            failures_max: check.failures_max,
            start_ms_max: check.start_ms_max,
        })
    });
    Some(Assignment {
        instance: placement.instance.to_string(),
        service: placement.service.to_string(),
        layer: layer(placement.layer).to_owned(),
        datacenter: datacenter.to_string(),
        intent: intent(placement.intent) as i32,
        package_digest: placement.package_digest.to_string(),
        config_digest: placement.config_digest.to_string(),
        command: template.command.clone(),
        variables: template.variables.clone().into_iter().collect(),
        config_files: template.config_files.clone().into_iter().collect(),
        cpu_millis,
        memory_bytes,
        pids_max,
        ports: placement.ports.iter().map(|(name, port)| (name.clone(), u32::from(*port))).collect(),
        address,
        health_check,
        drain_ms: template.stop.drain_ms,
        grace_ms: template.stop.grace_ms,
        persistent_paths: template.persistent_paths.clone(),
        business: template.business.clone(),
        metrics: metrics(snapshot, placement),
    })
}

/// Where an instance tells its own numbers. As the service says now: a change concerns nobody but the agent.
fn metrics(snapshot: &Snapshot, placement: &Placement) -> Option<MetricsEndpoint> {
    let service = snapshot.service(&placement.service)?;
    let metrics = service.metrics.as_ref()?;
    let name = metrics.port.as_ref().or(service.ports.first())?;
    let (port, path) = (u32::from(*placement.ports.get(name)?), metrics.path.clone());
    Some(MetricsEndpoint { path, port, interval_ms: metrics.interval_ms })
}

/// A layer as written in manifests.
pub fn layer(layer: Layer) -> &'static str {
    match layer {
        Layer::Access => "access",
        Layer::Logic => "logic",
        Layer::Storage => "storage",
    }
}

fn intent(intent: InstanceIntent) -> Intent {
    match intent {
        InstanceIntent::Deployed => Intent::Deployed,
        InstanceIntent::Running => Intent::Running,
        InstanceIntent::Draining => Intent::Draining,
    }
}

/// Tells a changed assignment from an unchanged one: its placement, its template and where its numbers are decide all of it.
pub fn fingerprint(snapshot: &Snapshot, placement: &Placement, template: &str, address: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Some(metrics) = metrics(snapshot, placement) {
        (metrics.path, metrics.port, metrics.interval_ms).hash(&mut hasher);
    }
    placement.instance.hash(&mut hasher);
    (placement.intent as u8).hash(&mut hasher);
    placement.shape.hash(&mut hasher);
    placement.ports.hash(&mut hasher);
    (template, address).hash(&mut hasher);
    hasher.finish()
}
