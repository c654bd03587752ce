//! Detection, fed: the fleet's samples become frames, frames become incidents, incidents are records, and receivers are told.
//!
//! One thread owns the detector ([`watcher`], started anew by [`thread`] when it crashes); it takes samples from the streams themselves over a bounded queue, so that it
//! never holds up the control loop, nor is held up by it. What does not fit the queue is dropped and counted. Decisions
//! are `detect`'s; absent here: the storing of samples (`feed`).

mod board;
mod edges;
mod gather;
mod intent;
mod names;
mod notices;
mod thread;
mod watcher;
mod words;

use crate::clock::now_ms;
use crate::control_loop::Loop;
use crate::http::problem::{self, Failure};
use api::fleet::{AgentSamples, ProxySamples};
use api::http::Incident;
use model::manifest::Declared;
use model::{Fault, Receiver, Resource, Severity, UnixMs};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Inbox, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use store::records::Records;
use thread::{Crashes, Make, Shared, Start, Watching};
use tokio::sync::{oneshot, watch};
use watcher::{Message, Watcher};

/// Messages waiting for the thread; more are dropped and counted.
const QUEUED_MAX: usize = 8_192;
/// Time between looks at what is intended.
const INTENT_MS: u64 = 1_000;

/// All incidents as they stand.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// By number.
    pub incidents: BTreeMap<u64, Arc<Told>>,
    /// Who is to be told.
    pub receivers: Arc<Vec<Receiver>>,
    /// How detection itself does.
    pub health: Health,
    /// False while nobody watches.
    pub is_running: bool,
    /// How often that came about.
    pub crashes: Crashes,
}

/// One incident, and what receivers need to know of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// As people see it.
    pub view: Incident,
    /// The change that receivers are to be told of.
    pub tell: u64,
    /// How bad.
    pub severity: Severity,
}

/// How detection itself does.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Health {
    /// As `detect` says.
    pub detector: detect::Health,
    /// Messages dropped since the queue was full.
    pub dropped: u64,
    /// Samples not taken, or not as they said.
    pub samples: detect::Dropped,
    /// Edges and names beyond their bounds.
    pub refused: u64,
    /// Proxies heard, and their edges.
    pub proxies: (usize, usize),
    /// Age of the newest frame when it was looked at, from its second's end.
    pub late_ms: u64,
    /// CPU time of the thread.
    pub cpu_ms: u64,
    /// Incidents that go on.
    pub open: usize,
    /// Times that it crashed, or could not be started anew.
    pub crashes: u64,
}

/// The way to detection. Cheap to clone.
#[derive(Clone)]
pub struct Incidents {
    to: SyncSender<Message>,
    shown: watch::Receiver<Arc<Shown>>,
    dropped: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

/// What detection is made of.
pub struct Parts {
    /// The records.
    pub records: Arc<Records>,
    /// The data folder: what was learnt, and what receivers were told, are in it.
    pub data: PathBuf,
    /// Seconds of traffic before a series says anything; absent: `detect`'s own.
    pub warm_s: Option<u16>,
}

impl Incidents {
    /// Reads what the records have and starts the thread.
    ///
    /// # Errors
    /// The records cannot be read, or no thread can be started.
    pub fn start(parts: Parts) -> Result<Self, String> {
        Self::over(|shared| {
            Box::new(move |start| {
                let watcher = Watcher::new(&parts, start, shared.clone())?;
                Ok(Box::new(|inbox: &Inbox<Message>| watcher.run(inbox)) as Watching)
            })
        })
    }

    /// Starts the thread with watchers of the caller's.
    fn over(maker: impl FnOnce(Shared) -> Make) -> Result<Self, String> {
        let (to, inbox) = sync_channel(QUEUED_MAX);
        let (dropped, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (show, shown) = watch::channel(Arc::new(Shown::default()));
        let shared = Shared { show, dropped: dropped.clone(), stop: stop.clone() };
        let mut make = maker(shared.clone());
        let first =
            make(Start { crashes: Crashes::default(), is_learnt_kept: true }).map_err(|error| error.to_string())?;
        let thread = std::thread::Builder::new().name("detect".to_owned());
        let run = move || thread::run(first, make, &shared, &inbox);
        thread.spawn(run).map_err(|error| format!("no thread for detection: {error}"))?;
        Ok(Self { to, shown, dropped, stop })
    }

    /// Hands on what an agent read, as of now; dropped and counted when the thread is behind.
    pub fn agent(&self, host: &str, samples: &Arc<AgentSamples>) {
        self.hand(Message::Agent(host.to_owned(), samples.clone(), now_ms()));
    }

    /// Hands on what a proxy counted, as of now; dropped and counted when the thread is behind.
    pub fn proxy(&self, proxy: &str, samples: &Arc<ProxySamples>) {
        self.hand(Message::Proxy(proxy.to_owned(), samples.clone(), now_ms()));
    }

    fn hand(&self, message: Message) -> bool {
        match self.to.try_send(message) {
            Ok(()) => true,
            // After its end nobody watches any more.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }

    /// All incidents as they stand.
    pub fn shown(&self) -> Arc<Shown> {
        self.shown.borrow().clone()
    }

    /// Says that `who` looks after an incident; gives it as it is then.
    pub async fn acknowledge(&self, id: &str, who: &str) -> Result<Incident, Failure> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Acknowledge(id.to_owned(), who.to_owned(), reply);
        if !self.hand(message) {
            return Err(problem::unavailable("detection is behind: ask again in a second"));
        }
        let gone = "detection ended before it answered: ask again in a second";
        let answer = answer.await.map_err(|_| problem::unavailable(gone))?;
        answer.ok_or_else(|| {
            problem::not_found(format!("no incident {id} goes on: `springtide incident list` shows those that do"))
        })
    }

    /// Ends the thread; what was learnt is saved first.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Keeps the thread told of what is intended. Runs until it is dropped.
    pub async fn follow(self, control: Loop) {
        let mut beat = tokio::time::interval(Duration::from_millis(INTENT_MS));
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut known, mut crashes) = (None, 0);
        loop {
            beat.tick().await;
            let shown = self.shown();
            if shown.health.crashes != crashes {
                // Whoever watches now was told nothing yet.
                (known, crashes) = (None, shown.health.crashes);
            }
            if !shown.is_running {
                continue;
            }
            let Ok(read) = control.read(move |world| intent::read(world, known)).await else { return };
            let Some(intent) = read else { continue };
            let revision = intent.revision;
            if self.hand(Message::Intent(Box::new(intent))) {
                known = Some(revision);
            }
        }
    }

    /// Tells receivers. Runs until it is dropped.
    pub async fn tell(self, file: PathBuf, url: String) {
        notices::run(self.shown.clone(), file, url).await;
    }
}

/// Faults of rules that `model` cannot see: expressions that are none.
pub fn check(declared: &[Declared]) -> Vec<Fault> {
    let fault = |one: &Declared| {
        let Resource::AlertRule(rule) = &one.resource else { return None };
        let refused = detect::Rule::parse(&rule.expression).err()?;
        let message = format!(
            "column {}: {}; a rule looks like `latency_p99(service=pay) > 250ms for 30s`",
            refused.column, refused.what
        );
        Some(one.fault("expression", message))
    };
    declared.iter().filter_map(fault).collect()
}

/// Whether a receiver wants to be told of an incident.
fn concerns(receiver: &Receiver, told: &Told) -> bool {
    let services = &receiver.services;
    let reached = |service: &String| services.iter().any(|wanted| wanted.as_str() == service);
    told.severity >= receiver.severity_min && (services.is_empty() || told.view.services.iter().any(reached))
}

/// Silences of an incident: one for each service that it reaches. By their ids they silence the incident itself too.
pub fn silences(incident: &Incident, reason: &str, until: UnixMs) -> Vec<model::Silence> {
    let silence = |service: &String| {
        let id = model::SilenceId::new(format!("{}-{service}", incident.id)).ok()?;
        let service = model::ServiceName::new(service).ok()?;
        Some(model::Silence { id, service, instances: Vec::new(), reason: reason.to_owned(), until })
    };
    incident.services.iter().filter_map(silence).collect()
}

/// Whether a silence is one of the incident of this id: it covers that, whatever the incident reaches by now.
pub fn is_of(silence: &model::Silence, incident: &str) -> bool {
    silence.id.as_str().strip_prefix(incident).is_some_and(|rest| rest.starts_with('-'))
}
