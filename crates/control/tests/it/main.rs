//! Operations and reconciler against a small world in virtual time.

mod scale;
mod world;
