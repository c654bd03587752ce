//! Scenarios: which faults, how strong, when; the standard one, or a YAML file.

use super::faults::{Fault, FaultKind};
use super::fleet::{Fleet, Size};
use super::onset_ms;
use anyhow::{Context, Result};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use std::path::Path;

/// A scenario as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    fleet: FileFleet,
    #[serde(default = "warm_s")]
    warm_s: u64,
    #[serde(default = "spacing_s")]
    spacing_s: u64,
    faults: Vec<FileFault>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileFleet {
    services: u32,
    externals: u32,
    instances: u32,
}

impl Default for FileFleet {
    fn default() -> Self {
        Self { services: 60, externals: 5, instances: 1_200 }
    }
}

/// Faults wanted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFault {
    kind: FaultKind,
    #[serde(default = "one")]
    count: u32,
    target: Option<String>,
    strength: Option<f32>,
    duration_s: Option<u64>,
    /// Seconds after the warm-up; absent: one after another.
    at_s: Option<u64>,
}

fn warm_s() -> u64 {
    300
}

fn spacing_s() -> u64 {
    120
}

fn one() -> u32 {
    1
}

/// A scenario.
pub struct Scenario {
    pub size: Size,
    warm_s: u64,
    spacing_s: u64,
    wanted: Vec<FileFault>,
}

impl Scenario {
    /// All kinds in equal numbers.
    pub fn standard(count: u32) -> Self {
        let kinds = FaultKind::ALL;
        let fault = |at: u32| FileFault {
            kind: kinds[at as usize % kinds.len()],
            count: 1,
            target: None,
            strength: None,
            duration_s: None,
            at_s: None,
        };
        let fleet = FileFleet::default();
        Self {
            size: Size { services: fleet.services, externals: fleet.externals, instances: fleet.instances },
            warm_s: warm_s(),
            spacing_s: spacing_s(),
            wanted: (0..count).map(fault).collect(),
        }
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: File = serde_saphyr::from_str(&text).with_context(|| format!("{} is no scenario", path.display()))?;
        let repeat = |fault: &FileFault| vec![FileFault { count: 1, ..fault.clone() }; fault.count as usize];
        Ok(Self {
            size: Size {
                services: file.fleet.services,
                externals: file.fleet.externals,
                instances: file.fleet.instances,
            },
            warm_s: file.warm_s,
            spacing_s: file.spacing_s,
            wanted: file.faults.iter().flat_map(repeat).collect(),
        })
    }

    /// Faults by fleet: those with a time of their own stay together.
    pub fn batches(&self, most: usize) -> Vec<Vec<FileFault>> {
        if self.wanted.iter().any(|fault| fault.at_s.is_some()) {
            return vec![self.wanted.clone()];
        }
        self.wanted.chunks(most).map(<[FileFault]>::to_vec).collect()
    }

    /// Gives the wanted faults targets and times.
    pub fn lay_out(
        &self,
        wanted: &[FileFault],
        fleet: &Fleet,
        random: &mut ChaCha8Rng,
        begin_s: u64,
    ) -> Result<Vec<Fault>> {
        let mut faults = Vec::new();
        let mut slot_s = begin_s + self.warm_s;
        for one in wanted {
            let picked = Fault::pick(one.kind, one.target.as_deref(), fleet, random);
            let (target, at) = match (picked, &one.target) {
                (Some(picked), _) => picked,
                (None, Some(name)) => anyhow::bail!("{} has no target {name:?} in this fleet", one.kind.name()),
                (None, None) => anyhow::bail!("this fleet has no target for {}", one.kind.name()),
            };
            let drawn = one.kind.strength(random);
            let begins_s = match one.at_s {
                Some(at_s) => begin_s + self.warm_s + at_s,
                None => slot_s + random.random_range(0..20),
            };
            let onset_ms = onset_ms(begins_s, random);
            let duration_s = one.duration_s.unwrap_or_else(|| random.random_range(30..45));
            slot_s += self.spacing_s;
            faults.push(Fault {
                kind: one.kind,
                target,
                at,
                onset_ms,
                until_ms: onset_ms + duration_s * 1_000,
                strength: one.strength.unwrap_or(drawn),
            });
        }
        Ok(faults)
    }
}
