//! Overload control for services: who is served when more come than can be served.
//!
//! Every request carries a [`Priority`]: the business level of its task and the level of its user, which a keyed hash
//! gives and each rotation moves. A [`Gate`] stands before a service. It measures what the service completes
//! while busy (its capacity) and how much is asked for at each priority (its demand), and publishes a *level*: requests
//! of a priority below it are admitted. The level rides on every response as an [`Advert`], so that callers
//! ([`Callee`]) shed doomed calls before they cost anything, and report what they shed.
//!
//! Pure on purpose: time is a `now_us: u64` parameter of one monotonic clock, randomness a parameter. No thread, no
//! I/O, no lock that waits, no allocation after a thread's first request (only the text forms in [`wire`] allocate). Absent on purpose:
//! queues, executors and adapters for frameworks; operators' policies.
//!
//! ```
//! use admission::{Config, Gate, Priority, UserKey, Verdict};
//!
//! let gate = Gate::new(Config::default(), 0);
//! let key = UserKey::from_bytes([7; 16]);
//! let priority = Priority::new(3, key.hash(b"user-4711").level(482_000)).expect("business level 3 of 64");
//!
//! let now_us = 1_000;
//! let deadline_us = now_us + 500_000;
//! assert_eq!(gate.offer(priority, false, Some(deadline_us), now_us), Verdict::Admit);
//! gate.started(250, now_us + 250); // it waited 250 µs for a worker
//! gate.finished(4_000, now_us + 4_250); // and took 4 ms of work
//! let advert = gate.advert(now_us + 4_250); // rides back on the response
//! assert_eq!(advert.level, admission::LEVEL_ALL);
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod advert;
mod callee;
mod deadline;
mod gate;
mod priority;
mod rate;
mod retry;
mod siphash;
mod sliding;
mod tenant;
mod throttle;
mod user;
pub mod wire;

pub use advert::{Advert, AdvertFault};
pub use callee::{Callee, SHED_PAIRS_MAX, ShedReport};
pub use deadline::Deadline;
pub use gate::{Config, Gate, Reason, Signal, Snapshot, Verdict};
pub use priority::{BUCKETS, Bucket, LEVEL_ALL, Priority};
pub use rate::RateLimit;
pub use retry::{RetryBudget, RetryConfig, RetryRefusal, backoff_us};
pub use tenant::TenantCap;
pub use throttle::ClientThrottle;
pub use user::{UserHash, UserKey};
