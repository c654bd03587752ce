//! Open-loop load over HTTP/1.1, free of coordinated omission.
//!
//! Requests are sent at the times that the profile intends, whatever the server does; each latency counts from the intended
//! time. What the bounds turn away is counted as dropped. The generator measures its own lag and voids a run when it was
//! the generator that was late. A current-thread runtime (with I/O and time enabled) is enough.
//! TLS, HTTP/2 and closed-loop users are deliberately absent.

mod handle;
mod plan;
mod pool;
mod run;
mod schedule;
mod stats;
mod timer;
mod users;

pub use handle::Handle;
pub use plan::{Arrivals, Error, Plan, Profile, RPS_MAX, Step, USERS_MAX, Users};
pub use run::{run, run_watched, run_with};
pub use stats::{End, Ended, Errors, Latency, Progress, Report, Second};
