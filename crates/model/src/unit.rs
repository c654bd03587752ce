//! Quantities with their units: written by people (`500m`, `256MiB`), kept as integers.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Milliseconds since the Unix epoch.
pub type UnixMs = u64;

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct UnitError {
    /// The refused text.
    pub text: String,
    /// What would be right, with an example.
    pub wanted: &'static str,
}

/// Thousandths of one core. Written `0.5`, `2` or `500m`; the scheduler places down to a tenth of a core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuMillis(pub u32);

/// Bytes of memory. Written `268435456`, `256MiB`, `2GiB` (or `M`/`G`, read as powers of two as operators do).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoryBytes(pub u64);

/// Watts of power.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PowerWatts(pub u32);

/// Megabits a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BandwidthMbps(pub u64);

/// SHA-256 of some bytes, written `sha256:<64 hex digits>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(std::sync::Arc<str>);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from_sha256(&sha2::Sha256::digest(bytes))
    }

    /// Wraps a finished SHA-256.
    pub fn from_sha256(hash: &[u8]) -> Self {
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in hash {
            text.push_str(&format!("{byte:02x}"));
        }
        Self(text.into())
    }

    /// The whole text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hex digits.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Digest {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let hex = text.strip_prefix("sha256:").unwrap_or("");
        if hex.len() == 64 && hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Self(text.into()));
        }
        Err(UnitError { text: text.to_owned(), wanted: "a digest (sha256: and 64 lowercase hex digits)" })
    }
}

impl TryFrom<String> for Digest {
    type Error = UnitError;
    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0.as_ref().to_owned()
    }
}

/// What one instance may use; the slice that enforces it carries the same numbers.
///
/// Written `{cpu: 0.5, memory: 256MiB}` or, in the operators' shorthand, `1C2G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Shape {
    /// CPU quota.
    pub cpu: CpuMillis,
    /// Memory limit.
    pub memory: MemoryBytes,
    /// Limit on processes and threads.
    pub pids_max: u32,
}

/// Processes and threads allowed where the manifest says nothing.
pub const PIDS_MAX_DEFAULT: u32 = 512;

const CPU_WANTED: &str = "an amount of CPU (0.5, 2 or 500m; at least 0.1 core, in steps of 0.001)";
const MEMORY_WANTED: &str = "an amount of memory (256MiB, 2GiB or a number of bytes)";
const SHAPE_WANTED: &str = "a shape (1C2G, or {cpu: 0.5, memory: 256MiB})";

impl FromStr for CpuMillis {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refused = || UnitError { text: text.to_owned(), wanted: CPU_WANTED };
        let millis = match text.strip_suffix('m') {
            Some(millis) => millis.parse::<f64>().map_err(|_| refused())?,
            None => text.parse::<f64>().map_err(|_| refused())? * 1_000.0,
        };
        let whole = millis.round();
        if !(100.0..=4_000_000.0).contains(&whole) || (millis - whole).abs() > 1e-6 {
            return Err(refused());
        }
        Ok(Self(whole as u32))
    }
}

impl fmt::Display for CpuMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}", f64::from(self.0) / 1_000.0))
    }
}

const MEMORY_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
];

impl FromStr for MemoryBytes {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refused = || UnitError { text: text.to_owned(), wanted: MEMORY_WANTED };
        let (number, unit) = MEMORY_UNITS
            .iter()
            .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
            .unwrap_or((text, 1));
        let bytes = number.trim().parse::<f64>().map_err(|_| refused())? * unit as f64;
        if !(1.0..=1e15).contains(&bytes) {
            return Err(refused());
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for MemoryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = MEMORY_UNITS[..4].iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match whole {
            Some((suffix, unit)) => f.pad(&format!("{}{suffix}", self.0 / unit)),
            None => f.pad(&self.0.to_string()),
        }
    }
}

/// A number or a text, as YAML gives either for `cpu: 2` and `cpu: 500m`.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(f64),
    Text(String),
}

macro_rules! serde_as_text {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = match NumberOrText::deserialize(from)? {
                    NumberOrText::Number(number) => number.to_string(),
                    NumberOrText::Text(text) => text,
                };
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    )*};
}

serde_as_text!(CpuMillis, MemoryBytes);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShapeFields {
    cpu: CpuMillis,
    memory: MemoryBytes,
    #[serde(default = "pids_max_default")]
    pids_max: u32,
}

fn pids_max_default() -> u32 {
    PIDS_MAX_DEFAULT
}

impl FromStr for Shape {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refused = || UnitError { text: text.to_owned(), wanted: SHAPE_WANTED };
        let (cpu, memory) = text.split_once('C').ok_or_else(refused)?;
        Ok(Self {
            cpu: cpu.parse().map_err(|_| refused())?,
            memory: memory.parse().map_err(|_| refused())?,
            pids_max: PIDS_MAX_DEFAULT,
        })
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SHAPE_WANTED)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Shape, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Shape, A::Error> {
                let fields = ShapeFields::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Shape { cpu: fields.cpu, memory: fields.memory, pids_max: fields.pids_max })
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}C {}", self.cpu, self.memory))
    }
}
