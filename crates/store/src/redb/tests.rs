//! Restarts, locks, versions and damage of the file.

use super::*;

fn put(key: &str, value: &str) -> Txn {
    Txn { compares: vec![], ops: vec![Op::Put { key: key.into(), value: value.into(), lease: None }] }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("new/store.redb");
    let store = RedbStore::open(&path).expect("a new store");
    assert_eq!(store.txn(put("/a", "1")).await.expect("commits"), TxnOutcome::Committed(1));
    assert_eq!(store.txn(put("/b", "2")).await.expect("commits"), TxnOutcome::Committed(2));
    assert_eq!(store.txn(put("/a", "3")).await.expect("commits"), TxnOutcome::Committed(3));
    let before = store.range("/").await.expect("reads");
    drop(store);
    let store = RedbStore::open(&path).expect("opens again");
    assert_eq!(store.range("/").await.expect("reads"), before);
    let mut old = store.watch("/", 1).await.expect("watches");
    assert_eq!(old.next().await, Some(WatchEvent::Compacted { oldest: 3 }));
    assert_eq!(old.next().await, None);
}
