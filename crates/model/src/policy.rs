//! Policies: what operators put in force over requests on the night, and presets of them made ready before it.
//!
//! How policies are ordered, matched and evaluated is the room `policy`; who enforces them are proxies and the SDK.

use crate::name::*;
use crate::time::{parse_rfc3339, rfc3339};
use crate::unit::{UnitError, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Longest life of a policy from the moment it is put in force: nobody inherits a forgotten one from last week.
pub const POLICY_LIFE_MS_MAX: u64 = 24 * 3_600_000;
/// Longest expression, in bytes.
pub const WHEN_BYTES_MAX: usize = 2_048;
/// Largest body of a configured answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 16_384;
/// Most headers of a configured answer.
pub const ANSWER_HEADERS_MAX: usize = 16;
/// Most policies in one preset.
pub const PRESET_POLICIES_MAX: usize = 64;
/// Least important business level (0 is the most important).
pub const BUSINESS_LEVEL_MAX: u8 = 63;
/// Order of a policy that gives none.
pub const ORDER_DEFAULT: u32 = 100;

/// A policy in force: what is done to the requests in its scope until its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Name.
    pub name: PolicyName,
    /// Only requests to services of this business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub business: Option<BusinessName>,
    /// Only requests to this service or external.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// Only requests whose path begins with this, whole segments: `/draw` takes `/draw` and `/draw/7`, not `/drawing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Only requests that pass through proxies of this datacenter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<DatacenterName>,
    /// Only requests for which this CEL expression is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What is done to them.
    pub action: PolicyAction,
    /// Lower is asked first; then the more severe action, then the name.
    #[serde(default = "order_default")]
    pub order: u32,
    /// When it lapses by itself.
    pub expires_at: Expiry,
    /// The preset that put it in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<PresetName>,
}

fn order_default() -> u32 {
    ORDER_DEFAULT
}

/// What a policy does to the requests that it takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyAction {
    /// Rejects some of them, with 429.
    Throttle(Throttle),
    /// Drops them, and answers as if all were well.
    Suppress(Answer),
    /// Answers in the place of the service.
    Degrade(Degrade),
    /// Accepts them with 202 and an id, and releases them to the service slowly.
    Slow(Slow),
}

impl PolicyAction {
    /// What it does, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Throttle(_) => "throttle",
            Self::Suppress(_) => "suppress",
            Self::Degrade(_) => "degrade",
            Self::Slow(_) => "slow",
        }
    }
}

impl fmt::Display for PolicyAction {
    /// In a few words, for tables: `throttle 20% of users`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Throttle(Throttle::UsersPercent(percent)) => format!("throttle {percent}% of users"),
            Self::Throttle(Throttle::RequestsPerSecond(rate)) => format!("throttle to {rate}/s"),
            Self::Throttle(Throttle::BusinessLevelsFrom(from)) => format!("throttle levels from {from}"),
            Self::Suppress(answer) => format!("suppress with {}", answer.status),
            Self::Degrade(of) => match (of.cached_seconds_max, &of.answer) {
                (Some(age), None) => format!("degrade to answers of {age} s"),
                (Some(age), Some(answer)) => format!("degrade to answers of {age} s or {}", answer.status),
                (None, answer) => format!("degrade to {}", answer.as_ref().map_or(200, |answer| answer.status)),
            },
            Self::Slow(slow) => format!("slow to {}/s", slow.requests_per_second),
        };
        f.pad(&text)
    }
}

/// Which requests are rejected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Throttle {
    /// Those of this share of users, in percent: the same users all along, and those of a smaller share among them.
    UsersPercent(f64),
    /// Those beyond this rate, of all proxies in scope together.
    RequestsPerSecond(f64),
    /// Those of this business level and of every less important (higher) one.
    BusinessLevelsFrom(u8),
}

/// A configured answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers, names in lower case.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Body.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
}

impl Default for Answer {
    fn default() -> Self {
        Self { status: 200, headers: BTreeMap::new(), body: String::new() }
    }
}

/// What answers in the place of the service: its own last good answer, a configured one, or the first and else the
/// second. With a cached answer only, a request for which none is kept goes to the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Degrade {
    /// Serve the last good answer to the same method, host, path and query when it is not older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_seconds_max: Option<u32>,
    /// The configured answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
}

/// How accepted requests are released.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    /// Released to the service a second, of all proxies in scope together.
    pub requests_per_second: f64,
    /// Header that carries the caller's idempotency key.
    #[serde(default = "key_header_default")]
    pub key_header: String,
    /// Most that wait in one proxy; beyond it a request is rejected with 429.
    #[serde(default = "waiting_max_default")]
    pub waiting_max: u32,
}

fn key_header_default() -> String {
    "idempotency-key".to_owned()
}

fn waiting_max_default() -> u32 {
    1_000_000
}

/// A set of policies made ready before an event, put in force together by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Name.
    pub name: PresetName,
    /// The policies; each is called `<preset>.<name>` once in force.
    pub policies: Vec<PresetPolicy>,
}

/// A policy of a preset: as [`Policy`], with a life in the place of an end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresetPolicy {
    /// Name within the preset.
    pub name: PolicyName,
    /// As [`Policy::business`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub business: Option<BusinessName>,
    /// As [`Policy::service`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// As [`Policy::route`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// As [`Policy::datacenter`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<DatacenterName>,
    /// As [`Policy::when`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// As [`Policy::action`].
    pub action: PolicyAction,
    /// As [`Policy::order`].
    #[serde(default = "order_default")]
    pub order: u32,
    /// Its life from the moment it is fired.
    pub r#for: Life,
}

impl Preset {
    /// The policies as they are in force when fired at `now`; `life` overrules what each says.
    ///
    /// # Errors
    /// A name that is too long together with the preset's.
    pub fn fire(&self, now: UnixMs, life: Option<Life>) -> Result<Vec<Policy>, NameError> {
        let fired = |of: &PresetPolicy| {
            Ok(Policy {
                name: PolicyName::new(format!("{}.{}", self.name, of.name))?,
                business: of.business.clone(),
                service: of.service.clone(),
                route: of.route.clone(),
                datacenter: of.datacenter.clone(),
                when: of.when.clone(),
                action: of.action.clone(),
                order: of.order,
                expires_at: Expiry::after(now, life.unwrap_or(of.r#for)),
                preset: Some(self.name.clone()),
            })
        };
        self.policies.iter().map(fired).collect()
    }
}

/// Most versions kept of a policy.
pub const POLICY_VERSIONS_MAX: usize = 16;

/// What became of a policy of one name: the newest last. It outlives the policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyHistory {
    /// At most [`POLICY_VERSIONS_MAX`].
    pub versions: Vec<PolicyVersion>,
}

/// One change of a policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyVersion {
    /// From 1, one more with each change.
    pub version: u64,
    /// When.
    pub at: UnixMs,
    /// Who.
    pub who: String,
    /// As it was from then on; absent: lifted, or ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

impl PolicyHistory {
    /// The version in force, or the last that was; 0 before the first.
    pub fn version(&self) -> u64 {
        self.versions.last().map_or(0, |last| last.version)
    }

    /// With one more change.
    pub fn with(&self, at: UnixMs, who: &str, policy: Option<Policy>) -> Self {
        let mut versions = self.versions.clone();
        versions.push(PolicyVersion { version: self.version() + 1, at, who: who.to_owned(), policy });
        let beyond = versions.len().saturating_sub(POLICY_VERSIONS_MAX);
        versions.drain(..beyond);
        Self { versions }
    }
}

/// A fixed end, in whole seconds. Written `2027-02-05T20:30:00+08:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expiry(UnixMs);

impl Expiry {
    /// The end at `at`, rounded up to a whole second.
    pub fn at(at: UnixMs) -> Self {
        Self(at.div_ceil(1_000) * 1_000)
    }

    /// The end a life after `now`.
    pub fn after(now: UnixMs, life: Life) -> Self {
        Self::at(now.saturating_add(life.ms()))
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_ms(self) -> UnixMs {
        self.0
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&rfc3339(self.0))
    }
}

impl TryFrom<String> for Expiry {
    type Error = UnitError;
    fn try_from(text: String) -> Result<Self, UnitError> {
        let wanted = "a time (RFC 3339, such as 2027-02-05T20:30:00+08:00)";
        parse_rfc3339(&text).map(Self::at).ok_or(UnitError { text, wanted })
    }
}

impl From<Expiry> for String {
    fn from(at: Expiry) -> String {
        at.to_string()
    }
}

/// How long something stands: whole seconds, 1 s to [`POLICY_LIFE_MS_MAX`]. Written `90s`, `30m`, `2h` or `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Life(u64);

impl Life {
    /// Milliseconds.
    pub fn ms(self) -> u64 {
        self.0
    }
}

impl FromStr for Life {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refused = || UnitError { text: text.to_owned(), wanted: "a life from 1s to 24h (90s, 30m, 2h or 1h30m)" };
        let (mut seconds, mut digits, mut last) = (0_u64, String::new(), u64::MAX);
        for c in text.chars() {
            let unit = match c {
                '0'..='9' if digits.len() < 6 => {
                    digits.push(c);
                    continue;
                }
                's' => 1,
                'm' => 60,
                'h' => 3_600,
                _ => return Err(refused()),
            };
            if unit >= last {
                return Err(refused());
            }
            seconds += digits.parse::<u64>().map_err(|_| refused())? * unit;
            digits.clear();
            last = unit;
        }
        let life = Self(seconds * 1_000);
        if !digits.is_empty() || life.0 == 0 || life.0 > POLICY_LIFE_MS_MAX {
            return Err(refused());
        }
        Ok(life)
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000;
        let parts = [(seconds / 3_600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
        let text: String =
            parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
        f.pad(&text)
    }
}

impl TryFrom<String> for Life {
    type Error = UnitError;
    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

impl From<Life> for String {
    fn from(life: Life) -> String {
        life.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_read_as_written() {
        for (text, seconds) in
            [("1s", 1), ("90s", 90), ("30m", 1_800), ("2h", 7_200), ("1h30m", 5_400), ("24h", 86_400)]
        {
            assert_eq!(text.parse::<Life>().unwrap().ms(), seconds * 1_000, "{text}");
        }
        for text in ["", "0s", "30", "m", "1m1h", "1m1m", "25h", "-1s", "1d", "9999999s", "1.5h", " 1s"] {
            assert!(text.parse::<Life>().is_err(), "{text}");
        }
        for text in ["1s", "1m30s", "30m", "1h1s", "24h"] {
            assert_eq!(text.parse::<Life>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_end_is_never_before_what_was_asked() {
        let life = "30m".parse().unwrap();
        let end = Expiry::after(1_700_000_000_001, life);
        assert_eq!(end.unix_ms(), 1_700_000_000_000 + 1_800_000 + 1_000);
        assert_eq!(Expiry::try_from(end.to_string()).unwrap(), end);
    }
}
