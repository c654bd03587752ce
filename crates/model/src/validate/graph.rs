//! Cycles in the calls between services: a request that comes back to a service on its own path has no finite cost.

use super::World;
use crate::fault::Fault;
use crate::resource::*;
use std::collections::BTreeMap;

/// How far the walk has come with a service.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// On the path walked.
    Open,
    /// All that it calls was walked.
    Done,
}

/// One fault for each cycle found, at the dependency that closes it.
pub(super) fn cycles(world: &World<'_>) -> Vec<Fault> {
    let services: BTreeMap<&str, (&ResourceKey, &Service)> =
        world.services().map(|(key, service)| (service.name.as_str(), (key, service))).collect();
    let mut marks: BTreeMap<&str, Mark> = BTreeMap::new();
    let mut faults = Vec::new();
    for start in services.keys().copied() {
        // The path is kept by hand: a chain of calls may be deeper than the stack.
        let mut path: Vec<(&str, usize)> = Vec::new();
        if !marks.contains_key(start) {
            marks.insert(start, Mark::Open);
            path.push((start, 0));
        }
        while let Some((name, at)) = path.pop() {
            let (key, service) = services[name];
            let Some(dependency) = service.dependencies.get(at) else {
                marks.insert(name, Mark::Done);
                continue;
            };
            path.push((name, at + 1));
            let on = dependency.on.as_str();
            match marks.get(on) {
                Some(Mark::Open) => faults.push(closed(world, key, at, &path, on)),
                Some(Mark::Done) => {}
                None if services.contains_key(on) => {
                    marks.insert(on, Mark::Open);
                    path.push((on, 0));
                }
                None => {}
            }
        }
    }
    faults
}

fn closed(world: &World<'_>, key: &ResourceKey, at: usize, path: &[(&str, usize)], on: &str) -> Fault {
    let from = path.iter().position(|(name, _)| *name == on).unwrap_or(0);
    let mut names: Vec<&str> = path[from..].iter().map(|(name, _)| *name).collect();
    names.push(on);
    let message = format!("dependencies form a cycle: {}; remove one of these calls", names.join(" → "));
    world.fault(key, &format!("dependencies[{at}].on"), message)
}
