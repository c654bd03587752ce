//! Each driver under the conformance suite.

use std::sync::Arc;
use store::{MemoryStore, RedbStore, Store, conformance};

/// A redb store whose folder goes with it.
struct Temporary {
    store: RedbStore,
    _folder: tempfile::TempDir,
}

macro_rules! delegate {
    ($($name:ident($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        impl Store for Temporary {$(
            fn $name(&self, $($arg: $kind),*) -> store::BoxFuture<'_, Result<$out, store::Error>> {
                self.store.$name($($arg),*)
            }
        )*}
    };
}

delegate! {
    range(prefix: &str) -> store::Range;
    txn(txn: store::Txn) -> store::TxnOutcome;
    watch(prefix: &str, after: u64) -> store::Watch;
    lease_grant(ttl_ms: u64) -> store::Lease;
    lease_renew(id: u64) -> ();
    lease_revoke(id: u64) -> ();
    compact(revision: u64) -> ();
}

async fn redb() -> Arc<dyn Store> {
    let folder = tempfile::tempdir().expect("a folder");
    let store = RedbStore::open(&folder.path().join("store.redb")).expect("a new store");
    Arc::new(Temporary { store, _folder: folder })
}

async fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_conforms() {
    conformance::check_all(memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_conforms() {
    conformance::check_all(redb).await;
}

#[tokio::test]
async fn memory_leases_end() {
    conformance::expiring_leases(&*memory().await).await;
}

#[tokio::test]
async fn redb_leases_end() {
    conformance::expiring_leases(&*redb().await).await;
}
