//! The drivers under the one conformance suite, against a model, and killed.

mod drivers;
mod kill;
mod model;
