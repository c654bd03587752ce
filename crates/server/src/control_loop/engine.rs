//! The task itself: waits for whatever comes next, takes it in, then lets `control` decide until nothing is left to do.

use super::world::World;
use super::{Input, Loop};
use crate::config::Error;
use crate::failpoint::Failpoint;
use crate::fleet::assign::Templates;
use crate::incidents::Incidents;
use crate::policies::PoliciesPut;
use crate::policies::enforcers::Enforcers;
use crate::xds::cache::Cache;
use crate::xds::followers::Followers;
use api::http::AuditEntry;
use control::{Control, Endpoint, Event};
use model::{HostName, Revision, ServiceName};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::records::Records;
use store::{Store, Watch};
use tokio::sync::{Semaphore, mpsc};

/// Time between ticks.
const TICK_MS: u64 = 100;
/// Inputs taken in before `control` decides again.
const INPUTS_BATCH_MAX: usize = 256;
/// Hooks at work at once.
const HOOKS_AT_ONCE_MAX: usize = 32;

/// The loop's task.
pub struct Engine {
    pub(super) world: World,
    pub(super) control: Control,
    pub(super) store: Arc<dyn Store>,
    pub(super) watch: Watch,
    pub(super) records: Arc<Records>,
    pub(super) failpoint: Arc<Failpoint>,
    pub(super) cache: Cache,
    pub(super) followers: Followers,
    pub(super) enforcers: Enforcers,
    pub(super) incidents: Incidents,
    pub(super) back: Loop,
    pub(super) templates: Templates,
    /// Where the announced mesh addresses are remembered over a restart.
    pub(super) mesh_file: PathBuf,
    /// Where the names of those that follow over xDS are.
    pub(super) followers_file: PathBuf,
    /// Where the names of those that enforce policies are.
    pub(super) enforcers_file: PathBuf,
    /// Policies may have changed.
    pub(super) policies_dirty: bool,
    /// Policies as last published.
    pub(super) policies_put: Option<Arc<PoliciesPut>>,
    /// For `control`, oldest first.
    pub(super) events: VecDeque<Event>,
    /// Hosts that reported since `control` was last told.
    pub(super) reported: BTreeSet<HostName>,
    /// Hosts whose assignments may have changed.
    pub(super) hosts_dirty: BTreeSet<HostName>,
    /// Services whose endpoints may have changed.
    pub(super) services_dirty: BTreeSet<ServiceName>,
    /// Services whose overrides were set or ended.
    pub(super) overrides_dirty: BTreeSet<ServiceName>,
    /// Services and externals whose cluster may have changed.
    pub(super) clusters_dirty: BTreeSet<String>,
    /// Endpoints as last published.
    pub(super) published: BTreeMap<ServiceName, Vec<Endpoint>>,
    /// A large change is half copied: fold, do not decide.
    pub(super) staged: bool,
    /// Audit entries of a commit that could not be written yet, with its revision.
    pub(super) unaudited: Option<(Revision, Vec<AuditEntry>)>,
    /// The store's last write failed on the disk: what became of it is not known yet.
    pub(super) store_failed: bool,
    /// When it was last looked at.
    pub(super) disk_looked_at: Option<std::time::Instant>,
    /// Hooks at work, by idempotency key.
    pub(super) hooks_open: BTreeSet<String>,
    pub(super) hooks_allowed: Arc<Semaphore>,
    pub(super) http: reqwest::Client,
    /// Commits made, and those that did not happen.
    pub(super) commits: u64,
    pub(super) conflicts: u64,
}

/// What an engine is made of.
pub struct Parts {
    /// The world as read from the store.
    pub world: World,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Its commits after the world was read.
    pub watch: Watch,
    /// The records.
    pub records: Arc<Records>,
    /// The test facility.
    pub failpoint: Arc<Failpoint>,
    /// What xDS clients see.
    pub cache: Cache,
    /// Who they are.
    pub followers: Followers,
    /// Who enforces policies.
    pub enforcers: Enforcers,
    /// The way back to the loop, for hooks and reports.
    pub back: Loop,
    /// Where the announced mesh addresses are remembered.
    pub mesh_file: PathBuf,
    /// Where the names of those that follow over xDS are remembered.
    pub followers_file: PathBuf,
    /// Where the names of those that enforce policies are remembered.
    pub enforcers_file: PathBuf,
    /// Detection, whose own numbers are series, too.
    pub incidents: Incidents,
}

impl Engine {
    /// An engine over what was read at the start; all of it is published when this returns.
    pub fn new(parts: Parts) -> Self {
        let Parts { mut world, store, watch, records, failpoint, cache, followers, enforcers, .. } = parts;
        let (back, mesh_file, followers_file) = (parts.back, parts.mesh_file, parts.followers_file);
        let hosts_dirty = world.snapshot.placements.keys().cloned().collect();
        let services_dirty: BTreeSet<_> = world.snapshot.services().map(|service| service.name.clone()).collect();
        // What the proxies were last told is not known here.
        world.observed.proxies_behind.clone_from(&services_dirty);
        let services = world.snapshot.services().map(|service| service.name.to_string());
        let externals = world.snapshot.externals().map(|external| external.name.to_string());
        let clusters_dirty = services.chain(externals).collect();
        let keys = world.snapshot.operations.keys().map(model::keys::operation).collect();
        let mut engine = Self {
            world,
            control: Control::new(),
            store,
            watch,
            records,
            failpoint,
            cache,
            followers,
            enforcers,
            incidents: parts.incidents,
            back,
            templates: Templates::default(),
            mesh_file,
            followers_file,
            enforcers_file: parts.enforcers_file,
            policies_dirty: true,
            policies_put: None,
            // `control` looks at open operations first: a restarted server resumes them.
            events: VecDeque::from([Event::Committed { keys }]),
            reported: BTreeSet::new(),
            hosts_dirty,
            services_dirty,
            overrides_dirty: BTreeSet::new(),
            clusters_dirty,
            published: BTreeMap::new(),
            staged: false,
            unaudited: None,
            store_failed: false,
            disk_looked_at: None,
            hooks_open: BTreeSet::new(),
            hooks_allowed: Arc::new(Semaphore::new(HOOKS_AT_ONCE_MAX)),
            http: reqwest::Client::new(),
            commits: 0,
            conflicts: 0,
        };
        // Before anybody can connect: a client that asked first would be told of no cluster at all.
        engine.publish_all();
        engine
    }

    /// Runs until `stop` is set or the store fails.
    pub async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                event = self.watch.next() => match event {
                    Some(event) => self.take_watch(event).await?,
                    None => return Err(Error::Stopped("the store has shut down".to_owned())),
                },
                input = inputs.recv() => {
                    let Some(input) = input else { return Ok(()) };
                    self.take_input(input).await?;
                    self.take_more(&mut inputs).await?;
                }
                _ = ticks.tick() => self.tick(),
                // An error means that whoever could stop us is gone; both end the loop.
                () = async { drop(stop.wait_for(|stop| *stop).await) } => return Ok(()),
            }
            self.look_at_disk().await?;
            self.decide_all().await?;
            self.end_policies().await?;
            self.publish_dirty();
            self.enforcers.keep_hosts(&self.world.links.agents);
        }
    }

    async fn take_more(&mut self, inputs: &mut mpsc::Receiver<Input>) -> Result<(), Error> {
        for _ in 0..INPUTS_BATCH_MAX {
            let Ok(input) = inputs.try_recv() else { break };
            self.take_input(input).await?;
        }
        Ok(())
    }

    async fn take_input(&mut self, input: Input) -> Result<(), Error> {
        match input {
            Input::Fleet(input) => self.take_fleet(input),
            Input::Read(read) => read(&self.world),
            Input::Decide(decide, reply) => {
                let answer = self.decide_for(decide).await?;
                // The client may have gone away; the commit stands all the same.
                let _ = reply.send(answer);
            }
            Input::HookDone { key, result } => {
                self.hooks_open.remove(&key);
                self.events.push_back(Event::HookDone { key, result });
            }
            Input::ReportDone { operation, result } => match result {
                Ok(record) => self.events.push_back(Event::ReportWritten { operation, record }),
                Err(why) => {
                    tracing::error!(%operation, %why, "the health report could not be written; asked for again")
                }
            },
        }
        Ok(())
    }

    fn tick(&mut self) {
        self.lose_hosts();
        self.lapse();
        // It costs as much as the fleet is large, and is never taken back.
        if !self.world.observed.settled {
            self.world.observed.settled = self.settled();
            if self.world.observed.settled {
                self.tell_all_to_those_ahead();
            }
        }
        self.look_at_followers();
        self.look_at_enforcers();
        self.read_numbers();
        self.stress_readings();
        // Ticks that nobody could look at yet say no more than one.
        if !matches!(self.events.back(), Some(Event::Tick)) {
            self.events.push_back(Event::Tick);
        }
    }
}

#[cfg(test)]
mod tests;
