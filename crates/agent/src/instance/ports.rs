//! Is a port free? And if not, whose is it?

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

/// The kernel's number for a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Checks that nobody listens there.
///
/// # Errors
/// A sentence that names the owner where it can be found.
pub fn check_free(address: SocketAddr) -> Result<(), String> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let owner = match owner_of(address) {
                Some((pid, name)) => format!("by pid {pid} ({name})"),
                None => "by a process that cannot be seen from here".to_owned(),
            };
            Err(format!("port {address} is in use {owner}; stop it, or give the service another port"))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            Err(format!("address {} is not on this machine: fix the host's address", address.ip()))
        }
        Err(error) => Err(format!("cannot listen on {address}: {error}")),
    }
}

fn owner_of(address: SocketAddr) -> Option<(u32, String)> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let text = fs::read_to_string(table).ok()?;
        text.lines().skip(1).find_map(|line| listening_inode(line, address))
    })?;
    let wanted = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let fds = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        if fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|target| target.as_os_str() == wanted.as_str()) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

/// The socket's inode when this line of `/proc/net/tcp*` is a listener in the way of `address`.
fn listening_inode(line: &str, address: SocketAddr) -> Option<u64> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (host, port) = fields.get(1)?.split_once(':')?;
    let same_port = u16::from_str_radix(port, 16).ok()? == address.port();
    let host = parse_host(host)?;
    let in_the_way = host.is_unspecified() || host == address.ip() || host.to_canonical() == address.ip();
    (same_port && in_the_way && fields.get(3) == Some(&LISTEN)).then(|| fields.get(9)?.parse().ok()).flatten()
}

/// Groups of 32 bits, each in host byte order.
fn parse_host(hex: &str) -> Option<IpAddr> {
    let group = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(group(0)?).into());
    }
    let mut bytes = [0_u8; 16];
    for (index, part) in bytes.chunks_mut(4).enumerate() {
        part.copy_from_slice(&group(index * 8)?);
    }
    Some(Ipv6Addr::from(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let message = check_free(address).expect_err("it is ours");
        assert!(message.contains(&format!("port {address} is in use by pid {}", std::process::id())), "{message}");
        drop(listener);
        check_free(address).expect("free again");
    }

    #[test]
    fn a_wildcard_listener_is_in_the_way() {
        let line =
            "   0: 00000000:4E20 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4711 1 0 100 0 0 10 0";
        assert_eq!(listening_inode(line, "127.1.1.1:20000".parse().expect("address")), Some(4711));
        assert_eq!(listening_inode(line, "127.1.1.1:20001".parse().expect("address")), None);
    }
}
