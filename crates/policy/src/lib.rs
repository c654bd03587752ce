//! Operators' policies: compiled once, asked for each request, dry-run over a sample of the last minutes' requests.
//!
//! Pure: `now` is a parameter, time is the caller's monotonic clock, so that an end is kept whatever the wall clock does.
//! Absent on purpose: answering (the proxy and the SDK), the queue of slowed items (`slowlane`), and how policies travel.

mod check;
mod expression;
mod file;
mod head;
mod order;
mod set;

pub mod dry_run;
pub mod reservoir;

pub use check::{Sweeping, check, check_policy, sweeping};
pub use expression::{Expression, ExpressionFault};
pub use file::compile;
pub use head::{Head, Headers, NoHeaders, user_share};
pub use order::{Overlap, Relation, Severity, overlaps, sort};
pub use set::{Counts, Entry, InForce, Place, PolicySet, Taken};
