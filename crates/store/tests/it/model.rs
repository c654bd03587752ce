//! Both drivers against the simplest model that can be right, over random transactions.

use proptest::prelude::*;
use std::collections::BTreeMap;
use store::{Compare, MemoryStore, Op, RedbStore, Store, Txn, TxnOutcome, WatchEvent};

/// Key and new value.
type Changed = (String, Option<Vec<u8>>);

/// Key → value, create revision, last revision.
#[derive(Default)]
struct Model {
    revision: u64,
    keys: BTreeMap<String, (Vec<u8>, u64, u64)>,
    commits: Vec<(u64, Vec<Changed>)>,
}

impl Model {
    fn txn(&mut self, txn: &Txn) -> TxnOutcome {
        for compare in &txn.compares {
            let holds = match compare {
                Compare::ModRevision(key, revision) => self.keys.get(key).map_or(0, |at| at.2) == *revision,
                Compare::Exists(key) => self.keys.contains_key(key),
            };
            if !holds {
                return TxnOutcome::Conflict(compare.clone());
            }
        }
        let next = self.revision + 1;
        let mut changes = Vec::new();
        for op in &txn.ops {
            match op {
                Op::Put { key, value, .. } => {
                    let created = self.keys.get(key).map_or(next, |at| at.1);
                    self.keys.insert(key.clone(), (value.clone(), created, next));
                    changes.push((key.clone(), Some(value.clone())));
                }
                Op::Delete { key } if self.keys.remove(key).is_some() => changes.push((key.clone(), None)),
                Op::Delete { .. } => {}
            }
        }
        if !changes.is_empty() {
            self.revision = next;
            self.commits.push((next, changes));
        }
        TxnOutcome::Committed(self.revision)
    }
}

fn key() -> impl Strategy<Value = String> {
    (0..6_u8).prop_map(|n| format!("/{}/{}", ["a", "b"][usize::from(n % 2)], n / 2))
}

fn transaction() -> impl Strategy<Value = Txn> {
    let compare = prop_oneof![
        (key(), 0..12_u64).prop_map(|(key, revision)| Compare::ModRevision(key, revision)),
        key().prop_map(Compare::Exists),
    ];
    let write = (key(), prop::option::of(prop::collection::vec(any::<u8>(), 0..4)));
    let writes = prop::collection::btree_map(key(), write.prop_map(|(_, value)| value), 0..4);
    (prop::collection::vec(compare, 0..2), writes).prop_map(|(compares, writes)| {
        let op = |(key, value)| match value {
            Some(value) => Op::Put { key, value, lease: None },
            None => Op::Delete { key },
        };
        Txn { compares, ops: writes.into_iter().map(op).collect() }
    })
}

async fn agrees(store: &dyn Store, model: &Model, prefix: &str) {
    let range = store.range(prefix).await.expect("reads");
    let seen: Vec<_> = range
        .items
        .iter()
        .map(|i| (i.key.to_string(), (i.value.to_vec(), i.create_revision, i.mod_revision)))
        .collect();
    let expected: Vec<_> =
        model.keys.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect();
    assert_eq!((range.revision, seen), (model.revision, expected));
}

async fn watched(store: &dyn Store, model: &Model, prefix: &str, after: u64) {
    let mut watch = store.watch(prefix, after).await.expect("watches");
    for (revision, changes) in model.commits.iter().filter(|(revision, _)| *revision > after) {
        let changes: Vec<_> = changes.iter().filter(|(key, _)| key.starts_with(prefix)).cloned().collect();
        if changes.is_empty() {
            continue;
        }
        let Some(WatchEvent::Commit(commit)) = watch.next().await else { panic!("revision {revision} was due") };
        let seen: Vec<_> =
            commit.changes.iter().map(|c| (c.key.to_string(), c.value.as_ref().map(|v| v.to_vec()))).collect();
        assert_eq!((commit.revision, seen), (*revision, changes));
    }
}

async fn run(txns: Vec<Txn>, after: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let (memory, redb) = (MemoryStore::new(), RedbStore::open(&path).expect("a new store"));
    let mut model = Model::default();
    for txn in txns {
        let expected = model.txn(&txn);
        assert_eq!(memory.txn(txn.clone()).await.expect("commits"), expected);
        assert_eq!(redb.txn(txn).await.expect("commits"), expected);
    }
    for prefix in ["/", "/a/", "/b/1"] {
        for store in [&memory as &dyn Store, &redb] {
            agrees(store, &model, prefix).await;
            watched(store, &model, prefix, after.min(model.revision)).await;
        }
    }
    drop(redb);
    agrees(&RedbStore::open(&path).expect("opens again"), &model, "/").await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn drivers_agree_with_the_model(txns in prop::collection::vec(transaction(), 1..25), after in 0..20_u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run(txns, after));
    }
}
