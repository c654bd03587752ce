//! The driver for one machine: a redb file, one writer thread, group commit.
//!
//! All requests that wait when the writer is free commit in one durable redb transaction, each with its own revision.
//! Readers never wait for the disk: keys and recent history are in memory, and show only what is durable.
//! Leases survive a restart with their full life, counted from the restart (as etcd's do when its leader changes):
//! renewals are not written to disk, and a lease whose owner is gone still ends.
//! Absent on purpose: history on disk, and reads at past revisions.

mod file;
#[cfg(test)]
mod tests;

use crate::hub::Hub;
use crate::kv::*;
use crate::state::{Draft, Effect, State, check};
pub use file::FORMAT;
use file::StoreFile;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Requests that may wait for the writer; more wait for a place.
pub const QUEUE_REQUESTS_MAX: usize = 4_096;
/// Requests committed together.
pub const BATCH_REQUESTS_MAX: usize = 512;
/// Bytes of keys and values committed together (the request that passes the bound is the last of its batch).
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest sleep of the writer with nothing to do.
const IDLE_MS_MAX: u64 = 3_600_000;
/// Pause before expired leases are tried again on a failing disk.
const RETRY_MS: u64 = 500;

type Answer<T> = oneshot::Sender<Result<T, Error>>;

enum Request {
    Txn(Txn, Answer<TxnOutcome>),
    Grant(u64, Answer<Lease>),
    Revoke(LeaseId, Answer<()>),
}

/// An answer that waits for the disk.
enum Ready {
    Txn(Answer<TxnOutcome>, Result<TxnOutcome, Error>),
    Grant(Answer<Lease>, Lease),
    Revoke(Answer<()>, Result<(), Error>),
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Txn(txn, _) => txn.ops.iter().map(Op::bytes).sum(),
            Self::Grant(..) | Self::Revoke(..) => 0,
        }
    }

    fn draft(self, draft: &mut Draft<'_>, now: Instant) -> Ready {
        match self {
            Self::Txn(txn, answer) => Ready::Txn(answer, draft.txn(txn, now)),
            Self::Grant(ttl_ms, answer) => Ready::Grant(answer, draft.grant(ttl_ms)),
            Self::Revoke(id, answer) => Ready::Revoke(answer, draft.revoke(id, now)),
        }
    }
}

impl Ready {
    /// Answers; whoever asked may have gone meanwhile, which changes nothing.
    fn send(self, disk: &Result<(), Error>) {
        let failed = disk.as_ref().err().map(|error| match error {
            Error::Io(why) => Error::Io(why.clone()),
            other => Error::Io(other.to_string()),
        });
        match self {
            Self::Txn(answer, outcome) => drop(answer.send(failed.map_or(outcome, Err))),
            Self::Grant(answer, lease) => drop(answer.send(failed.map_or(Ok(lease), Err))),
            Self::Revoke(answer, outcome) => drop(answer.send(failed.map_or(outcome, Err))),
        }
    }
}

/// A [`Store`] in one file.
pub struct RedbStore {
    hub: Arc<RwLock<Hub>>,
    places: Arc<Semaphore>,
    queue: Option<Sender<(Request, OwnedSemaphorePermit)>>,
    writer: Option<JoinHandle<()>>,
}

fn read(hub: &RwLock<Hub>) -> RwLockReadGuard<'_, Hub> {
    hub.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(hub: &RwLock<Hub>) -> RwLockWriteGuard<'_, Hub> {
    hub.write().unwrap_or_else(PoisonError::into_inner)
}

impl RedbStore {
    /// Opens or creates the store at `path`; blocks while it reads.
    ///
    /// # Errors
    /// [`Error::InUse`] when a process holds it, [`Error::Newer`] for a file of a newer binary, [`Error::Damaged`] for
    /// content that cannot be right, [`Error::Io`] when the disk fails.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = StoreFile::open(path)?;
        let found = file.read()?;
        let state = State::restored(found.revision, found.lease_last, found.keys, found.leases, Instant::now());
        let hub = Arc::new(RwLock::new(Hub::new(state)));
        let (queue, requests) = channel();
        let writer = Writer { file, hub: hub.clone(), requests, unsure: None, failing: false };
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| Error::Io(format!("cannot start the writer thread: {error}")))?;
        let places = Arc::new(Semaphore::new(QUEUE_REQUESTS_MAX));
        Ok(Self { hub, places, queue: Some(queue), writer: Some(writer) })
    }

    /// Makes a store at `path`, where none may be, that holds these keys at this revision; blocks.
    pub(crate) fn fill(path: &Path, revision: Revision, keys: Vec<KeyValue>) -> Result<(), Error> {
        let file = StoreFile::open(path)?;
        if file.revision()? != 0 {
            return Err(Error::InUse { path: path.display().to_string() });
        }
        let keys = keys.into_iter().map(|item| (item.key.clone(), Some(item))).collect();
        file.write(&Effect { revision, lease_last: 0, keys, leases: Default::default(), commits: Vec::new() })
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, Error> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| Error::Closed)?;
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(Error::Closed)?;
        queue.send((request(answer), place)).map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

impl Drop for RedbStore {
    /// Waits until the writer has committed what was asked for and let go of the file.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer thread had panicked");
        }
        write(&self.hub).close();
    }
}

impl Store for RedbStore {
    fn range(&self, prefix: &str) -> BoxFuture<'_, Result<Range, Error>> {
        let range = read(&self.hub).state.range(prefix);
        Box::pin(async move { Ok(range) })
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnOutcome, Error>> {
        Box::pin(async move {
            check(&txn)?;
            self.ask(|answer| Request::Txn(txn, answer)).await
        })
    }

    fn watch(&self, prefix: &str, after: Revision) -> BoxFuture<'_, Result<Watch, Error>> {
        let watch = write(&self.hub).watch(prefix, after);
        Box::pin(async move { Ok(watch) })
    }

    fn lease_grant(&self, ttl_ms: u64) -> BoxFuture<'_, Result<Lease, Error>> {
        Box::pin(self.ask(move |answer| Request::Grant(ttl_ms, answer)))
    }

    fn lease_renew(&self, id: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { write(&self.hub).state.renew(id, Instant::now()) })
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.ask(move |answer| Request::Revoke(id, answer)))
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), Error>> {
        write(&self.hub).compact(revision);
        Box::pin(async { Ok(()) })
    }
}

/// The thread that alone changes the file and the hub.
struct Writer {
    file: StoreFile,
    hub: Arc<RwLock<Hub>>,
    requests: Receiver<(Request, OwnedSemaphorePermit)>,
    /// The effect of a write that failed: the file tells, when it opens again, whether it took place.
    unsure: Option<Effect>,
    failing: bool,
}

impl Writer {
    fn run(mut self) {
        while let Some(batch) = self.collect() {
            self.commit(batch);
        }
    }

    /// Waits for requests or the end of a lease (an empty batch); `None` when the store is dropped.
    fn collect(&self) -> Option<Vec<Request>> {
        let next = read(&self.hub).state.next_end();
        let idle = Duration::from_millis(IDLE_MS_MAX);
        let mut wait = next.map_or(idle, |ends| ends.saturating_duration_since(Instant::now()).min(idle));
        if self.failing {
            wait = wait.max(Duration::from_millis(RETRY_MS));
        }
        let first = match self.requests.recv_timeout(wait) {
            Ok((first, _place)) => first,
            Err(RecvTimeoutError::Timeout) => return Some(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => return None,
        };
        let mut bytes = first.bytes();
        let mut batch = vec![first];
        while batch.len() < BATCH_REQUESTS_MAX && bytes < BATCH_BYTES_MAX {
            let Ok((next, _place)) = self.requests.try_recv() else { break };
            bytes += next.bytes();
            batch.push(next);
        }
        Some(batch)
    }

    fn commit(&mut self, batch: Vec<Request>) {
        let recovered = if self.failing { self.recover() } else { Ok(()) };
        let now = Instant::now();
        let (ready, effect) = {
            let hub = read(&self.hub);
            let mut draft = Draft::new(&hub.state);
            draft.expire(now);
            let ready: Vec<_> = batch.into_iter().map(|request| request.draft(&mut draft, now)).collect();
            (ready, draft.finish())
        };
        let disk = recovered.and_then(|()| self.persist(effect, now));
        ready.into_iter().for_each(|ready| ready.send(&disk));
    }

    fn persist(&mut self, effect: Effect, now: Instant) -> Result<(), Error> {
        if effect.is_empty() {
            return Ok(());
        }
        let written = self.file.write(&effect);
        match &written {
            Ok(()) => write(&self.hub).publish(effect, now),
            Err(error) => {
                tracing::error!(%error, "the store cannot write; nothing is committed until it can");
                self.failing = true;
                self.unsure = Some(effect);
            }
        }
        written
    }

    /// Opens the file again after a failed write, and settles whether that write took place.
    fn recover(&mut self) -> Result<(), Error> {
        self.file.reopen()?;
        let on_disk = self.file.revision()?;
        if let Some(effect) = self.unsure.take_if(|effect| effect.revision == on_disk) {
            let shown = read(&self.hub).state.revision;
            if shown != on_disk {
                write(&self.hub).publish(effect, Instant::now());
            }
        }
        self.unsure = None;
        self.failing = false;
        tracing::info!("the store can write again");
        Ok(())
    }
}
