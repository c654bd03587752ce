//! One append log: segment files of framed records.
//!
//! A segment is named by the sequence of its first record and begins with a magic and a version. A frame is the
//! payload's length and CRC-32 (both u32, little-endian) and the payload: sequence (u64), length of the id (u16), id, bytes.

use super::{Record, RecordError};
use crate::crc::crc32;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A segment that has grown to this is closed, and a new one begun.
pub const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Largest payload of one frame.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
const ID_BYTES_MAX: usize = 1_024;

const MAGIC: &[u8; 7] = b"STRECRD";
const FORMAT: u8 = 1;
const SEGMENT_HEAD_BYTES: u64 = 8;
const FRAME_HEAD_BYTES: usize = 8;
/// Sequence and length of the id.
const PAYLOAD_HEAD_BYTES: usize = 10;

/// Takes a folder for this process.
pub(super) fn lock(folder: &Path) -> Result<File, RecordError> {
    let path = folder.join("lock");
    let options = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = options.map_err(RecordError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RecordError::InUse { path: folder.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(RecordError::io(&path)(error)),
    }
}

fn sync_folder(folder: &Path) -> Result<(), RecordError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(RecordError::io(folder))
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: File,
    bytes: u64,
}

/// Where a frame's payload lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    segment: usize,
    at: u64,
    bytes: u32,
}

/// One append log.
#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    segments: Vec<Segment>,
    places: Vec<Place>,
    ids: BTreeMap<String, u64>,
    /// A write failed, and the tail of the last segment may hold half of it.
    tail_unsure: bool,
}

/// What the scan of a segment found.
struct Scan {
    frames: Vec<(String, u64, u32)>,
    /// Where the readable frames end.
    end: u64,
}

impl Log {
    pub(super) fn open(folder: &Path) -> Result<Self, RecordError> {
        fs::create_dir_all(folder).map_err(RecordError::io(folder))?;
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(RecordError::io(folder))? {
            let path = entry.map_err(RecordError::io(folder))?.path();
            if path.extension().is_some_and(|extension| extension == "segment") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut log = Self {
            folder: folder.to_owned(),
            segments: Vec::new(),
            places: Vec::new(),
            ids: BTreeMap::new(),
            tail_unsure: false,
        };
        let count = paths.len();
        for (at, path) in paths.into_iter().enumerate() {
            log.load(path, at + 1 == count)?;
        }
        Ok(log)
    }

    fn load(&mut self, path: PathBuf, last: bool) -> Result<(), RecordError> {
        let damaged = |at, why| RecordError::Damaged { path: path.display().to_string(), at, why };
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(RecordError::io(&path))?;
        let bytes = fs::read(&path).map_err(RecordError::io(&path))?;
        if (bytes.len() as u64) < SEGMENT_HEAD_BYTES && last {
            tracing::warn!(path = %path.display(), "removing a segment that a crash left without its first bytes");
            fs::remove_file(&path).map_err(RecordError::io(&path))?;
            return sync_folder(&self.folder);
        }
        match bytes.split_first_chunk::<8>() {
            Some((head, _)) if &head[..7] == MAGIC && head[7] == FORMAT => {}
            Some((head, _)) if &head[..7] == MAGIC && head[7] > FORMAT => {
                let (found, known) = (head[7].into(), FORMAT.into());
                return Err(RecordError::Newer { path: path.display().to_string(), found, known });
            }
            _ => return Err(damaged(0, "it is not a segment of records")),
        }
        let scan = scan(&bytes, self.last() + 1);
        if scan.end < bytes.len() as u64 {
            if !last {
                return Err(damaged(scan.end, "a record in the middle of the log cannot be read"));
            }
            self.cut(&path, &file, &bytes, scan.end)?;
        }
        let segment = self.segments.len();
        for (id, at, bytes) in scan.frames {
            self.places.push(Place { segment, at, bytes });
            self.ids.insert(id, self.places.len() as u64);
        }
        self.segments.push(Segment { path, file, bytes: scan.end });
        Ok(())
    }

    /// Cuts off what a crash left at the end, and keeps it in a file of its own for whoever wants to look.
    fn cut(&self, path: &Path, file: &File, bytes: &[u8], end: u64) -> Result<(), RecordError> {
        let torn = path.with_extension(format!("torn-{end}"));
        let cut = &bytes[end as usize..];
        tracing::warn!(
            path = %path.display(), at = end, bytes = cut.len(), kept = %torn.display(),
            "the log ends in a record that was not completely written; cutting it off"
        );
        fs::write(&torn, cut).map_err(RecordError::io(&torn))?;
        file.set_len(end).and_then(|()| file.sync_all()).map_err(RecordError::io(path))?;
        sync_folder(&self.folder)
    }

    pub(super) fn last(&self) -> u64 {
        self.places.len() as u64
    }

    pub(super) fn append(&mut self, records: &[(&str, &[u8])]) -> Result<Vec<u64>, RecordError> {
        let mut sequences = Vec::with_capacity(records.len());
        let mut frames = Vec::new();
        let mut fresh: Vec<(&str, u64, u32)> = Vec::new();
        for (id, bytes) in records {
            let payload = PAYLOAD_HEAD_BYTES + id.len() + bytes.len();
            if id.is_empty() || id.len() > ID_BYTES_MAX || payload > FRAME_BYTES_MAX {
                return Err(RecordError::TooLarge { id: (*id).to_owned(), bytes: bytes.len() });
            }
            let known = self.ids.get(*id).copied();
            let earlier = || fresh.iter().position(|(other, ..)| other == id).map(|at| self.last() + 1 + at as u64);
            if let Some(sequence) = known.or_else(earlier) {
                sequences.push(sequence);
                continue;
            }
            let sequence = self.last() + 1 + fresh.len() as u64;
            let start = frames.len() + FRAME_HEAD_BYTES;
            push_frame(&mut frames, sequence, id, bytes);
            fresh.push((id, start as u64, payload as u32));
            sequences.push(sequence);
        }
        if !fresh.is_empty() {
            let begin = self.write(&frames)?;
            let segment = self.segments.len() - 1;
            for (id, at, bytes) in fresh {
                self.places.push(Place { segment, at: begin + at, bytes });
                self.ids.insert(id.to_owned(), self.places.len() as u64);
            }
        }
        Ok(sequences)
    }

    /// Writes and syncs; gives the offset at which the frames begin. On failure the log is as before.
    fn write(&mut self, frames: &[u8]) -> Result<u64, RecordError> {
        if self.segments.last().is_none_or(|segment| segment.bytes >= SEGMENT_BYTES_MAX) {
            let segment = self.begin_segment()?;
            self.segments.push(segment);
        }
        let unsure = std::mem::replace(&mut self.tail_unsure, true);
        let segment = self.segments.last_mut().expect("a segment was just made sure of");
        let begin = segment.bytes;
        let written = (|| {
            if unsure {
                segment.file.set_len(begin)?;
            }
            segment.file.write_all_at(frames, begin)?;
            segment.file.sync_data()
        })();
        if written.is_ok() {
            segment.bytes += frames.len() as u64;
            self.tail_unsure = false;
        }
        written.map(|()| begin).map_err(RecordError::io(&segment.path))
    }

    fn begin_segment(&self) -> Result<Segment, RecordError> {
        let path = self.folder.join(format!("{:020}.segment", self.last() + 1));
        let begin = || -> std::io::Result<File> {
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
            file.write_all(MAGIC)?;
            file.write_all(&[FORMAT])?;
            file.sync_all()?;
            Ok(file)
        };
        let file = begin().map_err(RecordError::io(&path))?;
        sync_folder(&self.folder)?;
        Ok(Segment { path, file, bytes: SEGMENT_HEAD_BYTES })
    }

    fn read(&self, sequence: u64) -> Result<Record, RecordError> {
        let place = self.places[sequence as usize - 1];
        let segment = &self.segments[place.segment];
        let mut payload = vec![0; place.bytes as usize];
        segment.file.read_exact_at(&mut payload, place.at).map_err(RecordError::io(&segment.path))?;
        let damaged = |why| RecordError::Damaged { path: segment.path.display().to_string(), at: place.at, why };
        let (found, id, bytes) = parse_payload(&payload).ok_or_else(|| damaged("the record is malformed"))?;
        if found != sequence {
            return Err(damaged("the record has another sequence"));
        }
        Ok(Record { sequence, id: id.to_owned(), bytes: bytes.to_vec() })
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.ids.keys().map(String::as_str)
    }

    pub(super) fn get(&self, id: &str) -> Result<Option<Record>, RecordError> {
        self.ids.get(id).map(|sequence| self.read(*sequence)).transpose()
    }

    pub(super) fn list(&self, after: u64, limit: usize) -> Result<Vec<Record>, RecordError> {
        (after.saturating_add(1)..=self.last()).take(limit).map(|sequence| self.read(sequence)).collect()
    }
}

fn push_frame(to: &mut Vec<u8>, sequence: u64, id: &str, bytes: &[u8]) {
    let start = to.len();
    let id_bytes = u16::try_from(id.len()).expect("an id is at most 1024 bytes");
    to.extend([0; FRAME_HEAD_BYTES]);
    to.extend(sequence.to_le_bytes());
    to.extend(id_bytes.to_le_bytes());
    to.extend_from_slice(id.as_bytes());
    to.extend_from_slice(bytes);
    let payload = &to[start + FRAME_HEAD_BYTES..];
    let length = u32::try_from(payload.len()).expect("a payload is at most FRAME_BYTES_MAX");
    let crc = crc32(payload);
    to[start..start + 4].copy_from_slice(&length.to_le_bytes());
    to[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

fn parse_payload(payload: &[u8]) -> Option<(u64, &str, &[u8])> {
    let (sequence, rest) = payload.split_first_chunk::<8>()?;
    let (id_bytes, rest) = rest.split_first_chunk::<2>()?;
    let (id, bytes) = rest.split_at_checked(u16::from_le_bytes(*id_bytes).into())?;
    Some((u64::from_le_bytes(*sequence), std::str::from_utf8(id).ok()?, bytes))
}

/// Reads frames from the head of the segment on, until the end or the first that is not whole.
fn scan(bytes: &[u8], first: u64) -> Scan {
    let mut found = Scan { frames: Vec::new(), end: SEGMENT_HEAD_BYTES };
    while let Some(id_and_length) = whole_frame(&bytes[found.end as usize..], first + found.frames.len() as u64) {
        let (id, length) = id_and_length;
        let at = found.end + FRAME_HEAD_BYTES as u64;
        found.frames.push((id.to_owned(), at, length));
        found.end = at + u64::from(length);
    }
    found
}

fn whole_frame(bytes: &[u8], sequence: u64) -> Option<(&str, u32)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    let payload = rest.get(..length as usize)?;
    let (found, id, _) = parse_payload(payload)?;
    (crc32(payload) == u32::from_le_bytes(*crc) && found == sequence).then_some((id, length))
}
