//! The sample business as real processes: a draw end to end, a drain at TERM, records through kill -9, its manifests.

mod business;
mod http;
mod manifests;
mod process;
