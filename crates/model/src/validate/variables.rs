//! References to variables in config files, arguments and commands: each must be known in every datacenter of the service.

use super::World;
use crate::config::{Place, Texts, known, variables_in};
use crate::fault::{Fault, did_you_mean};
use crate::resource::*;
use std::collections::{BTreeMap, BTreeSet};

/// References to variables that do not exist.
pub(super) fn check(world: &World<'_>) -> Vec<Fault> {
    let mut faults = BTreeSet::new();
    for (key, service) in world.services() {
        let Some(Resource::Package(package)) = world.get(Kind::Package, service.package.as_str()) else { continue };
        let set = service.config.as_ref().and_then(|name| world.get(Kind::ConfigSet, name.as_str()));
        let none = BTreeMap::new();
        let files = match set {
            Some(Resource::ConfigSet(set)) => &set.files,
            _ => &none,
        };
        let environment = service.environment.as_ref().and_then(|name| world.get(Kind::Environment, name.as_str()));
        for datacenter in service.instances.keys() {
            let variables = match environment {
                Some(Resource::Environment(found)) => variables_in(found, datacenter),
                _ => BTreeMap::new(),
            };
            let known = known(service, &variables);
            for (place, missing) in (Texts { package, service, files }).missing(&known) {
                let hint = did_you_mean(&missing.name, known.iter().map(String::as_str));
                let scope = match &service.environment {
                    Some(name) => {
                        format!("environment {name} does not have it for service {} in {datacenter}", service.name)
                    }
                    None => format!("service {} has no environment", service.name),
                };
                let message =
                    format!("{place} line {} refers to `${{{}}}`, but {scope}{hint}", missing.line, missing.name);
                let (at, field) = located(key, service, &place);
                faults.insert(world.fault(&at, &field, message));
            }
        }
    }
    faults.into_iter().collect()
}

/// The resource and field that hold a text.
fn located(key: &ResourceKey, service: &Service, place: &Place) -> (ResourceKey, String) {
    let of = |kind, name: &str| ResourceKey { kind, name: name.to_owned() };
    match (place, &service.config) {
        (Place::File(file), Some(set)) => (of(Kind::ConfigSet, set.as_str()), format!("files.{file}")),
        (Place::File(file), None) => (key.clone(), format!("files.{file}")),
        (Place::Args(at), _) => (key.clone(), format!("args[{at}]")),
        (Place::Command(at), _) => (of(Kind::Package, service.package.as_str()), format!("command[{at}]")),
    }
}
