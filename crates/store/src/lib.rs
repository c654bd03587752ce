//! The control state behind one trait with etcd's semantics and limits, so that a driver can be swapped.
//!
//! Drivers: [`memory`] (tests, simulator) and [`redb`] (one machine). Both pass [`conformance`].
//! Samples and instance state are deliberately absent: only intent is stored. Records (audit, curves, reports,
//! packages) live beside the store, in [`records`]; [`backup`] takes all of it into one file.

pub mod backup;
pub mod conformance;
mod crc;
mod hub;
mod kv;
pub mod memory;
pub mod records;
pub mod redb;
pub mod staged;
mod state;

pub use hub::{HISTORY_BYTES_MAX, HISTORY_COMMITS_MAX, WATCH_QUEUE_COMMITS_MAX};
pub use kv::{
    BoxFuture, Change, Commit, Compare, Error, KEY_BYTES_MAX, KeyValue, Lease, LeaseId, Op, Range, Revision, Store,
    TXN_BYTES_MAX, TXN_OPS_MAX, Txn, TxnOutcome, Watch, WatchEvent,
};
pub use memory::MemoryStore;
pub use redb::RedbStore;
pub use state::LEASE_TTL_MS_MAX;
