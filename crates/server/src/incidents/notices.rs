//! Tells receivers of incidents: when is `detect::Notifier`'s to say, sending is done here.
//!
//! What was told is remembered in a file after each success: a server that is killed before it wrote tells again, and the
//! receiver sees by the fingerprint that it knows it. What is owed is the difference between that file and the records.

mod payload;
mod send;

use super::{Shown, Told, concerns};
use crate::clock::now_ms;
use detect::{Attempt, NoticeConfig, Notifier};
use model::{Receiver, Severity, UnixMs};
use payload::Payload;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Time between looks at what is due.
const LOOK_MS: u64 = 200;
/// Incidents remembered for each receiver.
const REMEMBERED_MAX: usize = 2_000;
/// A changed cause is told no sooner than this after the notice before of the same incident: ranking flaps while it is young.
const CAUSE_EVERY_MS: u64 = 60_000;
/// Sendings that may end while nobody looks: one for each receiver.
const ENDINGS_MAX: usize = 64;

/// What a receiver was told of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    /// The change.
    change: u64,
    /// When.
    at: UnixMs,
    /// It had ended.
    ended: bool,
    /// How bad it was.
    #[serde(default)]
    severity: Severity,
    /// What was said to be wrong; empty in what an older version wrote.
    #[serde(default)]
    title: String,
}

impl Last {
    fn of(told: &Told, at: UnixMs) -> Self {
        let view = &told.view;
        let (ended, severity) = (view.ended_at.is_some(), told.severity);
        Self { change: told.tell, at, ended, severity, title: view.title.clone() }
    }

    /// Whether a receiver that was told this is to be told how things stand now: of an end, a return and what is worse at once,
    /// of another cause once a while.
    fn is_outdated(&self, told: &Told, now: UnixMs) -> bool {
        let is_turn = told.view.ended_at.is_some() != self.ended;
        let is_worse = told.severity > self.severity && !self.title.is_empty();
        let is_cause = told.view.title != self.title && now >= self.at + CAUSE_EVERY_MS;
        (told.tell > self.change && (is_turn || (!self.ended && is_cause))) || (!self.ended && is_worse)
    }
}

/// What a notice tells of each incident.
type Telling = BTreeMap<String, Last>;

/// What all receivers were told, by receiver and incident.
type Memory = BTreeMap<String, BTreeMap<String, Last>>;

/// One receiver.
struct Desk {
    receiver: Receiver,
    notifier: Notifier,
    /// Changes that are owed or under way.
    owed: BTreeMap<String, u64>,
    last: BTreeMap<String, Last>,
    /// What the notice under way tells.
    under_way: Telling,
    /// Incidents that the notice under way leaves out: they stand as they were told.
    left_out: Vec<String>,
}

/// A sending that ended.
struct Ending {
    receiver: String,
    result: Result<(), String>,
}

/// Tells receivers until it is dropped.
pub async fn run(shown: watch::Receiver<Arc<Shown>>, file: PathBuf, url: String) {
    let (to, mut endings) = mpsc::channel(ENDINGS_MAX);
    let mut office =
        Office { file, url, memory: Memory::new(), desks: BTreeMap::new(), to, http: reqwest::Client::new() };
    office.memory = read(&office.file);
    let mut beat = tokio::time::interval(Duration::from_millis(LOOK_MS));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beat.tick() => {
                let now = shown.borrow().clone();
                office.look(&now);
            }
            Some(ending) = endings.recv() => office.ended(&ending).await,
        }
    }
}

fn read(file: &Path) -> Memory {
    match std::fs::read(file).map(|bytes| serde_json::from_slice(&bytes)) {
        Ok(Ok(memory)) => memory,
        Ok(Err(error)) => {
            tracing::warn!(file = %file.display(), %error, "what receivers were told is not known: what goes on is told again");
            Memory::new()
        }
        Err(_) => Memory::new(),
    }
}

struct Office {
    file: PathBuf,
    url: String,
    memory: Memory,
    desks: BTreeMap<String, Desk>,
    to: mpsc::Sender<Ending>,
    http: reqwest::Client,
}

impl Office {
    fn look(&mut self, shown: &Shown) {
        let now = now_ms();
        self.desks.retain(|name, _| shown.receivers.iter().any(|receiver| receiver.name.as_str() == name));
        for receiver in shown.receivers.iter() {
            let desk = match self.desks.get_mut(receiver.name.as_str()) {
                Some(desk) => desk,
                None => {
                    let known = self.memory.get(receiver.name.as_str()).cloned();
                    let desk = Desk::new(receiver.clone(), known, shown, now);
                    self.desks.entry(receiver.name.to_string()).or_insert(desk)
                }
            };
            if desk.receiver != *receiver {
                desk.receiver = receiver.clone();
                desk.notifier.reconfigure(config(receiver));
            }
            desk.owe(shown, now);
            if let Some((told, payload)) = desk.due(shown, &self.url, now) {
                desk.under_way = told;
                let (receiver, http, to) = (receiver.clone(), self.http.clone(), self.to.clone());
                tokio::spawn(async move {
                    let result = send::send(&receiver, &payload, &http).await;
                    // When the office has closed, the next one tells again.
                    let _ = to.send(Ending { receiver: receiver.name.to_string(), result }).await;
                });
            }
        }
    }

    async fn ended(&mut self, ending: &Ending) {
        let Some(desk) = self.desks.get_mut(&ending.receiver) else { return };
        let now = now_ms();
        desk.ended(ending.result.is_ok(), now);
        if let Err(why) = &ending.result {
            tracing::warn!(receiver = ending.receiver, why, "a receiver was not told; tried again");
            return;
        }
        self.memory.insert(ending.receiver.clone(), desk.last.clone());
        let bytes = serde_json::to_vec(&self.memory).expect("names and numbers are plain data");
        let file = self.file.clone();
        let written = tokio::task::spawn_blocking(move || crate::file::replace(&file, &bytes)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "what receivers were told could not be remembered; after a restart they are told again");
        }
    }
}

fn config(receiver: &Receiver) -> NoticeConfig {
    NoticeConfig { repeat_ms: u64::from(receiver.repeat_minutes) * 60_000, ..NoticeConfig::default() }
}

impl Desk {
    /// A receiver as remembered; a new one is told of what goes on, not of what has been.
    fn new(receiver: Receiver, known: Option<BTreeMap<String, Last>>, shown: &Shown, now: UnixMs) -> Self {
        let mut notifier = Notifier::new(config(&receiver));
        let last = known.unwrap_or_else(|| {
            let ended = shown.incidents.values().filter(|told| told.view.ended_at.is_some());
            ended.map(|told| (told.view.id.clone(), Last::of(told, now))).collect()
        });
        for (id, last) in last.iter().filter(|(_, last)| !last.ended) {
            notifier.remember(id, last.at);
        }
        let (owed, under_way, left_out) = (BTreeMap::new(), Telling::new(), Vec::new());
        Self { receiver, notifier, owed, last, under_way, left_out }
    }

    /// Owes what the receiver has not been told.
    fn owe(&mut self, shown: &Shown, now: UnixMs) {
        for told in shown.incidents.values() {
            let id = &told.view.id;
            if told.view.ended_at.is_some() && !self.receiver.resolved {
                // It ends here without a word.
                self.notifier.forget(id);
                self.last.get_mut(id).into_iter().for_each(|last| last.ended = true);
                continue;
            }
            let is_waiting = self.owed.contains_key(id) && !self.under_way.contains_key(id);
            let known = self.under_way.get(id).or_else(|| self.last.get(id));
            let is_news = known.map_or(told.tell > 0, |last| last.is_outdated(told, now));
            if !is_waiting && is_news && self.wants(told, known) {
                self.owed.insert(id.clone(), told.tell);
                self.notifier.owe(id, now);
            }
        }
    }

    fn wants(&self, told: &Told, known: Option<&Last>) -> bool {
        if told.view.silenced_until.is_some() {
            return false;
        }
        let told_open = known.is_some_and(|last| !last.ended);
        // Of a part of another incident only those want to hear the end who were told of its begin.
        told_open || (told.view.state != "merged" && concerns(&self.receiver, told))
    }

    /// What is to be sent now, and what it tells.
    fn due(&mut self, shown: &Shown, url: &str, now: UnixMs) -> Option<(Telling, Payload)> {
        let notice = self.notifier.due(now)?;
        let number = |id: &String| id.strip_prefix("inc-")?.parse::<u64>().ok();
        let kept = |id: &String| shown.incidents.get(&number(id)?);
        let (found, rest): (Vec<_>, Vec<_>) =
            notice.incidents.iter().filter_map(kept).partition(|told| self.is_due(told, now));
        for told in &rest {
            // Owed anew when the silence ends, or when there is news.
            self.owed.remove(&told.view.id);
        }
        let open = rest.iter().filter(|told| told.view.ended_at.is_none());
        let left_out: Vec<String> = open.map(|told| told.view.id.clone()).collect();
        if found.is_empty() {
            // They are silenced, stand as they were told, or are so old that nobody keeps them any more.
            self.notifier.sent(Attempt::Taken, |id| left_out.iter().any(|of| of == id), now);
            return None;
        }
        self.left_out = left_out;
        let tells = found.iter().map(|told| (told.view.id.clone(), Last::of(told, now))).collect();
        let views: Vec<_> = found.iter().map(|told| &told.view).collect();
        Some((tells, Payload::of(self.receiver.name.as_str(), &views, url)))
    }

    /// Whether an incident that is owed, or whose repeat is due, is to be told as it stands now.
    fn is_due(&self, told: &Told, now: UnixMs) -> bool {
        let repeat_ms = config(&self.receiver).repeat_ms;
        let due = |last: &Last| last.is_outdated(told, now) || (!last.ended && now >= last.at + repeat_ms);
        told.view.silenced_until.is_none() && self.last.get(&told.view.id).is_none_or(due)
    }

    /// Takes in how a sending went.
    fn ended(&mut self, taken: bool, now: UnixMs) {
        let (told, left_out) = (std::mem::take(&mut self.under_way), std::mem::take(&mut self.left_out));
        let open = |id: &str| told.get(id).is_some_and(|last| !last.ended) || left_out.iter().any(|of| of == id);
        self.notifier.sent(if taken { Attempt::Taken } else { Attempt::Failed }, open, now);
        if !taken {
            return;
        }
        for (id, last) in told {
            if self.owed.get(&id).is_some_and(|owed| *owed <= last.change) {
                self.owed.remove(&id);
            }
            self.last.insert(id, Last { at: now, ..last });
        }
        while self.last.len() > REMEMBERED_MAX {
            let oldest = self.last.iter().min_by_key(|(_, last)| last.at).map(|(id, _)| id.clone());
            oldest.map(|id| self.last.remove(&id));
        }
    }
}

#[cfg(test)]
mod tests;
