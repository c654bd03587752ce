//! Reading block files: the front when it is opened, the index when it is asked for, chunks one by one.

use super::super::bits::Damaged;
use super::super::chunk::{Chunk, Data};
use super::super::hash::checksum;
use super::index::Place;
use super::{BlockIndex, CHECK_BYTES, FRONT_BYTES, Fault, HEADER_BYTES_MAX, Header, INDEX_BYTES_MAX, MAGIC, VERSION};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A block on disk.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    /// Its bytes on disk.
    pub(crate) bytes: u64,
    /// While true, all it has is in memory too, and it is not read.
    pub(crate) in_memory: AtomicBool,
    file: File,
    index_at: u64,
    pub(super) chunks_at: u64,
    told: AtomicBool,
}

impl Block {
    /// Opens a file and reads its header.
    pub(crate) fn open(path: &Path, in_memory: bool) -> Result<Self, Fault> {
        let fault = |offset: u64, what: String| Fault { path: path.to_owned(), offset, what };
        let file = File::open(path).map_err(|error| fault(0, format!("cannot be opened: {error}")))?;
        let bytes = file.metadata().map_err(|error| fault(0, format!("cannot be looked at: {error}")))?.len();
        let mut front = [0_u8; FRONT_BYTES];
        read_at(&file, path, &mut front, 0)?;
        let word = |at: usize| u32::from_le_bytes(front[at..at + 4].try_into().expect("four bytes"));
        if front[..8] != *MAGIC {
            return Err(fault(0, "this is no block of Springtide's".to_owned()));
        }
        if word(8) != VERSION {
            return Err(fault(8, format!("its format has version {}, this binary knows {VERSION}", word(8))));
        }
        let length = word(12);
        if length > HEADER_BYTES_MAX {
            return Err(fault(12, format!("a header of {length} bytes cannot be")));
        }
        let head = read_checked(&file, path, FRONT_BYTES as u64, u64::from(length))?;
        let header = Header::read(&head).map_err(|error| fault(FRONT_BYTES as u64, format!("the header: {error}")))?;
        if header.index_bytes.max(header.index_plain_bytes) > INDEX_BYTES_MAX {
            return Err(fault(FRONT_BYTES as u64, format!("an index of {} bytes cannot be", header.index_bytes)));
        }
        let index_at = (FRONT_BYTES + head.len() + CHECK_BYTES) as u64;
        let chunks_at = index_at + header.index_bytes + CHECK_BYTES as u64;
        let block = Self {
            path: path.to_owned(),
            header,
            bytes,
            in_memory: AtomicBool::new(in_memory),
            file,
            index_at,
            chunks_at,
            told: AtomicBool::new(false),
        };
        let whole = chunks_at.saturating_add(header.chunk_bytes);
        if bytes < whole {
            block.tell(&fault(bytes, format!("the file ends here, it had {whole} bytes: what lies before is served")));
        }
        Ok(block)
    }

    /// Says what is wrong with this file, once.
    pub(crate) fn tell(&self, fault: &Fault) {
        if !self.told.swap(true, Relaxed) {
            tracing::error!(%fault, "a block is damaged: its other chunks are served");
        }
    }

    /// Whether something was found to be wrong with it.
    pub(crate) fn is_damaged(&self) -> bool {
        self.told.load(Relaxed)
    }

    pub(crate) fn read_index(&self) -> Result<BlockIndex, Fault> {
        let fault = |what: String| Fault { path: self.path.clone(), offset: self.index_at, what };
        let packed = read_checked(&self.file, &self.path, self.index_at, self.header.index_bytes)?;
        let plain = zstd::bulk::decompress(&packed, self.header.index_plain_bytes as usize);
        let plain = plain.map_err(|error| fault(format!("the index cannot be uncompressed: {error}")))?;
        BlockIndex::read(&plain).map_err(|error| fault(format!("the index: {error}")))
    }

    /// Reads a chunk.
    pub(crate) fn chunk(&self, index: &BlockIndex, place: &Place) -> Result<Chunk, Fault> {
        let offset = self.chunks_at.saturating_add(place.offset);
        let body = read_checked(&self.file, &self.path, offset, u64::from(place.bytes))?;
        let data = match place.times {
            None => Data::Packs(body.into()),
            Some(times) => Data::Coded { times: index.times(times).clone(), values: body.into() },
        };
        let Place { first_ms, last_ms, points, .. } = *place;
        Ok(Chunk { first_ms, last_ms, points, block: 0, data })
    }

    /// What is wrong at a chunk whose checksum is right.
    pub(crate) fn damaged_at(&self, place: &Place, error: Damaged) -> Fault {
        Fault { path: self.path.clone(), offset: self.chunks_at + place.offset, what: error.to_string() }
    }
}

fn read_at(file: &File, path: &Path, to: &mut [u8], offset: u64) -> Result<(), Fault> {
    file.read_exact_at(to, offset).map_err(|error| {
        let what = match error.kind() {
            std::io::ErrorKind::UnexpectedEof => format!("{} bytes should be here, the file ends before", to.len()),
            _ => format!("cannot be read: {error}"),
        };
        Fault { path: path.to_owned(), offset, what }
    })
}

/// Reads bytes and the checksum behind them. The length is believed only as far as the file goes.
fn read_checked(file: &File, path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, Fault> {
    let fault = |what: String| Fault { path: path.to_owned(), offset, what };
    let there = file.metadata().map_err(|error| fault(format!("cannot be looked at: {error}")))?.len();
    let needed = length.saturating_add(CHECK_BYTES as u64);
    if there.saturating_sub(offset) < needed {
        return Err(fault(format!("{needed} bytes should be here, the file ends before")));
    }
    let mut bytes = vec![0_u8; needed as usize];
    read_at(file, path, &mut bytes, offset)?;
    let check = bytes.split_off(length as usize);
    if checksum(&bytes).to_le_bytes() != check[..] {
        return Err(fault("the checksum does not fit".to_owned()));
    }
    Ok(bytes)
}
