//! The gate and the callee at work: in a small queueing model in virtual time, and under arbitrary histories.

mod any;
mod model;
mod overload;
mod pauses;
