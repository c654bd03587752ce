//! The log: one writer thread that appends, syncs once for all who wait, and then answers them.
//!
//! An error of the disk fails those who wait for it and starts a new segment: what was synced before stays good. Whether
//! what was written then survives is unknown, as it is with any 503; the idempotency key makes the repetition safe.

use super::index::{At, ITEMS_MAX, Index, Known, Segment};
use super::segment::{self, Died, Event, MAGIC, Put, Record, SEGMENT_BYTES, disk};
use super::takeover::{self, Chunk};
use crate::{Error, Item, Pushed};
use prost::Message;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Commands waiting for the writer.
pub const QUEUED_MAX: usize = 4_096;
/// Bytes gathered for one sync.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Pause of a takeover while the writer has enough to do.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// What the writer is asked to do; it answers after the sync.
pub enum Command {
    /// Accept an item.
    Push(Box<Item>, oneshot::Sender<Result<Pushed, Error>>),
    /// Write what happened to an item, if it still matters.
    Done(u64, u16, oneshot::Sender<Result<bool, Error>>),
    /// The same.
    Died(Died, oneshot::Sender<Result<bool, Error>>),
    /// Put a dead letter back, by id.
    Revive(String, oneshot::Sender<Result<bool, Error>>),
    /// Take what another log held; whoever asks is a thread of its own.
    Inherit(Chunk, std::sync::mpsc::SyncSender<Result<(), Error>>),
}

/// An open log.
pub struct Log {
    index: Arc<Mutex<Index>>,
    to: Option<mpsc::Sender<Command>>,
    writer: Option<std::thread::JoinHandle<()>>,
    /// Held, with the lock on it, until the writer has ended.
    _lock: File,
}

impl Log {
    /// Reads the log in `folder`, whose lock is held. Waiting and dead items may take up to `bytes_max`.
    pub fn open(folder: &Path, name: &str, bytes_max: u64, lock: File) -> Result<Self, Error> {
        let mut index = read(folder)?;
        let number = index.segments.last_key_value().map_or(0, |(last, _)| last + 1);
        let current = create(folder, number)?;
        let reader = Arc::new(current.try_clone().map_err(disk("cannot open", folder))?);
        index.segments.insert(number, Segment { file: reader, bytes: MAGIC.len() as u64, live: 0 });
        let index = Arc::new(Mutex::new(index));
        let (to, commands) = mpsc::channel(QUEUED_MAX);
        let writer = Writer {
            folder: folder.to_owned(),
            name: name.to_owned(),
            bytes_max,
            index: Arc::clone(&index),
            file: current,
            number,
            length: MAGIC.len() as u64,
        };
        let spawn = std::thread::Builder::new().name("slow-lane-log".into()).spawn(move || writer.run(commands));
        let writer = spawn.map_err(disk("cannot start the writer of", folder))?;
        Ok(Self { index, to: Some(to), writer: Some(writer), _lock: lock })
    }

    /// The index, for reading and claiming.
    pub fn index(&self) -> MutexGuard<'_, Index> {
        locked(&self.index)
    }

    /// Hands a command to the writer.
    pub fn send(&self, command: Command) -> Result<(), Error> {
        let to = self.to.as_ref().ok_or(Error::Closed)?;
        to.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Busy(QUEUED_MAX),
            mpsc::error::TrySendError::Closed(_) => Error::Closed,
        })
    }

    /// Takes a part of what another log held; returns once it is synced. Blocks, unless told to `stop`.
    pub fn inherit(&self, chunk: Chunk, stop: &AtomicBool) -> Result<(), Error> {
        let to = self.to.as_ref().ok_or(Error::Closed)?;
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        let mut command = Command::Inherit(chunk, reply);
        while !stop.load(Relaxed) {
            match to.try_send(command) {
                Ok(()) => return answer.recv().map_err(|_| Error::Closed)?,
                Err(mpsc::error::TrySendError::Full(again)) => command = again,
                Err(mpsc::error::TrySendError::Closed(_)) => break,
            }
            std::thread::sleep(BUSY_PAUSE);
        }
        Err(Error::Closed)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.to = None;
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the slow lane's writer panicked");
        }
    }
}

fn locked(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Reads every segment in `folder`, whose lock is held.
pub fn read(folder: &Path) -> Result<Index, Error> {
    let mut index = Index::default();
    let numbers = segment::numbers(folder)?;
    for number in &numbers {
        load(folder, *number, numbers.last() == Some(number), &mut index)?;
    }
    Ok(index)
}

fn load(folder: &Path, number: u64, last: bool, index: &mut Index) -> Result<(), Error> {
    let path = segment::path_of(folder, number);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(disk("cannot open", &path))?;
    let reader = Arc::new(file.try_clone().map_err(disk("cannot open", &path))?);
    index.segments.insert(number, Segment { file: reader, bytes: 0, live: 0 });
    let scanned = segment::scan(&path, &file, |record, span| index.apply(record, At { segment: number, span }))?;
    if let Some(segment) = index.segments.get_mut(&number) {
        segment.bytes = scanned.good;
    }
    let cut = scanned.total - scanned.good;
    if cut == 0 {
        return Ok(());
    }
    if last {
        tracing::info!(path = %path.display(), cut, "a half-written end is cut off: nobody was told that it was accepted");
    } else {
        // Earlier segments ended with a sync: this is damage, and what is cut is kept for people.
        let kept = path.with_extension("damaged");
        std::fs::copy(&path, &kept).map_err(disk("cannot copy", &path))?;
        tracing::error!(path = %path.display(), kept = %kept.display(), cut, "a segment is damaged: its whole records are used, a copy is kept");
    }
    file.set_len(scanned.good).and_then(|()| file.sync_all()).map_err(disk("cannot cut", &path))
}

fn create(folder: &Path, number: u64) -> Result<File, Error> {
    let path = segment::path_of(folder, number);
    let open = || OpenOptions::new().read(true).write(true).create_new(true).open(&path);
    let mut file = match open() {
        // One without a record was left by a roll that failed, or by a crash in one: nothing in it was ever acknowledged.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && is_bare(&path) => {
            std::fs::remove_file(&path).and_then(|()| open())
        }
        opened => opened,
    }
    .map_err(disk("cannot create", &path))?;
    let written = file.write_all(&MAGIC).and_then(|()| file.sync_all()).map_err(disk("cannot write", &path));
    match written.and_then(|()| sync_folder(folder)) {
        Ok(()) => Ok(file),
        Err(error) => {
            // The next try needs the name.
            let _ = std::fs::remove_file(&path);
            Err(error)
        }
    }
}

fn is_bare(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.len() <= MAGIC.len() as u64)
}

/// A new name is safe only once its folder is.
pub fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(disk("cannot sync", folder))
}

type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

struct Writer {
    folder: PathBuf,
    name: String,
    bytes_max: u64,
    index: Arc<Mutex<Index>>,
    file: File,
    number: u64,
    length: u64,
}

/// What one sync is for.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    records: Vec<(Record, u64)>,
    answers: Vec<Answer>,
    /// Items accepted in this batch, by key: id and request.
    keys: HashMap<crate::item::Digest, (String, crate::item::Digest)>,
    put_bytes: u64,
    puts: u64,
}

impl Batch {
    fn add(&mut self, record: Record) {
        let bytes = segment::write(&record, &mut self.bytes);
        self.records.push((record, bytes));
    }
}

impl Writer {
    fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            let mut batch = Batch::default();
            self.take(first, &mut batch);
            while batch.bytes.len() < BATCH_BYTES_MAX
                && let Ok(next) = commands.try_recv()
            {
                self.take(next, &mut batch);
            }
            let answers = std::mem::take(&mut batch.answers);
            let written = self.commit(batch);
            for answer in answers {
                answer(written.as_ref().copied().map_err(again));
            }
            if let Err(error) = self.tidy() {
                tracing::warn!(%error, "the slow lane's old segments stay for now");
            }
        }
    }

    fn take(&self, command: Command, batch: &mut Batch) {
        match command {
            Command::Push(item, reply) => match self.accept(*item, batch) {
                // Whoever is known already waits for the sync too: it may be of this very batch.
                Ok(pushed) => batch.answers.push(Box::new(|written| drop(reply.send(written.map(|()| pushed))))),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Done(seq, status, reply) => {
                let record = locked(&self.index).done_record(seq, status);
                answer(record, reply, batch);
            }
            Command::Died(died, reply) => answer(Some(Event::Died(died).into()), reply, batch),
            Command::Revive(id, reply) => {
                let record = locked(&self.index).dead_seq(&id).map(|seq| Event::Revived(seq).into());
                answer(record, reply, batch);
            }
            Command::Inherit(chunk, reply) => {
                self.inherit(chunk, batch);
                batch.answers.push(Box::new(move |written| drop(reply.send(written))));
            }
        }
    }

    /// Whatever the bounds say: it was accepted once already.
    fn inherit(&self, chunk: Chunk, batch: &mut Batch) {
        let index = locked(&self.index);
        let before = batch.bytes.len();
        for record in takeover::records(&index, index.next_seq() + batch.puts, chunk) {
            if let Some(Event::Put(Put { item, .. })) = &record.event {
                batch.keys.insert(item.key_digest(), (item.id.clone(), item.request_digest()));
                batch.puts += 1;
            }
            batch.add(record);
        }
        batch.put_bytes += (batch.bytes.len() - before) as u64;
    }

    fn accept(&self, mut item: Item, batch: &mut Batch) -> Result<Pushed, Error> {
        item.admit(&self.name)?;
        let (key, request) = (item.key_digest(), item.request_digest());
        let index = locked(&self.index);
        let known = match batch.keys.get(&key) {
            Some((id, had)) if *had == request => Known::Same(id.clone()),
            Some(_) => Known::Other,
            None => index.known(&key, &request),
        };
        match known {
            Known::Same(id) => return Ok(Pushed { id, known: true }),
            Known::Other => return Err(Error::KeyReused { key: item.key }),
            Known::New => {}
        }
        let held = index.live_bytes() + batch.put_bytes;
        if held + item.encoded_len() as u64 > self.bytes_max {
            return Err(Error::Full { held, max: self.bytes_max, unit: "bytes" });
        }
        let waiting = index.waiting(&item.policy) + batch.puts;
        if item.waiting_max > 0 && waiting >= item.waiting_max {
            return Err(Error::Full { held: waiting, max: item.waiting_max, unit: "items of this policy" });
        }
        let items = index.len() as u64 + batch.puts;
        if items >= ITEMS_MAX as u64 {
            return Err(Error::Full { held: items, max: ITEMS_MAX as u64, unit: "items" });
        }
        let seq = index.next_seq() + batch.puts;
        drop(index);
        let id = item.id.clone();
        batch.keys.insert(key, (id.clone(), request));
        let before = batch.bytes.len();
        batch.add(Event::Put(Put { seq, item }).into());
        batch.put_bytes += (batch.bytes.len() - before) as u64;
        batch.puts += 1;
        Ok(Pushed { id, known: false })
    }

    /// Writes and syncs a batch, then lets the index follow.
    fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        if batch.bytes.is_empty() {
            return Ok(());
        }
        if self.length >= SEGMENT_BYTES {
            self.roll()?;
        }
        let path = segment::path_of(&self.folder, self.number);
        let written = self.file.write_all_at(&batch.bytes, self.length).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            tracing::error!(%error, path = %path.display(), "the slow lane cannot write");
            // After a failed sync nobody knows what this file holds behind the last good one: it ends there.
            if let Err(error) = self
                .file
                .set_len(self.length)
                .and_then(|()| self.file.sync_all())
                .map_err(disk("cannot cut", &path))
                .and_then(|()| self.roll())
            {
                tracing::error!(%error, "no new segment either; the next batch tries again");
            }
            return Err(disk("cannot write", &path)(error));
        }
        let mut index = locked(&self.index);
        let mut offset = self.length;
        for (record, bytes) in batch.records {
            index.apply(record, At { segment: self.number, span: segment::Span { offset, bytes } });
            offset += bytes;
        }
        self.length = offset;
        if let Some(segment) = index.segments.get_mut(&self.number) {
            segment.bytes = offset;
        }
        Ok(())
    }

    fn roll(&mut self) -> Result<(), Error> {
        let number = self.number + 1;
        self.file = create(&self.folder, number)?;
        self.number = number;
        self.length = MAGIC.len() as u64;
        let path = segment::path_of(&self.folder, number);
        let file = Arc::new(self.file.try_clone().map_err(disk("cannot open", &path))?);
        locked(&self.index).segments.insert(number, Segment { file, bytes: self.length, live: 0 });
        Ok(())
    }

    /// Removes what is finished. Only ever the oldest segment: a `Done` must not go before its `Put`. When less than half
    /// of all bytes is alive, the oldest segment's live items move to the end, so that it is finished too.
    fn tidy(&mut self) -> Result<(), Error> {
        loop {
            let (oldest, live, copies) = {
                let index = locked(&self.index);
                let Some((oldest, segment)) = index.segments.iter().next() else { return Ok(()) };
                if *oldest == self.number {
                    return Ok(());
                }
                let wasteful = index.live_bytes() < index.total_bytes() / 2;
                if segment.live > 0 && !wasteful {
                    return Ok(());
                }
                let copies = if segment.live > 0 { index.live_in(*oldest) } else { Vec::new() };
                (*oldest, Arc::clone(&segment.file), copies)
            };
            let mut batch = Batch::default();
            for (seq, span, died) in copies {
                let item = segment::read_item(&live, span)?;
                batch.add(Event::Put(Put { seq, item }).into());
                if let Some(died) = died {
                    batch.add(Event::Died(died).into());
                }
            }
            self.commit(batch)?;
            locked(&self.index).segments.remove(&oldest);
            let path = segment::path_of(&self.folder, oldest);
            std::fs::remove_file(&path).map_err(disk("cannot remove", &path))?;
            sync_folder(&self.folder)?;
        }
    }
}

fn answer(record: Option<Record>, reply: oneshot::Sender<Result<bool, Error>>, batch: &mut Batch) {
    match record {
        Some(record) => {
            batch.add(record);
            batch.answers.push(Box::new(|written| drop(reply.send(written.map(|()| true)))));
        }
        None => drop(reply.send(Ok(false))),
    }
}

/// The same error for each who waited.
fn again(error: &Error) -> Error {
    match error {
        Error::Disk { what, path, source } => {
            Error::Disk { what, path: path.clone(), source: std::io::Error::new(source.kind(), source.to_string()) }
        }
        other => Error::Damaged(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
