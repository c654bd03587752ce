//! Operations on the wire: asking for one, seeing where it stands, steering it.

use model::Operation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// An operation asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OperationRequest {
    /// Bring a service to a number of instances.
    Scale {
        /// The service.
        service: String,
        /// Total, spread over the datacenters as the manifest spreads it; or …
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<u32>,
        /// … the number in each datacenter.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        instances: BTreeMap<String, u32>,
    },
    /// Move everything off a host.
    Drain {
        /// The host.
        host: String,
    },
    /// Place on a host again; answers with the (already finished) operation.
    Undrain {
        /// The host.
        host: String,
    },
    /// Measure a service's capacity with live traffic.
    Stress {
        /// The service.
        service: String,
        /// The instance; absent: the controller chooses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<String>,
        /// Longest duration; absent: 20 s.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration_ms_max: Option<u32>,
    },
}

/// What a scale would do, before it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationPlan {
    /// New instances, with their hosts.
    pub adds: Vec<PlannedAt>,
    /// Instances that would go.
    pub removes: Vec<PlannedAt>,
    /// Why it cannot be done, for people; empty when it can.
    pub shortages: Vec<String>,
}

/// An instance that a plan adds or removes, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedAt {
    /// The instance.
    pub instance: String,
    /// Its host.
    pub host: String,
    /// Its datacenter.
    pub datacenter: String,
}

/// An operation asked for, and what is to happen when a step of it fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperationOrder {
    /// What is to be done.
    #[serde(flatten)]
    pub request: OperationRequest,
    /// Hold at a step that fails, for `retry`, `skip` or `rollback`; otherwise the operation undoes itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
}

/// An operation, and what may be done with it as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperationView {
    /// The operation; its fields stand beside `allowed`.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub operation: Operation,
    /// What may be done with it now.
    #[serde(default)]
    pub allowed: Allowed,
}

/// What may be done with an operation now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Allowed {
    /// Of `pause`, `resume`, `rollback`, `retry`, `skip` those that would be taken up without saying more.
    pub verbs: Vec<String>,
    /// The step in hand (`start`, …), which `retry` and `skip` are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What they may be aimed at: instances of that step that are not well (`lottery-7`) and its hooks (`before/0`), at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
}

/// Which step is to be tried again or skipped; without anything, the one in hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StepRequest {
    /// `attributes`, `deploy`, `silence`, `start`, `gray`, `drain`, `stop` or `report`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// One of its targets: an instance (`lottery-7`) or a hook (`before/0`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}
