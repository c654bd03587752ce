//! Tells receivers of incidents: when is `detect::Notifier`'s to say, sending is done here.
//!
//! What was told is remembered in a file after each success: a server that is killed before it wrote tells again, and the
//! receiver sees by the fingerprint that it knows it. What is owed is the difference between that file and the records.

mod payload;
mod send;

use super::{Shown, Told, concerns};
use crate::clock::now_ms;
use detect::{Attempt, NoticeConfig, Notifier};
use model::{Receiver, UnixMs};
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
/// Sendings that may end while nobody looks: one for each receiver.
const ENDINGS_MAX: usize = 64;

/// What a receiver was told of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    /// The change.
    change: u64,
    /// When.
    at: UnixMs,
    /// It had ended.
    ended: bool,
}

/// What a notice tells: of each incident its change, and whether it had ended.
type Telling = Vec<(String, u64, bool)>;

/// What all receivers were told, by receiver and incident.
type Memory = BTreeMap<String, BTreeMap<String, Last>>;

/// One receiver.
struct Desk {
    receiver: Receiver,
    notifier: Notifier,
    /// Changes that are owed or under way.
    owed: BTreeMap<String, u64>,
    last: BTreeMap<String, Last>,
    /// What the notice under way tells: incident, change, whether it had ended.
    under_way: Vec<(String, u64, bool)>,
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
            ended.map(|told| (told.view.id.clone(), Last { change: told.tell, at: now, ended: true })).collect()
        });
        for (id, last) in last.iter().filter(|(_, last)| !last.ended) {
            notifier.remember(id, last.at);
        }
        Self { receiver, notifier, owed: BTreeMap::new(), last, under_way: Vec::new() }
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
            let known = self.last.get(id);
            let newest = known.map(|last| last.change).max(self.owed.get(id).copied()).unwrap_or(0);
            if told.tell > newest && self.wants(told, known) {
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
        let quiet = |told: &&Arc<Told>| told.view.silenced_until.is_some();
        let (silenced, found): (Vec<_>, Vec<_>) = notice.incidents.iter().filter_map(kept).partition(quiet);
        for told in &silenced {
            // Owed anew when the silence ends.
            self.owed.remove(&told.view.id);
        }
        if found.is_empty() {
            // They are silenced, or so old that nobody keeps them any more.
            let silenced = |id: &str| silenced.iter().any(|told| told.view.id == id);
            self.notifier.sent(Attempt::Taken, silenced, now);
            return None;
        }
        let tells = found.iter().map(|told| (told.view.id.clone(), told.tell, told.view.ended_at.is_some())).collect();
        let views: Vec<_> = found.iter().map(|told| &told.view).collect();
        Some((tells, Payload::of(self.receiver.name.as_str(), &views, url)))
    }

    /// Takes in how a sending went.
    fn ended(&mut self, taken: bool, now: UnixMs) {
        let told = std::mem::take(&mut self.under_way);
        let open = |id: &str| told.iter().any(|(of, _, ended)| of == id && !ended);
        self.notifier.sent(if taken { Attempt::Taken } else { Attempt::Failed }, open, now);
        if !taken {
            return;
        }
        for (id, change, ended) in &told {
            self.last.insert(id.clone(), Last { change: *change, at: now, ended: *ended });
            if self.owed.get(id).is_some_and(|owed| owed <= change) {
                self.owed.remove(id);
            }
        }
        while self.last.len() > REMEMBERED_MAX {
            let oldest = self.last.iter().min_by_key(|(_, last)| last.at).map(|(id, _)| id.clone());
            oldest.map(|id| self.last.remove(&id));
        }
    }
}

#[cfg(test)]
mod tests;
