//! What every driver must do, as checks that each driver's tests run.
//!
//! Each check takes a fresh, empty store and panics with what was wrong. Time is real: a check waits for conditions with
//! a deadline, never for a while.

use crate::kv::*;
use std::sync::Arc;
use std::time::Duration;

/// Time in which something that must happen has to happen.
const DEADLINE: Duration = Duration::from_secs(20);
/// Tasks that count up at the same time.
const COUNTERS: usize = 8;
/// Steps of each of them.
const COUNTS: u64 = 25;

fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.to_owned(), value: value.into(), lease: None }
}

fn leased(key: &str, lease: &Lease) -> Op {
    Op::Put { key: key.to_owned(), value: b"leased".to_vec(), lease: Some(lease.id) }
}

fn delete(key: &str) -> Op {
    Op::Delete { key: key.to_owned() }
}

fn unchanged(key: &str, revision: Revision) -> Compare {
    Compare::ModRevision(key.to_owned(), revision)
}

async fn txn(store: &dyn Store, compares: Vec<Compare>, ops: Vec<Op>) -> TxnOutcome {
    store.txn(Txn { compares, ops }).await.expect("the store takes the transaction")
}

async fn commit(store: &dyn Store, ops: Vec<Op>) -> Revision {
    match txn(store, vec![], ops).await {
        TxnOutcome::Committed(revision) => revision,
        TxnOutcome::Conflict(compare) => panic!("no condition was given, but {compare:?} failed"),
    }
}

async fn refused(store: &dyn Store, compares: Vec<Compare>, ops: Vec<Op>) -> Error {
    store.txn(Txn { compares, ops }).await.expect_err("the store refuses the transaction")
}

async fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    let range = store.range(prefix).await.expect("the store reads");
    range.items.iter().map(|item| item.key.to_string()).collect()
}

async fn next(watch: &mut Watch) -> WatchEvent {
    let event = tokio::time::timeout(DEADLINE, watch.next()).await.expect("an event within the deadline");
    event.expect("the watch goes on")
}

async fn next_commit(watch: &mut Watch) -> Commit {
    match next(watch).await {
        WatchEvent::Commit(commit) => commit,
        other => panic!("a commit was due, not {other:?}"),
    }
}

fn change(key: &str, value: Option<&str>) -> Change {
    Change { key: key.into(), value: value.map(|value| value.as_bytes().into()) }
}

/// All checks but those that need time to pass.
pub async fn check_all<F: Future<Output = Arc<dyn Store>>>(fresh: impl Fn() -> F) {
    revisions(&*fresh().await).await;
    compare_and_swap(&*fresh().await).await;
    limits(&*fresh().await).await;
    ranges(&*fresh().await).await;
    watches(&*fresh().await).await;
    resumed_watches(&*fresh().await).await;
    slow_watchers(&*fresh().await).await;
    bounded_history(&*fresh().await).await;
    ended_leases(&*fresh().await).await;
    counters(fresh().await).await;
}

/// Each transaction that writes takes exactly one revision.
pub async fn revisions(store: &dyn Store) {
    assert_eq!(store.range("/").await.expect("reads"), Range { revision: 0, items: vec![] });
    assert_eq!(commit(store, vec![put("/a", "1"), put("/b", "1")]).await, 1);
    assert_eq!(commit(store, vec![put("/a", "2")]).await, 2);
    assert_eq!(commit(store, vec![]).await, 2, "no write, no revision");
    assert_eq!(commit(store, vec![delete("/absent")]).await, 2, "nothing deleted, no revision");
    assert_eq!(commit(store, vec![put("/a", "2")]).await, 3, "the same value is a write");
    assert_eq!(commit(store, vec![delete("/b"), delete("/absent"), put("/c", "1")]).await, 4);
    let range = store.range("/").await.expect("reads");
    let seen: Vec<_> = range.items.iter().map(|i| (i.key.as_ref(), i.create_revision, i.mod_revision)).collect();
    assert_eq!((range.revision, seen), (4, vec![("/a", 1, 3), ("/c", 4, 4)]));
    assert_eq!(commit(store, vec![delete("/a")]).await, 5);
    assert_eq!(commit(store, vec![put("/a", "new")]).await, 6);
    let again = store.range("/a").await.expect("reads").items;
    assert_eq!((again[0].create_revision, again[0].mod_revision), (6, 6), "created again");
}

/// Conditions over several keys hold together, or nothing is written.
pub async fn compare_and_swap(store: &dyn Store) {
    commit(store, vec![put("/a", "1")]).await;
    commit(store, vec![put("/b", "1")]).await;
    let both = vec![unchanged("/a", 1), unchanged("/b", 2), unchanged("/c", 0), Compare::Exists("/a".into())];
    assert_eq!(txn(store, both.clone(), vec![put("/c", "1"), put("/a", "2")]).await, TxnOutcome::Committed(3));
    let stale = txn(store, both, vec![put("/d", "1")]).await;
    assert_eq!(stale, TxnOutcome::Conflict(unchanged("/a", 1)), "the first that failed");
    let absent = txn(store, vec![Compare::Exists("/d".into())], vec![put("/e", "1")]).await;
    assert_eq!(absent, TxnOutcome::Conflict(Compare::Exists("/d".into())));
    assert_eq!(keys(store, "/").await, ["/a", "/b", "/c"]);
    assert_eq!(store.range("/").await.expect("reads").revision, 3);
}

/// etcd's limits hold here too.
pub async fn limits(store: &dyn Store) {
    let many = |count: usize| (0..count).map(|n| put(&format!("/k/{n}"), "")).collect::<Vec<_>>();
    let error = refused(store, vec![], many(TXN_OPS_MAX + 1)).await;
    assert!(matches!(error, Error::TooManyOps { ops } if ops == TXN_OPS_MAX + 1), "{error}");
    let compares = (0..=TXN_OPS_MAX).map(|n| unchanged(&format!("/k/{n}"), 0)).collect();
    let error = refused(store, compares, vec![]).await;
    assert!(matches!(error, Error::TooManyOps { .. }), "{error}");
    let error = refused(store, vec![], vec![put("/a", &"x".repeat(TXN_BYTES_MAX - 1))]).await;
    assert!(matches!(error, Error::TooLarge { bytes } if bytes == TXN_BYTES_MAX + 1), "{error}");
    let long = format!("/{}", "k".repeat(KEY_BYTES_MAX));
    for key in ["", "/", "a", "/a\nb", "/a\0", long.as_str()] {
        let error = refused(store, vec![], vec![put(key, "")]).await;
        assert!(matches!(error, Error::BadKey { .. }), "{key:?}: {error}");
        let error = refused(store, vec![Compare::Exists(key.to_owned())], vec![]).await;
        assert!(matches!(error, Error::BadKey { .. }), "{key:?}: {error}");
    }
    let error = refused(store, vec![], vec![put("/a", "1"), delete("/a")]).await;
    assert!(matches!(error, Error::BadKey { ref key, .. } if key == "/a"), "{error}");
    assert_eq!(store.range("/").await.expect("reads"), Range { revision: 0, items: vec![] }, "nothing was written");
    assert_eq!(commit(store, many(TXN_OPS_MAX)).await, 1);
    assert_eq!(commit(store, vec![put("/a", &"x".repeat(TXN_BYTES_MAX - 2))]).await, 2);
    assert_eq!(commit(store, vec![put(&long[..KEY_BYTES_MAX], "ü")]).await, 3);
}

/// A prefix takes exactly what begins with it, in order of bytes.
pub async fn ranges(store: &dyn Store) {
    commit(store, ["/b/2", "/b/10", "/b", "/bc", "/a", "/c", "/b/ü"].map(|key| put(key, key)).to_vec()).await;
    assert_eq!(keys(store, "/b/").await, ["/b/10", "/b/2", "/b/ü"]);
    assert_eq!(keys(store, "/b").await, ["/b", "/b/10", "/b/2", "/b/ü", "/bc"]);
    assert_eq!(keys(store, "/d").await, Vec::<String>::new());
    assert_eq!(keys(store, "").await.len(), 7);
}

/// A watch gives every revision under its prefix, whole and in order.
pub async fn watches(store: &dyn Store) {
    let mut all = store.watch("/", 0).await.expect("watches");
    let mut some = store.watch("/a/", 0).await.expect("watches");
    let mut later = store.watch("/", 2).await.expect("watches a revision to come");
    commit(store, vec![put("/b", "1"), put("/a/2", "1"), put("/a/1", "1")]).await;
    commit(store, vec![put("/b", "2")]).await;
    commit(store, vec![delete("/a/1"), delete("/absent")]).await;
    let first = vec![change("/b", Some("1")), change("/a/2", Some("1")), change("/a/1", Some("1"))];
    let third = Commit { revision: 3, changes: vec![change("/a/1", None)] };
    assert_eq!(next_commit(&mut all).await, Commit { revision: 1, changes: first.clone() }, "in the order written");
    assert_eq!(next_commit(&mut all).await, Commit { revision: 2, changes: vec![change("/b", Some("2"))] });
    assert_eq!(next_commit(&mut all).await, third);
    assert_eq!(next_commit(&mut some).await, Commit { revision: 1, changes: first[1..].to_vec() });
    assert_eq!(next_commit(&mut some).await, third, "a revision elsewhere is left out");
    assert_eq!(next_commit(&mut later).await, third);
}

/// A watch resumes after a revision, unless that is compacted.
pub async fn resumed_watches(store: &dyn Store) {
    for n in 1..=10 {
        assert_eq!(commit(store, vec![put("/a", &n.to_string())]).await, n);
    }
    let mut watch = store.watch("/", 7).await.expect("watches");
    store.compact(5).await.expect("compacts");
    store.compact(3).await.expect("what is compacted may be compacted again");
    for n in 8..=10 {
        assert_eq!(next_commit(&mut watch).await.revision, n);
    }
    let mut old = store.watch("/", 4).await.expect("answers");
    assert_eq!(next(&mut old).await, WatchEvent::Compacted { oldest: 5 });
    assert_eq!(old.next().await, None, "a compacted watch ends");
    let mut resumed = store.watch("/", 5).await.expect("watches");
    assert_eq!(next_commit(&mut resumed).await.revision, 6);
    store.compact(1_000).await.expect("compacts all there is");
    let mut old = store.watch("/", 9).await.expect("answers");
    assert_eq!(next(&mut old).await, WatchEvent::Compacted { oldest: 10 });
    let mut newest = store.watch("/", 10).await.expect("watches");
    commit(store, vec![put("/a", "11")]).await;
    assert_eq!(next_commit(&mut newest).await.revision, 11);
}

/// A watcher that does not read costs a bounded queue, and is told that it missed something.
pub async fn slow_watchers(store: &dyn Store) {
    let mut slow = store.watch("/", 0).await.expect("watches");
    let mut other = store.watch("/other", 0).await.expect("watches");
    let count = crate::WATCH_QUEUE_COMMITS_MAX as u64 + 50;
    let writes: Vec<_> = (0..count).map(|_| store.txn(Txn { compares: vec![], ops: vec![put("/a", "")] })).collect();
    for write in join(writes).await {
        write.expect("a slow watcher holds no writer up");
    }
    let mut last = 0;
    while let WatchEvent::Commit(commit) = next(&mut slow).await {
        assert_eq!(commit.revision, last + 1, "no gap before the message");
        last = commit.revision;
    }
    assert_eq!((last, slow.next().await), (crate::WATCH_QUEUE_COMMITS_MAX as u64, None));
    let mut resumed = store.watch("/", last).await.expect("resumes where it stopped");
    assert_eq!(next_commit(&mut resumed).await.revision, last + 1);
    commit(store, vec![put("/other", "1")]).await;
    assert_eq!(next_commit(&mut other).await.revision, count + 1, "who reads in time is not disturbed");
}

/// The history kept for watchers is bounded.
pub async fn bounded_history(store: &dyn Store) {
    let large = "x".repeat(TXN_BYTES_MAX - 100);
    let count = (crate::HISTORY_BYTES_MAX / large.len() + 3) as u64;
    for _ in 0..count {
        commit(store, vec![put("/a", &large)]).await;
    }
    let mut old = store.watch("/", 0).await.expect("answers");
    let WatchEvent::Compacted { oldest } = next(&mut old).await else { panic!("64 MiB of history are all there is") };
    assert!((1..=4).contains(&oldest), "{oldest}");
    let mut resumed = store.watch("/", oldest).await.expect("watches");
    assert_eq!(next_commit(&mut resumed).await.revision, oldest + 1);
}

/// Revoked leases take their keys along, in one revision.
pub async fn ended_leases(store: &dyn Store) {
    let (one, two) =
        (store.lease_grant(60_000).await.expect("grants"), store.lease_grant(60_000).await.expect("grants"));
    assert!(one.id != 0 && two.id != 0 && one.id != two.id, "ids are unique and not 0");
    assert_eq!(one.ttl_ms, 60_000);
    let endless = store.lease_grant(u64::MAX).await.expect("grants");
    assert_eq!(endless.ttl_ms, crate::LEASE_TTL_MS_MAX, "no lease lives for ever");
    commit(store, vec![leased("/a", &one), leased("/b", &one), leased("/c", &one), put("/d", "1")]).await;
    commit(store, vec![leased("/b", &two), put("/c", "free")]).await;
    let held = store.range("/").await.expect("reads").items;
    assert_eq!(held.iter().map(|i| i.lease).collect::<Vec<_>>(), [Some(one.id), Some(two.id), None, None]);
    let mut watch = store.watch("/", 2).await.expect("watches");
    store.lease_revoke(one.id).await.expect("revokes");
    assert_eq!(next_commit(&mut watch).await, Commit { revision: 3, changes: vec![change("/a", None)] });
    assert_eq!(keys(store, "/").await, ["/b", "/c", "/d"]);
    assert!(matches!(store.lease_revoke(one.id).await, Err(Error::NoLease(id)) if id == one.id));
    assert!(matches!(store.lease_renew(one.id).await, Err(Error::NoLease(_))));
    assert!(matches!(refused(store, vec![], vec![put("/x", "1"), leased("/y", &one)]).await, Error::NoLease(_)));
    let many: Vec<_> = (0..300).map(|n| leased(&format!("/many/{n}"), &two)).collect();
    for ops in many.chunks(TXN_OPS_MAX) {
        commit(store, ops.to_vec()).await;
    }
    let before = store.range("/").await.expect("reads").revision;
    store.lease_revoke(two.id).await.expect("revokes");
    let after = store.range("/").await.expect("reads");
    assert_eq!((after.revision, after.items.len()), (before + 1, 2), "300 keys end in one revision");
}

/// Leases end by themselves, unless renewed.
pub async fn expiring_leases(store: &dyn Store) {
    let brief = store.lease_grant(50).await.expect("grants");
    let renewed = store.lease_grant(5_000).await.expect("grants");
    commit(store, vec![leased("/renewed", &renewed)]).await;
    let attached = store.txn(Txn { compares: vec![], ops: vec![leased("/brief", &brief)] }).await;
    let mut watch = store.watch("/brief", 0).await.expect("watches");
    if attached.is_ok() {
        assert_eq!(next_commit(&mut watch).await.changes, [change("/brief", Some("leased"))]);
        assert_eq!(next_commit(&mut watch).await.changes, [change("/brief", None)], "ends though nobody asks");
    }
    assert!(matches!(store.lease_renew(brief.id).await, Err(Error::NoLease(_))), "a dead lease stays dead");
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(6_000) {
        store.lease_renew(renewed.id).await.expect("lives as long as it is renewed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(keys(store, "/").await, ["/renewed"], "past its first life");
    let mut watch = store.watch("/renewed", store.range("/").await.expect("reads").revision).await.expect("watches");
    assert_eq!(next_commit(&mut watch).await.changes, [change("/renewed", None)], "ends once nobody renews");
}

/// Counters that many raise at once by compare-and-swap lose no step, and no revision is used twice.
pub async fn counters(store: Arc<dyn Store>) {
    let mut watch = store.watch("/counter", 0).await.expect("watches");
    let tasks: Vec<_> = (0..COUNTERS).map(|_| tokio::spawn(count_up(store.clone()))).collect();
    let mut revisions = Vec::new();
    for task in join(tasks).await {
        revisions.extend(task.expect("counts"));
    }
    revisions.sort_unstable();
    let total = COUNTERS as u64 * COUNTS;
    assert_eq!(revisions, (1..=total).collect::<Vec<_>>());
    for n in 1..=total {
        let commit = next_commit(&mut watch).await;
        assert_eq!(commit, Commit { revision: n, changes: vec![change("/counter", Some(&n.to_string()))] });
    }
    let counter = store.range("/counter").await.expect("reads").items;
    assert_eq!(counter[0].value.as_ref(), total.to_string().as_bytes());
}

async fn count_up(store: Arc<dyn Store>) -> Vec<Revision> {
    let mut revisions = Vec::new();
    while (revisions.len() as u64) < COUNTS {
        let found = store.range("/counter").await.expect("reads").items;
        let text = found.first().map_or("0", |item| std::str::from_utf8(&item.value).expect("digits"));
        let next = text.parse::<u64>().expect("digits") + 1;
        let guard = unchanged("/counter", found.first().map_or(0, |item| item.mod_revision));
        let outcome = txn(&*store, vec![guard], vec![put("/counter", &next.to_string())]).await;
        if let TxnOutcome::Committed(revision) = outcome {
            revisions.push(revision);
        }
    }
    revisions
}

/// Runs futures together and gives their outputs in order.
async fn join<F: Future + Unpin>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(Some).collect();
    let mut ended: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in running.iter_mut().zip(&mut ended) {
            if let Some(waiting) = future
                && let std::task::Poll::Ready(done) = std::pin::Pin::new(waiting).poll(context)
            {
                *output = Some(done);
                *future = None;
            }
        }
        if running.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    ended.into_iter().map(|output| output.expect("all have ended")).collect()
}
