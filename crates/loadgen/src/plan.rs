//! What a run is to do, and the checks before it starts.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Highest rate accepted, in requests a second: beyond it one process cannot keep its promise.
pub const RPS_MAX: f64 = 1e6;
/// Most users told apart.
pub const USERS_MAX: u64 = 1 << 52;

/// A whole run. [`Plan::new`] gives one with the usual bounds.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where to send, in turn.
    pub targets: Vec<SocketAddr>,
    /// `Host` header; absent means the target's address.
    pub host: Option<String>,
    /// Method.
    pub method: Method,
    /// Path and query; `{user}` stands for the user's id.
    pub path: String,
    /// Headers beside `Host` and `x-user-id`.
    pub headers: Vec<(String, String)>,
    /// Body of each request.
    pub body: Bytes,
    /// How many requests when.
    pub profile: Profile,
    /// How the requests lie in time.
    pub arrivals: Arrivals,
    /// Who sends them.
    pub users: Users,
    /// Seed of users and arrivals: the same plan sends the same requests.
    pub seed: u64,
    /// Time allowed from the intended send to the last byte of the answer.
    pub timeout_ms: u32,
    /// Connections to each target; a request that finds none free waits, and the wait counts.
    pub connections_max: u32,
    /// Requests waiting or on their way; what comes above is dropped, and counted.
    pub in_flight_max: u32,
    /// The run is void when the 99th percentile of the generator's own lag is above this.
    pub lag_p99_ms_max: f64,
}

impl Plan {
    /// GETs of `path` at a target: even arrivals, 100,000 uniform users, 5 s timeout, 512 connections, 10,000 in flight.
    pub fn new(target: SocketAddr, path: &str, profile: Profile) -> Self {
        Self {
            targets: vec![target],
            host: None,
            method: Method::GET,
            path: path.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            profile,
            arrivals: Arrivals::Even,
            users: Users { count: 100_000, zipf_exponent: None },
            seed: 1,
            timeout_ms: 5_000,
            connections_max: 512,
            in_flight_max: 10_000,
            lag_p99_ms_max: 5.0,
        }
    }
}

/// How many requests a second, over the time of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// The same all the time.
    Constant {
        /// Requests a second.
        rps: f64,
        /// Length.
        seconds: f64,
    },
    /// From one rate to another, in a straight line.
    Ramp {
        /// Requests a second at the start.
        from_rps: f64,
        /// Requests a second at the end.
        to_rps: f64,
        /// Length.
        seconds: f64,
    },
    /// One rate after another.
    Steps(Vec<Step>),
    /// A recorded curve: (seconds since the start, requests a second), straight lines between; it begins with its first point.
    Replay(Vec<(f64, f64)>),
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Requests a second.
    pub rps: f64,
    /// Length.
    pub seconds: f64,
}

/// How requests lie in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Evenly: the gap is one over the rate.
    Even,
    /// As independent users do (a Poisson process).
    Poisson,
}

/// Who sends: ids 1 to `count`, in the header `x-user-id` and for `{user}` in the path.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Users {
    /// How many users.
    pub count: u64,
    /// Skew: user k is chosen in proportion to k^-exponent; absent means uniformly.
    pub zipf_exponent: Option<f64>,
}

/// Why a run cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No target.
    #[error("no target: give at least one address")]
    NoTarget,
    /// A field of the plan that makes no sense.
    #[error("{field}: {value} is not usable; give {wanted}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it was.
        value: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// The timer could not be made.
    #[error("no timer: {source}; the runtime needs i/o enabled and the process a free file descriptor")]
    Timer {
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

fn refuse(field: &'static str, value: impl ToString, wanted: &'static str) -> Error {
    Error::Field { field, value: value.to_string(), wanted }
}

/// A stretch of the profile: the rate goes from one value to another in a straight line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Segment {
    pub(crate) from_s: f64,
    pub(crate) to_s: f64,
    pub(crate) from_rps: f64,
    pub(crate) to_rps: f64,
}

impl Profile {
    /// The profile as adjoining stretches from 0.
    pub(crate) fn segments(&self) -> Result<Vec<Segment>, Error> {
        let mut segments: Vec<Segment> = Vec::new();
        let mut then = |seconds: f64, from_rps: f64, to_rps: f64| {
            let from_s = segments.last().map_or(0.0, |last: &Segment| last.to_s);
            segments.push(Segment { from_s, to_s: from_s + seconds, from_rps, to_rps });
        };
        match self {
            Profile::Constant { rps, seconds } => then(*seconds, *rps, *rps),
            Profile::Ramp { from_rps, to_rps, seconds } => then(*seconds, *from_rps, *to_rps),
            Profile::Steps(steps) => steps.iter().for_each(|step| then(step.seconds, step.rps, step.rps)),
            Profile::Replay(points) => {
                for pair in points.windows(2) {
                    then(pair[1].0 - pair[0].0, pair[0].1, pair[1].1);
                }
            }
        }
        let rates = segments.iter().flat_map(|s| [s.from_rps, s.to_rps]);
        if let Some(rate) = rates.into_iter().find(|rate| !(0.0..=RPS_MAX).contains(rate)) {
            return Err(refuse("profile", rate, "rates from 0 to 1,000,000 requests a second"));
        }
        if let Some(segment) = segments.iter().find(|s| !(s.to_s.is_finite() && s.to_s >= s.from_s)) {
            return Err(refuse("profile", segment.to_s - segment.from_s, "lengths of time that do not run backwards"));
        }
        segments.retain(|segment| segment.to_s > segment.from_s);
        match segments.last() {
            Some(_) => Ok(segments),
            None => {
                Err(refuse("profile", "no time at all", "a length above 0 seconds (two points at least for a replay)"))
            }
        }
    }
}

/// The request, checked, and ready to be copied for each user.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(crate) method: Method,
    pub(crate) path: PathTemplate,
    /// Headers for each target: only `Host` differs.
    pub(crate) headers: Vec<HeaderMap>,
    pub(crate) body: Bytes,
}

/// A path with or without the user in it.
#[derive(Debug, Clone)]
pub(crate) enum PathTemplate {
    Fixed(Uri),
    PerUser(String),
}

impl PathTemplate {
    fn new(path: &str) -> Result<Self, Error> {
        const WANTED: &str = "a path that begins with / and holds no space";
        let sample: Uri = path.replace("{user}", "1").parse().map_err(|_| refuse("path", path, WANTED))?;
        if sample.path_and_query().is_none() || !path.starts_with('/') {
            return Err(refuse("path", path, WANTED));
        }
        Ok(if path.contains("{user}") { Self::PerUser(path.to_owned()) } else { Self::Fixed(sample) })
    }

    pub(crate) fn of(&self, user: u64) -> Uri {
        match self {
            Self::Fixed(uri) => uri.clone(),
            Self::PerUser(path) => {
                path.replace("{user}", &user.to_string()).parse().expect("checked with another number")
            }
        }
    }
}

impl Plan {
    /// Checks everything that can be wrong before the first request.
    pub(crate) fn template(&self) -> Result<Template, Error> {
        self.check_bounds()?;
        let mut common = HeaderMap::new();
        for (name, value) in &self.headers {
            let parsed = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
            let (name, value) =
                parsed.ok_or_else(|| refuse("headers", format!("{name}: {value}"), "name and value"))?;
            common.append(name, value);
        }
        let mut headers = Vec::new();
        for target in &self.targets {
            let host = self.host.clone().unwrap_or_else(|| target.to_string());
            let value = HeaderValue::try_from(&host).map_err(|_| refuse("host", &host, "a host name"))?;
            let mut of_target = common.clone();
            of_target.insert(header::HOST, value);
            headers.push(of_target);
        }
        let path = PathTemplate::new(&self.path)?;
        Ok(Template { method: self.method.clone(), path, headers, body: self.body.clone() })
    }

    fn check_bounds(&self) -> Result<(), Error> {
        if self.targets.is_empty() {
            return Err(Error::NoTarget);
        }
        if !(1..=USERS_MAX).contains(&self.users.count) {
            return Err(refuse("users", self.users.count, "1 to 2^52 users"));
        }
        if let Some(exponent) = self.users.zipf_exponent.filter(|s| !(0.01..=10.0).contains(s)) {
            return Err(refuse("zipf_exponent", exponent, "0.01 to 10"));
        }
        for (field, value) in [
            ("timeout_ms", self.timeout_ms),
            ("connections_max", self.connections_max),
            ("in_flight_max", self.in_flight_max),
        ] {
            if value == 0 {
                return Err(refuse(field, value, "at least 1"));
            }
        }
        if self.lag_p99_ms_max.is_nan() || self.lag_p99_ms_max <= 0.0 {
            return Err(refuse("lag_p99_ms_max", self.lag_p99_ms_max, "a time above 0"));
        }
        Ok(())
    }
}
