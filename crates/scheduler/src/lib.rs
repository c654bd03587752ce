//! Filter, score, plan, check: where instances go, and why not elsewhere.
//!
//! Pure: a snapshot and a request in, a plan with its reasons out. [`plan`] is batched: one scan over columns for a whole
//! request, then a heap; only the touched host is scored again. [`check`] shares no code with the planner.
//! Committing a plan, preemption and repair are deliberately absent: `control` commits, later rooms preempt.

mod check;
mod columns;
mod demand;
mod explain;
mod plan;
mod remove;
mod request;
mod score;
mod why;

pub use check::{Violation, check};
pub use columns::{Columns, MEMORY_PAGE_BYTES};
pub use explain::explain;
pub use plan::{Planner, plan};
pub use remove::remove;
pub use request::{Added, PlaceRequest, Plan, Shortfall};
pub use why::WhyNot;

#[cfg(test)]
mod tests;
