//! The last good state on disk: a proxy that restarts without a server in reach serves what it served before.
//!
//! A line with the format's version, then one length-delimited xDS answer for each type. Leases are not taken up again:
//! their lives were measured by a clock that is gone.

use crate::xds::TYPES;
use crate::xds::state::State;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use prost::Message;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// First line of the file.
const HEADER: &[u8] = b"springtide proxy state 1\n";

/// Why a saved state is not used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read or written.
    #[error("proxy state {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is of another version, or not a state at all.
    #[error("proxy state {path}: does not begin with {expected:?}: written by a newer version, or no state file")]
    Version {
        /// The file.
        path: PathBuf,
        /// What it should begin with.
        expected: String,
    },
    /// It is damaged.
    #[error("proxy state {path}: damaged: {source}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where reading failed.
        source: prost::DecodeError,
    },
}

/// The bytes to save.
pub fn encode(state: &State) -> Vec<u8> {
    let mut bytes = HEADER.to_vec();
    for type_url in TYPES {
        let answer = DiscoveryResponse {
            type_url: (*type_url).to_owned(),
            resources: state.raw(type_url),
            ..Default::default()
        };
        bytes.extend(answer.encode_length_delimited_to_vec());
    }
    bytes
}

/// Replaces the file atomically.
pub fn save(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // The process that this one replaces may be saving too.
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// Reads the file; `None` when there is none.
pub fn load(path: &Path) -> Result<Option<State>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Io { path: path.to_owned(), source }),
    };
    let Some(mut rest) = bytes.strip_prefix(HEADER) else {
        let expected = String::from_utf8_lossy(HEADER).trim_end().to_owned();
        return Err(Error::Version { path: path.to_owned(), expected });
    };
    let mut state = State::default();
    while !rest.is_empty() {
        let answer = DiscoveryResponse::decode_length_delimited(&mut rest)
            .map_err(|source| Error::Damaged { path: path.to_owned(), source })?;
        let verdict = state.accept(&answer.type_url, &answer.resources, 0);
        for refused in verdict.refused {
            tracing::warn!(%refused, "saved resource not used");
        }
    }
    state.end_leases();
    Ok(Some(state))
}
