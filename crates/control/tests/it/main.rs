//! Operations and reconciler against a small world in virtual time.

mod bench_instance;
mod faults;
mod random;
mod replace;
mod scale;
mod steer;
mod steps;
mod stress;
mod world;
