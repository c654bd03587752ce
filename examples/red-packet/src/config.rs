//! What a process is told: its role, its place in the environment, its knobs in a file.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Where the bank listens when nobody says otherwise.
const BANK_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_100);

/// Which service the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Entry: who is it?
    Sso,
    /// Draws.
    Lottery,
    /// Chooses what a winner gets.
    Gift,
    /// Tells the winner.
    Message,
    /// Pays through the bank and writes it down.
    Pay,
    /// Keeps what was paid.
    Records,
    /// The bank, outside.
    Bank,
    /// A service of known cost, for benchmarks.
    Probe,
}

const ROLES: [(Role, &str); 8] = [
    (Role::Sso, "sso"),
    (Role::Lottery, "lottery"),
    (Role::Gift, "gift"),
    (Role::Message, "message"),
    (Role::Pay, "pay"),
    (Role::Records, "records"),
    (Role::Bank, "bank"),
    (Role::Probe, "probe"),
];

impl Role {
    /// The role as written.
    pub fn as_str(self) -> &'static str {
        ROLES.iter().find(|(role, _)| *role == self).expect("every role is in the table").1
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        ROLES.iter().find(|(_, name)| *name == text).map(|(role, _)| *role).ok_or(())
    }
}

/// Where the process stands: what springtide gives every instance.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where to listen.
    pub address: SocketAddr,
    /// Own service, as callers name it.
    pub service: String,
    /// Own instance.
    pub instance: String,
    /// `host:port` through which others are called.
    pub mesh: Option<String>,
    /// Own data folder.
    pub data: Option<PathBuf>,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Place {
    /// Reads the environment.
    pub fn from_environment(role: Role) -> Result<Self> {
        let given = (variable("SPRINGTIDE_ADDRESS"), variable("PORT_HTTP"));
        let address = match given {
            (None, None) if role == Role::Bank => BANK_ADDRESS,
            (address, port) => {
                let address = address.context("SPRINGTIDE_ADDRESS is not set: give the address to listen on")?;
                let port = port.context("PORT_HTTP is not set: declare `ports: [http]` on the service")?;
                let ip = address.parse().with_context(|| format!("SPRINGTIDE_ADDRESS {address:?} is no address"))?;
                let port = port.parse().with_context(|| format!("PORT_HTTP {port:?} is no port"))?;
                SocketAddr::new(ip, port)
            }
        };
        Ok(Self {
            address,
            service: variable("SPRINGTIDE_SERVICE").unwrap_or_else(|| role.to_string()),
            instance: variable("SPRINGTIDE_INSTANCE").unwrap_or_else(|| format!("{role}-0")),
            mesh: variable("SPRINGTIDE_MESH"),
            data: variable("SPRINGTIDE_DATA").map(PathBuf::from),
        })
    }
}

/// The knobs of `ROLE.json`; each may be left out, and so may the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// CPU burnt for each request, by the thread's own clock.
    #[serde(alias = "cpu_us_per_draw")]
    pub cpu_us: u64,
    /// Requests worked on at a time; absent means all.
    pub workers: Option<usize>,
    /// Time each request waits inside its worker (or its slot of the pool) without using CPU.
    pub hold_us: u64,
    /// Slots of a pool in which `hold_us` is spent, like connections to a database.
    pub pool: Option<usize>,
    /// Time each request spends alone behind a lock, without using CPU.
    pub lock_us: u64,
    /// Share of draws that win (lottery).
    pub win_rate: f64,
    /// Time to wait for another service.
    pub call_timeout_ms: u64,
    /// Time a transfer takes (bank); `PUT /delay/MS` changes it.
    pub delay_ms: u64,
    /// Sync to the disk before answering (records).
    pub fsync: bool,
    /// Means nothing: a change of it is a change of configuration, for rehearsals of a rollout.
    pub version: serde_json::Value,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cpu_us: 0,
            workers: None,
            hold_us: 0,
            pool: None,
            lock_us: 0,
            win_rate: 0.3,
            call_timeout_ms: 2_000,
            delay_ms: 5,
            fsync: false,
            version: serde_json::Value::Null,
        }
    }
}

impl Config {
    /// Reads `$SPRINGTIDE_CONFIG/ROLE.json`.
    pub fn load(role: Role) -> Result<Self> {
        let Some(folder) = variable("SPRINGTIDE_CONFIG") else { return Ok(Self::default()) };
        let path = PathBuf::from(folder).join(format!("{role}.json"));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Self::parse(&text).with_context(|| format!("{} is not usable", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(text)?;
        ensure!((0.0..=1.0).contains(&config.win_rate), "win_rate {} is no share; give 0 to 1", config.win_rate);
        ensure!(config.workers != Some(0), "workers 0 would serve nobody; give 1 or more, or leave it out");
        ensure!(config.pool != Some(0), "pool 0 would serve nobody; give 1 or more, or leave it out");
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_have_defaults_and_typos_are_refused() {
        assert_eq!(Config::parse("{}").unwrap(), Config::default());
        let draw =
            Config::parse(r#"{"cpu_us_per_draw": 1500, "workers": null, "win_rate": 0.5, "version": 3}"#).unwrap();
        assert_eq!((draw.cpu_us, draw.workers, draw.win_rate), (1_500, None, 0.5));
        for wrong in [r#"{"cpu": 1}"#, r#"{"win_rate": 1.5}"#, r#"{"workers": 0}"#, r#"{"pool": 0}"#, "1"] {
            assert!(Config::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn roles_read_back_what_they_write() {
        for (role, name) in ROLES {
            assert_eq!(name.parse(), Ok(role));
            assert_eq!(role.to_string(), name);
        }
        assert_eq!("loterry".parse::<Role>(), Err(()));
    }
}
