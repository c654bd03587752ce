//! From a fleet's samples, second by second, to incidents: streaming detectors, fusion, root-cause ranking.
//!
//! The way of a second: [`Frame`] (columns of samples, by the dense ids of a [`Topology`]) → one small state a series
//! ([`level`](crate), [`ratio`](crate), presence, demand) → findings → fusion over instances, places and calls → [`Incident`]s
//! with ranked causes. A pure room: samples and `now` come in, [`Change`]s go out; state is bounded by the topology and
//! by named limits; iteration is ordered, nothing is random.
//!
//! Absent on purpose: transport, disk (what was learnt is given out and taken back as bytes), notification (the server's), percentiles (histograms are `metrics`'), learned
//! models: every alarm can be explained by a baseline, an observation and a threshold.

mod activity;
mod calibrate;
mod canary;
mod cause;
mod cusum;
mod demand;
mod detector;
mod finding;
mod frame;
mod fuse;
mod incident;
mod intake;
mod kept;
mod level;
mod notify;
mod peers;
mod picture;
mod presence;
mod ratio;
mod rule;
mod season;
mod series;
mod service;
mod topology;

pub use activity::{Activity, ActivityKind};
pub use cause::{Cause, CauseKind, Evidence};
pub use detector::{Config, Detector, Health};
pub use finding::{EntityKind, EntityRef, FindingRecord, Signal};
pub use frame::{Frame, HostColumns, InstanceColumns, PairColumns, ServiceColumns};
pub use fuse::Change;
pub use incident::{Blast, Incident, IncidentState};
pub use intake::{Dropped, Intake};
pub use kept::StateFault;
pub use notify::{Attempt, Notice, NoticeConfig, Notifier};
pub use rule::{Rule, RuleBoard, RuleFault, RuleScope, RuleTurn};
pub use series::{Alarm, SeriesConfig, SeriesDetector};
pub use topology::{Host, Instance, Pair, Parts, Rack, Service, Topology, TopologyFault};
