//! Remote write out: every series, to receivers such as Prometheus or VictoriaMetrics (remote write 1.0).
//!
//! The queue is a cursor: a receiver's sender reads back from the series what was written since the last acknowledged time.
//! So an absent receiver costs no memory, and as long as the series reach back, nothing is missing when it returns. The
//! cursor is on disk; before a stretch of time is sent its end is written down, so that after a crash the same stretch is
//! sent again, in the same requests. What a receiver refuses for good (4xx) is halved until only the series at fault are dropped.
//! Absent: relabelling, metadata, exemplars.

mod counts;
mod cursor;
mod encode;
mod sender;
#[cfg(test)]
mod tests;
mod wire;

pub use counts::{Counts, describe, write};
pub use sender::{Back, Batch, Sender};

use std::fmt;

/// Receivers of one server.
pub const RECEIVERS_MAX: usize = 8;

/// Where to send. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Receiver {
    url: reqwest::Url,
}

impl std::str::FromStr for Receiver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let right = "http://HOST:PORT/api/v1/write or https://HOST/api/v1/write would be right";
        let url = reqwest::Url::parse(text).map_err(|error| format!("{text:?} is no URL ({error}): {right}"))?;
        match url.scheme() {
            "http" | "https" if url.has_host() => Ok(Self { url }),
            scheme => Err(format!("{text:?}: remote write goes over HTTP, not over {scheme}: {right}")),
        }
    }
}

impl Receiver {
    /// Its address without credentials, for people and labels.
    pub fn shown(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or(80);
        format!("{}:{port}{}", self.url.host_str().unwrap_or(""), self.url.path())
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Its address.
    pub fn url(&self) -> &reqwest::Url {
        &self.url
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}
