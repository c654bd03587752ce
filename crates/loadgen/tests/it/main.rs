//! The generator against a real server of known behaviour, on a thread of its own in this process.

mod counting;
mod server;
mod timing;
