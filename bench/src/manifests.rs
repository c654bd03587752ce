//! Manifests of the services of known cost that benchmarks deploy.

use std::fmt::Write as _;
use std::path::Path;

/// A service of the sample business's `probe` role.
pub struct Probe<'a> {
    /// Its name.
    pub name: &'a str,
    /// CPU of each instance, in cores.
    pub cpu: f64,
    /// Its config, JSON of the probe.
    pub config: &'a str,
    /// Instances in each datacenter, in order dc-a, dc-b.
    pub instances: &'a [u32],
    /// More lines of the service's document.
    pub more: &'a str,
}

/// Business, package and one service for each probe; each service is routed at `/NAME`.
pub fn probes(program: &Path, version: &str, probes: &[Probe<'_>]) -> String {
    let mut text = format!(
        "kind: Business\nname: bench\n---\nkind: Package\nname: probe\nversion: \"{version}\"\nsource: {}\ncommand: [red-packet, probe]\n",
        program.display()
    );
    for probe in probes {
        let Probe { name, cpu, config, instances, more } = probe;
        let counts: Vec<String> = instances
            .iter()
            .zip(["dc-a", "dc-b"])
            .map(|(count, datacenter)| format!("{datacenter}: {count}"))
            .collect();
        write!(
            text,
            "---\nkind: ConfigSet\nname: {name}\nfiles:\n  probe.json: '{config}'\n---\nkind: Service\nname: {name}\n\
             business: bench\nlayer: access\npackage: probe\nconfig: {name}\nshape: {{cpu: {cpu}, memory: 64MiB}}\n\
             ports: [http]\nroutes: [{{path_prefix: /{name}}}]\nhealth_check: {{path: /healthz, interval_ms: 500}}\n\
             stop: {{drain_ms: 500, grace_ms: 3000}}\ninstances: {{{}}}\n{more}",
            counts.join(", ")
        )
        .expect("a String takes all");
    }
    text
}
