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

fn damaged(path: &Path) -> Option<Error> {
    RedbStore::open(path).err()
}

#[tokio::test]
async fn leases_live_on_after_a_restart_and_then_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let store = RedbStore::open(&path).expect("a new store");
    let brief = store.lease_grant(4_000).await.expect("grants");
    let long = store.lease_grant(60_000).await.expect("grants");
    let leased = |key: &str, lease: Lease| Op::Put { key: key.into(), value: vec![], lease: Some(lease.id) };
    let ops = vec![leased("/brief", brief), leased("/long", long)];
    assert_eq!(store.txn(Txn { compares: vec![], ops }).await.expect("commits"), TxnOutcome::Committed(1));
    drop(store);
    let store = RedbStore::open(&path).expect("opens again");
    let mut watch = store.watch("/brief", 1).await.expect("watches");
    let ended = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("ends").expect("an event");
    assert!(matches!(ended, WatchEvent::Commit(Commit { revision: 2, .. })));
    store.lease_renew(long.id).await.expect("lives");
    assert_eq!(store.range("/").await.expect("reads").items.len(), 1);
    assert!(store.lease_grant(1_000).await.expect("grants").id > long.id, "ids are not given twice");
    store.lease_revoke(long.id).await.expect("revokes");
    drop(store);
    let store = RedbStore::open(&path).expect("opens again");
    assert!(matches!(store.lease_renew(long.id).await, Err(Error::NoLease(_))));
    assert_eq!(store.range("/").await.expect("reads"), Range { revision: 3, items: vec![] });
}

#[test]
fn the_same_process_cannot_open_a_file_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let store = RedbStore::open(&path).expect("a new store");
    let refused = damaged(&path).expect("is refused");
    assert!(matches!(refused, Error::InUse { .. }), "{refused}");
    drop(store);
    assert!(damaged(&path).is_none());
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    drop(RedbStore::open(&path).expect("a new store"));
    let database = ::redb::Database::create(&path).expect("opens");
    let txn = database.begin_write().expect("begins");
    let meta = ::redb::TableDefinition::<&str, u64>::new("meta");
    txn.open_table(meta).expect("is there").insert("format", FORMAT + 1).expect("writes");
    txn.commit().expect("commits");
    drop(database);
    let refused = damaged(&path).expect("is refused");
    assert!(matches!(refused, Error::Newer { found, known, .. } if found == known + 1), "{refused}");
}

#[tokio::test]
async fn damage_is_named_and_never_a_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let store = RedbStore::open(&path).expect("a new store");
    for n in 0..200 {
        store.txn(put(&format!("/key/{n}"), &"value".repeat(100))).await.expect("commits");
    }
    let whole = store.range("/").await.expect("reads");
    drop(store);
    let good = std::fs::read(&path).expect("reads");
    let garbage = folder.path().join("garbage.redb");
    std::fs::write(&garbage, vec![0x5a; 100_000]).expect("writes");
    let refused = damaged(&garbage).expect("is refused");
    assert!(matches!(&refused, Error::Damaged { path, .. } if path.ends_with("garbage.redb")), "{refused}");
    std::fs::write(&garbage, &good[..good.len() / 2]).expect("writes");
    assert!(matches!(damaged(&garbage), Some(Error::Damaged { .. } | Error::Io(_))), "a file cut in two");
    for at in (0..good.len()).step_by(good.len() / 60) {
        let mut bad = good.clone();
        bad[at..].iter_mut().take(600).for_each(|byte| *byte ^= 0xff);
        std::fs::write(&garbage, &bad).expect("writes");
        // Pages that nothing points to may be damaged without harm; anything else must be noticed.
        if let Ok(store) = RedbStore::open(&garbage) {
            assert!(store.range("/").await.expect("reads") == whole, "damage at {at} went unnoticed");
        }
    }
}
