//! A simulator of services under load, in virtual time: call graphs, queues, workers, deadlines, retries, stalls.
//!
//! It runs overload controls side by side on the same tasks: Springtide's own (the very code of `admission`) and the ones it is
//! measured against. Absent on purpose: networks that lose or bend, CPU models, and anything that reads a clock.

mod engine;
pub mod report;
pub mod rng;
pub mod scheme;
pub mod script;
mod work;

pub use engine::run;
pub use report::Report;
pub use script::Script;
