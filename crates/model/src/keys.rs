//! Where each intent lives in the store. One place, so that no room invents a key.

use crate::name::*;
use crate::resource::{Kind, ResourceKey};

/// Prefix of everything the control loop watches.
pub const ALL: &str = "/";
/// Prefix of resources.
pub const RESOURCES: &str = "/resources/";
/// Prefix of placements, one key a host.
pub const PLACEMENTS: &str = "/placements/";
/// Prefix of scale intents, one key a service.
pub const SCALES: &str = "/scales/";
/// Prefix of host intents (cordons).
pub const HOST_INTENTS: &str = "/host-intents/";
/// Prefix of silences.
pub const SILENCES: &str = "/silences/";
/// Prefix of operations.
pub const OPERATIONS: &str = "/operations/";
/// Prefix of the policies' histories, one key a name.
pub const POLICY_HISTORIES: &str = "/policy-histories/";
/// Prefix of counters: `instance/<service>` and `operation` hold the last number given, as decimal text.
pub const COUNTERS: &str = "/counters/";
/// Version of this layout and of every value's form; a binary refuses a store whose version it does not know.
pub const FORMAT_VERSION: &str = "/format-version";

/// Key of a resource.
pub fn resource(key: &ResourceKey) -> String {
    format!("{RESOURCES}{}/{}", key.kind.as_str(), key.name)
}

/// Reads a resource's key back.
pub fn parse_resource(key: &str) -> Option<ResourceKey> {
    let (kind, name) = key.strip_prefix(RESOURCES)?.split_once('/')?;
    let kind = Kind::ALL.iter().copied().find(|k| k.as_str() == kind)?;
    Some(ResourceKey { kind, name: name.to_owned() })
}

/// Key of a host's placements.
pub fn placements(host: &HostName) -> String {
    format!("{PLACEMENTS}{host}")
}

/// Key of a service's scale intent.
pub fn scale(service: &ServiceName) -> String {
    format!("{SCALES}{service}")
}

/// Key of a host's intent.
pub fn host_intent(host: &HostName) -> String {
    format!("{HOST_INTENTS}{host}")
}

/// Key of a silence.
pub fn silence(id: &SilenceId) -> String {
    format!("{SILENCES}{id}")
}

/// Key of a policy's history.
pub fn policy_history(policy: &PolicyName) -> String {
    format!("{POLICY_HISTORIES}{policy}")
}

/// Key of an operation.
pub fn operation(id: &OperationId) -> String {
    format!("{OPERATIONS}{id}")
}

/// Key of the counter of a service's instances.
pub fn instance_counter(service: &ServiceName) -> String {
    format!("{COUNTERS}instance/{service}")
}

/// Key of the counter of operations.
pub fn operation_counter() -> String {
    format!("{COUNTERS}operation")
}
