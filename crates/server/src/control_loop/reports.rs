//! What agents and proxies say, folded into what is observed; and which hosts are lost.

use super::engine::Engine;
use crate::clock::now_ms;
use crate::fleet::FleetInput;
use crate::fleet::links::{AgentLink, AgentSender, ProxyLink, ProxySender};
use crate::xds::cache::Type;
use api::fleet::{AgentHello, InstanceReport, ProxyHello};
use control::{HostObserved, HostState, InstanceObserved, Phase};
use model::{HostName, InstanceId, ServiceName};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;

/// Time after which a host whose stream ended counts as lost.
const LOST_AFTER_MS: u64 = 3_000;
/// Time after which a quorum of agents is enough to settle.
const SETTLE_QUORUM_MS: u64 = 5_000;
/// Time after which an empty fleet is settled.
const SETTLE_EMPTY_MS: u64 = 1_000;
/// Instances one host may report; the rest is cut off.
const INSTANCES_HOST_MAX: usize = 10_000;

impl Engine {
    /// Takes what an agent or a proxy says. Words of a stream that was replaced are dropped.
    pub(super) fn take_fleet(&mut self, input: FleetInput) {
        match input {
            FleetInput::AgentHello(host, hello, to, reply) => self.agent_hello(host, *hello, to, reply),
            FleetInput::AgentReports(host, epoch, reports) => {
                if self.is_agent(&host, epoch) {
                    self.agent_reports(&host, reports);
                }
            }
            FleetInput::AgentSamples(host, epoch, samples) => {
                if self.is_agent(&host, epoch) {
                    self.world.feed.agent_samples(host.as_str(), &samples);
                }
            }
            FleetInput::AgentGone(host, epoch) => {
                if self.is_agent(&host, epoch) {
                    self.world.links.agents.remove(&host);
                    self.world.links.leaving.insert(host, Instant::now());
                }
            }
            FleetInput::ProxyHello(hello, to, reply) => self.proxy_hello(*hello, to, reply),
            FleetInput::AgentPolicies(host, epoch, revision) => {
                if self.is_agent(&host, epoch) {
                    self.enforcers.host(host.as_str(), revision);
                }
            }
            FleetInput::AskProxies(question, reply) => {
                // The client may have gone away; what proxies find is then dropped.
                let _ = reply.send(self.world.links.ask(&question));
            }
            FleetInput::ProxySamples(proxy, epoch, samples) => {
                if let Some(link) = self.world.links.proxies.get(&proxy).filter(|link| link.epoch == epoch) {
                    self.world.feed.proxy_samples(&proxy, &link.datacenter, &samples);
                    self.world.policy_counts.take(&proxy, samples.policies.clone(), now_ms());
                }
            }
            FleetInput::ProxyGone(proxy, epoch) => {
                if self.world.links.proxies.get(&proxy).is_some_and(|link| link.epoch == epoch) {
                    self.world.links.proxies.remove(&proxy);
                    self.world.observed.traffic_since = now_ms();
                }
            }
            FleetInput::LogRequest(host, request, reply) => {
                // The client may have gone away; its request is then cancelled.
                let _ = reply.send(self.world.links.request_log(&host, request));
            }
            FleetInput::LogCancel(host, id) => self.world.links.cancel_log(&host, id),
        }
    }

    fn is_agent(&self, host: &HostName, epoch: u64) -> bool {
        self.world.links.agents.get(host).is_some_and(|link| link.epoch == epoch)
    }

    fn agent_hello(
        &mut self,
        host: HostName,
        hello: AgentHello,
        to: AgentSender,
        reply: oneshot::Sender<Result<u64, Status>>,
    ) {
        if self.world.snapshot.host(&host).is_none() {
            let why = format!("host {host} is not declared: apply a manifest with a Host of this name first");
            // The agent may be gone already; then nobody needs to know.
            let _ = reply.send(Err(Status::not_found(why)));
            return;
        }
        let epoch = self.world.links.next_epoch();
        let ahead = hello.revision > self.world.snapshot.revision && !self.world.observed.settled;
        if ahead {
            let (revision, ours) = (hello.revision, self.world.snapshot.revision);
            tracing::warn!(%host, revision, ours, "the agent has followed a later revision: was this store restored?");
        }
        let link = AgentLink { epoch, to, sent: None, mesh: String::new(), ahead };
        self.enforcers.host(host.as_str(), 0);
        if let Some(older) = self.world.links.agents.insert(host.clone(), link) {
            let why = format!("a newer agent says that it is host {host}; one agent for each host");
            let _ = older.to.try_send(Err(Status::aborted(why)));
        }
        if reply.send(Ok(epoch)).is_err() {
            self.world.links.agents.remove(&host);
            return;
        }
        self.world.links.leaving.remove(&host);
        let hosts = &mut self.world.observed.hosts;
        let seen = HostObserved { state: HostState::Connected, since: now_ms(), isolation: hello.isolation };
        hosts.insert(host.clone(), seen);
        let named: BTreeSet<&str> = hello.instances.iter().map(|at| at.instance.as_str()).collect();
        self.world.forget_unnamed(&host, &named);
        self.agent_reports(&host, hello.instances);
        self.send_policies(&host);
        self.services_dirty.extend(self.world.services_on(&host));
        self.hosts_dirty.insert(host);
    }

    fn agent_reports(&mut self, host: &HostName, reports: Vec<InstanceReport>) {
        for report in reports.into_iter().take(INSTANCES_HOST_MAX) {
            let Ok(id) = InstanceId::new(&report.instance) else { continue };
            let Some(phase) = phase(report.phase()) else { continue };
            if let Some((_, placement)) = self.world.placement(id.as_str()) {
                self.services_dirty.insert(placement.service.clone());
            } else if phase == Phase::Stopped {
                // Its last word, and nothing more is wanted of it.
                self.world.forget(&id);
                continue;
            }
            let seen = InstanceObserved {
                host: host.clone(),
                phase,
                since: report.since_unix_ms,
                restarts: report.restarts,
                message: report.message,
                pid: report.pid,
                package_digest: report.package_digest,
                config_digest: report.config_digest,
            };
            self.world.see(id, seen);
        }
        self.reported.insert(host.clone());
    }

    fn proxy_hello(&mut self, hello: ProxyHello, to: ProxySender, reply: oneshot::Sender<u64>) {
        let epoch = self.world.links.next_epoch();
        if reply.send(epoch).is_err() {
            return;
        }
        let ProxyHello { proxy, datacenter, entry, mesh, .. } = hello;
        let link = ProxyLink { epoch, to, entry, datacenter: datacenter.clone() };
        self.world.links.proxies.insert(proxy, link);
        if mesh.is_empty() || self.world.links.mesh.get(&datacenter) == Some(&mesh) {
            return;
        }
        self.world.links.mesh.insert(datacenter, mesh);
        self.hosts_dirty.extend(self.world.links.agents.keys().cloned());
        let bytes = serde_json::to_vec(&self.world.links.mesh).expect("a map of text is plain data");
        if let Err(error) = crate::file::replace(&self.mesh_file, &bytes) {
            tracing::warn!(%error, "the mesh addresses could not be remembered for the next start");
        }
    }

    /// Notes which services' endpoints all proxies have confirmed by now, and remembers who follows.
    pub(super) fn look_at_followers(&mut self) {
        let now = std::time::Instant::now();
        if let Some(names) = self.followers.news(now) {
            let bytes = serde_json::to_vec(&names).expect("a list of text is plain data");
            if let Err(error) = crate::file::replace(&self.followers_file, &bytes) {
                tracing::warn!(%error, "the proxies' names could not be remembered for the next start");
            }
        }
        if self.world.observed.proxies_behind.is_empty() {
            return;
        }
        let confirmed = self.followers.confirmed(now);
        let (dirty, view) = (&self.services_dirty, self.cache.view());
        let is_behind = |service: &ServiceName| {
            let version = view.version_of(Type::Endpoints, service.as_str());
            dirty.contains(service) || version.is_some_and(|version| version > confirmed)
        };
        self.world.observed.proxies_behind.retain(is_behind);
    }

    /// Turns hosts that left and did not come back into lost ones.
    pub(super) fn lose_hosts(&mut self) {
        let gone: Vec<HostName> = self
            .world
            .links
            .leaving
            .iter()
            .filter(|(_, at)| at.elapsed() >= Duration::from_millis(LOST_AFTER_MS))
            .map(|(host, _)| host.clone())
            .collect();
        for host in gone {
            self.world.links.leaving.remove(&host);
            if let Some(seen) = self.world.observed.hosts.get_mut(&host) {
                seen.state = HostState::Lost;
                seen.since = now_ms();
            }
            self.services_dirty.extend(self.world.services_on(&host));
            self.reported.insert(host);
        }
    }

    /// Whether enough agents have reported since the start to repair anything.
    pub(super) fn settled(&self) -> bool {
        let age_ms = now_ms().saturating_sub(self.world.started_at);
        let placed = &self.world.snapshot.placements;
        let wanted = || placed.iter().filter(|(_, on)| !on.value.instances.is_empty()).map(|(host, _)| host);
        let all = wanted().count();
        let reported = wanted().filter(|host| self.world.observed.hosts.contains_key(*host)).count();
        match all {
            0 => age_ms >= SETTLE_EMPTY_MS,
            _ if reported == all => true,
            _ => reported * 2 > all && age_ms >= SETTLE_QUORUM_MS,
        }
    }
}

fn phase(phase: api::fleet::Phase) -> Option<Phase> {
    use api::fleet::Phase as Wire;
    Some(match phase {
        Wire::Unspecified => return None,
        Wire::Fetching => Phase::Fetching,
        Wire::Deployed => Phase::Deployed,
        Wire::Starting => Phase::Starting,
        Wire::Healthy => Phase::Healthy,
        Wire::Unhealthy => Phase::Unhealthy,
        Wire::Backoff => Phase::Backoff,
        Wire::Stopping => Phase::Stopping,
        Wire::Stopped => Phase::Stopped,
        Wire::Failed => Phase::Failed,
    })
}
