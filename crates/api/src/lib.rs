//! Wire types for agents, proxies, people and programs, and the HTTP client.
//!
//! `fleet` is what agents and proxies speak (generated from `proto/`), `http` is what people and programs speak.

pub mod client;
pub mod http;
pub mod live;
pub mod policies;
pub mod rows;

/// The streams between the control plane and its agents and proxies.
pub mod fleet {
    #![expect(
        missing_docs,
        clippy::all,
        reason = "generated from proto/springtide/v1/fleet.proto, which is documented"
    )]
    tonic::include_proto!("springtide.v1");
}
