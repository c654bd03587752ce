//! Incidents as the API shows them, looked at ten times a second.

use super::super::faults::Fault;
use super::super::run::Said;
use super::now_ms;
use anyhow::{Context, Result};
use api::client::Client;
use api::http::{Incident, IncidentCause};
use detect::{Cause, EntityRef};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// Time between looks.
const LOOK_MS: u64 = 100;
/// Time after it opened in which what an incident says is kept.
const LATER_MS_MAX: u64 = 10_000;

/// What looks.
pub struct Eyes {
    shut: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<Said>>,
}

impl Eyes {
    /// Begins to look.
    pub fn open(side: &Handle, client: Client, faults: Vec<Fault>) -> Self {
        let shut = Arc::new(AtomicBool::new(false));
        let task = side.spawn(look(client, faults, shut.clone()));
        Self { shut, task }
    }

    /// All that was said.
    pub async fn close(self) -> Result<Vec<Said>> {
        self.shut.store(true, Ordering::Relaxed);
        self.task.await.context("the one that looks does not panic")
    }
}

async fn look(client: Client, faults: Vec<Fault>, shut: Arc<AtomicBool>) -> Vec<Said> {
    let mut said: Vec<Said> = Vec::new();
    let mut open: BTreeMap<String, usize> = BTreeMap::new();
    let mut beat = tokio::time::interval(Duration::from_millis(LOOK_MS));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let query = [("state", "all".to_owned()), ("limit", "60".to_owned())];
    while !shut.load(Ordering::Relaxed) {
        beat.tick().await;
        // A look that fails is one that sees nothing: the delay grows by it.
        let Ok(incidents) = client.incidents(&query).await else { continue };
        let now = now_ms();
        let keep = faults.iter().any(|fault| (9_000..=10_000).contains(&now.saturating_sub(fault.onset_ms)));
        for incident in incidents.iter().rev() {
            note(incident, now, keep, &mut said, &mut open);
        }
        for at in 0..said.len() {
            if let Some(into) = said[at].into.filter(|_| keep) {
                said[at].later = said[into].later.clone();
            }
        }
    }
    said
}

fn note(incident: &Incident, now: u64, keep: bool, said: &mut Vec<Said>, open: &mut BTreeMap<String, usize>) {
    let goes_on = incident.ended_at.is_none();
    let known = open.get(&incident.id).copied();
    match (known, goes_on) {
        (None, true) => {
            open.insert(incident.id.clone(), said.len());
            let causes: Vec<Cause> = incident.causes.iter().filter_map(cause).collect();
            said.push(Said {
                id: incident.id.clone(),
                at_ms: now,
                services: incident.services.iter().cloned().collect(),
                first: causes.clone(),
                later: causes,
                into: None,
                ended_ms: None,
            });
        }
        (Some(at), true) => {
            said[at].services.extend(incident.services.iter().cloned());
            if keep && now <= said[at].at_ms + LATER_MS_MAX {
                said[at].later = incident.causes.iter().filter_map(cause).collect();
            }
        }
        (Some(at), false) => {
            open.remove(&incident.id);
            match &incident.merged_into {
                Some(into) => said[at].into = open.get(into).copied(),
                None => said[at].ended_ms = Some(now),
            }
        }
        (None, false) => {}
    }
}

/// A cause as `detect` writes it, from what the API says of it.
fn cause(of: &IncidentCause) -> Option<Cause> {
    let word = |text: &str| serde_json::Value::String(text.to_owned());
    let kind = serde_json::from_value(word(&of.kind)).ok()?;
    let entity = EntityRef { kind: serde_json::from_value(word(&of.entity_kind)).ok()?, name: of.entity.clone() };
    Some(Cause { kind, entity, score: of.confidence as f32, evidence: Vec::new() })
}
