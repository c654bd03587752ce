//! One file of the log: records with a length and a checksum each.
//!
//! `magic(8) { length(4, LE) check(8) payload }*`; the check is the first half of the first half of the payload's SHA-256.
//! What a crash left half written fails its check and is cut off; a record is only ever acknowledged after a sync.

use crate::item::{Digest, Item};
use crate::{Error, ITEM_BYTES_MAX};
use prost::Message;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A segment takes no more records at this size.
pub const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Name and version; another version is another last byte.
pub const MAGIC: [u8; 8] = *b"SPLANE\0\x01";
/// Bytes before a payload.
const HEAD_BYTES: usize = 12;
/// Largest payload that is believed: an item and what stands around it.
const PAYLOAD_BYTES_MAX: usize = ITEM_BYTES_MAX + 4_096;

/// Something that happened to an item.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Record {
    #[prost(oneof = "Event", tags = "1, 2, 3, 4")]
    pub event: Option<Event>,
}

/// What happened.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Event {
    /// Accepted, or copied from a segment that is to go.
    #[prost(message, tag = "1")]
    Put(Put),
    /// Delivered.
    #[prost(message, tag = "2")]
    Done(Done),
    /// Refused for good.
    #[prost(message, tag = "3")]
    Died(Died),
    /// Back in the queue.
    #[prost(uint64, tag = "4")]
    Revived(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Put {
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    #[prost(message, required, tag = "2")]
    pub item: Item,
}

/// Carries what is needed to know the item again once its `Put` is gone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Done {
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    #[prost(string, tag = "2")]
    pub id: String,
    #[prost(bytes = "vec", tag = "3")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub request: Vec<u8>,
    #[prost(uint32, tag = "5")]
    pub status: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Died {
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    #[prost(uint32, tag = "2")]
    pub status: u32,
    #[prost(string, tag = "3")]
    pub reason: String,
    #[prost(uint32, tag = "4")]
    pub attempts: u32,
}

impl Done {
    /// The digests, when they are whole.
    pub fn digests(&self) -> Option<(Digest, Digest)> {
        Some((self.key.as_slice().try_into().ok()?, self.request.as_slice().try_into().ok()?))
    }
}

impl From<Event> for Record {
    fn from(event: Event) -> Self {
        Self { event: Some(event) }
    }
}

/// A record's place in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Of its head.
    pub offset: u64,
    /// With its head.
    pub bytes: u64,
}

fn check(payload: &[u8]) -> [u8; 8] {
    let hash: [u8; 32] = Sha256::digest(payload).into();
    hash[..8].try_into().expect("8 of 32 bytes")
}

/// Appends a record to a buffer; its bytes.
pub fn write(record: &Record, to: &mut Vec<u8>) -> u64 {
    let payload = record.encode_to_vec();
    to.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    to.extend_from_slice(&check(&payload));
    to.extend_from_slice(&payload);
    (HEAD_BYTES + payload.len()) as u64
}

/// Decodes the record at the start of `bytes`, and how long it is; none when it is not whole.
fn decode(bytes: &[u8]) -> Option<(Record, u64)> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    if length == 0 || length > PAYLOAD_BYTES_MAX {
        return None;
    }
    let payload = bytes.get(HEAD_BYTES..HEAD_BYTES + length)?;
    if check(payload) != bytes[4..HEAD_BYTES] {
        return None;
    }
    Some((Record::decode(payload).ok()?, (HEAD_BYTES + length) as u64))
}

/// Reads one item back.
pub fn read_item(file: &File, span: Span) -> Result<Item, Error> {
    let mut bytes = vec![0; span.bytes as usize];
    file.read_exact_at(&mut bytes, span.offset).map_err(|e| Error::Damaged(e.to_string()))?;
    match decode(&bytes).and_then(|(record, _)| record.event) {
        Some(Event::Put(put)) => Ok(put.item),
        _ => Err(Error::Damaged(format!("no item at byte {} of its segment", span.offset))),
    }
}

/// What a scan found.
pub struct Scanned {
    /// Bytes up to the end of the last whole record.
    pub good: u64,
    /// Bytes of the file.
    pub total: u64,
}

/// Reads every whole record of a segment in order.
pub fn scan(path: &Path, file: &File, mut each: impl FnMut(Record, Span)) -> Result<Scanned, Error> {
    let total = file.metadata().map_err(disk("cannot read", path))?.len();
    let mut bytes = vec![0; total as usize];
    file.read_exact_at(&mut bytes, 0).map_err(disk("cannot read", path))?;
    if bytes.len() < MAGIC.len() {
        // The crash came before the first sync: nothing in it was ever acknowledged.
        return Ok(Scanned { good: 0, total });
    }
    if bytes[..MAGIC.len()] != MAGIC {
        return Err(Error::Version { path: path.display().to_string() });
    }
    let mut offset = MAGIC.len() as u64;
    while let Some((record, length)) = decode(&bytes[offset as usize..]) {
        each(record, Span { offset, bytes: length });
        offset += length;
    }
    Ok(Scanned { good: offset, total })
}

/// Turns a system's error into ours.
pub fn disk<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Disk { what, path: path.display().to_string(), source }
}

/// File name of a segment.
pub fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016}.lane"))
}

/// Numbers of the segments in a folder, in order.
pub fn numbers(folder: &Path) -> Result<Vec<u64>, Error> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(disk("cannot list", folder))? {
        let name = entry.map_err(disk("cannot list", folder))?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(".lane")).and_then(|n| n.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}
