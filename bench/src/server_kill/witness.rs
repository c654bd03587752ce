//! Who counts effects: a hook and a package that write down each time they are run, and the OS's process list.

use anyhow::Result;
use springtide_bench::fleet::{self, Fleet};
use springtide_bench::machine;
use springtide_bench::manifests::{Probe, probes};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The two files in which hook and package write, and the package that does.
pub struct Witness {
    folder: PathBuf,
    version: Cell<u32>,
    stage: Cell<u32>,
}

impl Witness {
    /// Makes the files and the package.
    pub fn install(fleet: &Fleet) -> Result<Self> {
        let folder = fleet.folder().join("witness");
        let package = folder.join("package");
        std::fs::create_dir_all(&package)?;
        std::fs::copy(fleet::built("red-packet")?, package.join("red-packet"))?;
        let witness = Self { folder, version: Cell::new(1), stage: Cell::new(1) };
        let script = format!(
            "#!/bin/sh\necho \"$SPRINGTIDE_INSTANCE\" >> {}\nexec \"$SPRINGTIDE_PACKAGE/red-packet\" probe\n",
            witness.starts().display()
        );
        std::fs::write(package.join("run"), script)?;
        std::fs::set_permissions(package.join("run"), PermissionsExt::from_mode(0o755))?;
        witness.forget()?;
        Ok(witness)
    }

    fn starts(&self) -> PathBuf {
        self.folder.join("starts")
    }

    fn hooks(&self) -> PathBuf {
        self.folder.join("hooks")
    }

    /// Empties both files. Instances run unprivileged: everyone may append.
    pub fn forget(&self) -> Result<()> {
        for file in [self.starts(), self.hooks()] {
            std::fs::write(&file, "")?;
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666))?;
        }
        Ok(())
    }

    /// The stage at which operations are steered from now on.
    pub fn set_stage(&self, stage: u32) {
        self.stage.set(stage);
    }

    /// The stage at which an operation is steered.
    pub fn stage(&self) -> u32 {
        self.stage.get()
    }

    /// A version not used before.
    pub fn next_version(&self) -> u32 {
        self.version.set(self.version.get() + 1);
        self.version.get()
    }

    /// The service, whose config differs with `version`.
    pub fn manifests(&self, version: u32) -> Result<String> {
        let config = format!(r#"{{"cpu_us": 50, "version": {version}}}"#);
        let more = format!(
            "hooks:\n- when: after\n  step: start\n  command: [/bin/sh, -c, 'echo $SPRINGTIDE_IDEMPOTENCY_KEY >> {}']\n",
            self.hooks().display()
        );
        let probe = Probe { name: "probe", cpu: 0.3, config: &config, instances: &[1, 1], more: &more };
        let text = probes(&self.folder.join("package"), "1", &[probe]);
        Ok(text.replace("command: [red-packet, probe]", "command: [./run]"))
    }

    /// What is wrong, and how often a hook was run again with the same key (allowed: the key is there for that).
    pub async fn check(&self, fleet: &Fleet, wanted: u32) -> Result<(Vec<String>, u64)> {
        let mut faults = Vec::new();
        for (instance, starts) in counted(&self.starts())? {
            if starts != 1 {
                faults.push(format!("instance {instance} was started {starts} times"));
            }
        }
        let repeats = counted(&self.hooks())?.values().map(|count| count - 1).sum();
        let placed = fleet.client.instances(Some("probe"), None).await?;
        if placed.len() != wanted as usize {
            faults.push(format!("{} placements instead of {wanted}", placed.len()));
        }
        let mut running: BTreeMap<String, u32> = BTreeMap::new();
        let folder = fleet.folder().to_string_lossy().into_owned();
        let is_probe =
            |p: &machine::Process| p.args.get(1).is_some_and(|word| word == "probe") && p.args[0].contains(&folder);
        for process in machine::processes(is_probe) {
            *running.entry(instance_of(process.pid).unwrap_or_default()).or_default() += 1;
        }
        for instance in &placed {
            match running.remove(instance.instance.as_str()) {
                Some(1) => {}
                other => faults.push(format!("{} has {} processes", instance.instance, other.unwrap_or(0))),
            }
        }
        faults.extend(running.keys().map(|instance| format!("{instance:?} runs without a placement")));
        Ok((faults, repeats))
    }
}

fn counted(file: &Path) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(file)?.lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

/// The instance a process belongs to, by its own environment.
fn instance_of(pid: i32) -> Option<String> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    variables.find_map(|variable| variable.strip_prefix("SPRINGTIDE_INSTANCE=").map(str::to_owned))
}
