//! Does what `control` decided: each action once it is decided, in order.

use super::engine::Engine;
use super::world::{Fast, Leased};
use crate::clock::now_ms;
use crate::config::Error;
use crate::feed::Own;
use api::fleet::{FastSampling, agent_down};
use control::{Action, Event, Override};
use model::{Curve, HostName, InstanceId, Operation, OperationId, ServiceName};
use std::collections::BTreeSet;
use std::time::Duration;
use store::records::Kind;
use tokio::time::Instant;

impl Engine {
    /// Does one action. An error is a broken store, and ends the server.
    pub(super) async fn execute(&mut self, action: Action) -> Result<(), Error> {
        match action {
            Action::Commit(commit) => self.commit_for_control(commit).await?,
            Action::RunHook(run) => self.start_hook(run),
            Action::WriteReport { operation } => self.start_report(operation),
            Action::WriteCurve(curve) => self.write_curve(*curve),
            Action::Override { service, overrides, life_ms } => self.set_overrides(service, &overrides, life_ms),
            Action::SampleFast { operation, service, instance, life_ms } => {
                self.sample_fast(operation, service, instance, life_ms);
            }
        }
        Ok(())
    }

    fn set_overrides(&mut self, service: ServiceName, overrides: &[Override], life_ms: u32) {
        if overrides.is_empty() {
            if self.world.overrides.remove(&service).is_some() {
                self.overrides_dirty.insert(service);
            }
            return;
        }
        let weights = overrides.iter().map(|at| (at.instance.to_string(), at.weight)).collect();
        let until = Instant::now() + Duration::from_millis(u64::from(life_ms));
        self.world.overrides.insert(service.clone(), Leased { weights, until });
        self.overrides_dirty.insert(service);
    }

    fn sample_fast(&mut self, operation: OperationId, service: ServiceName, instance: InstanceId, life_ms: u32) {
        let until = Instant::now() + Duration::from_millis(u64::from(life_ms));
        self.world.fast.insert(operation, Fast { service, instance, until });
        self.wish_fast_sampling(life_ms);
    }

    /// Tells proxies and the agents concerned which services to sample fast: a newer wish replaces the older.
    fn wish_fast_sampling(&mut self, life_ms: u32) {
        let services: BTreeSet<ServiceName> = self.world.fast.values().map(|fast| fast.service.clone()).collect();
        let wish = FastSampling { services: services.iter().map(ToString::to_string).collect(), life_ms };
        self.world.links.sample_fast_at_proxies(&wish);
        let hosts: BTreeSet<HostName> =
            services.iter().flat_map(|service| self.world.hosts_of(service)).cloned().collect();
        for host in hosts {
            self.world.links.send(&host, agent_down::Message::FastSampling(wish.clone()));
        }
    }

    /// Ends leases whose life has run out.
    pub(super) fn lapse(&mut self) {
        let now = Instant::now();
        let lapsed: Vec<ServiceName> = self
            .world
            .overrides
            .iter()
            .filter(|(_, leased)| leased.until <= now)
            .map(|(service, _)| service.clone())
            .collect();
        for service in lapsed {
            self.world.overrides.remove(&service);
            self.overrides_dirty.insert(service);
        }
        let feed = &mut self.world.feed;
        self.world.fast.retain(|_, fast| {
            let lives = fast.until > now;
            if !lives {
                feed.stress_end(&fast.instance);
            }
            lives
        });
    }

    /// Gives `control` a reading of each service under stress.
    pub(super) fn stress_readings(&mut self) {
        for (operation, fast) in &self.world.fast {
            if let Some(sample) = self.world.feed.stress_sample(&fast.instance, now_ms()) {
                self.events.push_back(Event::Stress { operation: operation.clone(), sample });
            }
        }
    }

    /// Brings the traffic that operations are judged by up to date, and writes the series.
    pub(super) fn read_numbers(&mut self) {
        let now = now_ms();
        if self.world.feed.traffic_due(now) {
            let open = self.world.snapshot.operations.values().filter(|at| !at.value.phase.is_final());
            let judged: BTreeSet<ServiceName> = open.flat_map(|at| services_of(&at.value)).collect();
            self.observe_traffic(&judged);
        }
        let own = Own {
            revision: self.world.snapshot.revision,
            agents: self.world.links.agents.len(),
            operations_open: 0,
            commits: self.commits,
            conflicts: self.conflicts,
            detection: self.incidents.shown().health,
            circuits: Vec::new(),
        };
        let snapshot = &self.world.snapshot;
        self.world.feed.tick(now, || {
            let open = snapshot.operations.values().filter(|at| !at.value.phase.is_final()).count();
            Own { operations_open: open, circuits: snapshot.circuits().cloned().collect(), ..own }
        });
    }

    /// Brings the observed traffic of services up to date.
    pub(super) fn observe_traffic(&mut self, services: &BTreeSet<ServiceName>) {
        let instances: Vec<InstanceId> = services
            .iter()
            .flat_map(|service| self.world.placements_of(service))
            .map(|(_, placement)| placement.instance.clone())
            .collect();
        for instance in &instances {
            self.world.feed.observe_traffic(instance, &mut self.world.observed);
        }
    }

    fn write_curve(&mut self, curve: Curve) {
        let operation = curve.operation.clone();
        let bytes = serde_json::to_vec(&curve).expect("a curve is plain data");
        self.failpoint.before_record();
        match self.records.append(Kind::Curve, operation.as_str(), &bytes) {
            Ok(_) => {
                self.world.add_curve(curve);
                let record = operation.to_string();
                self.events.push_back(Event::CurveWritten { operation, record });
            }
            Err(error) => tracing::error!(%operation, %error, "the curve could not be written; it is asked for again"),
        }
    }

    /// Writes the health report beside the loop: what it shows is gathered here, drawn and stored elsewhere.
    fn start_report(&mut self, operation: OperationId) {
        let Some(at) = self.world.snapshot.operations.get(&operation) else { return };
        let page = crate::report::gather(&self.world, &at.value, now_ms());
        let (records, failpoint, back) = (self.records.clone(), self.failpoint.clone(), self.back.clone());
        tokio::spawn(async move {
            let id = operation.clone();
            let written = tokio::task::spawn_blocking(move || {
                let html = crate::report::html(&page);
                failpoint.before_record();
                records.append(Kind::Report, id.as_str(), html.as_bytes()).map(|_| id.to_string())
            });
            let result = match written.await {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            // When the loop has ended, the next server writes it.
            let _ = back.tell(super::Input::ReportDone { operation, result }).await;
        });
    }
}

/// The services whose instances an operation changes: an instance's id is its service's name and a number.
pub(super) fn services_of(operation: &Operation) -> BTreeSet<ServiceName> {
    let named = operation.spec.service().cloned();
    let instances = operation.adds.iter().chain(&operation.removes).map(|at| at.instance.as_str());
    let of = instances.filter_map(|id| ServiceName::new(id.rsplit_once('-')?.0).ok());
    named.into_iter().chain(of).collect()
}
