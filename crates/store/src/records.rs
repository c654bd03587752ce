//! What happened and must be kept: append logs of records, and blobs by digest, in a folder beside the store.
//!
//! All calls are blocking standard I/O and safe from any thread; async callers use `spawn_blocking`. Absent on purpose:
//! deletion, and any index beyond id and sequence (which are in memory, some hundred bytes a record).

mod blobs;
mod log;
#[cfg(test)]
mod tests;

pub use blobs::{BlobError, BlobWriter, Blobs};
pub use log::{FRAME_BYTES_MAX, SEGMENT_BYTES_MAX};

use log::Log;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a record is about; each kind has a log of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Who changed what, when.
    Audit,
    /// A measured curve.
    Curve,
    /// A health report.
    Report,
    /// An operation that ended.
    Operation,
    /// What a config digest stands for: instances keep the config they were placed with.
    Config,
    /// A change of an incident.
    Incident,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] = [Self::Audit, Self::Curve, Self::Report, Self::Operation, Self::Config, Self::Incident];

    /// Its folder.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Curve => "curve",
            Self::Report => "report",
            Self::Operation => "operation",
            Self::Config => "config",
            Self::Incident => "incident",
        }
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Position in the log of its kind, from 1.
    pub sequence: u64,
    /// Its id, unique within its kind.
    pub id: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Why the records refused.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A record too large, or an id too long.
    #[error(
        "record {id:?} of {bytes} bytes is refused: an id has 1 to 1024 bytes, id and bytes together at most {FRAME_BYTES_MAX}"
    )]
    TooLarge {
        /// The id.
        id: String,
        /// Bytes of the record.
        bytes: usize,
    },
    /// Another process has the folder.
    #[error("{path} is in use by another springtide process: stop that one, or choose another --data folder")]
    InUse {
        /// The folder.
        path: String,
    },
    /// A segment of a newer version.
    #[error("{path} has format {found}, this binary knows up to {known}: use the newer springtide")]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        found: u64,
        /// The newest known here.
        known: u64,
    },
    /// A segment whose content cannot be right.
    #[error("{path} is damaged at byte {at}: {why}; restore it from a backup")]
    Damaged {
        /// The file.
        path: String,
        /// Where.
        at: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The disk failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl RecordError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.display().to_string(), source }
    }
}

/// The append logs of a folder, one for each [`Kind`].
pub struct Records {
    logs: [Mutex<Log>; 6],
    _lock: std::fs::File,
}

impl Records {
    /// Opens the logs in `folder`, or creates them. A record that a crash cut short (so that nobody was told it is
    /// kept) is moved out of the log, with a warning.
    pub fn open(folder: &Path) -> Result<Self, RecordError> {
        std::fs::create_dir_all(folder).map_err(RecordError::io(folder))?;
        let lock = log::lock(folder)?;
        let open = |kind: Kind| Log::open(&folder.join(kind.as_str())).map(Mutex::new);
        let [audit, curve, report, operation, config, incident] = Kind::ALL.map(open);
        Ok(Self { logs: [audit?, curve?, report?, operation?, config?, incident?], _lock: lock })
    }

    fn log(&self, kind: Kind) -> MutexGuard<'_, Log> {
        // The log repairs its tail before it writes, so a panicking holder leaves nothing half-done behind.
        self.logs[kind as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a record and gives its sequence; durable when it returns. An id that exists keeps its first bytes, and
    /// its first sequence is given back.
    pub fn append(&self, kind: Kind, id: &str, bytes: &[u8]) -> Result<u64, RecordError> {
        let sequences = self.append_all(kind, &[(id, bytes)])?;
        Ok(*sequences.first().expect("one record in, one sequence out"))
    }

    /// Keeps several records with one sync; gives a sequence for each.
    pub fn append_all(&self, kind: Kind, records: &[(&str, &[u8])]) -> Result<Vec<u64>, RecordError> {
        self.log(kind).append(records)
    }

    /// The record with this id.
    pub fn get(&self, kind: Kind, id: &str) -> Result<Option<Record>, RecordError> {
        self.log(kind).get(id)
    }

    /// Up to `limit` records after sequence `after`, in order.
    pub fn list(&self, kind: Kind, after: u64, limit: usize) -> Result<Vec<Record>, RecordError> {
        self.log(kind).list(after, limit)
    }

    /// The ids of all records, in their own order.
    pub fn ids(&self, kind: Kind) -> Vec<String> {
        self.log(kind).ids().map(str::to_owned).collect()
    }

    /// The sequence of the newest record; 0 when there is none.
    pub fn last(&self, kind: Kind) -> u64 {
        self.log(kind).last()
    }
}
