//! Names and ids: one newtype per kind, so that a host can never stand where a service is meant.

use serde::{Deserialize, Serialize};

/// Longest name accepted, in bytes: a DNS label, since names become DNS and xDS names.
pub const NAME_BYTES_MAX: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a name: use 1 to {NAME_BYTES_MAX} of a-z, 0-9, '-' and '.', starting and ending with a letter or digit"
)]
pub struct NameError {
    /// The refused text.
    pub text: String,
}

fn check(text: &str) -> Result<(), NameError> {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    let ok =
        matches!(bytes, [first, .., last] if edge(*first) && edge(*last)) || matches!(bytes, [only] if edge(*only));
    let inner = bytes.iter().all(|&c| edge(c) || c == b'-' || c == b'.');
    if ok && inner && bytes.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(NameError { text: text.to_owned() })
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks and wraps a name.
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                let text = text.as_ref();
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )*};
}

names! {
    /// Name of a region.
    RegionName,
    /// Name of a datacenter (what Chinese operators call an IDC).
    DatacenterName,
    /// Name of a rack.
    RackName,
    /// Name of a circuit, a dedicated line between datacenters.
    CircuitName,
    /// Name of a host type, a model of machine.
    HostTypeName,
    /// Name of a host, one machine.
    HostName,
    /// Name of a pool, a set of hosts kept for a purpose.
    PoolName,
    /// Name of a business.
    BusinessName,
    /// Name of a service (Tencent's CMDB says module).
    ServiceName,
    /// Name of an external dependency, such as a bank.
    ExternalName,
    /// Name of a package.
    PackageName,
    /// Name of a config set.
    ConfigSetName,
    /// Name of an environment.
    EnvironmentName,
    /// Name of an event, a planned crowd.
    EventName,
    /// Name of a policy.
    PolicyName,
    /// Name of a preset, a set of policies fired together.
    PresetName,
    /// Name of an alert rule.
    AlertRuleName,
    /// Name of a receiver of notices about incidents.
    ReceiverName,
    /// Id of one instance: `<service>-<number>`, the number never reused within a service.
    InstanceId,
    /// Id of an operation: `op-<number>`.
    OperationId,
    /// Id of a silence.
    SilenceId,
}
