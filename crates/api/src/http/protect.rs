//! Requests and answers of `/v1/protect`.

use super::{ManifestFile, ResourceChange};
use model::{Policy, Preset, UnixMs};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Policies to put in force. Manifests of other kinds than Policy and Preset are refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProtectRequest {
    /// The files, with their text.
    pub files: Vec<ManifestFile>,
    /// Life of every policy from now on (`30m`), whatever its manifest says; absent: each has its `expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<String>,
    /// Put in force even what would reject, drop or replace everything in its scope.
    #[serde(default)]
    pub force: bool,
    /// How long to wait for all proxies and agents to confirm, at most 10 s; absent: 3 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u32>,
}

/// A preset to fire.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FireRequest {
    /// Life of every policy, whatever the preset says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<String>,
    /// As in [`ProtectRequest`].
    #[serde(default)]
    pub force: bool,
    /// As in [`ProtectRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u32>,
}

/// Policies to lift: by name, by preset, or all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LiftRequest {
    /// Names.
    #[serde(default)]
    pub names: Vec<String>,
    /// Every policy that this preset put in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Every policy.
    #[serde(default)]
    pub all: bool,
    /// As in [`ProtectRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u32>,
}

/// A change to take back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RollbackRequest {
    /// The policy; absent: every policy of the last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The version to go back to; absent: the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Life from now on; absent: the end that the version had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<String>,
    /// As in [`ProtectRequest`].
    #[serde(default)]
    pub force: bool,
    /// As in [`ProtectRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u32>,
}

/// What changed, and where it is in force.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProtectResponse {
    /// Revision of the store.
    pub revision: u64,
    /// The changes made; empty: nothing differed.
    pub changes: Vec<ResourceChange>,
    /// Where it is in force.
    pub in_force: InForce,
    /// Pairs that may meet in one request, among all policies in force.
    pub overlaps: Vec<OverlapView>,
}

/// Where the newest policies are in force.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InForce {
    /// Proxies that follow policies.
    pub proxies: u32,
    /// Proxies that have confirmed the newest.
    pub proxies_taken: u32,
    /// Agents connected; each writes the policies for the instances of its host.
    pub hosts: u32,
    /// Agents that have confirmed the newest.
    pub hosts_taken: u32,
    /// Time from the request to the last confirmation, or to the end of the wait; absent: not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<f64>,
    /// Some of those that have not confirmed, by name.
    pub waiting: Vec<String>,
    /// Some of those that could not put a part of it in force, and why.
    pub refused: Vec<RefusedBy>,
}

/// One that refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedBy {
    /// The proxy.
    pub proxy: String,
    /// Why.
    pub why: String,
}

/// Everything about protection: policies in the order in which they are asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProtectView {
    /// When, by the server's clock.
    pub at: UnixMs,
    /// Policies, first asked first.
    pub policies: Vec<PolicyView>,
    /// Presets by name.
    #[schema(value_type = Vec<Object>)]
    pub presets: Vec<Preset>,
    /// Pairs of policies that may meet in one request.
    pub overlaps: Vec<OverlapView>,
    /// Where the newest are in force.
    pub in_force: InForce,
}

/// A policy in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// The policy.
    #[schema(value_type = Object)]
    pub policy: Policy,
    /// Its version.
    pub version: u64,
    /// Since when this version stands.
    pub since: UnixMs,
    /// Who put it in force.
    pub who: String,
    /// What is left of its life.
    pub life_ms: u64,
    /// Requests that it governed, over all proxies.
    pub matched: u64,
    /// Requests that it took.
    pub taken: u64,
    /// The same each second, over the last seconds; absent: not measured yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_per_second: Option<f64>,
    /// Requests for which its expression failed: they were not taken.
    pub failed: u64,
    /// The first such failure.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failure: String,
}

/// Two policies that may meet in one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OverlapView {
    /// The one asked first.
    pub earlier: String,
    /// The other.
    pub later: String,
    /// `shadowed`: the later never acts; `governed`: the earlier alone decides on requests in both scopes; `before`: the
    /// earlier is asked first, and the later on what it lets pass. Of two that slow, `shadowed-lane` and `governed-lane` say
    /// the same of new requests; what waits for either is delivered at its own rate.
    pub relation: String,
}

/// What would these policies have done?
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DryRunQuestion {
    /// Manifests of policies.
    #[serde(default)]
    pub files: Vec<ManifestFile>,
    /// A stored preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
}

/// What they would have done to the last minutes' requests, estimated from samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DryRunAnswer {
    /// Proxies asked.
    pub proxies: u32,
    /// Proxies that answered in time.
    pub answered: u32,
    /// Proxies that could not, and why.
    pub refused: Vec<RefusedBy>,
    /// Requests in the samples. 0: nothing was measured, and the numbers below mean nothing.
    pub sampled: u64,
    /// Users in the samples.
    pub sampled_users: u64,
    /// Share of all users that is in the samples, 0 to 1.
    pub sampled_share: f64,
    /// Time that the samples cover, in seconds.
    pub window_seconds: f64,
    /// Requests a second in all.
    pub requests_per_second: f64,
    /// Distinct users in all.
    pub users: f64,
    /// By policy, in the order in which they would be asked.
    pub policies: Vec<DryRunEffect>,
}

/// What one policy would have done, beside those in force.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DryRunEffect {
    /// Its name.
    pub policy: String,
    /// What it does, in a few words.
    pub action: String,
    /// Sampled requests that it would have taken.
    pub sampled: u64,
    /// Share of all requests, 0 to 1.
    pub requests_share: Estimate,
    /// Requests a second.
    pub requests_per_second: f64,
    /// Distinct users.
    pub users: Estimate,
    /// Sampled requests for which its expression failed.
    pub failed: u64,
}

/// A number estimated from a sample, with its 95% interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What receivers refused of the slow lanes for good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetters {
    /// Proxies asked.
    pub proxies: u32,
    /// Proxies that answered in time.
    pub answered: u32,
    /// Proxies that could not, and why.
    pub refused: Vec<RefusedBy>,
    /// Of each lane: its proxy, all its dead letters (of many, some are listed), and what waits.
    pub held: Vec<(String, u64, u64)>,
    /// The letters, oldest first.
    pub letters: Vec<DeadLetterView>,
}

/// A request that its receiver refused for good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterView {
    /// Its id.
    pub id: String,
    /// The proxy that keeps it.
    pub proxy: String,
    /// The policy that slowed it.
    pub policy: String,
    /// Where it goes.
    pub service: String,
    /// Its method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// When it was accepted.
    pub accepted_unix_ms: u64,
    /// The receiver's status: of HTTP, or below 100 of gRPC.
    pub status: u32,
    /// In words.
    pub reason: String,
}

/// A dead letter that was put back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetriedLetter {
    /// Its id.
    pub id: String,
    /// The proxy that delivers it.
    pub proxy: String,
}
