//! The client half of the springtide program: the commands that people and scripts use, over the HTTP API alone.
//!
//! The long-running parts (`dev`, `server`, `agent`, `proxy`) are in the binary itself.

pub mod client;
