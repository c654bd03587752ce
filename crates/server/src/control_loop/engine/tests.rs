//! What an engine has done before it runs.

use super::*;
use crate::xds::cache::Type;
use model::Snapshot;
use store::MemoryStore;

async fn engine(manifest: &str, folder: &std::path::Path) -> Engine {
    let declared = model::manifest::parse(&[("test.yaml".to_owned(), manifest.to_owned())]).expect("well formed");
    let plan = model::plan::plan(&Snapshot::default(), &declared, false).expect("valid");
    let mut world = World::new(1);
    for write in control::apply(&Snapshot::default(), &plan, "test").writes {
        world.fold(&write.key, write.value.as_deref(), 1).expect("readable");
    }
    let store = Arc::new(MemoryStore::new());
    let watch = store.watch(model::keys::ALL, 0).await.expect("a watch");
    let (back, _inputs) = Loop::new();
    Engine::new(Parts {
        world,
        store,
        watch,
        records: Arc::new(Records::open(folder).expect("records")),
        failpoint: Arc::new(Failpoint::default()),
        cache: Cache::default(),
        followers: Followers::default(),
        back,
        mesh_file: folder.join("mesh.json"),
        followers_file: folder.join("proxies.json"),
    })
}

#[tokio::test]
async fn everything_is_published_before_a_client_can_ask() {
    let folder = tempfile::tempdir().expect("a folder");
    let bank = "kind: External\nname: bank\nrequests_per_second_max: 100\naddress: 127.0.0.1:80\n";
    let engine = engine(bank, folder.path()).await;
    assert_eq!(engine.cache.names(Type::Cluster), ["bank"], "an empty list would take every cluster from a client");
    assert_eq!(engine.cache.names(Type::Routes), ["entry", "mesh"]);
}

#[tokio::test]
async fn the_routes_are_made_once_however_many_clusters_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let bank =
        |n| format!("---\nkind: External\nname: bank-{n}\nrequests_per_second_max: 100\naddress: 127.0.0.1:80\n");
    let begun = std::time::Instant::now();
    let engine = engine(&(0..1_000).map(bank).collect::<String>(), folder.path()).await;
    assert_eq!(engine.cache.names(Type::Cluster).len(), 1_000);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}; once takes 50 ms, once for each cluster 9 s");
}
