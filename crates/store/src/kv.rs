//! The Store trait: revisions, compare-and-swap transactions, ordered watch, leases.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Operations allowed in one transaction (etcd's default).
pub const TXN_OPS_MAX: usize = 128;
/// Bytes of keys and values allowed in one transaction (etcd's default request limit).
pub const TXN_BYTES_MAX: usize = 1_572_864;
/// Bytes allowed in one key.
pub const KEY_BYTES_MAX: usize = 1_024;

/// Revision of the store: 0 when empty, grows by exactly one with each transaction that writes.
pub type Revision = u64;
/// Id of a lease, never 0.
pub type LeaseId = u64;
/// What the trait's methods return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One stored key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, UTF-8, starting with `/`.
    pub key: Arc<str>,
    /// The value.
    pub value: Arc<[u8]>,
    /// Revision that created the key.
    pub create_revision: Revision,
    /// Revision that changed it last.
    pub mod_revision: Revision,
    /// The lease it lives by, if any.
    pub lease: Option<LeaseId>,
}

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key's last change was at this revision; 0 means that the key does not exist.
    ModRevision(String, Revision),
    /// The key exists.
    Exists(String),
}

/// A write of a transaction. A key may be written once in a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a key; with a lease, the key is deleted when the lease ends.
    Put {
        /// The key.
        key: String,
        /// Its value.
        value: Vec<u8>,
        /// The lease it lives by.
        lease: Option<LeaseId>,
    },
    /// Deletes a key; deleting an absent key is no error and changes nothing.
    Delete {
        /// The key.
        key: String,
    },
}

impl Compare {
    /// The key it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::ModRevision(key, _) | Self::Exists(key) => key,
        }
    }
}

impl Op {
    /// The key it writes.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    /// Bytes of its key and value, as [`TXN_BYTES_MAX`] counts them.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
        }
    }
}

/// Writes that take effect together, if all conditions hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// Conditions, all of which must hold.
    pub compares: Vec<Compare>,
    /// Writes.
    pub ops: Vec<Op>,
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnOutcome {
    /// It is durable, at this revision (the current one when nothing changed).
    Committed(Revision),
    /// A condition did not hold; nothing was written. Carries the first such condition.
    Conflict(Compare),
}

/// The keys under a prefix, at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The revision at which this was true.
    pub revision: Revision,
    /// The keys in order.
    pub items: Vec<KeyValue>,
}

/// One changed key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Arc<str>,
    /// Its new value; absent when it was deleted.
    pub value: Option<Arc<[u8]>>,
}

/// All changes of one revision; never split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The revision.
    pub revision: Revision,
    /// Its changes under the watched prefix, in the transaction's order; never empty.
    pub changes: Vec<Change>,
}

/// What a watch answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// The next revision that touches the prefix.
    Commit(Commit),
    /// The revisions asked for are gone (or the watcher fell too far behind): range again, then watch from there.
    /// It is the last event of its watch.
    Compacted {
        /// Oldest revision that can still be watched from.
        oldest: Revision,
    },
}

/// An ordered, resumable stream of commits.
pub struct Watch(pub tokio::sync::mpsc::Receiver<WatchEvent>);

impl Watch {
    /// The next event; `None` after [`WatchEvent::Compacted`], or when the store has shut down.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.0.recv().await
    }
}

/// A granted lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Its life from each renewal.
    pub ttl_ms: u64,
}

/// Why the store refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Too many operations.
    #[error("transaction has {ops} operations; at most {TXN_OPS_MAX} are allowed: stage a larger change in chunks")]
    TooManyOps {
        /// How many it had.
        ops: usize,
    },
    /// Too many bytes.
    #[error("transaction has {bytes} bytes; at most {TXN_BYTES_MAX} are allowed: stage a larger change in chunks")]
    TooLarge {
        /// How many it had.
        bytes: usize,
    },
    /// A key that cannot be.
    #[error("key {key:?} is refused: {why}")]
    BadKey {
        /// The key.
        key: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A past revision that is gone.
    #[error("revision {asked} is compacted; the oldest readable is {oldest}")]
    Compacted {
        /// Asked for.
        asked: Revision,
        /// Still there.
        oldest: Revision,
    },
    /// A lease that has ended or never was.
    #[error("lease {0} does not exist or has ended")]
    NoLease(LeaseId),
    /// Another process holds the data folder.
    #[error("{path} is in use by another springtide process: stop that one, or choose another --data folder")]
    InUse {
        /// The file.
        path: String,
    },
    /// A file of a newer version.
    #[error("{path} has format {found}, this binary knows up to {known}: use the newer springtide")]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        found: u64,
        /// The newest known here.
        known: u64,
    },
    /// A file whose content cannot be right.
    #[error("{path} is damaged: {why}; restore it from a backup, or move it away to start empty")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file or the disk failed.
    #[error("store file failed: {0}")]
    Io(String),
    /// The store has shut down.
    #[error("the store has shut down")]
    Closed,
}

/// Control state: a small, ordered, durable map with revisions.
pub trait Store: Send + Sync {
    /// The keys under `prefix`, at the newest revision.
    fn range(&self, prefix: &str) -> BoxFuture<'_, Result<Range, Error>>;

    /// Commits, or says which condition did not hold. Durable when it returns.
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnOutcome, Error>>;

    /// Every commit after `after` that touches `prefix`, in order, each revision whole.
    fn watch(&self, prefix: &str, after: Revision) -> BoxFuture<'_, Result<Watch, Error>>;

    /// Grants a lease.
    fn lease_grant(&self, ttl_ms: u64) -> BoxFuture<'_, Result<Lease, Error>>;

    /// Gives a lease its full life again.
    fn lease_renew(&self, id: LeaseId) -> BoxFuture<'_, Result<(), Error>>;

    /// Ends a lease and deletes its keys.
    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<(), Error>>;

    /// Forgets the history up to and including `revision`: watches from before it answer [`WatchEvent::Compacted`].
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), Error>>;
}
