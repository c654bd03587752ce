//! How a server is started, and why it may refuse.

use crate::remote_write::{RECEIVERS_MAX, Receiver};
use crate::tls;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What a server needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Data folder: the store, the records, the packages, the tokens.
    pub data: PathBuf,
    /// Unix socket of the HTTP API.
    pub socket: PathBuf,
    /// Address of the HTTP API for browsers and remote tools (with a token); absent: none.
    pub http: Option<SocketAddr>,
    /// TLS of that address; without it only loopback is listened on.
    pub http_tls: Option<tls::Files>,
    /// Address of the fleet listener; port 0 chooses a free one.
    pub fleet: SocketAddr,
    /// Mesh address given to instances where no proxy of their datacenter has announced one.
    pub mesh: Option<String>,
    /// Where all series are sent, by remote write.
    pub remote_write: Vec<Receiver>,
    /// PEM file of the authorities that its receivers' certificates may be of; absent: those that the system trusts.
    pub remote_write_ca: Option<PathBuf>,
    /// Seconds of traffic before detection says anything of a series; absent: its own default.
    pub detect_warm_s: Option<u16>,
}

/// Why a server does not start, or stops.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused; for a second server on one data folder it says so.
    #[error("store in {}: {source}", data.display())]
    Store {
        /// The data folder.
        data: PathBuf,
        /// What the store said.
        #[source]
        source: store::Error,
    },
    /// The records refused.
    #[error("records in {}: {source}", data.display())]
    Records {
        /// The data folder.
        data: PathBuf,
        /// What they said.
        #[source]
        source: store::records::RecordError,
    },
    /// The packages cannot be reached.
    #[error("packages in {}: {source}", data.display())]
    Blobs {
        /// The data folder.
        data: PathBuf,
        /// What was met.
        #[source]
        source: store::records::BlobError,
    },
    /// A stored value is of another version.
    #[error(transparent)]
    Format(#[from] model::FoldError),
    /// The store was written by a newer version.
    #[error(
        "store in {}: it has layout version {found}, this binary knows {known}: start the newer springtide; nothing was changed",
        data.display()
    )]
    Layout {
        /// The data folder.
        data: PathBuf,
        /// Found in the store.
        found: String,
        /// Known here.
        known: u32,
    },
    /// A file or a socket failed.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {source}; choose a free address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// An address beyond loopback.
    #[error(
        "{address} is reachable from other machines and {what} has no TLS{way}: use a loopback address (127.0.0.0/8 or [::1])"
    )]
    Beyond {
        /// The address.
        address: SocketAddr,
        /// Which listener.
        what: &'static str,
        /// How it would get it.
        way: &'static str,
    },
    /// Certificate or key of the HTTP API cannot be used.
    #[error("TLS of the HTTP API: {0}")]
    Tls(#[from] tls::Error),
    /// The path of the socket does not fit into a socket address.
    #[error("socket path {} has {bytes} bytes; Linux allows {SOCKET_PATH_BYTES_MAX}: choose a shorter --socket", path.display())]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// Another server answers on the socket.
    #[error("{} is in use by another springtide process: stop that one, or choose another socket", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// The authorities of remote write cannot be used.
    #[error("TLS of remote write: {0}")]
    Trust(#[source] tls::Error),
    /// Receivers of remote write that cannot all be served.
    #[error("remote write: {0}")]
    Receivers(String),
    /// The control loop ended.
    #[error("the control loop stopped: {0}")]
    Stopped(String),
}

/// Longest path of a Unix socket (`sun_path`, less its end mark).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

impl Config {
    /// Refuses what cannot be served safely.
    pub fn check(&self) -> Result<(), Error> {
        let clear = self.http.filter(|_| self.http_tls.is_none());
        let listeners = [
            (clear, "the HTTP API", " (--http-tls-cert and --http-tls-key give it)"),
            (Some(self.fleet), "the fleet listener", " yet"),
        ];
        for (address, what, way) in listeners {
            if let Some(address) = address.filter(|at| !at.ip().is_loopback()) {
                return Err(Error::Beyond { address, what, way });
            }
        }
        if self.remote_write.len() > RECEIVERS_MAX {
            let given = self.remote_write.len();
            return Err(Error::Receivers(format!("{given} receivers are given, and {RECEIVERS_MAX} are the most")));
        }
        for (at, receiver) in self.remote_write.iter().enumerate() {
            if self.remote_write[..at].contains(receiver) {
                return Err(Error::Receivers(format!("{} is given twice: leave one out", receiver.shown())));
            }
        }
        let bytes = self.socket.as_os_str().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            return Err(Error::SocketPath { path: self.socket.clone(), bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            data: "/tmp/d".into(),
            socket: "/tmp/d/s".into(),
            http: None,
            http_tls: None,
            fleet: ([127, 0, 0, 1], 0).into(),
            mesh: None,
            remote_write: Vec::new(),
            remote_write_ca: None,
            detect_warm_s: None,
        }
    }

    #[test]
    fn addresses_beyond_loopback_are_refused() {
        assert!(config().check().is_ok());
        let open = Config { fleet: ([0, 0, 0, 0], 7_000).into(), ..config() };
        let why = open.check().expect_err("all interfaces").to_string();
        assert!(why.contains("0.0.0.0:7000") && why.contains("TLS") && why.contains("loopback"), "{why}");
        let open = Config { http: Some(([10, 0, 0, 1], 80).into()), ..config() };
        let why = open.check().expect_err("a private address").to_string();
        assert!(why.contains("HTTP API") && why.contains("--http-tls-cert"), "{why}");
        let files = tls::Files { cert: "c.pem".into(), key: "k.pem".into() };
        assert!(Config { http_tls: Some(files), ..open }.check().is_ok(), "with TLS it may be reached");
    }

    #[test]
    fn receivers_given_twice_or_in_masses_are_refused() {
        let to = |n: usize| format!("http://127.0.0.1:{n}/api/v1/write").parse::<Receiver>().expect("a receiver");
        let why = |remote_write| Config { remote_write, ..config() }.check().expect_err("refused").to_string();
        assert!(why(vec![to(1), to(2), to(1)]).contains("127.0.0.1:1/api/v1/write is given twice"));
        assert!(why((1..20).map(to).collect()).contains("8 are the most"));
    }

    #[test]
    fn a_socket_path_that_cannot_be_bound_is_refused_with_the_limit() {
        let long = Config { socket: format!("/tmp/{}", "x".repeat(110)).into(), ..config() };
        assert!(long.check().expect_err("too long").to_string().contains("107"));
    }
}
