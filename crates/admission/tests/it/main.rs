//! The gate and the callee at work, in a small queueing model in virtual time.

mod model;
mod overload;
