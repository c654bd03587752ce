//! The manifests of the examples hold together on the fleet of `springtide dev`.

use model::manifest::{Declared, parse};
use model::{Digest, Layer, Resource, Snapshot, plan};
use std::path::{Path, PathBuf};

/// What `springtide dev` declares, as far as it matters here.
const FLEET: &str = "kind: Region\nname: local\n---\nkind: Datacenter\nname: dc-a\nregion: local\n---\nkind: Datacenter\nname: dc-b\n\
                     region: local\n";

fn read(folder: &Path) -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files.iter().map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap())).collect()
}

fn declared(folder: &Path) -> Vec<Declared> {
    let mut files = read(folder);
    assert!(!files.is_empty(), "{}", folder.display());
    files.push(("fleet.yaml".to_owned(), FLEET.to_owned()));
    let mut declared = parse(&files).unwrap_or_else(|faults| panic!("{faults:#?}"));
    for one in &mut declared {
        if let Resource::Package(package) = &mut one.resource {
            // As `apply` does once it has packed the source.
            assert!(package.source.take().is_some(), "{}", package.name);
            package.digest = Some(Digest::of(package.name.as_str().as_bytes()));
        }
    }
    declared
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(name).join("manifests")
}

#[test]
fn the_business_can_be_applied() {
    let declared = declared(&example("red-packet"));
    plan::plan(&Snapshot::default(), &declared, false).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let services: Vec<_> = declared
        .iter()
        .filter_map(|one| match &one.resource {
            Resource::Service(service) => Some(service),
            _ => None,
        })
        .collect();
    assert_eq!(services.len(), 6);
    for service in services {
        assert_eq!(service.routes.is_empty(), service.layer != Layer::Access, "{}", service.name);
        assert_eq!(service.persistent_paths.is_empty(), service.layer != Layer::Storage, "{}", service.name);
        assert!(service.shape.cpu.0 <= 300, "{} must leave room on a small machine", service.name);
        assert!(service.health_check.is_some() && service.instances.values().sum::<u32>() >= 2, "{}", service.name);
    }
}

#[test]
fn every_source_is_where_the_build_puts_the_program() {
    for (path, text) in read(&example("red-packet")) {
        for source in text.lines().filter_map(|line| line.strip_prefix("source: ")) {
            assert_eq!(source, "../../../target/release/red-packet", "{path}");
        }
    }
}

#[test]
fn the_unchanged_program_of_others_can_be_applied() {
    let folder = example("hello");
    let declared = declared(&folder);
    plan::plan(&Snapshot::default(), &declared, false).unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert!(folder.join("../package/site/index.html").exists());
}
