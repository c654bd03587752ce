//! A real server on a real data folder, met by what meets it: agents and xDS clients over the fleet listener, people
//! over the Unix socket. Proxies, packages and processes are other crates' tests.

mod access;
mod agent;
mod apply;
mod backup;
mod crash;
mod disk;
mod harness;
mod incidents;
mod metrics;
mod prometheus;
mod protect;
mod proxy;
mod receivers;
mod remote_write;
mod scale;
mod steps;
mod stress;
mod views;
mod xds;
