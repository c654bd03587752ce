//! Which fields refer to which other resources, and those that point nowhere.

use super::World;
use crate::fault::{FAULTS_MAX, Fault, did_you_mean};
use crate::name::{BusinessName, DatacenterName, ServiceName};
use crate::resource::*;

/// One reference of a resource to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The field that refers.
    pub field: String,
    /// The kinds that it may mean.
    pub kinds: &'static [Kind],
    /// The name.
    pub name: String,
}

/// Every reference of a resource.
pub fn of(resource: &Resource) -> Vec<Reference> {
    let to = |field: &str, kinds, name: &str| Reference { field: field.to_owned(), kinds, name: name.to_owned() };
    match resource {
        Resource::Region(_)
        | Resource::HostType(_)
        | Resource::Business(_)
        | Resource::External(_)
        | Resource::Package(_)
        | Resource::ConfigSet(_)
        | Resource::AlertRule(_) => Vec::new(),
        Resource::Receiver(of) => {
            let services = of.services.iter().enumerate();
            services
                .map(|(at, name)| to(&format!("services[{at}]"), &[Kind::Service, Kind::External], name.as_str()))
                .collect()
        }
        Resource::Datacenter(of) => vec![to("region", &[Kind::Region], of.region.as_str())],
        Resource::Rack(of) => vec![to("datacenter", &[Kind::Datacenter], of.datacenter.as_str())],
        Resource::Circuit(of) => {
            let ends = of.between.iter().enumerate();
            ends.map(|(at, name)| to(&format!("between[{at}]"), &[Kind::Datacenter], name.as_str())).collect()
        }
        Resource::Host(of) => {
            vec![to("rack", &[Kind::Rack], of.rack.as_str()), to("host_type", &[Kind::HostType], of.host_type.as_str())]
        }
        Resource::Environment(of) => {
            let names = of.datacenters.keys();
            names.map(|name| to(&format!("datacenters.{name}"), &[Kind::Datacenter], name.as_str())).collect()
        }
        Resource::Service(of) => of_service(of),
        Resource::Policy(of) => in_scope("", &of.business, &of.service, &of.datacenter),
        Resource::Preset(of) => {
            let policies = of.policies.iter().enumerate();
            policies
                .flat_map(|(at, of)| in_scope(&format!("policies[{at}]."), &of.business, &of.service, &of.datacenter))
                .collect()
        }
        Resource::Event(of) => {
            let mut found = vec![to("business", &[Kind::Business], of.business.as_str())];
            let entries = of.entry_requests_per_second.keys();
            found.extend(
                entries.map(|name| to(&format!("entry_requests_per_second.{name}"), &[Kind::Service], name.as_str())),
            );
            found
        }
    }
}

fn of_service(service: &Service) -> Vec<Reference> {
    let to = |field: String, kinds, name: &str| Reference { field, kinds, name: name.to_owned() };
    let mut found = vec![
        to("business".to_owned(), &[Kind::Business], service.business.as_str()),
        to("package".to_owned(), &[Kind::Package], service.package.as_str()),
    ];
    found.extend(service.config.iter().map(|name| to("config".to_owned(), &[Kind::ConfigSet], name.as_str())));
    let environment = service.environment.iter();
    found.extend(environment.map(|name| to("environment".to_owned(), &[Kind::Environment], name.as_str())));
    let dependencies = service.dependencies.iter().enumerate();
    found.extend(dependencies.map(|(at, dependency)| {
        to(format!("dependencies[{at}].on"), &[Kind::Service, Kind::External], &dependency.on)
    }));
    let datacenters = service.instances.keys();
    found.extend(datacenters.map(|name| to(format!("instances.{name}"), &[Kind::Datacenter], name.as_str())));
    let avoided = service.avoid.iter().enumerate();
    found.extend(avoided.map(|(at, name)| to(format!("avoid[{at}]"), &[Kind::Service], name.as_str())));
    found
}

/// What the scope of a policy refers to.
fn in_scope(
    at: &str,
    business: &Option<BusinessName>,
    service: &Option<ServiceName>,
    datacenter: &Option<DatacenterName>,
) -> Vec<Reference> {
    let to = |field: &str, kinds, name: &str| Reference { field: format!("{at}{field}"), kinds, name: name.to_owned() };
    let mut found: Vec<Reference> =
        business.iter().map(|name| to("business", &[Kind::Business], name.as_str())).collect();
    found.extend(service.iter().map(|name| to("service", &[Kind::Service, Kind::External], name.as_str())));
    found.extend(datacenter.iter().map(|name| to("datacenter", &[Kind::Datacenter], name.as_str())));
    found
}

/// References that point nowhere.
pub(super) fn dangling(world: &World<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (key, resource) in &world.resources {
        for Reference { field, kinds, name } in of(resource) {
            if kinds.iter().any(|kind| world.get(*kind, &name).is_some()) {
                continue;
            }
            let known = world.resources.keys().filter(|other| kinds.contains(&other.kind));
            let names = known.map(|other| other.name.as_str());
            let hint = if faults.len() < FAULTS_MAX { did_you_mean(&name, names) } else { String::new() };
            let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
            let kinds = kinds.join(" or ");
            let advice = if hint.is_empty() { "; declare it, or name one that exists".to_owned() } else { hint };
            faults.push(world.fault(key, &field, format!("no {kinds} is called `{name}`{advice}")));
        }
    }
    faults
}
