//! The records store: one append-only file, one line a record, an index in memory.
//!
//! A thread of its own writes, many records at a time, and syncs once for all of them when asked to. An answer is given only after
//! the write, so what was answered survives kill -9 (and a power cut with `fsync`). Compaction is absent: it is a sample.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot};

/// Records waiting for the writer; more wait before they are taken in.
const APPENDS_MAX: usize = 1_024;
/// Longest key.
const KEY_BYTES_MAX: usize = 64;
/// Longest value.
const VALUE_BYTES_MAX: usize = 4_096;

/// The store.
pub struct Records {
    shared: Arc<Shared>,
    appends: mpsc::Sender<Append>,
}

struct Shared {
    file: File,
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    /// Where the latest value of each key lies.
    values: BTreeMap<String, (u64, usize)>,
    records: u64,
    end: u64,
}

struct Append {
    key: String,
    value: Vec<u8>,
    done: oneshot::Sender<Result<(), String>>,
}

/// Why a record is not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// The key or the value is not usable.
    Bad(&'static str),
    /// The disk did not take it.
    Failed(String),
}

impl Index {
    fn add(&mut self, key: String, value_bytes: usize) {
        let at = self.end + key.len() as u64 + 1;
        self.values.insert(key, (at, value_bytes));
        self.records += 1;
        self.end = at + value_bytes as u64 + 1;
    }
}

impl Records {
    /// Opens the file in a folder, and cuts off a last line that was never finished (and never answered).
    pub fn open(folder: &Path, fsync: bool) -> Result<Self> {
        let path = folder.join("records.log");
        let named = || format!("cannot open {}", path.display());
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path).with_context(named)?;
        let index = read_index(&file).with_context(|| format!("{} is damaged", path.display()))?;
        file.set_len(index.end).with_context(named)?;
        let shared = Arc::new(Shared { file, index: Mutex::new(index) });
        let (appends, waiting) = mpsc::channel(APPENDS_MAX);
        let writer = Arc::clone(&shared);
        std::thread::Builder::new().name("writer".to_owned()).spawn(move || write(&writer, waiting, fsync))?;
        Ok(Self { shared, appends })
    }

    /// Keeps a record; when this returns it is written.
    pub async fn append(&self, key: &str, value: &[u8]) -> Result<(), Refused> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(plain) {
            return Err(Refused::Bad("a key has 1 to 64 letters, digits, '-', '_' and '.'"));
        }
        if value.len() > VALUE_BYTES_MAX || value.contains(&b'\n') {
            return Err(Refused::Bad("a value is one line of at most 4096 bytes"));
        }
        let (done, answer) = oneshot::channel();
        let append = Append { key: key.to_owned(), value: value.to_vec(), done };
        let gone = |_| Refused::Failed("the writer has stopped".to_owned());
        self.appends.send(append).await.map_err(|_| Refused::Failed("the writer has stopped".to_owned()))?;
        answer.await.map_err(gone)?.map_err(Refused::Failed)
    }

    /// The latest value of a key.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let found = self.index().values.get(key).copied();
        let Some((at, bytes)) = found else { return Ok(None) };
        let mut value = vec![0; bytes];
        self.shared.file.read_exact_at(&mut value, at)?;
        Ok(Some(value))
    }

    /// Records kept.
    pub fn count(&self) -> u64 {
        self.index().records
    }

    /// Whether records can still be written.
    pub fn is_well(&self) -> bool {
        !self.appends.is_closed()
    }

    fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        self.shared.index.lock().expect("no holder of this lock panics")
    }
}

fn read_index(file: &File) -> Result<Index> {
    let mut index = Index::default();
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok(index);
        }
        let space = line.iter().position(|c| *c == b' ').context("a line without a key")?;
        let key = std::str::from_utf8(&line[..space]).context("a key that is no text")?;
        index.add(key.to_owned(), line.len() - space - 1);
    }
}

/// Writes until the store is dropped, or the disk fails: then the file's end is unknown and nothing more may be taken.
fn write(shared: &Shared, mut waiting: mpsc::Receiver<Append>, fsync: bool) {
    let mut batch = Vec::new();
    while waiting.blocking_recv_many(&mut batch, APPENDS_MAX) > 0 {
        let mut bytes = Vec::new();
        for append in &batch {
            bytes.extend_from_slice(append.key.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(&append.value);
            bytes.push(b'\n');
        }
        let mut written = (&shared.file).write_all(&bytes);
        if fsync {
            written = written.and_then(|()| shared.file.sync_data());
        }
        if let Err(error) = written {
            eprintln!("red-packet records: cannot write: {error}");
            for append in batch.drain(..) {
                // Whoever asked may have gone.
                let _ = append.done.send(Err(error.to_string()));
            }
            return;
        }
        let mut index = shared.index.lock().expect("no holder of this lock panics");
        for append in batch.drain(..) {
            index.add(append.key, append.value.len());
            let _ = append.done.send(Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn records_come_back_and_a_torn_line_does_not() {
        let folder = tempfile::tempdir().unwrap();
        block_on(async {
            let records = Records::open(folder.path(), true).unwrap();
            records.append("a", b"1").await.unwrap();
            records.append("b", b"two words").await.unwrap();
            records.append("a", b"").await.unwrap();
            assert_eq!((records.count(), records.get("a").unwrap().unwrap().len()), (3, 0));
        });
        let path = folder.path().join("records.log");
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend_from_slice(b"c never finish");
        std::fs::write(&path, torn).unwrap();
        block_on(async {
            let records = Records::open(folder.path(), false).unwrap();
            assert_eq!((records.count(), records.get("c").unwrap()), (3, None));
            records.append("d", b"4").await.unwrap();
            assert_eq!(records.get("b").unwrap().unwrap(), b"two words");
            assert_eq!(records.get("d").unwrap().unwrap(), b"4");
        });
        assert_eq!(std::fs::read_to_string(path).unwrap(), "a 1\nb two words\na \nd 4\n");
    }

    #[test]
    fn senseless_records_and_damaged_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        block_on(async {
            let records = Records::open(folder.path(), false).unwrap();
            for (key, value) in [("", "x"), ("a b", "x"), ("a/b", "x"), (&*"k".repeat(65), "x"), ("a", "x\ny")] {
                assert!(matches!(records.append(key, value.as_bytes()).await, Err(Refused::Bad(_))), "{key} {value}");
            }
            assert_eq!(records.count(), 0);
        });
        std::fs::write(folder.path().join("records.log"), "nospace\n").unwrap();
        let error = format!("{:#}", Records::open(folder.path(), false).err().unwrap());
        assert!(error.contains("records.log is damaged: a line without a key"), "{error}");
    }
}
