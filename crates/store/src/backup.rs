//! A backup: one file with a store at one revision, the records up to then, the blobs it needs and a few small files.
//!
//! It is a tar in one zstd stream, so that `tar --zstd -t` shows what is in it: `about.json` first, then `store/N`, `records/KIND/N`,
//! `blobs/sha256:…` and `files/PATH`, and last `checksums.json`, which has the length and SHA-256 of every other entry. What is
//! read back is checked against it, and against `about.json`, before anything of it is used.
//! Absent on purpose: leased keys (a lease does not outlive its store), and any choice of what belongs into a backup.

mod read;
#[cfg(test)]
mod tests;

pub use read::{unpack, verify};

use crate::kv::{self, KeyValue, Range, Revision};
use crate::records::{BlobError, Blobs, Kind, Record, RecordError, Records};
use model::{Digest, UnixMs};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Version of the file's layout.
pub const FORMAT: u32 = 1;
/// Bytes of keys or records in one entry (a larger one is an entry of its own).
const ENTRY_BYTES: usize = 8 << 20;
/// Largest entry that is read into memory; the largest record and its frame fit.
const ENTRY_BYTES_MAX: u64 = 80 << 20;
/// Records read at a time.
const RECORDS_READ: usize = 256;
/// Level of compression: most of the file is JSON.
const ZSTD_LEVEL: i32 = 3;

const ABOUT: &str = "about.json";
const CHECKSUMS: &str = "checksums.json";

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Version of the file's layout.
    pub format: u32,
    /// Version of the springtide that made it.
    pub made_by: String,
    /// When.
    pub made_at: UnixMs,
    /// Version of the layout of keys and values.
    pub layout: u32,
    /// Revision of the store.
    pub revision: Revision,
    /// Keys of the store.
    pub keys: u64,
    /// Records, by kind.
    pub records: BTreeMap<String, u64>,
    /// Packages.
    pub blobs: Vec<Digest>,
    /// Other files, by their path in the data folder.
    pub files: Vec<String>,
    /// The time of the series among them; absent when there are none, and in backups of versions that did not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<Span>,
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Its first moment.
    pub from: UnixMs,
    /// Its last.
    pub to: UnixMs,
}

/// What goes into a backup.
pub struct Source<'a> {
    /// Version of this springtide.
    pub made_by: String,
    /// Now.
    pub made_at: UnixMs,
    /// Version of the layout of keys and values.
    pub layout: u32,
    /// All keys, at one revision.
    pub range: Range,
    /// The records …
    pub records: &'a Records,
    /// … up to these sequences, which were the newest at that revision.
    pub through: BTreeMap<Kind, u64>,
    /// The blobs …
    pub blobs: &'a Blobs,
    /// … of which these are needed.
    pub digests: Vec<Digest>,
    /// Other files: path in the data folder, and the file, opened so that nobody removes it meanwhile.
    pub files: Vec<(String, File)>,
    /// The time of the series among the files.
    pub series: Option<Span>,
}

/// Why a backup cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be what was written.
    #[error("{path} is no whole backup: {why}; nothing was changed: use another backup")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// It was made by a newer version.
    #[error("{path} is a backup of format {found}, this binary knows up to {known}: use the newer springtide")]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// A package that it needs is not here.
    #[error(
        "package {0} is wanted by the store but is not among the blobs: upload it with `springtide apply`, then try again"
    )]
    NoBlob(Digest),
    /// The file or the disk failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] kv::Error),
    /// The records refused.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// The blobs refused.
    #[error(transparent)]
    Blobs(#[from] BlobError),
}

impl Error {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.display().to_string(), source }
    }
}

/// Length and SHA-256 of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Checksum {
    bytes: u64,
    sha256: Digest,
}

/// Passes bytes on and takes their digest.
struct Hashed<R> {
    inner: R,
    hash: sha2::Sha256,
    bytes: u64,
}

impl<R> Hashed<R> {
    fn new(inner: R) -> Self {
        Self { inner, hash: sha2::Sha256::new(), bytes: 0 }
    }

    fn checksum(self) -> Checksum {
        Checksum { bytes: self.bytes, sha256: Digest::from_sha256(&self.hash.finalize()) }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// Writes a backup. Blocks: it reads all that belongs to it.
///
/// # Errors
/// What cannot be read or written; what was written until then is no backup.
pub fn write(source: Source<'_>, to: impl Write) -> Result<About, Error> {
    let Source { made_by, made_at, layout, range, records, through, blobs, digests, files, series } = source;
    let keys: Vec<&KeyValue> = range.items.iter().filter(|item| item.lease.is_none()).collect();
    let about = About {
        format: FORMAT,
        made_by,
        made_at,
        layout,
        revision: range.revision,
        keys: keys.len() as u64,
        records: through.iter().map(|(kind, last)| (kind.as_str().to_owned(), *last)).collect(),
        blobs: digests,
        files: files.iter().map(|(name, _)| name.clone()).collect(),
        series,
    };
    let stream = zstd::Encoder::new(to, ZSTD_LEVEL).and_then(|mut stream| {
        stream.include_checksum(true)?;
        Ok(stream)
    });
    let stream = stream.map_err(Error::io(Path::new("the backup")))?;
    let mut entries = Entries { tar: tar::Builder::new(stream), sums: BTreeMap::new(), made_at };
    entries.put(ABOUT, &json(&about))?;
    entries.keys(&keys)?;
    for (kind, last) in through {
        entries.records(records, kind, last)?;
    }
    for digest in &about.blobs {
        let path = blobs.path_of(digest).ok_or_else(|| Error::NoBlob(digest.clone()))?;
        let blob = File::open(&path).map_err(Error::io(&path))?;
        entries.file(&format!("blobs/{digest}"), &blob)?;
    }
    for (name, file) in &files {
        entries.file(&format!("files/{name}"), file)?;
    }
    entries.finish()?;
    Ok(about)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("plain data with text as keys")
}

/// The tar, and what is in it so far.
struct Entries<W: Write> {
    tar: tar::Builder<W>,
    sums: BTreeMap<String, Checksum>,
    made_at: UnixMs,
}

impl<W: Write> Entries<zstd::Encoder<'_, W>> {
    fn append(&mut self, name: &str, bytes: u64, from: impl Read) -> Result<(), Error> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o600);
        header.set_mtime(self.made_at / 1_000);
        let mut hashed = Hashed::new(from.take(bytes));
        let put = self.tar.append_data(&mut header, name, &mut hashed);
        put.map_err(Error::io(Path::new(name)))?;
        let sum = hashed.checksum();
        if sum.bytes != bytes {
            let source = io::Error::other("it became shorter while it was read");
            return Err(Error::Io { path: name.to_owned(), source });
        }
        self.sums.insert(name.to_owned(), sum);
        Ok(())
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.append(name, bytes.len() as u64, bytes)
    }

    fn file(&mut self, name: &str, file: &File) -> Result<(), Error> {
        let bytes = file.metadata().map_err(Error::io(Path::new(name)))?.len();
        self.append(name, bytes, file)
    }

    fn keys(&mut self, keys: &[&KeyValue]) -> Result<(), Error> {
        let mut chunk = Vec::new();
        let mut number = 0;
        for (at, item) in keys.iter().enumerate() {
            push(&mut chunk, item.key.as_bytes());
            chunk.extend(item.create_revision.to_le_bytes());
            chunk.extend(item.mod_revision.to_le_bytes());
            push(&mut chunk, &item.value);
            if chunk.len() >= ENTRY_BYTES || at + 1 == keys.len() {
                self.put(&format!("store/{number:06}"), &chunk)?;
                chunk.clear();
                number += 1;
            }
        }
        Ok(())
    }

    fn records(&mut self, records: &Records, kind: Kind, last: u64) -> Result<(), Error> {
        let mut chunk = Vec::new();
        let (mut after, mut number) = (0, 0);
        while after < last {
            let limit = RECORDS_READ.min((last - after) as usize);
            for Record { sequence, id, bytes } in records.list(kind, after, limit)? {
                chunk.extend(sequence.to_le_bytes());
                push(&mut chunk, id.as_bytes());
                push(&mut chunk, &bytes);
                after = sequence;
                if chunk.len() >= ENTRY_BYTES || after == last {
                    self.put(&format!("records/{}/{number:06}", kind.as_str()), &chunk)?;
                    chunk.clear();
                    number += 1;
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Error> {
        let sums = json(&self.sums);
        self.put(CHECKSUMS, &sums)?;
        let end = |error| Error::io(Path::new("the backup"))(error);
        let mut to = self.tar.into_inner().and_then(zstd::Encoder::finish).map_err(end)?;
        to.flush().map_err(end)
    }
}

/// Length (u32, little-endian) and bytes.
fn push(to: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("keys, values and records are far smaller");
    to.extend(length.to_le_bytes());
    to.extend_from_slice(part);
}
