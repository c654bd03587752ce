//! What an agent would find here, tried and undone: for `springtide doctor`.
//!
//! Deliberately absent: enabling controllers, which would stay.

use super::detect::{self, Hierarchy};
use super::{Controller, Error, Layout, Version, file_error};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

/// Where slices could be made in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The controllers of ours it has.
    pub controllers: BTreeSet<Controller>,
    /// The cgroup below which slices would stand.
    pub base: PathBuf,
}

/// Finds the hierarchies as an agent does and makes a cgroup in each that limits anything, which is removed again.
///
/// # Errors
/// What would keep an agent from starting; the message says what to grant.
pub fn probe() -> Result<(Layout, Vec<Place>), Error> {
    let found = detect::detect()?;
    found.hierarchies.iter().try_for_each(Hierarchy::check)?;
    let root = PathBuf::from(format!("springtide-probe-{}", std::process::id()));
    let limiting = found.hierarchies.iter().filter(|hierarchy| !hierarchy.controllers.is_empty());
    let places = limiting.map(|hierarchy| try_in(hierarchy, &root)).collect::<Result<_, _>>()?;
    Ok((found.layout, places))
}

fn try_in(hierarchy: &Hierarchy, root: &Path) -> Result<Place, Error> {
    let base = hierarchy.writable_base(root)?;
    let made = base.join(root);
    fs::remove_dir(&made).map_err(file_error("remove", &made))?;
    if hierarchy.version == Version::Two {
        let path = base.join("cgroup.subtree_control");
        OpenOptions::new().write(true).open(&path).map_err(|source| Error::Denied { path, source })?;
    }
    Ok(Place { controllers: hierarchy.controllers.clone(), base })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_is_undone_and_covers_what_slices_need() {
        let (_, places) = probe().expect("tests run where slices can be made");
        let all: BTreeSet<Controller> = places.iter().flat_map(|place| place.controllers.clone()).collect();
        assert!([Controller::Cpu, Controller::Memory, Controller::Pids].iter().all(|needed| all.contains(needed)));
        let ours = format!("springtide-probe-{}", std::process::id());
        assert!(places.iter().all(|place| place.base.is_dir() && !place.base.join(&ours).exists()), "{places:?}");
    }
}
