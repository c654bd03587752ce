//! References to variables in config files, arguments and commands: each must be known in every datacenter of the service.

use super::World;
use crate::config::{MissingVariable, Place, Texts, known, variables_in};
use crate::fault::{Fault, did_you_mean};
use crate::resource::*;
use std::collections::BTreeMap;

/// References to variables that do not exist.
pub(super) fn check(world: &World<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (key, service) in world.services() {
        for ((place, missing), lack) in missing(world, service) {
            let message = format!("{place} line {} refers to `${{{}}}`, but {lack}", missing.line, missing.name);
            let (at, field) = located(key, service, &place);
            faults.push(world.fault(&at, &field, message));
        }
    }
    faults
}

/// Each reference that some datacenter cannot resolve, and what lacks the variable.
fn missing(world: &World<'_>, service: &Service) -> Vec<((Place, MissingVariable), String)> {
    let Some(Resource::Package(package)) = world.get(Kind::Package, service.package.as_str()) else {
        return Vec::new();
    };
    let none = BTreeMap::new();
    let files = match service.config.as_ref().and_then(|name| world.get(Kind::ConfigSet, name.as_str())) {
        Some(Resource::ConfigSet(set)) => &set.files,
        _ => &none,
    };
    let environment = service.environment.as_ref().and_then(|name| world.get(Kind::Environment, name.as_str()));
    let mut lacking: Vec<((Place, MissingVariable), String, Vec<&str>)> = Vec::new();
    let datacenters = service.instances.keys();
    for datacenter in datacenters.filter(|name| world.get(Kind::Datacenter, name.as_str()).is_some()) {
        let variables = match environment {
            Some(Resource::Environment(found)) => variables_in(found, datacenter),
            _ => BTreeMap::new(),
        };
        let known = known(service, &variables);
        for reference in (Texts { package, service, files }).missing(&known) {
            let hint = did_you_mean(&reference.1.name, known.iter().map(String::as_str));
            match lacking.iter_mut().find(|(other, ..)| *other == reference) {
                Some((.., places)) => places.push(datacenter.as_str()),
                None => lacking.push((reference, hint, vec![datacenter.as_str()])),
            }
        }
    }
    let lack = |places: &[&str]| match &service.environment {
        Some(name) => format!("environment {name} has none for service {} in {}", service.name, places.join(", ")),
        None => format!("service {} names no environment", service.name),
    };
    lacking.into_iter().map(|(reference, hint, places)| (reference, lack(&places) + &hint)).collect()
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
