//! Who is connected: one stream for each host and each proxy; a newer hello of the same name replaces the older.

use crate::policies::questions::PROXIES_MAX;
use api::fleet::{AgentDown, FastSampling, LogCancel, LogRequest, ProxyDown, agent_down, proxy_down};
use model::{DatacenterName, HostName, InstanceId};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

/// Messages waiting for one agent or proxy; a stream that lets them pile up is dropped and starts over with a snapshot.
pub const DOWN_QUEUED_MAX: usize = 256;

/// The way down to an agent.
pub type AgentSender = mpsc::Sender<Result<AgentDown, Status>>;
/// The way down to a proxy.
pub type ProxySender = mpsc::Sender<Result<ProxyDown, Status>>;

/// A connected agent.
#[derive(Debug)]
pub struct AgentLink {
    /// Tells this stream from older ones of the same host.
    pub epoch: u64,
    /// The way down.
    pub to: AgentSender,
    /// Digest of what was last sent of each instance; `None` until the snapshot went out.
    pub sent: Option<BTreeMap<InstanceId, u64>>,
    /// Mesh address last sent.
    pub mesh: String,
    /// It has followed a revision that this store has not reached: the store was restored from a backup. What it runs beyond
    /// the backup is stopped only when the server has settled, so that proxies have let go of it.
    pub ahead: bool,
}

/// A connected proxy.
#[derive(Debug)]
pub struct ProxyLink {
    /// Tells this stream from older ones of the same name.
    pub epoch: u64,
    /// The way down.
    pub to: ProxySender,
    /// Its entry listener.
    pub entry: String,
    /// Where it stands.
    pub datacenter: String,
}

/// All streams.
#[derive(Debug, Default)]
pub struct Links {
    /// Agents by host.
    pub agents: BTreeMap<HostName, AgentLink>,
    /// Proxies by name.
    pub proxies: BTreeMap<String, ProxyLink>,
    /// Hosts whose stream ended, and when; after a while they count as lost.
    pub leaving: BTreeMap<HostName, Instant>,
    /// Mesh address of each datacenter, as last announced; kept when the proxy goes, since it comes back there.
    pub mesh: BTreeMap<String, String>,
    /// Mesh address where none was announced.
    pub mesh_fallback: String,
    epochs: u64,
}

impl Links {
    /// A number that no stream had before.
    pub fn next_epoch(&mut self) -> u64 {
        self.epochs += 1;
        self.epochs
    }

    /// The mesh address for instances in a datacenter.
    pub fn mesh_of(&self, datacenter: &DatacenterName) -> &str {
        let announced = self.mesh.get(datacenter.as_str());
        announced.or_else(|| self.mesh.values().next()).map_or(&self.mesh_fallback, |address| address)
    }

    /// The address of entry traffic, when a proxy has announced one.
    pub fn entry(&self) -> Option<&str> {
        self.proxies.values().map(|proxy| proxy.entry.as_str()).find(|entry| !entry.is_empty())
    }

    /// Sends to an agent; one that does not keep up loses its stream and comes back for a snapshot.
    pub fn send(&mut self, host: &HostName, message: agent_down::Message) -> bool {
        let Some(link) = self.agents.get(host) else { return false };
        let sent = link.to.try_send(Ok(AgentDown { message: Some(message) })).is_ok();
        if !sent {
            tracing::warn!(%host, "an agent does not read its stream; it is dropped and may come back");
            self.agents.remove(host);
            self.leaving.insert(host.clone(), Instant::now());
        }
        sent
    }

    /// Asks an agent for logs.
    pub fn request_log(&mut self, host: &HostName, request: LogRequest) -> bool {
        self.send(host, agent_down::Message::Log(request))
    }

    /// Ends a request for logs.
    pub fn cancel_log(&mut self, host: &HostName, id: u64) {
        self.send(host, agent_down::Message::LogCancel(LogCancel { id }));
    }

    /// Asks proxies something, those that are first by name when there are many; gives their names.
    pub fn ask(&self, question: &proxy_down::Message) -> Vec<String> {
        let message = || Ok(ProxyDown { message: Some(question.clone()) });
        let asked = self.proxies.iter().filter(|(_, link)| link.to.try_send(message()).is_ok());
        asked.take(PROXIES_MAX).map(|(proxy, _)| proxy.clone()).collect()
    }

    /// Tells all proxies which services to sample fast.
    pub fn sample_fast_at_proxies(&mut self, wish: &FastSampling) {
        let message = || Ok(ProxyDown { message: Some(proxy_down::Message::FastSampling(wish.clone())) });
        self.proxies.retain(|proxy, link| {
            let sent = link.to.try_send(message()).is_ok();
            if !sent {
                tracing::warn!(%proxy, "a proxy does not read its stream; it is dropped and may come back");
            }
            sent
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_nobody_reads_is_dropped_and_ends() {
        let host = HostName::new("host-a").expect("a name");
        let (to, mut down) = mpsc::channel(DOWN_QUEUED_MAX);
        let mut links = Links::default();
        links.agents.insert(host.clone(), AgentLink { epoch: 1, to, sent: None, mesh: String::new(), ahead: false });
        for sent in 0..DOWN_QUEUED_MAX {
            assert!(links.request_log(&host, LogRequest::default()), "{sent} fit");
        }
        assert!(!links.request_log(&host, LogRequest::default()), "one too many");
        assert!(links.agents.is_empty() && links.leaving.contains_key(&host));
        let mut read = 0;
        while down.try_recv().is_ok() {
            read += 1;
        }
        assert_eq!(read, DOWN_QUEUED_MAX);
        assert_eq!(down.try_recv().err(), Some(mpsc::error::TryRecvError::Disconnected), "the agent sees its end");
    }
}
