//! Services from outside: a folder of manifests that stands in for a benchmark's own service, so that others can feed it
//! cases it never saw.

use crate::fleet::Fleet;
use anyhow::{Context, Result, bail, ensure};
use model::{Resource, Service};
use std::path::Path;

/// Manifest files taken from one folder.
const FILES_MAX: usize = 1_000;

/// The service that a benchmark works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its name.
    pub service: String,
    /// Where load goes.
    pub path: String,
    /// Its instances, all datacenters summed, as the manifests have it.
    pub instances: u32,
}

/// Finds the subject among the manifests of a folder: the service named, or the only one with a route. `path` overrides
/// the path of its first route.
pub fn subject(folder: &Path, service: Option<&str>, path: Option<&str>) -> Result<Subject> {
    let files = read(folder)?;
    let declared = model::manifest::parse(&files).map_err(|faults| {
        anyhow::anyhow!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let services: Vec<&Service> = declared
        .iter()
        .filter_map(|declared| match &declared.resource {
            Resource::Service(service) => Some(service),
            _ => None,
        })
        .filter(|found| service.map_or(!found.routes.is_empty(), |wanted| found.name.as_str() == wanted))
        .collect();
    let [found] = services.as_slice() else {
        let names: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
        bail!(
            "{} declares {} fitting services ({}): name one, that has a route, with --service-name",
            folder.display(),
            names.len(),
            names.join(", ")
        );
    };
    let route = found.routes.first().map(|route| route.path_prefix.clone());
    let path = path.map(str::to_owned).or(route);
    let path = path.with_context(|| format!("{} has no route: say with --path where load goes", found.name))?;
    Ok(Subject { service: found.name.to_string(), path, instances: found.instances.values().sum() })
}

fn read(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|word| word == "yaml" || word == "yml") {
            files.push((path.display().to_string(), std::fs::read_to_string(&path)?));
        }
    }
    ensure!(!files.is_empty(), "{} holds no .yaml file", folder.display());
    ensure!(files.len() <= FILES_MAX, "{} holds more than {FILES_MAX} manifest files", folder.display());
    files.sort();
    Ok(files)
}

/// Applies the folder as a user would, and waits until all of it is up.
pub async fn apply(fleet: &Fleet, folder: &Path, seconds_max: u64) -> Result<()> {
    fleet.cli(&["apply", "-f", folder.to_str().context("the folder's name is text")?, "--no-wait"])?;
    fleet.await_steady(seconds_max).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "kind: Service\nname: NAME\nbusiness: shop\nlayer: access\npackage: p\nshape: 0.1C64M\nports: [http]\ninstances: {dc-a: 2, dc-b: 1}\n";

    fn folder(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("all.yaml"), text).expect("written");
        folder
    }

    #[test]
    fn the_only_service_with_a_route_is_the_subject() {
        let front = SERVICE.replace("NAME", "front") + "routes: [{path_prefix: /buy}]\n";
        let both = folder(&format!("{front}---\n{}", SERVICE.replace("NAME", "back")));
        let found = subject(both.path(), None, None).expect("found");
        assert_eq!(found, Subject { service: "front".into(), path: "/buy".into(), instances: 3 });
        assert_eq!(subject(both.path(), None, Some("/x")).expect("found").path, "/x");
        let none = subject(both.path(), Some("back"), None).expect_err("nowhere to send load").to_string();
        assert!(none.contains("--path"), "{none}");
        let two = folder(&format!("{front}---\n{}", front.replace("front", "other")));
        let refused = subject(two.path(), None, None).expect_err("which one?").to_string();
        assert!(refused.contains("front, other") && refused.contains("--service-name"), "{refused}");
        assert!(subject(tempfile::tempdir().expect("a folder").path(), None, None).is_err());
    }
}
