//! The routing table: what a request needs to find its cluster, built once and read by every worker.
//!
//! Immutable. What changes without a new table (load, health, ejection) is in [`EndpointState`]; leases end by time.

use crate::balance::Balance;
use crate::endpoint::EndpointState;
use http::HeaderName;
use policy::PolicySet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Caller of requests from outside.
pub const OUTSIDE: &str = "outside";
/// Every caller that the table does not name.
pub const OTHER: &str = "other";

/// Everything a worker routes by.
#[derive(Debug, Default)]
pub struct Table {
    /// Routes of the entry listener.
    pub entry: Arc<Hosts>,
    /// Routes of the mesh listener.
    pub mesh: Arc<Hosts>,
    /// Clusters by name.
    pub clusters: HashMap<Arc<str>, Arc<Cluster>>,
    /// Operators' policies; their ends count in microseconds of the proxy's clock ([`crate::endpoint::Clock::now_us`]).
    pub policies: Arc<PolicySet>,
    /// False until the first state came, from the server or from disk.
    pub ready: bool,
    /// There is something of each type that others name. A service without an instance may keep it false for long.
    pub whole: bool,
}

/// One service or external.
#[derive(Debug)]
pub struct Cluster {
    /// Its name.
    pub name: Arc<str>,
    /// Business that it belongs to; empty for an external.
    pub business: Arc<str>,
    /// Business level of requests that enter here, 0 (most important) to 63.
    pub business_level: u8,
    /// Endpoints, in the order that `balance` counts by.
    pub endpoints: Vec<Arc<EndpointState>>,
    /// Their shares.
    pub balance: Balance,
    /// Header whose value chooses the endpoint; `None`: the less loaded of two.
    pub hash_header: Option<HeaderName>,
    /// What each endpoint is to a key: the same in every proxy.
    pub identities: Vec<u64>,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time without any progress of the answer.
    pub timeout: Duration,
    /// HTTP/2 with prior knowledge instead of HTTP/1.1.
    pub http2: bool,
    /// Connections of the whole proxy to one endpoint; `None` when only requests in flight are bounded.
    pub connections_max: Option<usize>,
    /// Requests that one worker sends to one endpoint at the same time.
    pub in_flight_max: usize,
    /// Requests of one worker that wait for such a place.
    pub pending_max: u32,
    /// Active checks, when wanted.
    pub health: Option<Health>,
    /// Port of the active check of each endpoint, when it is not the traffic's.
    pub health_ports: Vec<Option<u16>>,
}

impl Cluster {
    /// What a worker's connections to an endpoint were made by: when it changes, they start anew.
    pub fn bounds(&self) -> (bool, Option<usize>, usize) {
        (self.http2, self.connections_max, self.in_flight_max)
    }
}

/// How endpoints are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Path to GET.
    pub path: String,
    /// Time between checks of one endpoint.
    pub interval: Duration,
    /// Time for one answer.
    pub timeout: Duration,
    /// Failures in a row that take it out.
    pub failures_max: u32,
}

/// Routes by host.
#[derive(Debug, Default)]
pub struct Hosts {
    /// By host name, lower case, without port.
    pub exact: HashMap<String, Paths>,
    /// By suffix (`*.example.com` as `.example.com`), longest first.
    pub suffixes: Vec<(String, Paths)>,
    /// For every other host.
    pub any: Option<Paths>,
}

/// Routes by path.
#[derive(Debug, Default)]
pub struct Paths {
    /// Whole paths.
    pub exact: HashMap<String, Arc<str>>,
    /// Starts of paths, longest first.
    pub prefixes: Vec<(String, Arc<str>)>,
}

impl Paths {
    fn find(&self, path: &str) -> Option<&Arc<str>> {
        if let Some(cluster) = self.exact.get(path) {
            return Some(cluster);
        }
        self.prefixes.iter().find(|(prefix, _)| path.starts_with(prefix.as_str())).map(|(_, cluster)| cluster)
    }
}

impl Hosts {
    /// The name of the cluster for a host (as in the header) and a path (without query).
    /// A host whose own routes do not match falls back on the routes for any host.
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<str>> {
        let host = without_port(host);
        let lower;
        let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = host.to_ascii_lowercase();
            lower.as_str()
        } else {
            host
        };
        let own = self.exact.get(host).or_else(|| {
            self.suffixes.iter().find(|(suffix, _)| host.ends_with(suffix.as_str())).map(|(_, paths)| paths)
        });
        own.and_then(|paths| paths.find(path)).or_else(|| self.any.as_ref().and_then(|paths| paths.find(path)))
    }
}

/// A host as headers have it, without its port.
pub fn without_port(host: &str) -> &str {
    // Names, which are most, end in no digit: they are not searched for a port.
    if !host.ends_with(|last: char| last.is_ascii_digit()) {
        return host;
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(prefixes: &[(&str, &str)]) -> Paths {
        let mut prefixes: Vec<_> = prefixes.iter().map(|(p, c)| ((*p).to_owned(), Arc::from(*c))).collect();
        prefixes.sort_by_key(|(p, _): &(String, Arc<str>)| std::cmp::Reverse(p.len()));
        Paths { exact: HashMap::new(), prefixes }
    }

    #[test]
    fn host_then_longest_prefix() {
        let mut hosts = Hosts { any: Some(paths(&[("/", "web")])), ..Hosts::default() };
        hosts.exact.insert("shop.example".into(), paths(&[("/pay", "pay"), ("/pay/back", "refund")]));
        hosts.suffixes.push((".example".into(), paths(&[("/", "all")])));
        let find = |host, path| hosts.find(host, path).map(|c| c.to_string());
        assert_eq!(find("shop.example", "/pay/backward").as_deref(), Some("refund"));
        assert_eq!(find("SHOP.example:80", "/pay").as_deref(), Some("pay"));
        assert_eq!(find("shop.example", "/else").as_deref(), Some("web"));
        assert_eq!(find("a.example", "/pay").as_deref(), Some("all"));
        assert_eq!(find("[::1]:8080", "/x").as_deref(), Some("web"));
        assert_eq!(Hosts::default().find("a", "/"), None);
    }
}
