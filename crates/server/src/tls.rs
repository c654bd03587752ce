//! TLS: of the HTTP API, certificate and key from PEM files, HTTP/2 and HTTP/1.1 by ALPN; towards receivers of remote write, whom to trust.
//!
//! Without it the API stays on loopback. Deliberately absent: client certificates (people have the token), and renewal
//! while it runs (a restart touches no instance).

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
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

/// Where systems keep the authorities that they trust: Debian and Alpine, Fedora, openSUSE.
const TRUSTED: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

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
    /// No certificate in it can be trusted.
    #[error("{0}: no certificate of an authority in it; expected a PEM file with CERTIFICATE sections")]
    Nobody(PathBuf),
    /// The system has no such file.
    #[error("this system names no authorities that it trusts ({}): name them with --remote-write-ca FILE", TRUSTED.join(", "))]
    NoSystem,
    /// The versions of TLS do not go with the cryptography.
    #[error("{0}")]
    Versions(#[source] rustls::Error),
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

fn unreadable(path: &Path, expected: &'static str) -> impl FnOnce(pem::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Pem { path, expected, source }
}

fn certs(path: &Path, expected: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    all.map_err(unreadable(path, expected))
}

/// Reads both and checks that they go together.
pub fn load(files: &Files) -> Result<Arc<ServerConfig>, Error> {
    let certs = certs(&files.cert, "CERTIFICATE sections, leaf first")?;
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

/// A client that trusts the authorities of a PEM file, or those that the system trusts. HTTP/1.1.
pub fn client(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    let system = || TRUSTED.iter().map(Path::new).find(|path| path.exists());
    let path = authorities.or_else(system).ok_or(Error::NoSystem)?;
    let mut roots = RootCertStore::empty();
    // A system's list may have some that rustls does not take; the others are as good.
    let (taken, _) = roots.add_parsable_certificates(certs(path, "CERTIFICATE sections")?);
    if taken == 0 {
        return Err(Error::Nobody(path.to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(Error::Versions)?.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}
