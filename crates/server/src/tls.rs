//! TLS of the HTTP API: certificate and key from PEM files, HTTP/2 and HTTP/1.1 by ALPN.
//!
//! Without it the API stays on loopback. Deliberately absent: client certificates (people have the token), and renewal
//! while it runs (a restart touches no instance).

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where certificate and key are.
#[derive(Debug, Clone)]
pub struct Files {
    /// PEM file of the chain, leaf first.
    pub cert: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
}

/// Why they cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read, or holds no such thing.
    #[error("{path}: {source}; expected a PEM file with {expected}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What was wrong.
        source: pem::Error,
    },
    /// They do not go together, or the key is of an unknown kind.
    #[error("certificate {cert} and key {key}: {source}")]
    Pair {
        /// The chain's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What was wrong.
        source: rustls::Error,
    },
}

/// Reads both and checks that they go together.
pub fn load(files: &Files) -> Result<Arc<ServerConfig>, Error> {
    let unreadable = |path: &Path, expected| {
        let path = path.to_owned();
        move |source| Error::Pem { path, expected, source }
    };
    let certs = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable(&files.cert, "CERTIFICATE sections, leaf first"))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(unreadable(&files.key, "a PRIVATE KEY section"))?;
    let pair = |source| Error::Pair { cert: files.cert.clone(), key: files.key.clone(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
