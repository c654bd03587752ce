//! The last good state: what was accepted of each answer, and the routing table made of it.
//!
//! Pure but for the identity of endpoints, which live on from table to table. Three rules keep a bad answer from taking
//! services away: a resource that cannot be used is refused alone, the rest of its answer is taken; an answer that leaves a
//! cluster without endpoints, or a listener without routes, is not believed; a cluster goes only when no route refers to it
//! any more.

use crate::balance::{Balance, Weighted, key_of};
use crate::endpoint::EndpointState;
use crate::table::{Cluster, Hosts, Paths, Table};
use crate::xds::resources::{self as res, ClusterSpec, EndpointSpec, ListenerRoutes, Refused, Routes};
use envoy_types::pb::google::protobuf::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

/// One kind of resource: as received (to be saved) and as understood.
#[derive(Debug)]
struct Kept<T> {
    raw: BTreeMap<String, Any>,
    parsed: BTreeMap<String, T>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { raw: BTreeMap::new(), parsed: BTreeMap::new() }
    }
}

impl<T> Kept<T> {
    fn put(&mut self, name: &str, raw: &Any, parsed: T) {
        self.raw.insert(name.to_owned(), raw.clone());
        self.parsed.insert(name.to_owned(), parsed);
    }

    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.raw.retain(|name, _| keep(name));
        self.parsed.retain(|name, _| keep(name));
    }
}

/// An assignment and when it came.
#[derive(Debug, Clone, PartialEq)]
struct Assigned {
    endpoints: Vec<EndpointSpec>,
    received_ms: u64,
}

/// What came of one answer.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Refused resources.
    pub refused: Vec<Refused>,
    /// Answers without endpoints, or without listeners, that were not believed.
    pub empty_ignored: u64,
}

/// Everything accepted so far.
#[derive(Debug, Default)]
pub struct State {
    listeners: Kept<ListenerRoutes>,
    routes: Kept<Routes>,
    clusters: Kept<ClusterSpec>,
    assignments: Kept<Assigned>,
    /// Clusters that CDS dropped while routes still name them.
    condemned: BTreeSet<String>,
    built: HashMap<Arc<str>, Arc<Cluster>>,
    stale: BTreeSet<String>,
    /// Addresses of the host names of STRICT_DNS clusters.
    resolved: BTreeMap<(String, u16), Vec<SocketAddr>>,
    entry: Arc<Hosts>,
    mesh: Arc<Hosts>,
    routes_stale: bool,
}

impl State {
    /// Takes an answer of the type `type_url` that came at `now_ms`.
    pub fn accept(&mut self, type_url: &str, resources: &[Any], now_ms: u64) -> Verdict {
        match type_url {
            res::LISTENER => self.accept_listeners(resources),
            res::ROUTES => self.accept_routes(resources),
            res::CLUSTER => self.accept_clusters(resources),
            res::ENDPOINTS => self.accept_endpoints(resources, now_ms),
            _ => Verdict::default(),
        }
    }

    fn accept_listeners(&mut self, resources: &[Any]) -> Verdict {
        let mut verdict = Verdict::default();
        if resources.is_empty() && !self.listeners.raw.is_empty() {
            verdict.empty_ignored += 1;
            return verdict;
        }
        let mut named = BTreeSet::new();
        for any in resources {
            match res::listener(any) {
                Ok((name, parsed)) => {
                    self.listeners.put(&name, any, parsed);
                    named.insert(name);
                }
                Err(refused) => verdict.refuse(&mut named, refused),
            }
        }
        self.listeners.retain(|name| named.contains(name));
        self.routes_stale = true;
        self.bury();
        verdict
    }

    fn accept_routes(&mut self, resources: &[Any]) -> Verdict {
        let mut verdict = Verdict::default();
        for any in resources {
            match res::routes(any) {
                Ok((name, parsed)) => {
                    let has_any = |routes: &Routes| routes.domains.iter().any(|(_, routes)| !routes.is_empty());
                    if !has_any(&parsed) && self.routes.parsed.get(&name).is_some_and(has_any) {
                        verdict.empty_ignored += 1;
                        continue;
                    }
                    self.routes.put(&name, any, parsed);
                }
                Err(refused) => verdict.refused.push(refused),
            }
        }
        self.routes_stale = true;
        self.bury();
        verdict
    }

    fn accept_clusters(&mut self, resources: &[Any]) -> Verdict {
        let mut verdict = Verdict::default();
        let mut named = BTreeSet::new();
        for any in resources {
            match res::cluster(any) {
                Ok((name, parsed)) => {
                    if self.clusters.parsed.get(&name) != Some(&parsed) {
                        self.stale.insert(name.clone());
                    }
                    self.clusters.put(&name, any, parsed);
                    named.insert(name);
                }
                Err(refused) => verdict.refuse(&mut named, refused),
            }
        }
        self.condemned = self.clusters.raw.keys().filter(|name| !named.contains(*name)).cloned().collect();
        self.bury();
        verdict
    }

    fn accept_endpoints(&mut self, resources: &[Any], received_ms: u64) -> Verdict {
        let mut verdict = Verdict::default();
        for any in resources {
            match res::assignment(any) {
                Ok((name, endpoints)) => {
                    let had = self.assignments.parsed.get(&name).is_some_and(|old| !old.endpoints.is_empty());
                    if endpoints.is_empty() && had {
                        verdict.empty_ignored += 1;
                        continue;
                    }
                    let users = self.clusters.parsed.iter().filter(|(_, c)| c.eds.as_deref() == Some(&name));
                    self.stale.extend(users.map(|(cluster, _)| cluster.clone()));
                    self.assignments.put(&name, any, Assigned { endpoints, received_ms });
                }
                Err(refused) => verdict.refused.push(refused),
            }
        }
        verdict
    }

    /// Removes condemned clusters that no route names any more.
    fn bury(&mut self) {
        let referred = self.referred();
        let dead: BTreeSet<String> = self.condemned.iter().filter(|name| !referred.contains(*name)).cloned().collect();
        if dead.is_empty() {
            return;
        }
        self.condemned.retain(|name| !dead.contains(name));
        self.clusters.retain(|name| !dead.contains(name));
        self.stale.extend(dead);
        let wanted: BTreeSet<&String> = self.clusters.parsed.values().filter_map(|c| c.eds.as_ref()).collect();
        self.assignments.retain(|name| wanted.iter().any(|wanted| *wanted == name));
    }

    fn referred(&self) -> BTreeSet<String> {
        let inline = self.listeners.parsed.values().filter_map(|listener| match listener {
            ListenerRoutes::Inline(routes) => Some(routes),
            ListenerRoutes::Named(_) => None,
        });
        let named = self.route_names();
        let live = self.routes.parsed.iter().filter(|(name, _)| named.contains(*name)).map(|(_, routes)| routes);
        live.chain(inline)
            .flat_map(|routes| &routes.domains)
            .flat_map(|(_, routes)| routes.iter().map(|route| route.cluster.clone()))
            .collect()
    }

    /// Route configurations to ask for.
    pub fn route_names(&self) -> BTreeSet<String> {
        let named = self.listeners.parsed.values().filter_map(|listener| match listener {
            ListenerRoutes::Named(name) => Some(name.clone()),
            ListenerRoutes::Inline(_) => None,
        });
        named.collect()
    }

    /// Assignments to ask for.
    pub fn assignment_names(&self) -> BTreeSet<String> {
        self.clusters.parsed.values().filter_map(|cluster| cluster.eds.clone()).collect()
    }

    /// Host names and ports to resolve.
    pub fn names(&self) -> BTreeSet<(String, u16)> {
        self.clusters.parsed.values().flat_map(|cluster| cluster.names.iter().cloned()).collect()
    }

    /// Takes the addresses of a name; true when they changed. No address at all is not believed.
    pub fn resolve(&mut self, name: (String, u16), mut addresses: Vec<SocketAddr>) -> bool {
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() || self.resolved.get(&name) == Some(&addresses) {
            return false;
        }
        let users = self.clusters.parsed.iter().filter(|(_, cluster)| cluster.names.contains(&name));
        self.stale.extend(users.map(|(cluster, _)| cluster.clone()));
        self.resolved.insert(name, addresses);
        true
    }

    /// All resources of a type as received.
    pub fn raw(&self, type_url: &str) -> Vec<Any> {
        let raw = match type_url {
            res::LISTENER => &self.listeners.raw,
            res::ROUTES => &self.routes.raw,
            res::CLUSTER => &self.clusters.raw,
            _ => &self.assignments.raw,
        };
        raw.values().cloned().collect()
    }

    /// Ends all leases: their lives were measured by a clock that is gone.
    pub fn end_leases(&mut self) {
        for assigned in self.assignments.parsed.values_mut() {
            assigned.endpoints.iter_mut().for_each(|endpoint| endpoint.leased = None);
        }
    }

    /// The table of the present state. Clusters and routes that did not change are taken over as they are.
    pub fn table(&mut self) -> Table {
        for name in std::mem::take(&mut self.stale) {
            match self.clusters.parsed.get(&name) {
                None => {
                    self.built.remove(name.as_str());
                }
                Some(spec) => {
                    let cluster = self.build(&name, spec);
                    self.built.insert(Arc::clone(&cluster.name), cluster);
                }
            }
        }
        if std::mem::take(&mut self.routes_stale) {
            self.entry = Arc::new(self.hosts("entry"));
            self.mesh = Arc::new(self.hosts("mesh"));
        }
        Table {
            entry: Arc::clone(&self.entry),
            mesh: Arc::clone(&self.mesh),
            clusters: self.built.clone(),
            // They come beside the routes, and the client puts them in.
            policies: Arc::default(),
            ready: !self.listeners.raw.is_empty(),
            whole: self.is_whole(),
        }
    }

    /// Whether there is something of each type that the others name: listeners alone route nothing.
    fn is_whole(&self) -> bool {
        let mut named = self.listeners.parsed.values().filter_map(|listener| match listener {
            ListenerRoutes::Named(name) => Some(name),
            ListenerRoutes::Inline(_) => None,
        });
        let routed = !self.listeners.parsed.is_empty() && named.all(|name| self.routes.parsed.contains_key(name));
        let reached = || !self.clusters.parsed.is_empty() || self.referred().is_empty();
        let wants_endpoints = || self.clusters.parsed.values().any(|cluster| cluster.eds.is_some());
        routed && reached() && (!self.assignments.parsed.is_empty() || !wants_endpoints())
    }

    fn build(&self, name: &str, spec: &ClusterSpec) -> Arc<Cluster> {
        let assigned = spec.eds.as_ref().and_then(|eds| self.assignments.parsed.get(eds));
        let received_ms = assigned.map_or(0, |a| a.received_ms);
        let sent: Vec<EndpointSpec> = match assigned {
            Some(assigned) => assigned.endpoints.clone(),
            None => spec.endpoints.iter().cloned().chain(self.resolved_endpoints(spec)).collect(),
        };
        let old = self.built.get(name);
        let known: HashMap<(&str, SocketAddr), &Arc<EndpointState>> =
            old.iter().flat_map(|old| &old.endpoints).map(|e| ((e.instance.as_ref(), e.address), e)).collect();
        let endpoints = sent
            .iter()
            .map(|e| match known.get(&(e.instance.as_str(), e.address)) {
                Some(state) => Arc::clone(state),
                None => {
                    Arc::new(EndpointState::new(e.instance.as_str().into(), e.address).in_datacenter(&e.datacenter))
                }
            })
            .collect::<Vec<_>>();
        for (state, sent) in endpoints.iter().zip(&sent) {
            state.set_reported_unhealthy(sent.unhealthy);
        }
        let weights: Vec<Weighted> = sent
            .iter()
            .map(|e| Weighted {
                weight: e.weight,
                leased: e.leased.map(|(weight, life_ms)| (weight, received_ms + life_ms)),
                draining: e.draining,
            })
            .collect();
        Arc::new(Cluster {
            name: old.map_or_else(|| name.into(), |old| Arc::clone(&old.name)),
            business: spec.business.as_str().into(),
            business_level: spec.business_level,
            balance: Balance::new(&weights),
            hash_header: spec.hash_header.clone(),
            identities: endpoints.iter().map(|e| key_of(e.instance.as_bytes())).collect(),
            endpoints,
            connect_timeout: spec.connect_timeout,
            timeout: spec.timeout,
            http2: spec.http2,
            connections_max: spec.connections_max,
            in_flight_max: spec.in_flight_max,
            pending_max: spec.pending_max,
            health: spec.health.clone(),
            health_ports: sent.iter().map(|e| e.health_port).collect(),
        })
    }

    fn resolved_endpoints(&self, spec: &ClusterSpec) -> impl Iterator<Item = EndpointSpec> {
        spec.names.iter().filter_map(|name| self.resolved.get(name)).flatten().map(|address| EndpointSpec {
            instance: address.to_string(),
            address: *address,
            datacenter: String::new(),
            weight: 1,
            draining: false,
            unhealthy: false,
            leased: None,
            health_port: None,
        })
    }

    fn hosts(&self, listener: &str) -> Hosts {
        let routes = match self.listeners.parsed.get(listener) {
            Some(ListenerRoutes::Inline(routes)) => Some(routes),
            Some(ListenerRoutes::Named(name)) => self.routes.parsed.get(name),
            None => None,
        };
        let mut hosts = Hosts::default();
        for (domain, routes) in routes.into_iter().flat_map(|routes| &routes.domains) {
            let paths = match domain.as_str() {
                "*" => hosts.any.get_or_insert_default(),
                _ => match domain.strip_prefix('*') {
                    Some(suffix) => {
                        hosts.suffixes.push((suffix.to_owned(), Paths::default()));
                        &mut hosts.suffixes.last_mut().expect("just pushed").1
                    }
                    // Hosts are matched without port: `lottery:*` and `lottery:80` are `lottery`.
                    None => hosts.exact.entry(domain.split(':').next().unwrap_or(domain).to_owned()).or_default(),
                },
            };
            for route in routes {
                let cluster: Arc<str> = route.cluster.as_str().into();
                if route.exact {
                    paths.exact.entry(route.path.clone()).or_insert(cluster);
                } else {
                    paths.prefixes.push((route.path.clone(), cluster));
                }
            }
            paths.prefixes.sort_by_key(|(prefix, _)| Reverse(prefix.len()));
        }
        hosts.suffixes.sort_by_key(|(suffix, _)| Reverse(suffix.len()));
        hosts
    }
}

impl Verdict {
    /// A refused resource that has a name is still there: what was accepted of it before stays.
    fn refuse(&mut self, named: &mut BTreeSet<String>, refused: Refused) {
        named.insert(refused.name.clone());
        self.refused.push(refused);
    }
}

#[cfg(test)]
mod tests;
