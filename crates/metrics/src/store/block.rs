//! A block file: the chunks of many series, sealed. Also the form of the head's snapshot.
//!
//! ```text
//! magic (8) · version u32 · header length u32 · header · check u32 · index (zstd) · check u32 · chunks, each followed by check u32
//! ```
//!
//! The header says the span of time, counts, and the lengths of what follows; the index says each series' labels and where
//! its chunks lie. Both stand in front, so that a file cut off still gives every chunk before the cut. Each part has its own
//! checksum: a damaged chunk costs that chunk. A file is written beside its place, synced, and renamed; so a file that bears
//! its name was whole once.

mod index;
mod reader;
#[cfg(test)]
mod tests;

pub(crate) use index::BlockIndex;
pub(crate) use reader::Block;

use super::bits::{Damaged, Reader, put_varint};
use super::chunk::{Chunk, Data};
use super::hash::checksum;
use index::Builder;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"sprtide\0";
/// Version of the format; a reader refuses what is newer.
pub const VERSION: u32 = 1;
/// Bytes of a header at most, as far as a reader believes it.
const HEADER_BYTES_MAX: u32 = 256;
/// Bytes of an index at most, as far as a reader believes it.
const INDEX_BYTES_MAX: u64 = 1 << 30;
/// Effort of compressing the index.
const INDEX_LEVEL: i32 = 3;
/// Magic, version, header length.
const FRONT_BYTES: usize = 16;
const CHECK_BYTES: usize = 4;

/// What is wrong with a file, and where.
#[derive(Debug, thiserror::Error)]
#[error("{}, byte {offset}: {what}", path.display())]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What.
    pub what: String,
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    pub(crate) series: u64,
    pub(crate) points: u64,
    /// Bytes of the index, compressed and not.
    index_bytes: u64,
    index_plain_bytes: u64,
    /// Bytes of all chunks, checks included.
    chunk_bytes: u64,
}

impl Header {
    fn write(&self) -> Vec<u8> {
        let mut to = Vec::new();
        let fields = [
            self.first_ms,
            self.last_ms,
            self.series,
            self.points,
            self.index_bytes,
            self.index_plain_bytes,
            self.chunk_bytes,
        ];
        fields.into_iter().for_each(|field| put_varint(&mut to, field));
        to
    }

    fn read(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut from = Reader(bytes);
        Ok(Self {
            first_ms: from.varint()?,
            last_ms: from.varint()?,
            series: from.varint()?,
            points: from.varint()?,
            index_bytes: from.varint()?,
            index_plain_bytes: from.varint()?,
            chunk_bytes: from.varint()?,
        })
    }
}

/// Gathers series and chunks, and writes them as one file.
#[derive(Default)]
pub(crate) struct Draft {
    index: Builder,
    chunks: Vec<Chunk>,
    first_ms: Option<u64>,
    last_ms: u64,
    series: u64,
    points: u64,
}

impl Draft {
    /// Adds a series with its chunks; one without chunks is left out.
    pub(crate) fn add(&mut self, source: &str, labels: &[(Arc<str>, Arc<str>)], chunks: Vec<Chunk>) {
        if chunks.is_empty() {
            return;
        }
        self.index.series(source, labels, &chunks);
        self.series += 1;
        for chunk in chunks {
            self.first_ms = Some(self.first_ms.map_or(chunk.first_ms, |first| first.min(chunk.first_ms)));
            self.last_ms = self.last_ms.max(chunk.last_ms);
            self.points += u64::from(chunk.points);
            self.chunks.push(chunk);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Writes the file, or leaves nothing.
    pub(crate) fn write(self, path: &Path) -> io::Result<Header> {
        let unfinished = path.with_extension("new");
        let written = self.write_to(&unfinished).and_then(|header| {
            std::fs::rename(&unfinished, path)?;
            sync_folder(path)?;
            Ok(header)
        });
        if written.is_err() {
            let _left = std::fs::remove_file(&unfinished);
        }
        written
    }

    fn write_to(self, path: &Path) -> io::Result<Header> {
        let plain = self.index.finish();
        let index = zstd::bulk::compress(&plain, INDEX_LEVEL)?;
        let header = Header {
            first_ms: self.first_ms.unwrap_or(0),
            last_ms: self.last_ms,
            series: self.series,
            points: self.points,
            index_bytes: index.len() as u64,
            index_plain_bytes: plain.len() as u64,
            chunk_bytes: self.chunks.iter().map(|chunk| (body(chunk).len() + CHECK_BYTES) as u64).sum(),
        };
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let head = header.write();
        file.write_all(MAGIC)?;
        file.write_all(&VERSION.to_le_bytes())?;
        file.write_all(&(head.len() as u32).to_le_bytes())?;
        for part in [head.as_slice(), index.as_slice()].into_iter().chain(self.chunks.iter().map(body)) {
            file.write_all(part)?;
            file.write_all(&checksum(part).to_le_bytes())?;
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(header)
    }
}

/// What of a chunk stands in the file's last part; times that are shared stand in the index.
fn body(chunk: &Chunk) -> &[u8] {
    match &chunk.data {
        Data::Packs(packs) => packs,
        Data::Coded { values, .. } => values,
    }
}

/// Makes a rename durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
