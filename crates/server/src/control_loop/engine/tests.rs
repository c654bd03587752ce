//! What an engine has done before it runs.

use super::super::commit::NotCommitted;
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
    let records = Arc::new(Records::open(folder).expect("records"));
    let watched = crate::incidents::Parts { records: records.clone(), data: folder.to_owned(), warm_s: None };
    let incidents = Incidents::start(watched).expect("nothing to read yet");
    Engine::new(Parts {
        world,
        store,
        watch,
        records,
        incidents,
        failpoint: Arc::new(Failpoint::default()),
        cache: Cache::default(),
        followers: Followers::default(),
        enforcers: Enforcers::default(),
        back,
        mesh_file: folder.join("mesh.json"),
        followers_file: folder.join("proxies.json"),
        enforcers_file: folder.join("policy-proxies.json"),
    })
}

#[tokio::test]
async fn everything_is_published_before_a_client_can_ask() {
    let folder = tempfile::tempdir().expect("a folder");
    let bank = "kind: External\nname: bank\nrequests_per_second_max: 100\naddress: 127.0.0.1:80\n";
    let engine = engine(bank, folder.path()).await;
    assert_eq!(
        engine.cache.view().names(Type::Cluster),
        ["bank"],
        "an empty list would take every cluster from a client"
    );
    assert_eq!(engine.cache.view().names(Type::Routes), ["entry", "mesh"]);
}

#[tokio::test]
async fn the_routes_are_made_once_however_many_clusters_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let bank =
        |n| format!("---\nkind: External\nname: bank-{n}\nrequests_per_second_max: 100\naddress: 127.0.0.1:80\n");
    let begun = std::time::Instant::now();
    let engine = engine(&(0..1_000).map(bank).collect::<String>(), folder.path()).await;
    assert_eq!(engine.cache.view().names(Type::Cluster).len(), 1_000);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}; once takes 50 ms, once for each cluster 9 s");
}

fn external(name: &str, world: &World) -> control::Commit {
    let text = format!("kind: External\nname: {name}\nrequests_per_second_max: 100\naddress: 127.0.0.1:80\n");
    let declared = model::manifest::parse(&[("test.yaml".to_owned(), text)]).expect("well formed");
    let plan = model::plan::plan(&world.snapshot, &declared, false).expect("valid");
    control::apply(&world.snapshot, &plan, "ann")
}

#[tokio::test]
async fn a_change_that_cannot_be_audited_is_the_last_one_until_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut engine = engine("kind: Region\nname: south\n", folder.path()).await;
    // As a full disk does: no file can be made there.
    let audit = folder.path().join("audit");
    std::fs::remove_dir_all(&audit).expect("records of their own");
    let first = engine.commit(external("bank-1", &engine.world)).await.expect("the store works");
    let first = first.ok().expect("it was committed before the audit failed");
    for _ in 0..2 {
        let refused = engine.commit(external("bank-2", &engine.world)).await.expect("the store works");
        let Err(NotCommitted::Refused(why)) = refused else { panic!("its audit entries would overwrite the first's") };
        assert!(why.contains(&format!("the audit of revision {first} cannot be written")), "{why}");
    }
    std::fs::create_dir(&audit).expect("there is room again");
    let second = engine.commit(external("bank-2", &engine.world)).await.expect("the store works");
    assert!(second.is_ok(), "it goes on by itself");
    let kept = crate::audit::list(&engine.records, None, 10).expect("readable");
    let kept: Vec<&str> = kept.iter().map(|entry| entry.what.as_str()).collect();
    assert_eq!(kept, ["External bank-1", "External bank-2"]);
}

const HOST: &str = "kind: Region\nname: south\n---\nkind: Datacenter\nname: north\nregion: south\n---\nkind: Rack\nname: r\ndatacenter: north\n---\n\
    kind: HostType\nname: small\ncpu: 4\nmemory: 4GiB\n---\nkind: Host\nname: host-a\nrack: r\nhost_type: small\naddress: 127.1.0.1\n";

#[tokio::test]
async fn what_is_not_wanted_goes_also_when_another_instance_cannot_be_described() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut engine = engine(HOST, folder.path()).await;
    let host = HostName::new("host-a").expect("a name");
    let placed = model::HostPlacements {
        host: host.clone(),
        instances: vec![model::Placement {
            instance: model::InstanceId::new("pay-1").expect("a name"),
            service: ServiceName::new("pay").expect("a name"),
            package: model::PackageName::new("worker").expect("a name"),
            package_version: "1".to_owned(),
            package_digest: model::Digest::of(b"bytes"),
            // What it stands for was lost with the records.
            config_digest: model::Digest::of(b"lost"),
            intent: model::InstanceIntent::Running,
            layer: model::Layer::Logic,
            shape: "0.1C64M".parse().expect("a shape"),
            ports: BTreeMap::new(),
        }],
    };
    let bytes = serde_json::to_vec(&placed).expect("plain data");
    engine.world.fold(&model::keys::placements(&host), Some(&bytes), 2).expect("readable");
    let (to, mut down) = mpsc::channel(8);
    let (reply, _epoch) = tokio::sync::oneshot::channel();
    let report = |instance: &str| api::fleet::InstanceReport {
        instance: instance.to_owned(),
        phase: api::fleet::Phase::Healthy.into(),
        ..Default::default()
    };
    let hello = api::fleet::AgentHello { instances: vec![report("pay-1"), report("pay-2")], ..Default::default() };
    engine.take_fleet(crate::fleet::FleetInput::AgentHello(host, Box::new(hello), to, reply));
    engine.publish_dirty();
    let told = assigned(&mut down);
    assert!(!told.snapshot, "a snapshot without it would stop pay-1");
    assert_eq!((told.set.len(), told.remove), (0, vec!["pay-2".to_owned()]));
}

type Down = mpsc::Receiver<Result<api::fleet::AgentDown, tonic::Status>>;

fn assigned(down: &mut Down) -> api::fleet::Assignments {
    loop {
        let message = down.try_recv().expect("the agent is told").expect("no end").message;
        if let Some(api::fleet::agent_down::Message::Assignments(told)) = message {
            return told;
        }
    }
}

#[tokio::test]
async fn what_a_restored_store_does_not_know_runs_until_the_fleet_is_heard() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut engine = engine(HOST, folder.path()).await;
    let host = HostName::new("host-a").expect("a name");
    let (to, mut down) = mpsc::channel(8);
    let (reply, _epoch) = tokio::sync::oneshot::channel();
    let pay = api::fleet::InstanceReport {
        instance: "pay-9".to_owned(),
        phase: api::fleet::Phase::Healthy.into(),
        ..Default::default()
    };
    let hello = api::fleet::AgentHello { revision: 1_000, instances: vec![pay], ..Default::default() };
    engine.take_fleet(crate::fleet::FleetInput::AgentHello(host, Box::new(hello), to, reply));
    engine.publish_dirty();
    let told = assigned(&mut down);
    assert!(!told.snapshot && told.remove.is_empty(), "proxies may still send requests there");
    engine.tell_all_to_those_ahead();
    engine.publish_dirty();
    assert!(assigned(&mut down).snapshot, "the server has settled, and the store is what counts");
}
