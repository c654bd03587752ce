//! The embedded driver: an append log with group commit, on this machine's disk.
//!
//! A folder has a few slots, each one log with a lock. A process writes to the first free one and also releases what the
//! others hold once their process is gone: a proxy that is upgraded hands its lane over this way. No replication: what
//! this disk loses is lost; a fleet that cannot bear that gives Redis Streams.

mod index;
mod log;
mod segment;

use crate::{Backlog, Claimed, Dead, Depth, Driver, Ending, Error, Item, Later, Place, Pushed, State};
use log::{Command, Log};
use rustix::fs::FlockOperation;
use segment::{Died, disk};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Version of the files.
pub const VERSION: u8 = segment::MAGIC[7];
/// Processes that may share a folder, as during an upgrade.
pub const SLOTS_MAX: usize = 4;
/// Bytes of waiting and dead items, unless told otherwise. The files take at most twice this and two segments.
pub const BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Time between looks for slots that were left.
const ADOPT: Duration = Duration::from_secs(2);

/// The driver.
pub struct Embedded {
    folder: PathBuf,
    name: String,
    bytes_max: u64,
    /// By slot; the first one opened is written to.
    logs: Mutex<BTreeMap<usize, Arc<Log>>>,
    own: usize,
    looked: Mutex<Instant>,
}

impl Embedded {
    /// Opens the lane `name` (a part of its ids) in `folder`, which is made if need be.
    pub fn open(folder: &Path, name: &str, bytes_max: u64) -> Result<Self, Error> {
        for slot in 0..SLOTS_MAX {
            if let Some(log) = open_slot(folder, slot, name, bytes_max)? {
                let lane = Self {
                    folder: folder.to_owned(),
                    name: name.to_owned(),
                    bytes_max,
                    logs: Mutex::new(BTreeMap::from([(slot, Arc::new(log))])),
                    own: slot,
                    looked: Mutex::new(Instant::now()),
                };
                lane.adopt();
                return Ok(lane);
            }
        }
        Err(Error::Locked { path: folder.display().to_string(), max: SLOTS_MAX })
    }

    fn logs(&self) -> Vec<(usize, Arc<Log>)> {
        let logs = self.logs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        logs.iter().map(|(slot, log)| (*slot, Arc::clone(log))).collect()
    }

    fn log(&self, slot: usize) -> Result<Arc<Log>, Error> {
        let logs = self.logs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        logs.get(&slot).cloned().ok_or(Error::Closed)
    }

    /// Takes over slots whose process is gone.
    fn adopt(&self) {
        for slot in (0..SLOTS_MAX).filter(|slot| *slot != self.own && slot_path(&self.folder, *slot).exists()) {
            if self.log(slot).is_ok() {
                continue;
            }
            match open_slot(&self.folder, slot, &self.name, self.bytes_max) {
                Ok(Some(log)) => {
                    tracing::info!(
                        slot,
                        waiting = log.index().depth().waiting,
                        "a slow lane left behind is taken over"
                    );
                    let mut logs = self.logs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    logs.insert(slot, Arc::new(log));
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, slot, "a slow lane left behind cannot be read"),
            }
        }
    }

    fn adopt_if_due(&self) {
        let mut looked = self.looked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if looked.elapsed() >= ADOPT {
            *looked = Instant::now();
            drop(looked);
            self.adopt();
        }
    }
}

fn slot_path(folder: &Path, slot: usize) -> PathBuf {
    folder.join(format!("slot-{slot}"))
}

/// Opens a slot; none when another process has it.
fn open_slot(folder: &Path, slot: usize, name: &str, bytes_max: u64) -> Result<Option<Log>, Error> {
    let path = slot_path(folder, slot);
    std::fs::create_dir_all(&path).map_err(disk("cannot make", &path))?;
    let at = path.join("lock");
    let lock =
        OpenOptions::new().create(true).truncate(false).write(true).open(&at).map_err(disk("cannot open", &at))?;
    match lock_file(&lock) {
        Ok(true) => Log::open(&path, name, bytes_max, lock).map(Some),
        Ok(false) => Ok(None),
        Err(error) => Err(disk("cannot lock", &at)(error)),
    }
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
        Box::pin(async move {
            // A key may be known to a log that was taken over.
            let digests = (!item.key.is_empty()).then(|| (item.key_digest(), item.request_digest()));
            if let Some((key, request)) = digests {
                for (_, log) in self.logs().into_iter().filter(|(slot, _)| *slot != self.own) {
                    match log.index().known(&key, &request) {
                        index::Known::Same(id) => return Ok(Pushed { id, known: true }),
                        index::Known::Other => return Err(Error::KeyReused { key: item.key }),
                        index::Known::New => {}
                    }
                }
            }
            let log = self.log(self.own)?;
            ask(&log, |reply| Command::Push(Box::new(item), reply)).await
        })
    }

    fn backlog(&self) -> Later<'_, Vec<Backlog>> {
        Box::pin(async move {
            self.adopt_if_due();
            let mut whole = BTreeMap::<String, Backlog>::new();
            for part in self.logs().iter().flat_map(|(_, log)| log.index().backlog()) {
                match whole.get_mut(&part.policy) {
                    Some(sum) => {
                        sum.waiting += part.waiting;
                        sum.rate_milli_rps = sum.rate_milli_rps.max(part.rate_milli_rps);
                    }
                    None => drop(whole.insert(part.policy.clone(), part)),
                }
            }
            Ok(whole.into_values().collect())
        })
    }

    fn claim<'a>(&'a self, policy: &'a str, max: usize) -> Later<'a, Vec<Claimed>> {
        Box::pin(async move {
            let mut claimed = Vec::new();
            // What was left behind is older than what came since.
            let mut logs = self.logs();
            logs.sort_by_key(|(slot, _)| *slot == self.own);
            for (slot, log) in logs {
                while claimed.len() < max {
                    let Some((seq, file, span)) = log.index().claim(policy) else { break };
                    match segment::read_item(&file, span) {
                        Ok(item) => claimed.push(Claimed { item, place: Place::Log(slot, seq) }),
                        // It stays claimed: nobody can send what cannot be read, and the next start tries again.
                        Err(error) => tracing::error!(%error, slot, seq, "an accepted item cannot be read back"),
                    }
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
            let Place::Log(slot, seq) = claimed.place else { return Ok(()) };
            let log = self.log(slot)?;
            match ending {
                Ending::Returned => log.index().unclaim(seq),
                // False when it had ended already, which is as good.
                Ending::Done { status } => {
                    ask(&log, |reply| Command::Done(seq, status, reply)).await?;
                }
                Ending::Dead { status, reason, attempts } => {
                    let died = Died { seq, status: status.into(), reason, attempts };
                    ask(&log, |reply| Command::Died(died, reply)).await?;
                }
            }
            Ok(())
        })
    }

    fn state<'a>(&'a self, id: &'a str) -> Later<'a, Option<State>> {
        Box::pin(async move { Ok(self.logs().iter().find_map(|(_, log)| log.index().state(id))) })
    }

    fn dead(&self, skip: usize, limit: usize) -> Later<'_, Vec<Dead>> {
        Box::pin(async move {
            let spans: Vec<_> = self.logs().iter().flat_map(|(_, log)| log.index().dead(0, skip + limit)).collect();
            let read = |(file, span, died): (Arc<File>, _, Died)| {
                let item = segment::read_item(&file, span)?;
                Ok(Dead { item, status: died.status as u16, reason: died.reason })
            };
            spans.into_iter().skip(skip).take(limit).map(read).collect()
        })
    }

    fn revive<'a>(&'a self, id: &'a str) -> Later<'a, bool> {
        Box::pin(async move {
            for (_, log) in self.logs() {
                if ask(&log, |reply| Command::Revive(id.to_owned(), reply)).await? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    fn depth(&self) -> Later<'_, Depth> {
        Box::pin(async move {
            let sum = |sum: Depth, (_, log): &(usize, Arc<Log>)| {
                let part = log.index().depth();
                Depth { waiting: sum.waiting + part.waiting, dead: sum.dead + part.dead, bytes: sum.bytes + part.bytes }
            };
            Ok(self.logs().iter().fold(Depth::default(), sum))
        })
    }
}
