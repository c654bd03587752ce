//! `/v1/incidents`: what is wrong, since when, how far it reaches, the probable cause and the evidence for it.

use model::UnixMs;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An incident as people and programs see it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Incident {
    /// Its id, `inc-7`, kept over restarts.
    pub id: String,
    /// `open`, `acknowledged`, `resolved` or `merged` (it turned out to be part of another).
    pub state: String,
    /// What is wrong, in a few words: the leading cause, or the rule.
    pub title: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// When the first of its findings began to rise.
    pub started_at: UnixMs,
    /// When it was opened.
    pub opened_at: UnixMs,
    /// When something about it changed last.
    pub updated_at: UnixMs,
    /// When it ended; absent while it goes on.
    pub ended_at: Option<UnixMs>,
    /// Who looks after it.
    pub acknowledged_by: Option<String>,
    /// Nobody is told of it before this, since all that it reaches is silenced.
    pub silenced_until: Option<UnixMs>,
    /// The user's rule that it is of; absent: it was detected.
    pub rule: Option<String>,
    /// How far it reaches, for people: `2 services: pay, lottery`, `8 instances on 4 hosts`, `in east`.
    pub reach: Vec<String>,
    /// Services that it reaches, at most 50.
    pub services: Vec<String>,
    /// Instances that it reaches, at most 50.
    pub instances: Vec<String>,
    /// Datacenters that it reaches.
    pub datacenters: Vec<String>,
    /// Probable causes, best first, at most 5.
    pub causes: Vec<IncidentCause>,
    /// What goes on by intent beside it: operations, events, stress tests.
    pub going_on: Vec<GoingOn>,
    /// What was found, strongest first, at most 100.
    pub findings: Vec<IncidentFinding>,
    /// Commands that may help, most promising first.
    pub next: Vec<String>,
    /// How many times it came back after it had ended.
    pub reopened: u32,
    /// The incident that it turned out to be part of.
    pub merged_into: Option<String>,
    /// Changes of it so far: it grows with each, and each is a record.
    pub change: u64,
}

/// A probable cause.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IncidentCause {
    /// For people: `loss of instance pay-3`.
    pub what: String,
    /// Share of belief over all causes listed, 0 to 1.
    pub confidence: f64,
    /// `loss`, `errors`, `rejects`, `slow`, `hot`, `release`, `demand_surge`, `demand_drop`.
    pub kind: String,
    /// `instance`, `service`, `external`, `host`, `rack`, `datacenter`.
    pub entity_kind: String,
    /// Its name.
    pub entity: String,
    /// The service concerned, where there is one.
    pub service: Option<String>,
    /// Why it is believed, for people.
    pub evidence: Vec<String>,
}

/// Something intended that goes on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GoingOn {
    /// `operation`, `event`, `stress`, `drain`.
    pub kind: String,
    /// Its name or id.
    pub name: String,
    /// For people.
    pub what: String,
    /// The service concerned, where there is one.
    pub service: Option<String>,
    /// Since when.
    pub from: UnixMs,
}

/// A signal that left its baseline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IncidentFinding {
    /// For people: `errors of service pay: 0.1% → 5.2%`.
    pub what: String,
    /// `presence`, `requests`, `errors`, `rejects`, `latency`, `latency_tail`, `in_flight`, `cpu`, `memory`, `pressure`.
    pub signal: String,
    /// `instance`, `service`, `external`, `host`, `pair`.
    pub entity_kind: String,
    /// Its name.
    pub entity: String,
    /// Expected, in the signal's unit (shares 0 to 1, ms, cores, bytes, requests a second).
    pub expected: Option<f64>,
    /// Seen at the highest, in the signal's unit.
    pub seen: Option<f64>,
    /// When it began.
    pub since: UnixMs,
    /// When it was last in force.
    pub last_seen: UnixMs,
}

/// Wish for quiet about an incident.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SilenceRequest {
    /// How long, from now: `30m`, `2h`, at most `24h`.
    pub r#for: String,
    /// Why, for others.
    #[serde(default)]
    pub reason: String,
}

/// What was silenced, or is no longer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SilenceResponse {
    /// Revision at which it is in force.
    pub revision: u64,
    /// Ids of the silences, one for each service that the incident reaches, or reached when it was silenced.
    pub silences: Vec<String>,
    /// When they end.
    pub until: UnixMs,
}
