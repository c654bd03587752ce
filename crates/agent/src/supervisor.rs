//! Knows what is wanted and gives each instance its task. Assignments are on disk before they are acted on; while the disk
//! refuses them they are acted on all the same (what is removed may be what fills it), and saved as soon as it takes them.
//!
//! Deliberately absent: the connection (`link`), and how an instance lives (`instance`).

use crate::assignment::{Assignment, Wish};
use crate::host::{Host, now_unix_ms};
use crate::instance::{self, Found, Handle, launch};
use crate::state::{self, Loaded, State};
use api::fleet::{Assignments, InstanceReport, Phase};
use shim::files;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Ends of instances not yet noticed.
const ENDS_QUEUE_MAX: usize = 64;
/// Pause before assignments that could not be saved are saved again.
const SAVE_RETRY: Duration = Duration::from_secs(1);

/// The supervisor.
pub struct Supervisor {
    host: Arc<Host>,
    state: State,
    /// What is on disk is older.
    is_unsaved: bool,
    revision: Arc<AtomicU64>,
    instances: BTreeMap<String, Handle>,
    over: mpsc::Sender<()>,
    ends: mpsc::Receiver<()>,
}

impl Supervisor {
    /// Takes over what an earlier agent left, before anything else happens.
    pub fn start(host: Arc<Host>, loaded: Loaded) -> Self {
        let (over, ends) = mpsc::channel(ENDS_QUEUE_MAX);
        let (known, mut state) = match loaded {
            Loaded::Good(state) => (true, state),
            Loaded::Unknown => (false, State::default()),
        };
        host.set_mesh(&state.mesh);
        let leftovers = leftovers(&host, &state);
        let mut going = BTreeMap::new();
        for (name, assignment) in leftovers {
            if known {
                // Its removal had been decided and was under way.
                going.insert(name, Assignment { wish: Wish::Removed, ..assignment });
            } else {
                state.assignments.insert(name, assignment);
            }
        }
        let revision = Arc::new(AtomicU64::new(state.revision));
        let mut supervisor = Self { host, state, is_unsaved: false, revision, instances: BTreeMap::new(), over, ends };
        for assignment in supervisor.state.assignments.values().chain(going.values()).cloned().collect::<Vec<_>>() {
            let found = instance::find(&supervisor.host, &assignment);
            supervisor.spawn(assignment, found);
        }
        supervisor.name_strangers();
        supervisor
    }

    /// Revision of the last assignments taken, for hellos.
    pub fn revision(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.revision)
    }

    /// Serves until the sender is gone.
    pub async fn run(&mut self, mut downs: mpsc::Receiver<Assignments>) {
        loop {
            tokio::select! {
                message = downs.recv() => match message {
                    Some(message) => self.take(message).await,
                    None => return,
                },
                Some(()) = self.ends.recv() => self.collect(),
                () = tokio::time::sleep(SAVE_RETRY), if self.is_unsaved => self.save().await,
            }
        }
    }

    /// Stops every instance, without draining, and returns when the last is gone.
    pub async fn stop_all(&mut self) {
        self.state.assignments.clear();
        self.save().await;
        for handle in self.instances.values() {
            handle.want(Assignment { wish: Wish::Removed, drain_ms: 0, ..handle.wanted() });
        }
        while !self.instances.is_empty() {
            if self.ends.recv().await.is_none() {
                return;
            }
            self.collect();
        }
    }

    /// Whether there is no instance left.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    async fn take(&mut self, message: Assignments) {
        let listed: BTreeSet<String> = message.set.iter().map(|one| one.instance.clone()).collect();
        let mut removed: BTreeSet<String> = message.remove.iter().cloned().collect();
        if message.snapshot {
            removed.extend(self.state.assignments.keys().cloned());
            removed.extend(self.instances.keys().cloned());
            removed.retain(|name| !listed.contains(name));
            let all = listed.is_empty() && !self.state.assignments.is_empty();
            if all && message.revision <= self.state.revision {
                tracing::warn!(
                    "the server's snapshot of revision {} is empty while {} instances are assigned at revision {}: not believed",
                    message.revision,
                    self.state.assignments.len(),
                    self.state.revision
                );
                return;
            }
        }
        let mut changed = BTreeSet::new();
        for wire in message.set {
            let (name, service) = (wire.instance.clone(), wire.service.clone());
            match Assignment::try_from(wire) {
                Ok(assignment) => {
                    if self.state.assignments.get(&name) != Some(&assignment) || !self.instances.contains_key(&name) {
                        self.state.assignments.insert(name.clone(), assignment);
                        changed.insert(name);
                    }
                }
                Err(error) => self.report(name, service, Phase::Failed, error.to_string()),
            }
        }
        removed.iter().for_each(|name| drop(self.state.assignments.remove(name)));
        if !message.mesh_address.is_empty() {
            self.state.mesh = message.mesh_address;
        }
        self.host.set_mesh(&self.state.mesh);
        self.state.revision = message.revision;
        self.save().await;
        self.revision.store(self.state.revision, Ordering::Relaxed);
        changed.iter().for_each(|name| self.want(name));
        removed.into_iter().for_each(|name| self.remove(name));
    }

    async fn save(&mut self) {
        let (host, state) = (Arc::clone(&self.host), self.state.clone());
        let saved = tokio::task::spawn_blocking(move || state::save(&host.data, &state)).await;
        let failed = saved.map_or_else(|error| Some(error.to_string()), |saved| saved.err().map(|why| why.to_string()));
        if let Some(why) = &failed {
            let data = self.host.data.display();
            tracing::error!(
                "cannot keep the assignments in {data}: {why}; an agent started now would know older ones; trying again"
            );
        }
        self.is_unsaved = failed.is_some();
    }

    fn want(&mut self, name: &str) {
        let Some(assignment) = self.state.assignments.get(name).cloned() else { return };
        match self.instances.get(name) {
            Some(handle) if !handle.is_over() => handle.want(assignment),
            _ => self.spawn(assignment, Found::Nothing),
        }
    }

    fn remove(&mut self, name: String) {
        match self.instances.get(&name) {
            Some(handle) if !handle.is_over() => handle.wish(Wish::Removed),
            // The server may have missed the last word.
            _ => self.report(name, String::new(), Phase::Stopped, String::new()),
        }
    }

    fn report(&self, instance: String, service: String, phase: Phase, message: String) {
        let since_unix_ms = now_unix_ms();
        let phase = phase.into();
        self.host.board.put(InstanceReport { instance, service, phase, message, since_unix_ms, ..Default::default() });
    }

    fn spawn(&mut self, assignment: Assignment, found: Found) {
        let name = assignment.instance.to_string();
        let handle = instance::spawn(Arc::clone(&self.host), assignment, found, self.over.clone());
        self.instances.insert(name, handle);
    }

    /// Forgets the instances that are gone, and brings back those that were wanted again meanwhile.
    fn collect(&mut self) {
        self.instances.retain(|_, handle| !handle.is_over());
        let missing = self.state.assignments.keys().filter(|name| !self.instances.contains_key(*name));
        for name in missing.cloned().collect::<Vec<_>>() {
            self.want(&name);
        }
        let used = self.instances.values().map(|handle| handle.wanted().package).collect();
        self.host.packages.evict(&used);
    }

    /// Slices below our folder that no instance folder proves to be ours are named and left alone.
    fn name_strangers(&self) {
        let Some(tree) = &self.host.tree else { return };
        for name in tree.existing().into_iter().filter(|name| !self.instances.contains_key(name)) {
            tracing::warn!(
                "slice {name} belongs to no instance of {}: left alone; if nobody needs it, kill its processes and rmdir it",
                self.host.data.display()
            );
        }
    }
}

/// Instance folders with an assignment that the state does not list.
fn leftovers(host: &Host, state: &State) -> BTreeMap<String, Assignment> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(host.data.join("instances")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if state.assignments.contains_key(&name) {
            continue;
        }
        match files::read_json::<Assignment>(&entry.path().join(launch::ASSIGNMENT_FILE)) {
            Ok(Some(assignment)) if assignment.instance.as_str() == name => {
                found.insert(name, assignment);
            }
            _ => tracing::warn!("{} holds no assignment: left alone", entry.path().display()),
        }
    }
    found
}
