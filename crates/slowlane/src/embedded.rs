//! The embedded driver: an append log with group commit, on this machine's disk.
//!
//! A folder has a few slots, each one log with a lock. A process writes to the first free one; what others hold moves there
//! once their process is gone, and their slots are free again: a proxy that is upgraded hands its lane over this way. No
//! replication: what this disk loses is lost; a fleet that cannot bear that gives Redis Streams.

mod index;
mod log;
mod segment;
mod takeover;

use crate::{Backlog, Claimed, Dead, Depth, Driver, Ending, Error, Item, Later, Place, Pushed, State};
use log::{Command, Log};
use rustix::fs::FlockOperation;
use segment::{Died, disk};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Version of the files.
pub const VERSION: u8 = segment::MAGIC[7];
/// Processes that may share a folder, as during an upgrade.
pub const SLOTS_MAX: usize = 4;
/// Bytes of waiting and dead items, unless told otherwise. The files take at most twice this and two segments.
pub const BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Time between looks for slots that were left.
const ADOPT: Duration = Duration::from_millis(500);
/// Time until the next look after one could not be taken over: its log is read anew.
const ADOPT_AGAIN: Duration = Duration::from_secs(30);
/// Tries to lock a slot that others remove meanwhile.
const LOCK_TRIES: usize = 8;

/// The driver.
pub struct Embedded {
    folder: PathBuf,
    slot: usize,
    log: Arc<Log>,
    adopting: Mutex<Adopting>,
    stop: Arc<AtomicBool>,
}

struct Adopting {
    due: Instant,
    /// Says whether all went well.
    thread: Option<JoinHandle<bool>>,
}

impl Embedded {
    /// Opens the lane `name` (a part of its ids) in `folder`, which is made if need be. Takes over what was left there.
    pub fn open(folder: &Path, name: &str, bytes_max: u64) -> Result<Self, Error> {
        for slot in 0..SLOTS_MAX {
            if let Some((path, lock)) = lock_slot(folder, slot)? {
                let log = Arc::new(Log::open(&path, name, bytes_max, lock)?);
                let stop = Arc::<AtomicBool>::default();
                let well = adopt(left(folder, slot), &log, &stop);
                let due = Instant::now() + if well { ADOPT } else { ADOPT_AGAIN };
                let adopting = Mutex::new(Adopting { due, thread: None });
                return Ok(Self { folder: folder.to_owned(), slot, log, adopting, stop });
            }
        }
        Err(Error::Locked { path: folder.display().to_string(), max: SLOTS_MAX })
    }

    /// Takes over slots whose process has gone meanwhile, on a thread of its own: there may be much to read and write.
    fn adopt_if_due(&self) {
        let mut adopting = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = adopting.thread.take_if(|thread| thread.is_finished()) {
            let well = thread.join().unwrap_or(false);
            adopting.due = Instant::now() + if well { ADOPT } else { ADOPT_AGAIN };
        }
        if adopting.thread.is_some() || Instant::now() < adopting.due {
            return;
        }
        adopting.due = Instant::now() + ADOPT;
        let left = left(&self.folder, self.slot);
        if left.is_empty() {
            return;
        }
        let (log, stop) = (Arc::clone(&self.log), Arc::clone(&self.stop));
        let spawn = std::thread::Builder::new().name("slow-lane-adopt".into());
        match spawn.spawn(move || adopt(left, &log, &stop)) {
            Ok(thread) => adopting.thread = Some(thread),
            Err(error) => tracing::warn!(%error, "a slow lane left behind is not taken over yet"),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let thread = self.adopting.get_mut().unwrap_or_else(PoisonError::into_inner).thread.take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the takeover of a slow lane panicked; what it held is still there");
        }
    }
}

/// Slots with items whose process is gone, locked.
fn left(folder: &Path, own: usize) -> Vec<(PathBuf, File)> {
    let holds = |slot: &usize| segment::numbers(&slot_path(folder, *slot)).is_ok_and(|numbers| !numbers.is_empty());
    let lock = |slot: usize| match lock_slot(folder, slot) {
        Ok(locked) => locked,
        Err(error) => {
            tracing::warn!(%error, slot, "a slow lane left behind cannot be locked");
            None
        }
    };
    (0..SLOTS_MAX).filter(|slot| *slot != own).filter(holds).filter_map(lock).collect()
}

/// Moves what the slots hold to `log`; false when one of them could not be read, or `log` not be written.
fn adopt(left: Vec<(PathBuf, File)>, log: &Log, stop: &AtomicBool) -> bool {
    let mut well = true;
    for (path, lock) in left {
        match takeover::take_over(&path, lock, log, stop) {
            Ok(items) => tracing::info!(path = %path.display(), items, "a slow lane left behind is taken over"),
            Err(Error::Closed) => return false,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "a slow lane left behind cannot be taken over yet");
                well = false;
            }
        }
    }
    well
}

fn slot_path(folder: &Path, slot: usize) -> PathBuf {
    folder.join(format!("slot-{slot}"))
}

/// Locks a slot, which is made if need be; none when another process has it.
fn lock_slot(folder: &Path, slot: usize) -> Result<Option<(PathBuf, File)>, Error> {
    let path = slot_path(folder, slot);
    let at = path.join("lock");
    for _ in 0..LOCK_TRIES {
        std::fs::create_dir_all(&path).map_err(disk("cannot make", &path))?;
        let lock = match OpenOptions::new().create(true).truncate(false).write(true).open(&at) {
            Ok(lock) => lock,
            // Whoever took the slot over has removed it just now.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(disk("cannot open", &at)(error)),
        };
        if !lock_file(&lock).map_err(disk("cannot lock", &at))? {
            return Ok(None);
        }
        if is_still_at(&lock, &at) {
            return Ok(Some((path, lock)));
        }
    }
    Ok(None)
}

/// A lock on a file that was removed keeps nobody out.
fn is_still_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(found)) = (file.metadata(), path.metadata()) else { return false };
    (held.dev(), held.ino()) == (found.dev(), found.ino())
}

fn lock_file(file: &File) -> std::io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn ask<T>(log: &Log, command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command) -> Result<T, Error> {
    let (reply, answer) = oneshot::channel();
    log.send(command(reply))?;
    answer.await.map_err(|_| Error::Closed)?
}

impl Driver for Embedded {
    fn push(&self, item: Item) -> Later<'_, Pushed> {
        Box::pin(async move { ask(&self.log, |reply| Command::Push(Box::new(item), reply)).await })
    }

    fn backlog(&self) -> Later<'_, Vec<Backlog>> {
        Box::pin(async move {
            self.adopt_if_due();
            Ok(self.log.index().backlog())
        })
    }

    fn claim<'a>(&'a self, policy: &'a str, max: usize) -> Later<'a, Vec<Claimed>> {
        Box::pin(async move {
            let mut claimed = Vec::new();
            while claimed.len() < max {
                let Some((seq, file, span)) = self.log.index().claim(policy) else { break };
                match segment::read_item(&file, span) {
                    Ok(item) => claimed.push(Claimed { item, place: Place::Log(self.slot, seq) }),
                    // It stays claimed: nobody can send what cannot be read, and the next start tries again.
                    Err(error) => tracing::error!(%error, seq, "an accepted item cannot be read back"),
                }
            }
            Ok(claimed)
        })
    }

    fn renew<'a>(&'a self, _: &'a [Place]) -> Later<'a, ()> {
        // A claim is this process's memory, and ends with it.
        Box::pin(async { Ok(()) })
    }

    fn finish<'a>(&'a self, claimed: &'a Claimed, ending: Ending) -> Later<'a, ()> {
        Box::pin(async move {
            let Place::Log(_, seq) = claimed.place else { return Ok(()) };
            match ending {
                Ending::Returned => self.log.index().unclaim(seq),
                // False when it had ended already, which is as good.
                Ending::Done { status } => {
                    ask(&self.log, |reply| Command::Done(seq, status, reply)).await?;
                }
                Ending::Dead { status, reason, attempts } => {
                    let died = Died { seq, status: status.into(), reason, attempts };
                    ask(&self.log, |reply| Command::Died(died, reply)).await?;
                }
            }
            Ok(())
        })
    }

    fn state<'a>(&'a self, id: &'a str) -> Later<'a, Option<State>> {
        Box::pin(async move { Ok(self.log.index().state(id)) })
    }

    fn dead(&self, skip: usize, limit: usize) -> Later<'_, Vec<Dead>> {
        Box::pin(async move {
            let spans = self.log.index().dead(skip, limit);
            let read = |(file, span, died): (Arc<File>, _, Died)| {
                let item = segment::read_item(&file, span)?;
                Ok(Dead { item, status: died.status as u16, reason: died.reason })
            };
            spans.into_iter().map(read).collect()
        })
    }

    fn revive<'a>(&'a self, id: &'a str) -> Later<'a, bool> {
        Box::pin(async move { ask(&self.log, |reply| Command::Revive(id.to_owned(), reply)).await })
    }

    fn depth(&self) -> Later<'_, Depth> {
        Box::pin(async move { Ok(self.log.index().depth()) })
    }
}
