//! What tests and benchmarks of several rooms need: addresses for servers that are told where to listen.
//!
//! The usual way is to bind port 0, note the port and close it. Until the server binds it, and again while it is away to be
//! started anew, any other process may be given the same port; a machine that runs all tests sees that every few runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// First port: below those that Linux gives out by itself (32768) and those of instances (20000).
const PORT_MIN: u16 = 10_000;

/// A loopback address that is given once in this process and in no other of this machine that lives: all of 127.0.0.0/8
/// answers on Linux, and the last three bytes hold the process id, of 22 bits at most. The second byte is 64 to 127.
pub fn address() -> SocketAddr {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 64 | (high & 63), middle, low);
    SocketAddr::from((ip, PORT_MIN + GIVEN.fetch_add(1, Relaxed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn each_address_is_another_one_and_can_be_listened_on() {
        let (one, two) = (address(), address());
        assert!(one != two && one.ip() == two.ip() && one.ip().is_loopback());
        TcpListener::bind(one).expect("nobody else has it");
        TcpListener::bind(two).expect("nobody else has it");
    }
}
