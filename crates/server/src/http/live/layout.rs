//! Who is there: changes rarely, so it is sent apart from the numbers.

use crate::control_loop::world::{World, placements_on};
use crate::fleet::assign::layer;
use api::live::{Layout, LiveEvent, LiveHost, LiveInstance, LiveService};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The layout of the fleet as intended now.
pub fn layout(world: &World) -> Layout {
    let hosts = hosts(world);
    let services = services(world);
    let service_at: BTreeMap<&str, u32> = services.iter().map(|of| of.name.as_str()).zip(0..).collect();
    let mut instances = Vec::new();
    for (host, at) in hosts.iter().zip(0..) {
        let Ok(name) = model::HostName::new(&host.name) else { continue };
        let placed = placements_on(&world.snapshot, &name);
        instances.extend(placed.filter_map(|placement| {
            let service = *service_at.get(placement.service.as_str())?;
            Some(LiveInstance { name: placement.instance.to_string(), service, host: at })
        }));
    }
    numbered(Layout { number: String::new(), hosts, services, instances, events: events(world) })
}

/// The same without hosts and instances: it changes only with the services and events.
pub fn services_only(whole: &Layout) -> Layout {
    let (services, events) = (whole.services.clone(), whole.events.clone());
    numbered(Layout { services, events, ..Layout::default() })
}

fn numbered(layout: Layout) -> Layout {
    let mut hasher = DefaultHasher::new();
    (&layout.hosts, &layout.services, &layout.instances, &layout.events).hash(&mut hasher);
    Layout { number: format!("{:016x}", hasher.finish()), ..layout }
}

fn hosts(world: &World) -> Vec<LiveHost> {
    let view = |host: &model::Host| LiveHost {
        name: host.name.to_string(),
        datacenter: world.snapshot.datacenter_of(&host.name).map(ToString::to_string).unwrap_or_default(),
        rack: host.rack.to_string(),
    };
    let mut hosts: Vec<LiveHost> = world.snapshot.hosts().map(view).collect();
    hosts.sort_by(|a, b| (&a.datacenter, &a.rack, &a.name).cmp(&(&b.datacenter, &b.rack, &b.name)));
    hosts
}

fn services(world: &World) -> Vec<LiveService> {
    let service = |of: &model::Service| LiveService {
        name: of.name.to_string(),
        business: of.business.to_string(),
        layer: layer(of.layer).to_owned(),
        calls: of.dependencies.iter().map(|dependency| dependency.on.clone()).collect(),
    };
    let external = |of: &model::External| LiveService {
        name: of.name.to_string(),
        business: String::new(),
        layer: "external".to_owned(),
        calls: Vec::new(),
    };
    let services = world.snapshot.services().map(service);
    services.chain(world.snapshot.externals().map(external)).collect()
}

fn events(world: &World) -> Vec<LiveEvent> {
    let view = |event: &model::Event| LiveEvent {
        name: event.name.to_string(),
        business: event.business.to_string(),
        starts_at: event.starts_at.clone(),
        ends_at: event.ends_at.clone(),
        entry_rps: event.entry_requests_per_second.values().sum::<f64>() as u64,
    };
    let mut events: Vec<LiveEvent> = world.snapshot.events().map(view).collect();
    events.sort_by(|a, b| a.starts_at.cmp(&b.starts_at));
    events
}
