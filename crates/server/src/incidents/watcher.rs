//! The thread that owns the detector.

use super::board::{Board, silenced};
use super::gather::{Gather, Places};
use super::intent::Intent;
use super::thread::{Crashes, Shared, Start};
use super::words::{self, Whereabouts};
use super::{Health, Parts as Made, Shown, Told};
use crate::clock::now_ms;
use api::fleet::{AgentSamples, ProxySamples};
use api::http::Incident;
use detect::{Activity, ActivityKind, Config, Detector, Frame, Pair, Rule, RuleBoard, Topology};
use model::{Receiver, UnixMs};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver as Inbox, RecvTimeoutError};
use std::time::Duration;
use store::records::{RecordError, Records};
use tokio::sync::oneshot;

/// Longest wait before the thread looks whether a second is due.
const LOOK_MS: u64 = 20;
/// Messages taken in before it looks again.
const BATCH_MAX: usize = 512;
/// Time between savings of what was learnt.
const SAVE_MS: u64 = 60_000;
/// A detector that is further behind than this leaves out what lies between.
const BEHIND_S_MAX: u64 = 30;
/// Time between showings while nothing changes.
const SHOW_MS: u64 = 1_000;
/// Calls that were seen and are declared by nobody, at most.
const CALLS_MAX: usize = 50_000;
/// How long before it was noticed the set of proxies may have changed.
const CHANGED_EARLY_MS: u64 = 3_000;

/// What the thread is told.
pub enum Message {
    /// Host, what its agent read, and when that arrived.
    Agent(String, Arc<AgentSamples>, UnixMs),
    /// Proxy, what it counted, and when that arrived.
    Proxy(String, Arc<ProxySamples>, UnixMs),
    /// What is intended has changed.
    Intent(Box<Intent>),
    /// Incident, who, and the incident as it is then.
    Acknowledge(String, String, oneshot::Sender<Option<Incident>>),
}

/// The thread's state.
pub struct Watcher {
    records: Arc<Records>,
    state_file: PathBuf,
    shared: Shared,
    crashes: Crashes,
    detector: Detector,
    rules: RuleBoard,
    board: Board,
    gather: Gather,
    places: Places,
    whereabouts: Whereabouts,
    frame: Frame,
    intent: Intent,
    receivers: Arc<Vec<Receiver>>,
    calls: BTreeSet<(String, String)>,
    calls_moved: bool,
    shown: BTreeMap<u64, Arc<Told>>,
    late_ms: u64,
    /// All that arrived up to here was taken.
    heard_to_ms: UnixMs,
    saved_ms: UnixMs,
    shown_ms: UnixMs,
}

impl Watcher {
    /// A watcher that goes on where the last one stopped.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn new(made: &Made, start: Start, shared: Shared) -> Result<Self, RecordError> {
        let board = Board::read(&made.records)?;
        let config = Config { first_number: board.next_number(), ..Config::default() };
        let mut detector = Detector::new(Config { warm_s: made.warm_s.unwrap_or(config.warm_s), ..config });
        let state_file = made.data.join("detect.state");
        if start.is_learnt_kept
            && let Ok(bytes) = std::fs::read(&state_file)
            && let Err(fault) = detector.restore(&bytes)
        {
            tracing::warn!(file = %state_file.display(), "what detection had learnt {fault}");
        }
        detector.resume(board.detected());
        let mut watcher = Self {
            records: made.records.clone(),
            state_file,
            shared,
            crashes: start.crashes,
            detector,
            rules: RuleBoard::default(),
            board,
            gather: Gather::default(),
            places: Places::default(),
            whereabouts: Whereabouts::default(),
            frame: Frame::default(),
            intent: Intent::default(),
            receivers: Arc::default(),
            calls: BTreeSet::new(),
            calls_moved: false,
            shown: BTreeMap::new(),
            late_ms: 0,
            heard_to_ms: 0,
            saved_ms: now_ms(),
            shown_ms: 0,
        };
        watcher.whereabouts = Whereabouts::of(watcher.detector.topology());
        watcher.publish(now_ms());
        Ok(watcher)
    }

    /// Runs until it is stopped, or all who could tell it something are gone.
    pub fn run(mut self, inbox: &Inbox<Message>) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            // Whatever arrived before this is in the inbox by now.
            let began = now_ms();
            let is_empty = match inbox.recv_timeout(Duration::from_millis(LOOK_MS)) {
                Ok(message) => {
                    self.take(message);
                    inbox.try_iter().take(BATCH_MAX).map(|message| self.take(message)).count() < BATCH_MAX
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            // A thread that was held up lives that time through again: no second is closed before what arrived for it.
            if is_empty {
                self.heard_to_ms = began;
            }
            self.look();
        }
        self.save(now_ms());
    }

    fn take(&mut self, message: Message) {
        let now = now_ms();
        match message {
            Message::Agent(host, samples, at) => {
                self.gather.agent(&host, &samples, at);
                self.heard_to_ms = at;
            }
            Message::Proxy(proxy, samples, at) => {
                self.gather.proxy(&proxy, &samples, at);
                self.heard_to_ms = at;
            }
            Message::Intent(intent) => self.follow(*intent),
            Message::Acknowledge(id, who, reply) => {
                let done = self.acknowledge(&id, &who, now);
                // The client may have gone away; it is acknowledged all the same.
                let _ = reply.send(done);
            }
        }
    }

    fn look(&mut self) {
        let now = now_ms();
        if self.calls_moved {
            self.retarget();
        }
        self.gather.catch_up(now, BEHIND_S_MAX);
        // Before it is told what is intended, rules that hold would seem to be deleted.
        while self.intent.revision > 0
            && let Some(second) = self.gather.due(self.heard_to_ms)
        {
            self.second(second);
        }
        if now >= self.shown_ms + SHOW_MS {
            self.publish(now);
        }
        if now >= self.saved_ms + SAVE_MS {
            self.save(now);
        }
    }

    fn second(&mut self, second: u64) {
        let now = now_ms();
        if tracing::enabled!(tracing::Level::DEBUG) {
            let (count, names) = self.gather.silent(second, self.heard_to_ms);
            if count > 0 {
                tracing::debug!(second, count, ?names, "sources that are late with this second");
            }
        }
        self.gather.close(second, self.detector.topology(), &self.places, &mut self.frame);
        self.late_ms = now.saturating_sub((second + 1) * 1_000);
        self.activities();
        let turns = self.rules.step(self.detector.topology(), &self.frame);
        let changes = self.detector.tick(&self.frame, now);
        let going_on = &self.intent.going_on;
        let mut moved = self.board.take(&self.detector, &changes, going_on, now);
        moved |= self.board.rules(&self.intent.rules, &turns, &mut self.detector, (second, now), going_on);
        for (caller, callee) in self.gather.take_called() {
            if caller != callee && self.calls.len() < CALLS_MAX {
                self.calls_moved |= self.calls.insert((caller, callee));
            }
        }
        if moved {
            self.publish(now);
        }
    }

    /// Tells the detector what goes on by intent, and whether the proxies that report have changed.
    fn activities(&mut self) {
        let mut activities = self.intent.activities.clone();
        if let Some(changed) = self.gather.look_at_proxies(self.heard_to_ms) {
            let from_ms = changed.saturating_sub(CHANGED_EARLY_MS);
            activities.push(Activity { kind: ActivityKind::Reporting, from_ms, until_ms: Some(changed) });
        }
        self.detector.set_activities(activities);
    }

    fn follow(&mut self, intent: Intent) {
        let moved = intent.parts != self.intent.parts;
        if intent.rules != self.intent.rules {
            // The expressions were checked when they were applied.
            self.rules.set(intent.rules.iter().filter_map(|rule| Rule::parse(&rule.expression).ok()).collect());
        }
        if intent.receivers != *self.receivers {
            self.receivers = Arc::new(intent.receivers.clone());
        }
        self.intent = intent;
        if moved {
            self.retarget();
        }
        // Silences and receivers show at once.
        self.shown_ms = 0;
    }

    /// Watches what is intended, and the calls that were seen beside the declared ones.
    fn retarget(&mut self) {
        self.calls_moved = false;
        let mut parts = self.intent.parts.clone();
        if parts.services.is_empty() && parts.hosts.is_empty() {
            return;
        }
        let numbers: BTreeMap<&str, u32> =
            parts.services.iter().map(|service| service.name.as_str()).zip(0..).collect();
        let seen = self.calls.iter().filter_map(|(caller, callee)| {
            Some(Pair { caller: *numbers.get(caller.as_str())?, callee: *numbers.get(callee.as_str())? })
        });
        let known: BTreeSet<(u32, u32)> = parts.pairs.iter().map(|pair| (pair.caller, pair.callee)).collect();
        let more: Vec<Pair> = seen.filter(|pair| !known.contains(&(pair.caller, pair.callee))).collect();
        parts.pairs.extend(more);
        match Topology::new(parts) {
            Ok(topology) => {
                self.detector.retarget(topology);
                self.places = self.gather.places(self.detector.topology());
                self.whereabouts = Whereabouts::of(self.detector.topology());
            }
            Err(fault) => tracing::error!(%fault, "detection stays with what it watched before"),
        }
    }

    fn acknowledge(&mut self, id: &str, who: &str, now: UnixMs) -> Option<Incident> {
        let done = if self.detector.acknowledge(id, who, now) {
            let change = detect::Change::Acknowledged(id.to_owned());
            self.board.take(&self.detector, &[change], &self.intent.going_on, now)
        } else {
            self.board.acknowledge_rule(id, who, now)
        };
        self.publish(now);
        done.then(|| self.board.case(id).map(|case| words::view(case, &self.whereabouts, None)))?
    }

    /// Writes what changed to the records, then shows it.
    fn publish(&mut self, now: UnixMs) {
        self.shown_ms = now;
        if let Err(error) = self.board.record(&self.records) {
            tracing::error!(%error, "changes of incidents could not be kept; tried again in a second");
            return;
        }
        let mut shown = BTreeMap::new();
        let mut open = 0;
        for (number, case) in self.board.cases() {
            let goes_on = case.incident.state.is_open();
            open += usize::from(goes_on);
            let known = self.shown.get(number);
            let told = match known {
                Some(known) if !goes_on && known.view.change == case.change && known.view.silenced_until.is_none() => {
                    known.clone()
                }
                _ => {
                    let quiet = silenced(&case.incident, &self.intent.silences, now);
                    let view = words::view(case, &self.whereabouts, quiet);
                    let told = Told { view, tell: case.tell, severity: words::severity(case) };
                    match known {
                        Some(known) if **known == told => known.clone(),
                        _ => Arc::new(told),
                    }
                }
            };
            shown.insert(*number, told);
        }
        self.shown = shown.clone();
        let health = self.health(open);
        let (receivers, crashes) = (self.receivers.clone(), self.crashes.clone());
        let shown = Shown { incidents: shown, receivers, health, is_running: true, crashes };
        self.shared.show.send_replace(Arc::new(shown));
    }

    fn health(&self, open: usize) -> Health {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let (samples, refused) = self.gather.dropped();
        Health {
            detector: self.detector.health(),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
            samples,
            refused,
            proxies: self.gather.proxies(),
            late_ms: self.late_ms,
            cpu_ms: used.tv_sec as u64 * 1_000 + used.tv_nsec as u64 / 1_000_000,
            open,
            crashes: self.crashes.count,
        }
    }

    /// Saves what was learnt, beside the thread: a slow disk holds up no second.
    fn save(&mut self, now: UnixMs) {
        self.saved_ms = now;
        if self.detector.health().frames == 0 {
            return;
        }
        let (bytes, path) = (self.detector.save(), self.state_file.clone());
        let write = move || {
            if let Err(error) = crate::file::replace(&path, &bytes) {
                tracing::warn!(%error, file = %path.display(), "what detection has learnt could not be saved");
            }
        };
        if self.shared.stop.load(Ordering::Relaxed) {
            return write();
        }
        // Without a thread to spare it is saved next time.
        let _ = std::thread::Builder::new().name("detect-save".to_owned()).spawn(write);
    }
}
