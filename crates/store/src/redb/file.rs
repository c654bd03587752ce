//! The file of the redb driver: what is in it, how it is opened, read and written.
//!
//! Only the current keys and the leases are on disk. The history that watchers resume from is not: after a restart a
//! watch from before answers *compacted*, and its owner ranges again.

use crate::crc::crc32;
use crate::kv::{Error, KeyValue, LeaseId, Revision};
use crate::state::Effect;
use ::redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use ::redb::{StorageError, TableDefinition};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// Version of the layout below.
pub const FORMAT: u64 = 1;
/// Version of redb's own pages beneath it.
const PAGES_FORMAT: u64 = 3;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");
const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("leases");

/// Bytes before the value, little-endian: create revision, last revision, lease (0: none), CRC-32 of key and value.
const HEAD_BYTES: usize = 28;

/// What a file holds.
pub(crate) struct Content {
    pub(crate) revision: Revision,
    pub(crate) lease_last: LeaseId,
    pub(crate) keys: Vec<KeyValue>,
    pub(crate) leases: Vec<(LeaseId, u64)>,
}

/// An open file. The lock is beside it and outlives a reopening after a failed write.
pub(crate) struct StoreFile {
    path: PathBuf,
    database: Option<Database>,
    _lock: File,
}

fn io(error: impl Into<::redb::Error>) -> Error {
    Error::Io(error.into().to_string())
}

fn lock(path: &Path) -> Result<File, Error> {
    let beside = path.with_added_extension("lock");
    let failed = |error: std::io::Error| Error::Io(format!("{}: {error}", beside.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&beside).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: path.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

impl StoreFile {
    /// Opens or creates the file, and takes it for this process.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = |error: std::io::Error| Error::Io(format!("{}: {error}", folder.display()));
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = lock(path)?;
        let mut file = Self { path: path.to_owned(), database: None, _lock: lock };
        if !path.try_exists().map_err(failed)? {
            file.make()?;
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        file.reopen()?;
        Ok(file)
    }

    /// Makes an empty store under another name and renames it into place: whatever stands under the store's own name was
    /// whole once, so that an empty file there is damage, never a new store.
    fn make(&self) -> Result<(), Error> {
        let new = self.path.with_added_extension("new");
        let failed = |error: std::io::Error| Error::Io(format!("{}: {error}", new.display()));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let database = Database::create(&new).map_err(|error| self.explain(error))?;
        self.check_format(&database)?;
        drop(database);
        File::open(&new).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&new, &self.path).map_err(failed)
    }

    fn damaged(&self, why: impl std::fmt::Display) -> Error {
        Error::Damaged { path: self.path.display().to_string(), why: why.to_string() }
    }

    /// Opens the file again, as redb wants after a failed write.
    pub(crate) fn reopen(&mut self) -> Result<(), Error> {
        self.database = None;
        if fs::metadata(&self.path).is_ok_and(|found| found.len() == 0) {
            return Err(self.damaged("it is empty"));
        }
        // redb asserts on some damaged pages; this is the one place where damage is met.
        let opened = std::panic::catch_unwind(|| Database::open(&self.path));
        let opened = opened.map_err(|_| self.damaged("its pages contradict one another"))?;
        let database = opened.map_err(|error| self.explain(error))?;
        self.check_format(&database)?;
        self.database = Some(database);
        Ok(())
    }

    fn explain(&self, error: DatabaseError) -> Error {
        match error {
            DatabaseError::Storage(StorageError::Corrupted(why)) => match newer_pages(&why) {
                Some(found) => Error::Newer { path: self.path.display().to_string(), found, known: PAGES_FORMAT },
                None => self.damaged(why),
            },
            DatabaseError::DatabaseAlreadyOpen => Error::InUse { path: self.path.display().to_string() },
            DatabaseError::Storage(StorageError::Io(error)) if error.kind() != std::io::ErrorKind::InvalidData => {
                Error::Io(format!("{}: {error}", self.path.display()))
            }
            other => self.damaged(other),
        }
    }

    /// Writes the format into a new file, and refuses a file of another one.
    fn check_format(&self, database: &Database) -> Result<(), Error> {
        let txn = database.begin_write().map_err(io)?;
        let found = {
            let mut meta = txn.open_table(META).map_err(|error| self.damaged(error))?;
            let found = meta.get("format").map_err(io)?.map(|found| found.value());
            if found.is_none() {
                let empty = meta.is_empty().map_err(io)?;
                if !empty {
                    return Err(self.damaged("it has no format version"));
                }
                meta.insert("format", FORMAT).map_err(io)?;
                txn.open_table(KEYS).map_err(io)?;
                txn.open_table(LEASES).map_err(io)?;
            }
            found
        };
        match found {
            None => txn.commit().map_err(io),
            Some(FORMAT) => txn.abort().map_err(io),
            Some(found) if found > FORMAT => {
                Err(Error::Newer { path: self.path.display().to_string(), found, known: FORMAT })
            }
            Some(found) => Err(self.damaged(format!("format {found} was never written by springtide"))),
        }
    }

    fn database(&self) -> Result<&Database, Error> {
        self.database.as_ref().ok_or_else(|| Error::Io(format!("{} is not open", self.path.display())))
    }

    /// The revision on disk.
    pub(crate) fn revision(&self) -> Result<Revision, Error> {
        let txn = self.database()?.begin_read().map_err(io)?;
        let meta = txn.open_table(META).map_err(io)?;
        Ok(meta.get("revision").map_err(io)?.map_or(0, |found| found.value()))
    }

    /// Reads everything.
    pub(crate) fn read(&self) -> Result<Content, Error> {
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.read_tables()));
        read.map_err(|_| self.damaged("its pages contradict one another"))?
    }

    fn read_tables(&self) -> Result<Content, Error> {
        let txn = self.database()?.begin_read().map_err(io)?;
        let meta = txn.open_table(META).map_err(|error| self.damaged(error))?;
        let number = |name| -> Result<u64, Error> { Ok(meta.get(name).map_err(io)?.map_or(0, |found| found.value())) };
        let mut content = Content {
            revision: number("revision")?,
            lease_last: number("lease_last")?,
            keys: Vec::new(),
            leases: Vec::new(),
        };
        for item in txn.open_table(KEYS).map_err(|error| self.damaged(error))?.iter().map_err(io)? {
            let (key, value) = item.map_err(|error| self.damaged(error))?;
            content.keys.push(self.decode(key.value(), value.value(), content.revision)?);
        }
        let (found, written) = (content.keys.len() as u64, number("keys")?);
        if found != written {
            return Err(self.damaged(format!("{found} keys are there, {written} were written")));
        }
        for item in txn.open_table(LEASES).map_err(|error| self.damaged(error))?.iter().map_err(io)? {
            let (id, ttl_ms) = item.map_err(|error| self.damaged(error))?;
            content.leases.push((id.value(), ttl_ms.value()));
        }
        Ok(content)
    }

    fn decode(&self, key: &str, bytes: &[u8], newest: Revision) -> Result<KeyValue, Error> {
        let (head, value) = bytes
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or_else(|| self.damaged(format!("the value of {key} is cut short")))?;
        let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let (create_revision, mod_revision, lease) = (number(0), number(8), number(16));
        if create_revision > mod_revision || mod_revision > newest {
            return Err(self.damaged(format!("{key} was changed at revision {mod_revision}, past the newest {newest}")));
        }
        if head[24..] != crc_of(key, value) {
            return Err(self.damaged(format!("the value of {key} is not what was written")));
        }
        let lease = (lease != 0).then_some(lease);
        Ok(KeyValue { key: key.into(), value: value.into(), create_revision, mod_revision, lease })
    }

    /// Makes an effect durable, wholly or not at all.
    pub(crate) fn write(&self, effect: &Effect) -> Result<(), Error> {
        self.write_tables(effect).map_err(|error| match error {
            Error::Io(why) => Error::Io(format!("{}: {why}", self.path.display())),
            other => other,
        })
    }

    fn write_tables(&self, effect: &Effect) -> Result<(), Error> {
        let mut txn = self.database()?.begin_write().map_err(io)?;
        txn.set_durability(Durability::Immediate).map_err(io)?;
        {
            let mut meta = txn.open_table(META).map_err(io)?;
            meta.insert("revision", effect.revision).map_err(io)?;
            meta.insert("lease_last", effect.lease_last).map_err(io)?;
            let mut keys = txn.open_table(KEYS).map_err(io)?;
            for (key, item) in &effect.keys {
                match item {
                    Some(item) => keys.insert(key.as_ref(), encode(item).as_slice()).map_err(io)?,
                    None => keys.remove(key.as_ref()).map_err(io)?,
                };
            }
            meta.insert("keys", keys.len().map_err(io)?).map_err(io)?;
            let mut leases = txn.open_table(LEASES).map_err(io)?;
            for (id, granted) in &effect.leases {
                match granted {
                    Some(ttl_ms) => leases.insert(id, ttl_ms).map_err(io)?,
                    None => leases.remove(id).map_err(io)?,
                };
            }
        }
        txn.commit().map_err(io)
    }
}

/// The version of the pages, when redb says that it knows only older ones.
fn newer_pages(why: &str) -> Option<u64> {
    let (_, found) = why.strip_prefix("Expected file format version <= ")?.split_once("found ")?;
    found.trim().parse().ok().filter(|found| *found > PAGES_FORMAT)
}

fn crc_of(key: &str, value: &[u8]) -> [u8; 4] {
    (crc32(key.as_bytes()) ^ crc32(value).rotate_left(1)).to_le_bytes()
}

fn encode(item: &KeyValue) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + item.value.len());
    bytes.extend(item.create_revision.to_le_bytes());
    bytes.extend(item.mod_revision.to_le_bytes());
    bytes.extend(item.lease.unwrap_or(0).to_le_bytes());
    bytes.extend(crc_of(&item.key, &item.value));
    bytes.extend_from_slice(&item.value);
    bytes
}
