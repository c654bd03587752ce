//! Manifests: at fault they change nothing, together they change everything at once.

use crate::agent::Agent;
use crate::harness::{Server, apply, apply_pay, digest, facilities, request, service, settled, until};
use crate::proxy::Proxy;
use api::client::Error;
use api::http::{ApplyRequest, ChangeAction, Problem};
use std::collections::BTreeSet;
use std::sync::Arc;
use store::Store;

fn problem<T: std::fmt::Debug>(answer: Result<T, Error>) -> Problem {
    match answer.expect_err("refused") {
        Error::Refused(problem, status) => {
            assert_eq!(status.as_u16(), 422, "{problem:?}");
            problem
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_name_their_lines_and_change_nothing() {
    let mut server = Server::start().await;
    let client = server.client();
    let cases = [
        ("kind: Region\nname: south\n---\nkind: Region\nnmae: x\n", 5, "nmae"),
        ("kind: Region\nname: [\n", 2, ""),
        ("kind: Datacenter\nname: west\nregion: nowhere\n", 3, "region"),
        ("kind: Pod\nname: x\n", 1, "kind"),
    ];
    for (text, line, field) in cases {
        let files = request(&[("good.yaml", facilities(1)), ("bad.yaml", text.to_owned())]);
        for problem in [problem(client.plan(&files).await), problem(client.apply(&files).await)] {
            assert_eq!(problem.code, "invalid_manifest");
            let there = |fault: &&api::http::Fault| {
                fault.file == "bad.yaml" && fault.line.abs_diff(line) <= 1 && format!("{fault:?}").contains(field)
            };
            assert!(problem.faults.iter().any(|fault| there(&fault)), "{text:?}: {problem:?}");
        }
    }
    assert!(client.resources("Region").await.expect("listed").is_empty());
    assert!(client.audit(0, 10).await.expect("listed").is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plan_says_what_apply_does_and_apply_again_does_nothing() {
    let mut server = Server::start().await;
    let client = server.client();
    let files = [("facilities.yaml", facilities(2)), ("pay.yaml", service(1, 1))];
    let digest_only = problem(client.plan(&request(&files)).await);
    assert!(digest_only.faults[0].message.contains("upload them first"), "{digest_only:?}");
    assert_eq!(problem(client.apply(&request(&files)).await), digest_only, "plan refuses as apply does");
    let upload = ApplyRequest { uploads: vec![digest().to_string()], ..request(&files) };
    let plan = client.plan(&upload).await.expect("planned");
    assert_eq!(problem(client.apply(&upload).await), digest_only, "a promise is no upload");
    assert!(client.resources("Service").await.expect("listed").is_empty());
    let applied = apply(&client, &files).await;
    assert_eq!((&plan.changes, &plan.consequences), (&applied.changes, &applied.consequences));
    let again = client.apply(&request(&files)).await.expect("applied");
    assert_eq!((again.changes.len(), again.revision >= applied.revision), (0, true));
    let changed = service(1, 1).replace("level 1", "level 2");
    let said = client.apply(&request(&[("pay.yaml", changed)])).await.expect("applied");
    assert_eq!(said.changes.len(), 1);
    assert_eq!((said.changes[0].kind.as_str(), said.changes[0].action), ("ConfigSet", ChangeAction::Update));
    assert_eq!(said.changes[0].fields[0].field, "files.worker.conf");
    assert!(said.consequences.is_empty(), "nothing runs yet: {:?}", said.consequences);

    let audit = client.audit(0, 1_000).await.expect("listed");
    let sequences: BTreeSet<u64> = audit.iter().map(|entry| entry.sequence).collect();
    assert_eq!(sequences.len(), audit.len());
    let entry = audit.iter().rfind(|entry| entry.what == "ConfigSet worker-pay").expect("audited");
    assert_eq!((entry.who.as_str(), entry.revision), ("unix:root", said.revision));
    let newest = client.audit_newest(2).await.expect("listed");
    assert_eq!(newest, audit[audit.len() - 2..], "the newest, the newest last");
    assert_eq!(client.audit(0, 2).await.expect("listed"), audit[..2]);
    assert!(entry.before.to_string().contains("level 1") && entry.after.to_string().contains("level 2"));
    server.stop().await;
}

/// A shape lives in the slice, so instances are replaced for it as for a package.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_shape_is_a_rollout_in_plan_and_in_effect() {
    let mut server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 1, 1).await;
    let agents = Agent::fleet(2, server.data.path());
    let _proxy = Proxy::start(server.data.path(), &agents);
    settled(&client, "pay", 2).await;
    let same = client.plan(&request(&[("pay.yaml", service(1, 1))])).await.expect("planned");
    assert!(same.changes.is_empty() && same.consequences.is_empty(), "{same:?}");
    let wider = request(&[("pay.yaml", service(1, 1).replace("cpu: 0.1", "cpu: 0.2"))]);
    let planned = client.plan(&wider).await.expect("planned");
    assert_eq!(planned.changes[0].fields[0].field, "shape.cpu", "{planned:?}");
    assert_eq!(planned.consequences, ["pay: rollout of worker 1 and its config to 2 instances"]);
    let applied = client.apply(&wider).await.expect("applied");
    assert_eq!(applied.consequences, planned.consequences);
    until("instances of the new shape alone", || async {
        let cpu = |agent: &Agent| -> Vec<u32> {
            agent.seen.lock().expect("no panic").running.values().map(|at| at.cpu_millis).collect()
        };
        (agents.iter().flat_map(cpu).collect::<Vec<_>>() == [200, 200]).then_some(())
    })
    .await;
    settled(&client, "pay", 2).await;
    let again = client.plan(&wider).await.expect("planned");
    assert!(again.changes.is_empty() && again.consequences.is_empty(), "{again:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_refer_to_is_not_deleted() {
    let mut server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 1, 0).await;
    let refused = client.delete("Package", "worker").await.expect_err("in use").to_string();
    assert!(refused.contains("pay"), "{refused}");
    let missing = client.delete("Package", "nothing").await.expect_err("unknown").to_string();
    assert!(missing.contains("no Package nothing"), "{missing}");
    let view = client.resource("service", "pay").await.expect("any case");
    assert!(view.revision > 0 && view.resource.name() == "pay");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn applies_at_the_same_time_lose_nothing() {
    let mut server = Server::start().await;
    let applies = (0..24).map(|n| {
        let client = server.client();
        let text = format!("kind: Region\nname: r{n}\n---\nkind: Datacenter\nname: d{n}\nregion: r{n}\n");
        tokio::spawn(async move { client.apply(&request(&[("r.yaml", text)])).await.expect("applied").revision })
    });
    let applies: Vec<_> = applies.collect();
    let mut revisions = BTreeSet::new();
    for apply in applies {
        revisions.insert(apply.await.expect("no panic"));
    }
    assert_eq!(revisions.len(), 24, "each has a revision of its own");
    assert_eq!(server.client().resources("Datacenter").await.expect("listed").len(), 24);
    server.stop().await;
}

/// More than a transaction takes: whoever looks sees all of it or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_large_apply_is_seen_whole() {
    const REGIONS: usize = 700;
    let mut server = Server::start().await;
    let text: String = (0..REGIONS).map(|n| format!("---\nkind: Region\nname: r{n}\n")).collect();
    let files = request(&[("r.yaml", text)]);
    let reader = {
        let client = server.client();
        tokio::spawn(async move {
            let mut seen = BTreeSet::new();
            loop {
                let count = client.resources("Region").await.expect("listed").len();
                seen.insert(count);
                if count == REGIONS {
                    return seen;
                }
            }
        })
    };
    let applied = server.client().apply(&files).await.expect("applied");
    assert_eq!(applied.changes.len(), REGIONS);
    let seen = reader.await.expect("no panic");
    assert!(seen.iter().all(|count| *count == 0 || *count == REGIONS), "{seen:?}");
    assert_eq!(server.client().audit(0, 1_000).await.expect("listed").len(), REGIONS);
    server.restart().await;
    assert_eq!(server.client().resources("Region").await.expect("listed").len(), REGIONS);
    assert_eq!(server.client().audit(0, 1_000).await.expect("listed").len(), REGIONS, "nothing is audited twice");
    server.stop().await;
}

/// Another writer floods the store faster than the watch can carry: the loop reads everything again.
#[tokio::test]
async fn a_watch_that_fell_behind_is_made_good() {
    let data = tempfile::tempdir().expect("a folder");
    let store = Arc::new(store::MemoryStore::new());
    let handle = server::start_on(crate::harness::config(data.path()), store.clone()).await.expect("a server");
    let client = api::client::Client::at_socket(&crate::harness::socket(data.path()));
    let gone = "kind: Region\nname: gone\n".to_owned();
    client.apply(&request(&[("r.yaml", gone)])).await.expect("applied");
    let commits = store::WATCH_QUEUE_COMMITS_MAX + 10;
    let put = |key: String, value: String| store::Op::Put { key, value: value.into_bytes(), lease: None };
    // This runtime has one thread, and nothing here waits: the loop cannot read in between.
    for n in 0..commits {
        let value = format!("{{\"kind\":\"Region\",\"name\":\"r{}\"}}", n % 50);
        let ops = vec![put(format!("/resources/Region/r{}", n % 50), value)];
        store.txn(store::Txn { compares: vec![], ops }).await.expect("committed");
    }
    let delete = store::Op::Delete { key: "/resources/Region/gone".to_owned() };
    store.txn(store::Txn { compares: vec![], ops: vec![delete] }).await.expect("committed");
    until("what the other writer left", || async {
        let names: BTreeSet<String> =
            client.resources("Region").await.ok()?.iter().map(|at| at.resource.name().to_owned()).collect();
        (names.len() == 50 && !names.contains("gone")).then_some(())
    })
    .await;
    let later = "kind: Region\nname: later\n".to_owned();
    client.apply(&request(&[("r.yaml", later)])).await.expect("it goes on");
    assert_eq!(client.status().await.expect("a status").revision, store.range("/").await.expect("read").revision);
    handle.stop().await.expect("it stops well");
}

#[tokio::test]
async fn an_apply_larger_than_what_a_transaction_audits_is_taken_whole() {
    const REGIONS: usize = 16_000;
    let server = Server::start().await;
    let text: String = (0..REGIONS).map(|n| format!("---\nkind: Region\nname: a-region-of-many-{n}\n")).collect();
    let applied = server.client().apply(&request(&[("regions.yaml", text)])).await.expect("applied");
    assert_eq!(applied.changes.len(), REGIONS);
    assert_eq!(server.client().resources("Region").await.expect("listed").len(), REGIONS);
    let last = server.client().audit(REGIONS as u64 - 1, 10).await.expect("listed");
    assert_eq!(last.len(), 1, "each change is audited once");
}
