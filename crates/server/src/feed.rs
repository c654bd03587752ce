//! Numbers on their way in: samples of agents and proxies become series, golden signals and observed traffic.

use api::fleet::{AgentSamples, ProxySamples};
use control::{Observed, StressSample};
use model::{HostName, InstanceId, OperationId, ServiceName, UnixMs};

/// All numbers of the fleet. Owned by the control loop.
#[derive(Debug, Default)]
pub struct Feed {}

impl Feed {
    /// Takes an agent's reading in.
    pub fn agent_samples(&mut self, host: &HostName, samples: &AgentSamples) {
        let _ = (host, samples);
    }

    /// Takes a proxy's reading in.
    pub fn proxy_samples(&mut self, proxy: &str, epoch: u64, samples: &ProxySamples) {
        let _ = (proxy, epoch, samples);
    }

    /// Forgets an instance that is gone.
    pub fn forget(&mut self, instance: &InstanceId) {
        let _ = instance;
    }

    /// Brings what is derived up to `now`.
    pub fn tick(&mut self, observed: &mut Observed, now: UnixMs) {
        let _ = (observed, now);
    }

    /// A reading of the service under stress.
    pub fn stress_sample(
        &mut self,
        operation: &OperationId,
        service: &ServiceName,
        instance: &InstanceId,
    ) -> Option<StressSample> {
        let _ = (operation, service, instance);
        None
    }
}
