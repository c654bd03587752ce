//! Large changes, stopped after every call to the store.

use super::*;
use crate::MemoryStore;
use std::sync::atomic::{AtomicI64, Ordering};

/// Fails every call once `left` have been made, as a dead process would.
struct Mortal {
    store: MemoryStore,
    left: AtomicI64,
}

impl Mortal {
    fn live(&self) -> Result<(), Error> {
        if self.left.fetch_sub(1, Ordering::Relaxed) > 0 { Ok(()) } else { Err(Error::Closed) }
    }
}

impl Store for Mortal {
    fn range(&self, prefix: &str) -> BoxFuture<'_, Result<Range, Error>> {
        let prefix = prefix.to_owned();
        Box::pin(async move {
            self.live()?;
            self.store.range(&prefix).await
        })
    }
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnOutcome, Error>> {
        Box::pin(async move {
            self.live()?;
            self.store.txn(txn).await
        })
    }
    fn watch(&self, prefix: &str, after: Revision) -> BoxFuture<'_, Result<Watch, Error>> {
        self.store.watch(prefix, after)
    }
    fn lease_grant(&self, ttl_ms: u64) -> BoxFuture<'_, Result<Lease, Error>> {
        self.store.lease_grant(ttl_ms)
    }
    fn lease_renew(&self, id: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        self.store.lease_renew(id)
    }
    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        self.store.lease_revoke(id)
    }
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), Error>> {
        self.store.compact(revision)
    }
}

fn put(key: String, value: &str) -> Op {
    Op::Put { key, value: value.into(), lease: None }
}

/// 300 keys written and 10 deleted: three chunks.
fn large() -> Vec<Op> {
    let puts = (0..300).map(|n| put(format!("/real/{n:03}"), "new"));
    puts.chain((0..10).map(|n| Op::Delete { key: format!("/old/{n}") })).collect()
}

async fn with_old_keys() -> MemoryStore {
    let store = MemoryStore::new();
    let ops = (0..10).map(|n| put(format!("/old/{n}"), "old")).collect();
    let done = store.txn(Txn { compares: vec![], ops }).await.expect("commits");
    assert_eq!(done, TxnOutcome::Committed(1));
    store
}

async fn keys(store: &MemoryStore, prefix: &str) -> usize {
    store.range(prefix).await.expect("reads").items.len()
}

/// True when the change took place; panics when half of it did.
async fn took_place(store: &MemoryStore) -> bool {
    assert_eq!(keys(store, RECORD).await, 0, "no chunk and no record stays behind");
    match (keys(store, "/real/").await, keys(store, "/old/").await) {
        (300, 0) => true,
        (0, 10) => false,
        half => panic!("half a change: {half:?}"),
    }
}

#[tokio::test]
async fn stopped_after_any_call_it_is_whole_or_nothing() {
    for guards in [1_usize, 10, 300] {
        let mut outcomes = [0, 0];
        for calls in 0.. {
            let store = with_old_keys().await;
            let mortal = Mortal { store: store.clone(), left: AtomicI64::new(calls) };
            let guard = |n: usize| match n {
                0..10 => Compare::ModRevision(format!("/old/{n}"), 1),
                _ => Compare::ModRevision(format!("/real/{:03}", n - 10), 0),
            };
            let ended = commit(&mortal, "op-1", (0..guards).map(guard).collect(), large()).await;
            if ended.is_ok() {
                assert!(took_place(&store).await);
                assert_eq!(recover(&store).await.expect("recovers"), Recovered::Nothing);
                break;
            }
            // The one who recovers may die as well, at any call.
            for recover_calls in 0.. {
                let mortal = Mortal { store: store.clone(), left: AtomicI64::new(recover_calls) };
                if recover(&mortal).await.is_ok() {
                    break;
                }
            }
            recover(&store).await.expect("recovers");
            outcomes[usize::from(took_place(&store).await)] += 1;
        }
        assert!(outcomes[0] > 3 && outcomes[1] > 3, "both outcomes were met: {outcomes:?}");
    }
}

#[tokio::test]
async fn a_failed_guard_leaves_nothing_wherever_it_stands() {
    for failing in [0_usize, 126, 127, 290] {
        let store = with_old_keys().await;
        let guard = |n: usize| Compare::ModRevision(format!("/real/{n:03}"), u64::from(n == failing) * 7);
        let ended = commit(&store, "op-1", (0..300).map(guard).collect(), large()).await.expect("answers");
        assert_eq!(ended, TxnOutcome::Conflict(guard(failing)));
        assert!(!took_place(&store).await);
    }
}

#[tokio::test]
async fn writers_are_kept_out_while_a_change_is_copied() {
    let store = with_old_keys().await;
    // Four chunks and the record are written, then the writer dies.
    let mortal = Mortal { store: store.clone(), left: AtomicI64::new(5) };
    commit(&mortal, "op-1", vec![], large()).await.expect_err("dies");
    let kept_out = TxnOutcome::Conflict(Compare::ModRevision(RECORD.to_owned(), 0));
    let small = vec![put("/real/007".into(), "other")];
    assert_eq!(commit(&store, "op-2", vec![], small.clone()).await.expect("answers"), kept_out);
    assert_eq!(commit(&store, "op-3", vec![], large()).await.expect("answers"), kept_out);
    let Recovered::Finished { id, revision } = recover(&store).await.expect("recovers") else { panic!("not finished") };
    assert_eq!(id, "op-1");
    assert!(took_place(&store).await);
    assert_eq!(commit(&store, "op-2", vec![], small).await.expect("answers"), TxnOutcome::Committed(revision + 1));
}

#[tokio::test]
async fn large_values_are_split_by_bytes_and_a_small_change_is_one_revision() {
    let store = MemoryStore::new();
    let text = "x".repeat(TXN_BYTES_MAX - OVERHEAD_BYTES - 8);
    let ops = vec![put("/real/1".into(), &text), put("/real/2".into(), "y"), put("/real/3".into(), &text)];
    let ended = commit(&store, "op-1", vec![], ops).await.expect("commits");
    assert!(matches!(ended, TxnOutcome::Committed(revision) if revision > 3));
    let found = store.range("/real/").await.expect("reads").items;
    assert_eq!(found.iter().map(|item| item.value.len()).collect::<Vec<_>>(), [text.len(), 1, text.len()]);
    let too_large = vec![put("/real/1".into(), &"x".repeat(TXN_BYTES_MAX))];
    assert!(matches!(commit(&store, "op-2", vec![], too_large).await, Err(Error::TooLarge { .. })));
    let before = store.range("/").await.expect("reads").revision;
    let small = vec![put("/real/4".into(), "z")];
    assert_eq!(commit(&store, "op-3", vec![], small).await.expect("commits"), TxnOutcome::Committed(before + 1));
    let mut twice = large();
    twice.push(put("/real/000".into(), "again"));
    assert!(matches!(commit(&store, "op-4", vec![], twice).await, Err(Error::BadKey { .. })));
    let leased = (0..200).map(|n| Op::Put { key: format!("/l/{n}"), value: vec![], lease: Some(1) }).collect();
    assert!(matches!(commit(&store, "op-5", vec![], leased).await, Err(Error::BadKey { .. })));
    assert!(matches!(commit(&store, "a/b", vec![], large()).await, Err(Error::BadKey { .. })));
}
