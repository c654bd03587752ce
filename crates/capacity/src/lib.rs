//! Curves, the stress controller, sizing and gray gates. Pure: samples and `now` in, decisions out.
//!
//! Absent: weights and leases (the server turns a share into an override), the store, and any clock.

pub mod gate;
pub mod plot;
pub mod sizing;
pub mod stress;
