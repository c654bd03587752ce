//! The whole system, as a user meets it: `springtide dev`, the command line, real traffic, real deaths.

mod docs;
mod faults;
mod hello;
mod life;
mod probe;
