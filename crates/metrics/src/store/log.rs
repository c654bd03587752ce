//! The write-ahead log: segments of frames, appended and synced once a second.
//!
//! ```text
//! magic (8) · version u32 · segment u32 · frames: length u32 · check u32 · shard u8 · notes
//! ```
//!
//! A frame that was cut off by a crash ends its segment; what lies before is good. A disk that is full costs the frames of
//! that time: the segment is cut back to its last whole frame, a new one begins when there is room again, and it is for the
//! caller to write a snapshot of the head then, since the log has a hole.

use super::block::{Fault, sync_folder};
use super::hash::checksum;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"sprtlog\0";
const VERSION: u32 = 1;
const FRONT_BYTES: u64 = 16;
const FRAME_FRONT_BYTES: usize = 8;
/// Bytes of one frame at most, as far as a reader believes it.
const FRAME_BYTES_MAX: u32 = 64 << 20;
const ENDING: &str = "log";

/// A segment that is written to.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
    /// Bytes of whole frames.
    pub(crate) bytes: u64,
    frame: Vec<u8>,
}

pub(crate) fn path_of(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("wal-{number:08}.{ENDING}"))
}

/// The number in a file's name, such as `wal-00000007.log`.
pub(crate) fn number_of(path: &Path, beginning: &str, ending: &str) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix(beginning)?.strip_suffix(ending)?.strip_suffix('.')?.parse().ok()
}

/// Numbers of the segments in a folder, in order.
pub(crate) fn segments(folder: &Path) -> io::Result<Vec<u32>> {
    numbered(folder, "wal-", ENDING)
}

pub(crate) fn numbered(folder: &Path, beginning: &str, ending: &str) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        numbers.extend(number_of(&entry?.path(), beginning, ending));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

impl Segment {
    pub(crate) fn create(folder: &Path, number: u32) -> io::Result<Self> {
        let path = path_of(folder, number);
        let make = || -> io::Result<File> {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
            file.write_all(MAGIC)?;
            file.write_all(&VERSION.to_le_bytes())?;
            file.write_all(&number.to_le_bytes())?;
            file.sync_all()?;
            sync_folder(&path)?;
            Ok(file)
        };
        let made = make();
        if made.is_err() {
            let _left = std::fs::remove_file(&path);
        }
        Ok(Self { file: made?, bytes: FRONT_BYTES, frame: Vec::new() })
    }

    /// Appends a frame of a shard; it is durable after [`Segment::sync`].
    pub(crate) fn append(&mut self, shard: u8, notes: &[u8]) -> io::Result<()> {
        self.frame.clear();
        self.frame.extend_from_slice(&[0; FRAME_FRONT_BYTES]);
        self.frame.push(shard);
        self.frame.extend_from_slice(notes);
        let body = &self.frame[FRAME_FRONT_BYTES..];
        let (length, check) = (body.len() as u32, checksum(body));
        self.frame[..4].copy_from_slice(&length.to_le_bytes());
        self.frame[4..8].copy_from_slice(&check.to_le_bytes());
        if let Err(error) = self.file.write_all(&self.frame) {
            // A half frame would end the segment for its reader.
            self.file.set_len(self.bytes)?;
            io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.bytes))?;
            return Err(error);
        }
        self.bytes += self.frame.len() as u64;
        if self.frame.capacity() > 1 << 20 {
            self.frame = Vec::new();
        }
        Ok(())
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Reads a segment's frames one after another. What is wrong with it is given, together with all that lies before.
pub(crate) fn read(path: &Path, mut frame: impl FnMut(u8, &[u8]) -> Result<(), String>) -> Option<Fault> {
    let fault = |offset: usize, what: String| Some(Fault { path: path.to_owned(), offset: offset as u64, what });
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return fault(0, format!("cannot be read: {error}")),
    };
    let word = |at: usize| bytes.get(at..at + 4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")));
    if bytes.get(..8) != Some(MAGIC) || word(8) != Some(VERSION) || word(12).is_none() {
        return fault(0, format!("this is no log of Springtide's of version {VERSION}"));
    }
    let mut at = FRONT_BYTES as usize;
    while at < bytes.len() {
        let (Some(length), Some(check)) = (word(at), word(at + 4)) else {
            return fault(at, "a frame is cut off: a crash while it was written, most likely".to_owned());
        };
        let begin = at + FRAME_FRONT_BYTES;
        let body = bytes.get(begin..begin + length.min(FRAME_BYTES_MAX) as usize).filter(|body| !body.is_empty());
        let Some(body) = body.filter(|_| length <= FRAME_BYTES_MAX) else {
            return fault(at, "a frame is cut off: a crash while it was written, most likely".to_owned());
        };
        if checksum(body) != check {
            return fault(at, "the checksum of a frame does not fit".to_owned());
        }
        if let Err(what) = frame(body[0], &body[1..]) {
            return fault(at, what);
        }
        at = begin + body.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(path: &Path) -> (Vec<(u8, Vec<u8>)>, Option<Fault>) {
        let mut frames = Vec::new();
        let fault = read(path, |shard, notes| {
            frames.push((shard, notes.to_vec()));
            Ok(())
        });
        (frames, fault)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn frames_come_back_up_to_the_damage(
            written in prop::collection::vec((0..16_u8, prop::collection::vec(any::<u8>(), 0..50)), 1..10),
            cut in any::<prop::sample::Index>(),
            noise in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let folder = tempfile::tempdir().expect("a folder");
            let mut segment = Segment::create(folder.path(), 7).expect("creates");
            let mut ends = vec![segment.bytes];
            for (shard, notes) in &written {
                segment.append(*shard, notes).expect("appends");
                ends.push(segment.bytes);
            }
            segment.sync().expect("syncs");
            let path = path_of(folder.path(), 7);
            prop_assert_eq!(segments(folder.path()).expect("lists"), [7]);
            let (got, fault) = frames(&path);
            prop_assert_eq!(&got, &written);
            prop_assert!(fault.is_none());
            let mut bytes = std::fs::read(&path).expect("reads");
            let length = cut.index(bytes.len());
            bytes.truncate(length);
            std::fs::write(&path, &bytes).expect("writes");
            let (got, fault) = frames(&path);
            let whole = ends.iter().filter(|end| **end <= length as u64).count().saturating_sub(1);
            prop_assert_eq!(&got, &written[..whole]);
            prop_assert_eq!(fault.is_none(), ends.contains(&(length as u64)));
            std::fs::write(&path, [&bytes, noise.as_slice()].concat()).expect("writes");
            prop_assert!(frames(&path).0.len() >= whole);
        }
    }
}
