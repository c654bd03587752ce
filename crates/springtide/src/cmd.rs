//! The commands, one file a group.

pub mod dev;
pub mod run;

use std::net::SocketAddr;

/// An address to listen on.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port = text.trim_start_matches(':').parse::<u16>().unwrap_or(8080);
        format!("give an address and a port, such as 127.0.0.1:{port}")
    })
}
