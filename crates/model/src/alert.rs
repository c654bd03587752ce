//! Alert rules of the user's own, and who is told of incidents.
//!
//! What a rule's expression means is the room `detect`'s; the server checks it when the manifest is applied.

use crate::name::*;
use serde::{Deserialize, Serialize};

/// Longest expression of a rule, in bytes.
pub const RULE_BYTES_MAX: usize = 1_024;
/// Most alert rules.
pub const ALERT_RULES_MAX: usize = 200;
/// Most receivers.
pub const RECEIVERS_MAX: usize = 50;
/// Time allowed to a receiver that gives none.
pub const RECEIVER_TIMEOUT_MS: u32 = 10_000;
/// Minutes after which an open incident is told again where nothing is said.
pub const REPEAT_MINUTES: u32 = 240;

/// How bad an incident is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To be known.
    Info,
    /// To be looked at in working hours.
    #[default]
    Warning,
    /// To be looked at now.
    Critical,
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// A rule of the user's own: while it holds anywhere, there is an incident of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertRule {
    /// Name.
    pub name: AlertRuleName,
    /// When it holds: `errors(service=pay) > 2% for 10s`.
    pub expression: String,
    /// How bad that is.
    #[serde(default)]
    pub severity: Severity,
    /// What it means, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

/// Who is told of incidents, and how: a webhook gets Alertmanager's payload, a command gets it on its standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// Name.
    pub name: ReceiverName,
    /// A URL that gets a POST; either this or `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// A program and its arguments, run by the server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Only incidents that reach one of these; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceName>,
    /// Only incidents as bad as this or worse.
    #[serde(default = "severity_min")]
    pub severity_min: Severity,
    /// Tell of their end, too.
    #[serde(default = "resolved")]
    pub resolved: bool,
    /// Time allowed for one notice.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u32,
    /// An open incident is told again after this.
    #[serde(default = "repeat_minutes")]
    pub repeat_minutes: u32,
}

fn severity_min() -> Severity {
    Severity::Info
}

fn resolved() -> bool {
    true
}

fn timeout_ms() -> u32 {
    RECEIVER_TIMEOUT_MS
}

fn repeat_minutes() -> u32 {
    REPEAT_MINUTES
}
