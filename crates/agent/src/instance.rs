//! One instance on this host: a task that carries out what its machine says.

pub mod launch;
pub mod machine;
pub mod ports;
pub mod probe;

mod adopt;
mod heir;

pub use adopt::{Found, find};

use crate::assignment::{Assignment, Wish};
use crate::host::{Host, now_unix_ms};
use crate::sampler::Gauge;
use crate::scrape::Target;
use api::fleet::InstanceReport;
use machine::{CheckTerms, Effect, Event, Machine, Terms, View};
use rustix::process::Signal;
use shim::files::{self, Lasting};
use shim::spec::PidRecord;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A running instance task.
#[derive(Debug)]
pub struct Handle {
    wanted: watch::Sender<Assignment>,
    over: Arc<AtomicBool>,
}

impl Handle {
    /// Changes what is wanted.
    pub fn want(&self, assignment: Assignment) {
        self.wanted.send_replace(assignment);
    }

    /// Changes only the wish.
    pub fn wish(&self, wish: Wish) {
        self.wanted.send_modify(|assignment| assignment.wish = wish);
    }

    /// What is wanted now.
    pub fn wanted(&self) -> Assignment {
        self.wanted.borrow().clone()
    }

    /// Whether the instance is gone. True by the time its end is heard of.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// Takes an instance into care. `over` hears of its end.
pub fn spawn(host: Arc<Host>, assignment: Assignment, found: Found, over: tokio::sync::mpsc::Sender<()>) -> Handle {
    let (sender, wanted) = watch::channel(assignment.clone());
    let seed = RandomState::new().hash_one(assignment.instance.as_str());
    let machine = Machine::new(assignment.wish, terms_of(&assignment), seed);
    let origin = Instant::now();
    let mut keeper = Keeper {
        host,
        wanted,
        assignment,
        machine,
        record: None,
        jobs: JoinSet::new(),
        origin,
        told: None,
        since_unix_ms: now_unix_ms(),
    };
    // Before the task starts: whoever sees the handle finds the first report on the board.
    keeper.begin(found);
    let is_over = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_over);
    tokio::spawn(async move {
        keeper.keep().await;
        flag.store(true, Ordering::Release);
        // The agent may be ending too; then nobody wants to know.
        let _nobody_there = over.send(()).await;
    });
    Handle { wanted: sender, over: is_over }
}

fn terms_of(assignment: &Assignment) -> Terms {
    Terms {
        drain_ms: assignment.drain_ms,
        grace_ms: assignment.grace_ms,
        check: assignment.check.as_ref().map(|check| CheckTerms {
            interval_ms: check.interval_ms,
            failures_max: check.failures_max,
            start_ms_max: check.start_ms_max,
        }),
    }
}

/// What a job found out.
enum Done {
    Event(Event),
    Started(Result<PidRecord, String>),
}

struct Keeper {
    host: Arc<Host>,
    wanted: watch::Receiver<Assignment>,
    assignment: Assignment,
    machine: Machine,
    record: Option<PidRecord>,
    jobs: JoinSet<Done>,
    origin: Instant,
    told: Option<View>,
    since_unix_ms: u64,
}

impl Keeper {
    fn begin(&mut self, found: Found) {
        let first = self.adopt(found);
        let effects = self.machine.step(Event::Tick, self.now());
        first.into_iter().chain(effects).for_each(|effect| self.act(effect));
        self.tell();
    }

    async fn keep(mut self) {
        while !self.machine.is_gone() {
            self.tell();
            let event = self.next_event().await;
            for effect in self.machine.step(event, self.now()) {
                self.act(effect);
            }
        }
        self.finish().await;
        self.tell();
    }

    fn adopt(&mut self, found: Found) -> Vec<Effect> {
        match found {
            Found::Nothing => Vec::new(),
            Found::Alive { record, restarts, was_healthy, spec_is_old } => {
                self.machine.adopt(record.pid, restarts, was_healthy, self.now());
                self.watch(record);
                if spec_is_old { self.machine.step(self.wished(true), self.now()) } else { Vec::new() }
            }
            Found::Ended { record, restarts, code, message } => {
                self.record = record;
                vec![self.machine.adopt_ended(restarts, code, message)]
            }
        }
    }

    fn now(&self) -> u64 {
        self.origin.elapsed().as_millis() as u64
    }

    fn wished(&self, changed: bool) -> Event {
        Event::Wished { wish: self.assignment.wish, terms: terms_of(&self.assignment), changed }
    }

    async fn next_event(&mut self) -> Event {
        let deadline = self.machine.deadline().map(|ms| self.origin + Duration::from_millis(ms));
        let sleep = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.wanted.changed() => match changed {
                Ok(()) => self.take_wanted(),
                // The supervisor is gone: the agent ends. Touch nothing.
                Err(_) => std::future::pending().await,
            },
            Some(done) = self.jobs.join_next() => self.take_done(done),
            () = sleep => Event::Tick,
        }
    }

    fn take_wanted(&mut self) -> Event {
        let wanted = self.wanted.borrow_and_update().clone();
        let changed = self.assignment.needs_restart(&wanted);
        self.assignment = wanted;
        if self.record.is_some() && matches!(self.assignment.wish, Wish::Running | Wish::Draining) {
            self.scrape();
        }
        self.wished(changed)
    }

    fn take_done(&mut self, done: Result<Done, tokio::task::JoinError>) -> Event {
        match done {
            Ok(Done::Event(event)) => event,
            Ok(Done::Started(Ok(record))) => {
                let pid = record.pid;
                self.watch(record);
                Event::Started(Ok(pid))
            }
            Ok(Done::Started(Err(message))) => Event::Started(Err(message)),
            Err(error) => {
                tracing::error!("a job of {} broke off: {error}", self.assignment.instance);
                Event::Tick
            }
        }
    }

    /// From here on its end is noticed and its use sampled.
    fn watch(&mut self, record: PidRecord) {
        let instance = self.assignment.instance.as_str();
        let gauge = Gauge::open(self.host.tree.as_ref(), instance, record.shim_pid);
        self.host.sampler.add(instance, &self.assignment.service, gauge);
        self.scrape();
        self.record = Some(record.clone());
        let folder = self.host.folder(instance);
        let (host, wanted) = (Arc::clone(&self.host), self.assignment.clone());
        let of = record.clone();
        let heir = heir::Heir::of(&folder, &record);
        self.jobs.spawn(async move {
            let is_alone = launch::outlives_its_shim(&folder, &of).await;
            match heir {
                Some(heir) if is_alone => heir.read_on(),
                None if is_alone => tracing::warn!("the log in {} is not kept until its restart", folder.display()),
                _ => {}
            }
            Done::Event(if is_alone { Event::ShimGone } else { Event::Tick })
        });
        self.jobs.spawn(async move {
            let (code, message) = launch::watch_end(host, wanted, record).await;
            Done::Event(Event::Exited { code, message })
        });
    }

    /// Asks it for its own numbers from now on, or no longer, as the assignment says.
    fn scrape(&self) {
        match Target::of(&self.assignment) {
            Some(target) => self.host.scrapes.add(target),
            None => self.host.scrapes.remove(self.assignment.instance.as_str()),
        }
    }

    fn act(&mut self, effect: Effect) {
        let (host, wanted) = (Arc::clone(&self.host), self.assignment.clone());
        let record = self.record.clone();
        let instance = wanted.instance.clone();
        match effect {
            Effect::Prepare => {
                self.jobs.spawn(async move { Done::Event(Event::Prepared(prepare(host, wanted).await)) });
            }
            Effect::Start => {
                let restarts = self.machine.starts();
                self.jobs.spawn(async move { Done::Started(launch::start(host, wanted, restarts).await) });
            }
            Effect::Probe => {
                let Some(check) = wanted.check else { return };
                self.jobs.spawn(async move { Done::Event(Event::Probed(probe::ask(wanted.address, &check).await)) });
            }
            Effect::Terminate => {
                let asked = record.as_ref().map(|record| launch::identity_of(record).signal_group(Signal::TERM));
                if let Some(Err(error)) = asked {
                    tracing::warn!("cannot ask {instance} to stop: {error}");
                }
            }
            Effect::Kill => {
                self.jobs.spawn_blocking(move || {
                    if let Err(error) = launch::kill(&host, instance.as_str(), record.as_ref()) {
                        tracing::warn!("cannot kill {instance}: {error}");
                    }
                    Done::Event(Event::Tick)
                });
            }
            Effect::Clear { remove } => {
                if remove {
                    self.host.sampler.remove(instance.as_str());
                    self.host.scrapes.remove(instance.as_str());
                }
                self.jobs.spawn_blocking(move || {
                    Done::Event(Event::Cleared(launch::clear(&host, instance.as_str(), record.as_ref(), remove)))
                });
            }
            Effect::MarkHealthy => self.mark_healthy(),
        }
    }

    /// So that the next agent, too, knows that this run has been healthy.
    fn mark_healthy(&self) {
        let Some(record) = &self.record else { return };
        let path = self.host.folder(self.assignment.instance.as_str()).join(launch::HEALTHY_FILE);
        if let Err(error) = files::replace(&path, record.run.to_string().as_bytes(), Lasting::Boot) {
            tracing::warn!("cannot write {}: {error}", path.display());
        }
    }

    async fn finish(&mut self) {
        self.jobs.abort_all();
        let (host, instance) = (Arc::clone(&self.host), self.assignment.instance.clone());
        let archived = tokio::task::spawn_blocking(move || host.archive(instance.as_str())).await;
        if let Ok(Err(error)) = archived {
            tracing::warn!("cannot set the folder of {} aside: {error}", self.assignment.instance);
        }
    }

    /// Reports, if there is news.
    fn tell(&mut self) {
        let view = self.machine.view();
        if self.told.as_ref() == Some(&view) {
            return;
        }
        if self.told.as_ref().is_none_or(|told| told.phase != view.phase) {
            self.since_unix_ms = now_unix_ms();
        }
        let wanted = &self.assignment;
        if let Some(code) = view.unexpected_exit(self.told.as_ref()) {
            self.host.sampler.exited(wanted.instance.as_str(), code);
        }
        self.host.board.put(InstanceReport {
            instance: wanted.instance.to_string(),
            service: wanted.service.clone(),
            phase: view.phase.into(),
            restarts: view.restarts,
            message: view.message.clone(),
            since_unix_ms: self.since_unix_ms,
            pid: view.pid,
            package_digest: wanted.package.to_string(),
            config_digest: wanted.config_digest.clone(),
            ports: wanted.ports.iter().map(|(name, port)| (name.clone(), u32::from(*port))).collect(),
            adopted: view.adopted,
            exit_code: view.exit_code,
        });
        tracing::info!("{} is {:?} {}", wanted.instance, view.phase, view.message);
        self.told = Some(view);
    }
}

async fn prepare(host: Arc<Host>, wanted: Assignment) -> Result<(), String> {
    host.packages.ensure(&wanted.package).await.map_err(|error| error.to_string())?;
    launch::check(&host, &wanted)
}
