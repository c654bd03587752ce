//! A fleet as a user starts it, load in the background, and what the OS says of both: for benchmarks and whole-system tests.

pub mod fleet;
pub mod load;
pub mod machine;
pub mod manifests;
pub mod outside;
pub mod server;
pub mod simulated;
pub mod stats;
pub mod table;
