//! A whole small world in virtual time: a store with guards, agents that bring instances up, proxies that spread
//! traffic by the endpoints, hooks and records. It can crash the control plane between any two events.

use crate::bench_instance::Bench;
use control::{
    Action, Aim, Commit, Control, Event, HostObserved, HostState, InstanceObserved, Observed, Override, Phase, Refusal,
};
use model::{
    Curve, DatacenterName, Digest, GateOutcome, HostName, InstanceId, InstanceIntent, Operation, OperationId,
    OperationSpec, Placement, ServiceName, Snapshot, StepState, keys,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Milliseconds of virtual time in one turn.
pub const TURN_MS: u64 = 100;
/// Requests to an instance that a pause made slow: most of those that a first look at a gray stage has.
const PAUSED_REQUESTS: u64 = 40;

/// What is wrong with instances of a package version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Never becomes healthy: exits again and again.
    Exits,
    /// Cannot be deployed.
    NoDeploy,
    /// Healthy, but half of its requests fail.
    Errors,
    /// Healthy, and as slow as `Slow` in its first requests only, as where a machine paused.
    Pauses,
    /// Healthy, but ten times slower.
    Slow,
    /// Healthy until its first request, then unhealthy.
    Faints,
}

pub struct Agent {
    pub connected: bool,
    pub instances: BTreeMap<InstanceId, (Phase, u64, Placement)>,
}

pub struct World {
    pub now: u64,
    pub revision: u64,
    pub snapshot: Snapshot,
    pub observed: Observed,
    pub control: Control,
    pub agents: BTreeMap<HostName, Agent>,
    pub inbox: VecDeque<Event>,
    pub rps: BTreeMap<ServiceName, f64>,
    /// Fault by package version.
    pub faults: BTreeMap<String, Fault>,
    /// Instances half of whose requests fail, whatever their version.
    pub bad: BTreeSet<InstanceId>,
    /// Times each instance was started, over all agents.
    pub starts: BTreeMap<InstanceId, u32>,
    /// Hook runs by key, as its receiver counts them.
    pub hooks: BTreeMap<String, u32>,
    pub hook_answer: Result<(), String>,
    pub reports: BTreeMap<OperationId, u32>,
    pub curves: Vec<Curve>,
    pub overrides: BTreeMap<ServiceName, (Vec<Override>, u64)>,
    pub commits: Vec<Commit>,
    /// The control plane dies right after this many commits more.
    pub crash_after_commits: Option<u32>,
    /// Times the control plane died.
    pub crashes: u32,
    /// Commits refused from now on.
    pub refuse_commits: u32,
    /// What happened to operations, line by line: the golden trace.
    pub trace: Vec<String>,
    pub carry: BTreeMap<InstanceId, f64>,
    /// The instance under fast sampling.
    pub bench: Option<Bench>,
    /// No readings come.
    pub mute: bool,
}

pub const FLEET: &str = "
kind: Region
name: south
---
kind: Datacenter
name: dc-a
region: south
---
kind: Datacenter
name: dc-b
region: south
---
kind: HostType
name: small
cpu: 8
memory: 16GiB
---
kind: Business
name: red-packet
";

pub fn hosts(dc: &str, count: u32) -> String {
    let mut text = format!("---\nkind: Rack\nname: {dc}-r1\ndatacenter: {dc}\n");
    for n in 1..=count {
        let (last, d) = (n, if dc == "dc-a" { 1 } else { 2 });
        text +=
            &format!("---\nkind: Host\nname: {dc}-{n}\nrack: {dc}-r1\nhost_type: small\naddress: 127.1.{d}.{last}\n");
    }
    text
}

/// A service `lottery` of 1-core instances; `extra` are more lines of its manifest.
pub fn lottery(version: &str, a: u32, b: u32, extra: &str) -> String {
    format!(
        "---\nkind: Package\nname: lottery\nversion: \"{version}\"\ndigest: {}\ncommand: [lottery]\n---\nkind: Service\nname: lottery\n\
         business: red-packet\nlayer: logic\npackage: lottery\nshape: 1C1G\nports: [http]\ninstances: {{dc-a: {a}, dc-b: {b}}}\n{extra}\n",
        Digest::of(version.as_bytes())
    )
}

pub fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

pub fn counts(a: u32, b: u32) -> BTreeMap<DatacenterName, u32> {
    [("dc-a", a), ("dc-b", b)].into_iter().map(|(name, n)| (DatacenterName::new(name).unwrap(), n)).collect()
}

pub fn scale_to(a: u32, b: u32) -> OperationSpec {
    OperationSpec::Scale { service: service("lottery"), instances: counts(a, b) }
}

impl World {
    pub fn new(manifests: &str) -> Self {
        let mut world = Self {
            now: 1_000_000,
            revision: 0,
            snapshot: Snapshot::default(),
            observed: Observed::default(),
            control: Control::new(),
            agents: BTreeMap::new(),
            inbox: VecDeque::new(),
            rps: BTreeMap::new(),
            faults: BTreeMap::new(),
            bad: BTreeSet::new(),
            starts: BTreeMap::new(),
            hooks: BTreeMap::new(),
            hook_answer: Ok(()),
            reports: BTreeMap::new(),
            curves: Vec::new(),
            overrides: BTreeMap::new(),
            commits: Vec::new(),
            crash_after_commits: None,
            crashes: 0,
            refuse_commits: 0,
            trace: Vec::new(),
            carry: BTreeMap::new(),
            bench: None,
            mute: false,
        };
        world.apply(manifests, true);
        let names: Vec<HostName> = world.snapshot.hosts().map(|host| host.name.clone()).collect();
        for name in names {
            world.agents.insert(name, Agent { connected: true, instances: BTreeMap::new() });
        }
        world
    }

    /// A fleet of 3 + 3 hosts with `lottery` up and healthy on it.
    pub fn with_lottery(a: u32, b: u32, extra: &str) -> Self {
        let mut world =
            Self::new(&(FLEET.to_owned() + &hosts("dc-a", 3) + &hosts("dc-b", 3) + &lottery("v1", a, b, extra)));
        world.settle();
        assert_eq!(world.healthy("lottery"), (a + b) as usize, "{:#?}", world.last_operation());
        world.trace.clear();
        world.commits.clear();
        world
    }

    pub fn apply(&mut self, manifests: &str, prune: bool) {
        let files = [("test.yaml".to_owned(), manifests.to_owned())];
        let declared = model::manifest::parse(&files).expect("manifests of tests are right");
        let plan = model::plan::plan(&self.snapshot, &declared, prune).expect("manifests of tests are valid");
        let commit = control::apply(&self.snapshot, &plan, "test");
        self.put(&commit).expect("nobody else writes");
    }

    /// Commits without the transaction's limits, as the server's staging does.
    fn put(&mut self, commit: &Commit) -> Result<(), String> {
        for (key, revision) in &commit.guards {
            let found = self.revision_of(key);
            if found != *revision {
                return Err(format!("{key} is at {found}, not {revision}"));
            }
        }
        self.revision += 1;
        for write in &commit.writes {
            self.snapshot.fold(&write.key, write.value.as_deref(), self.revision).expect("what is written can be read");
        }
        self.note(commit);
        self.check_hosts();
        self.commits.push(commit.clone());
        self.inbox.push_back(Event::Committed { keys: commit.writes.iter().map(|w| w.key.clone()).collect() });
        Ok(())
    }

    fn revision_of(&self, key: &str) -> u64 {
        let s = &self.snapshot;
        let name = key.rsplit('/').next().unwrap_or_default();
        if let Some(at) = keys::parse_resource(key) {
            return s.resources.get(&at).map_or(0, |at| at.revision);
        }
        if key.starts_with(keys::COUNTERS) {
            return s.counters.get(key).map_or(0, |at| at.revision);
        }
        let of = |prefix: &str| key.starts_with(prefix);
        if of(keys::PLACEMENTS) {
            s.placements.get(name).map_or(0, |at| at.revision)
        } else if of(keys::SCALES) {
            s.scales.get(name).map_or(0, |at| at.revision)
        } else if of(keys::HOST_INTENTS) {
            s.host_intents.get(name).map_or(0, |at| at.revision)
        } else if of(keys::SILENCES) {
            s.silences.get(name).map_or(0, |at| at.revision)
        } else if of(keys::OPERATIONS) {
            s.operations.get(name).map_or(0, |at| at.revision)
        } else {
            panic!("guard on a key of nobody: {key}")
        }
    }

    /// One line per change of an operation.
    fn note(&mut self, commit: &Commit) {
        let Some(op) = commit.operation.as_ref().and_then(|id| self.snapshot.operations.get(id)) else { return };
        let op = &op.value;
        let steps: Vec<String> = op
            .steps
            .iter()
            .filter(|step| step.state != StepState::Waiting)
            .map(|step| format!("{:?}={:?}", step.name, step.state).to_lowercase())
            .collect();
        let line = format!(
            "{} {:?} batch {}/{} gray {} adds {} removes {}: {}",
            op.id,
            op.phase,
            op.batch + 1,
            op.batches,
            op.gray_permille,
            op.adds.len(),
            op.removes.len(),
            steps.join(" ")
        );
        if self.trace.last() != Some(&line) {
            self.trace.push(line);
        }
    }

    /// No host is ever given more than it has, no port twice.
    fn check_hosts(&self) {
        for (name, on) in &self.snapshot.placements {
            let host = self.snapshot.host(name).expect("placements stand on hosts");
            let kind = self.snapshot.host_type(&host.host_type).expect("hosts have types");
            let cpu: u32 = on.value.instances.iter().map(|p| p.shape.cpu.0).sum();
            assert!(cpu <= kind.cpu.0, "{name} is over-committed: {cpu} of {}", kind.cpu.0);
            let ports: Vec<u16> = on.value.instances.iter().flat_map(|p| p.ports.values().copied()).collect();
            let distinct: BTreeSet<u16> = ports.iter().copied().collect();
            assert_eq!(ports.len(), distinct.len(), "a port of {name} is given twice");
        }
    }

    pub fn open(&mut self, spec: OperationSpec) -> OperationId {
        self.open_with(spec, false)
    }

    /// Opens an operation that holds at a step that fails.
    pub fn open_held(&mut self, spec: OperationSpec) -> OperationId {
        self.open_with(spec, true)
    }

    fn open_with(&mut self, spec: OperationSpec, hold: bool) -> OperationId {
        let (id, commit) =
            control::open(&self.snapshot, &self.observed, spec, hold, "test", self.now).expect("may be opened");
        self.put(&commit).expect("nobody else writes");
        id
    }

    pub fn steer(&mut self, commit: Result<Commit, Refusal>) {
        let commit = commit.expect("may be steered");
        self.put(&commit).expect("nobody else writes");
    }

    pub fn retry(&mut self, id: &OperationId, aim: &Aim) -> Result<OperationId, Refusal> {
        let retried = control::retry(&self.snapshot, &self.observed, id, aim, "ann", self.now);
        let (at_work, commit) = retried?;
        self.put(&commit).expect("nobody else writes");
        Ok(at_work)
    }

    pub fn skip(&mut self, id: &OperationId, aim: &Aim) -> Result<(), Refusal> {
        let commit = control::skip(&self.snapshot, &self.observed, id, aim, "ann", self.now)?;
        self.put(&commit).expect("nobody else writes");
        Ok(())
    }

    pub fn allowed(&self, id: &OperationId) -> control::Allowed {
        control::allowed(&self.snapshot, &self.observed, self.op(id), self.now)
    }

    /// The server is killed: nothing but the store is left.
    pub fn crash(&mut self) {
        self.crashes += 1;
        self.control = Control::new();
        self.observed = Observed { traffic_since: self.now, ..Observed::default() };
        self.inbox.clear();
        self.overrides.retain(|_, (_, until)| *until > self.now);
    }

    /// One turn: agents, traffic, a tick, and every event until none is left.
    pub fn turn(&mut self) {
        self.now += TURN_MS;
        self.run_agents();
        self.run_traffic();
        self.run_bench();
        self.inbox.push_back(Event::Tick);
        self.drain_inbox();
        self.check_endpoints();
    }

    /// A service with a released instance always has somewhere to send a request, whatever died.
    fn check_endpoints(&self) {
        let name = service("lottery");
        let open = self.snapshot.operations.values().map(|at| &at.value).filter(|op| !op.phase.is_final());
        let gray: BTreeSet<&InstanceId> = open.flat_map(|op| op.adds.iter().map(|add| &add.instance)).collect();
        let released = |p: &Placement| p.intent == InstanceIntent::Running && !gray.contains(&p.instance);
        if self.snapshot.service(&name).is_some() && self.snapshot.placements_of(&name).any(|(_, p)| released(p)) {
            let endpoints = control::endpoints(&self.snapshot, &self.observed, &name);
            assert!(endpoints.iter().any(|e| e.weight > 0), "no endpoint is left: {endpoints:?}");
        }
    }

    pub fn drain_inbox(&mut self) {
        let mut events = 0;
        while let Some(event) = self.inbox.pop_front() {
            events += 1;
            assert!(events < 300, "the engine spins: {event:?}");
            let actions = self.control.step(&self.snapshot, &self.observed, event, self.now);
            let crashes = self.crashes;
            for action in actions {
                self.act(action);
                if self.crashes > crashes {
                    break;
                }
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Commit(commit) => self.commit(&commit),
            Action::RunHook(run) => {
                // Golden files and expectations name hooks without the time, which every key must have.
                let opened = &self.snapshot.operations[&run.operation].value.created_at;
                let key = run.key.strip_suffix(&format!("@{opened}")).expect("a key names the operation's time");
                *self.hooks.entry(key.to_owned()).or_insert(0) += 1;
                self.inbox.push_back(Event::HookDone { key: run.key, result: self.hook_answer.clone() });
            }
            Action::WriteReport { operation } => {
                *self.reports.entry(operation.clone()).or_insert(0) += 1;
                let record = format!("report-{operation}");
                self.inbox.push_back(Event::ReportWritten { operation, record });
            }
            Action::WriteCurve(curve) => {
                let operation = curve.operation.clone();
                self.curves.push(*curve);
                self.inbox.push_back(Event::CurveWritten { record: format!("curve-{operation}"), operation });
            }
            Action::Override { service, overrides, life_ms } => {
                self.overrides.insert(service, (overrides, self.now + u64::from(life_ms)));
            }
            Action::SampleFast { operation, service, instance, life_ms } => {
                let until = self.now + u64::from(life_ms);
                match &mut self.bench {
                    Some(bench) if bench.operation == operation => bench.until = until,
                    bench => *bench = Some(Bench::new(operation, service, instance, until)),
                }
            }
        }
    }

    fn commit(&mut self, commit: &Commit) {
        assert!(commit.writes.len() <= 128 && commit.guards.len() <= 128, "a transaction takes 128 operations");
        let keys: BTreeSet<&str> = commit.writes.iter().map(|write| write.key.as_str()).collect();
        assert_eq!(keys.len(), commit.writes.len(), "a key is written once in a transaction");
        let refused = self.refuse_commits > 0;
        self.refuse_commits = self.refuse_commits.saturating_sub(1);
        let done = if refused { Err("refused by the test".to_owned()) } else { self.put(commit) };
        if let (Ok(()), Some(left)) = (&done, &mut self.crash_after_commits) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.crash_after_commits = None;
                return self.crash();
            }
        }
        if let Err(why) = done {
            self.inbox.push_back(Event::CommitFailed { operation: commit.operation.clone(), why });
        }
    }

    fn run_agents(&mut self) {
        let mut reported = BTreeSet::new();
        let names: Vec<HostName> = self.agents.keys().cloned().collect();
        for host in names {
            let was = self.observed.hosts.get(&host).map(|seen| seen.state);
            if !self.agents[&host].connected {
                if was == Some(HostState::Connected) {
                    self.see_host(&host, HostState::Lost);
                    reported.insert(host);
                }
                continue;
            }
            if was != Some(HostState::Connected) {
                self.see_host(&host, HostState::Connected);
                reported.insert(host.clone());
            }
            if self.run_agent(&host) {
                reported.insert(host);
            }
        }
        let connected = self.agents.values().filter(|agent| agent.connected).count();
        self.observed.settled |= self.observed.hosts.len() >= connected && connected * 2 > self.agents.len();
        if !reported.is_empty() {
            self.inbox.push_back(Event::Reported { hosts: reported });
        }
    }

    fn see_host(&mut self, host: &HostName, state: HostState) {
        let seen = HostObserved { state, since: self.now, isolation: "none".to_owned() };
        self.observed.hosts.insert(host.clone(), seen);
    }

    /// Moves the instances of one host; true when anything is to be reported.
    fn run_agent(&mut self, host: &HostName) -> bool {
        let agent = self.agents.get_mut(host).unwrap();
        let intended: BTreeMap<InstanceId, Placement> = self
            .snapshot
            .placements
            .get(host)
            .map(|on| on.value.instances.iter().map(|p| (p.instance.clone(), p.clone())).collect())
            .unwrap_or_default();
        for (id, placement) in &intended {
            let fresh = (Phase::Fetching, self.now, placement.clone());
            agent.instances.entry(id.clone()).or_insert(fresh).2 = placement.clone();
        }
        let mut changed = false;
        for (id, (phase, since, placement)) in &mut agent.instances {
            let fault = self.faults.get(&placement.package_version).copied();
            let wanted = intended.get(id).map(|p| p.intent);
            let next = next_phase(*phase, wanted, fault, self.now - *since);
            if next == Phase::Starting && *phase != Phase::Starting {
                *self.starts.entry(id.clone()).or_insert(0) += 1;
            }
            if next != *phase {
                (*phase, *since) = (next, self.now);
            }
            let restarts = self.starts.get(id).map_or(0, |starts| starts.saturating_sub(1));
            let seen = InstanceObserved {
                host: host.clone(),
                phase: *phase,
                since: *since,
                restarts,
                message: String::new(),
                pid: 1,
                package_digest: placement.package_digest.to_string(),
                config_digest: placement.config_digest.to_string(),
            };
            changed |= self.observed.instances.get(id) != Some(&seen);
            self.observed.instances.insert(id.clone(), seen);
        }
        agent.instances.retain(|_, (phase, _, _)| *phase != Phase::Stopped);
        changed
    }

    fn run_traffic(&mut self) {
        for (name, rps) in self.rps.clone() {
            let endpoints = control::endpoints(&self.snapshot, &self.observed, &name);
            let total: u32 = endpoints.iter().map(|e| e.weight).sum();
            for endpoint in endpoints.iter().filter(|e| e.weight > 0) {
                let share = f64::from(endpoint.weight) / f64::from(total);
                let carry = self.carry.entry(endpoint.instance.clone()).or_insert(0.0);
                *carry += rps * TURN_MS as f64 / 1_000.0 * share;
                let whole = carry.floor();
                *carry -= whole;
                self.serve(&endpoint.host, &endpoint.instance, whole as u64);
            }
        }
    }

    fn serve(&mut self, host: &HostName, id: &InstanceId, requests: u64) {
        let Some(version) = self
            .agents
            .get(host)
            .and_then(|agent| agent.instances.get(id))
            .map(|(_, _, placement)| placement.package_version.clone())
        else {
            return;
        };
        let fault = self.faults.get(&version).copied();
        let traffic = self.observed.traffic.entry(id.clone()).or_default();
        traffic.requests += requests;
        if fault == Some(Fault::Errors) || self.bad.contains(id) {
            traffic.errors += requests.div_ceil(2);
        }
        let paused = fault == Some(Fault::Pauses) && traffic.requests < PAUSED_REQUESTS;
        let slow = if fault == Some(Fault::Slow) || paused { 10 } else { 1 };
        for n in 0..7 {
            let share = requests / 7 + u64::from(n < requests % 7);
            traffic.latency.add(model::histogram::bucket_of((5_000 + n * 500) * slow), share);
        }
        if fault == Some(Fault::Faints) && requests > 0 {
            let instance = self.agents.get_mut(host).and_then(|agent| agent.instances.get_mut(id)).unwrap();
            (instance.0, instance.1) = (Phase::Unhealthy, self.now);
        }
    }

    /// Turns until no operation is open and none begins; fails after ten minutes of virtual time.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..6_000 {
            self.turn();
            let open = self.snapshot.operations.values().any(|at| !at.value.phase.is_final());
            quiet = if open { 0 } else { quiet + 1 };
            if quiet >= 30 {
                return;
            }
        }
        panic!("operations do not end: {:#?}", self.last_operation());
    }

    /// Turns until no operation is open, or one holds at a step that failed; true in the first case.
    pub fn settled(&mut self) -> bool {
        for _ in 0..6_000 {
            self.turn();
            let mut open = self.snapshot.operations.values().filter(|at| !at.value.phase.is_final()).peekable();
            if open.peek().is_none() {
                return true;
            }
            if open.all(|at| at.value.held_at().is_some()) {
                return false;
            }
        }
        panic!("operations do not end: {:#?}", self.last_operation());
    }

    pub fn until(&mut self, what: &str, done: impl Fn(&World) -> bool) {
        for _ in 0..6_000 {
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("{what} did not come: {:#?}", self.last_operation());
    }

    pub fn op(&self, id: &OperationId) -> &Operation {
        &self.snapshot.operations[id].value
    }

    pub fn last_operation(&self) -> Option<&Operation> {
        let all = self.snapshot.operations.values().map(|at| at.value.as_ref());
        all.max_by_key(|op| op.id.as_str()["op-".len()..].parse::<u64>().unwrap())
    }

    pub fn placed(&self, name: &str) -> BTreeMap<DatacenterName, u32> {
        let mut counts = counts(0, 0);
        let name = service(name);
        for (host, _) in self.snapshot.placements_of(&name) {
            *counts.entry(self.snapshot.datacenter_of(host).unwrap().clone()).or_insert(0) += 1;
        }
        counts
    }

    /// All placements, without revisions.
    pub fn placements(&self) -> Vec<model::HostPlacements> {
        self.snapshot.placements.values().map(|at| at.value.as_ref().clone()).collect()
    }

    pub fn healthy(&self, name: &str) -> usize {
        let of_service = |id: &InstanceId| id.as_str().rsplit_once('-').is_some_and(|(service, _)| service == name);
        let all = self.agents.values().flat_map(|agent| &agent.instances);
        all.filter(|(id, (phase, _, _))| of_service(id) && *phase == Phase::Healthy).count()
    }

    pub fn versions(&self) -> BTreeSet<String> {
        let name = service("lottery");
        self.snapshot.placements_of(&name).map(|(_, p)| p.package_version.clone()).collect()
    }

    /// Compares what happened to operations with a golden file; `UPDATE_GOLDEN=1` rewrites it.
    pub fn golden(&self, name: &str) {
        let path = format!("{}/tests/it/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let found = self.trace.join("\n") + "\n";
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &found).expect("the golden folder can be written");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, golden, "the trace differs from {path}:\n{found}");
    }

    pub fn outcomes(&self, id: &OperationId) -> Vec<(u32, GateOutcome)> {
        self.op(id).verdicts.iter().map(|v| (v.gray_permille, v.outcome)).collect()
    }
}

fn next_phase(phase: Phase, wanted: Option<InstanceIntent>, fault: Option<Fault>, age_ms: u64) -> Phase {
    match (phase, wanted) {
        (Phase::Stopping, None) if age_ms >= 200 => Phase::Stopped,
        (Phase::Stopping, _) => Phase::Stopping,
        (_, None) => Phase::Stopping,
        (Phase::Fetching, _) if fault == Some(Fault::NoDeploy) => Phase::Failed,
        (Phase::Fetching, _) if age_ms >= 200 => Phase::Deployed,
        (Phase::Deployed, Some(InstanceIntent::Running)) => Phase::Starting,
        (Phase::Starting, _) if fault == Some(Fault::Exits) => Phase::Backoff,
        (Phase::Backoff, _) if age_ms >= 300 => Phase::Starting,
        (Phase::Starting, _) if age_ms >= 300 => Phase::Healthy,
        _ => phase,
    }
}
