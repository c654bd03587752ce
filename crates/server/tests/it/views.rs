//! What people and programs read: descriptions, top, metrics, live changes, the document.

use crate::agent::Agent;
use crate::harness::{Server, apply, apply_pay, facilities, service, settled, until};
use crate::proxy::Proxy;
use futures_util::StreamExt;
use model::OperationPhase;

fn text(page: &api::http::Description) -> String {
    let rows = page.sections.iter().flat_map(|section| {
        std::iter::once(section.title.clone()).chain(section.rows.iter().map(|row| row.join(" | ")))
    });
    std::iter::once(page.title.clone()).chain(rows).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptions_say_what_is_and_why_not() {
    let mut server = Server::start().await;
    let client = server.client();
    let crowded = service(1, 1).replace("shape: { cpu: 0.1", "per_host_max: 1\nshape: { cpu: 0.1");
    apply(&client, &[("f.yaml", facilities(1)), ("p.yaml", crowded.clone())]).await;
    let _agents = Agent::fleet(1, server.data.path());
    settled(&client, "pay", 2).await;
    apply(&client, &[("p.yaml", crowded.replace("north: 1", "north: 3"))]).await;
    let failed = until("the operation that cannot be", || async {
        client.operations().await.ok()?.into_iter().find(|operation| operation.phase == OperationPhase::Failed)
    })
    .await;
    let page = text(&client.describe("Service", "pay").await.expect("described"));
    assert!(page.contains("2 healthy, 2 placed, 4 wanted"), "{page}");
    assert!(page.contains("2 instances are missing"), "{page}");
    assert!(page.contains("host-0-0") && page.contains("1 of 1"), "{page}");
    let page = text(&client.describe("host", "host-0-0").await.expect("described"));
    assert!(page.contains("agent | connected") && page.contains("pay-"), "{page}");
    let page = text(&client.describe("operation", failed.id.as_str()).await.expect("described"));
    assert!(page.contains("scale pay to") && page.contains("reconciler") && page.contains("failure | "), "{page}");
    let page = text(&client.describe("Instance", "pay-1").await.expect("described"));
    assert!(page.contains("package | worker 1"), "{page}");
    let page = text(&client.describe("ConfigSet", "worker-pay").await.expect("described"));
    assert!(page.contains("files.worker.conf | level 1"), "{page}");
    for kind in ["Service", "Instance", "Operation", "Host"] {
        assert!(client.describe(kind, "nothing-here").await.is_err(), "{kind}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_shows_in_top_series_and_the_exposition() {
    let mut server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 1, 1).await;
    let agents = Agent::fleet(2, server.data.path());
    let _proxy = Proxy::start(server.data.path(), &agents);
    settled(&client, "pay", 2).await;
    // Each of two instances answers 40 requests in 100 ms.
    let row = until("measured traffic", || async {
        let top = client.top().await.ok()?;
        top.services.into_iter().find(|row| row.qps.is_some_and(|qps| qps > 600.0))
    })
    .await;
    assert_eq!((row.name.as_str(), row.state.as_str()), ("pay", "2/2"));
    assert!(row.p99_ms.is_some_and(|p99| (0.9..1.1).contains(&p99)), "{row:?}");
    assert_eq!(row.cpu_cores_max, Some(0.2));
    until("a series", || async {
        let query = [("name", "springtide_service_requests_per_second".to_owned()), ("service", "pay".to_owned())];
        let series = client.range(&query).await.ok()?;
        series.first().filter(|series| series.points.iter().any(|(_, value)| *value > 600.0)).map(|_| ())
    })
    .await;
    let exposition = client.metrics().await.expect("exposed");
    for name in [
        "springtide_service_requests_total{service=\"pay\"}",
        "springtide_server_resident_memory_bytes",
        "springtide_server_commits_total",
    ] {
        assert!(exposition.contains(name), "{name} is not in\n{exposition}");
    }
    let status = client.status().await.expect("a status");
    assert_eq!((status.proxies, status.entry_address.as_deref()), (1, Some("127.0.0.1:8080")));
    let mesh = agents[0].seen.lock().expect("no panic").mesh.clone();
    assert_eq!(mesh, "127.0.0.1:8081", "instances learn where to call others");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_own_numbers_are_kept_with_where_they_are_from() {
    let mut server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 1, 1).await;
    let agents = Agent::fleet(2, server.data.path());
    settled(&client, "pay", 2).await;
    let starts =
        || agents.iter().flat_map(|agent| agent.seen.lock().expect("no panic").starts.clone()).collect::<Vec<_>>();
    let before = starts();
    // Said later than the instances were made, and none of them notices.
    let telling = service(1, 1) + "metrics: { port: admin, path: /numbers }\n";
    apply(&client, &[("pay.yaml", telling)]).await;
    let found = until("numbers of both", || async {
        let series = client.range(&[("name", "draws_total".to_owned())]).await.ok()?;
        (series.len() == 2 && series.iter().all(|series| series.points.len() > 1)).then_some(series)
    })
    .await;
    let of = |name: &str| found.iter().map(|series| series.labels[name].as_str()).collect::<Vec<_>>();
    assert_eq!((of("path"), of("service")), (vec!["/numbers"; 2], vec!["pay"; 2]));
    let mut places: Vec<_> = of("datacenter").into_iter().zip(of("host")).collect();
    places.sort_unstable();
    assert!(places[0].0 == "east" && places[0].1.starts_with("host-1-"), "{places:?}");
    assert!(places[1].0 == "north" && places[1].1.starts_with("host-0-"), "{places:?}");
    let up = client.range(&[("name", "up".to_owned()), ("service", "pay".to_owned())]).await.expect("there");
    assert!(up.len() == 2 && up.iter().all(|series| series.points.iter().all(|(_, value)| *value == 1.0)), "{up:?}");
    assert_eq!(starts(), before, "nothing was started anew");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_seen_as_they_are_committed() {
    let mut server = Server::start().await;
    let client = server.client();
    let handle = server.handle();
    let url = format!("http://{}/v1/watch", handle.http.expect("asked for"));
    let watch = reqwest::Client::new().get(url).bearer_auth(&handle.api_token).send().await.expect("a stream");
    assert_eq!(watch.headers()["content-type"], "text/event-stream");
    let mut stream = watch.bytes_stream();
    let applied = apply(&client, &[("f.yaml", facilities(1))]).await;
    let mut seen = String::new();
    while !seen.contains("/resources/Region/south") {
        seen += &String::from_utf8_lossy(&stream.next().await.expect("no end").expect("no error"));
    }
    assert!(seen.contains("event: change") && seen.contains(&format!("\"revision\":{}", applied.revision)), "{seen}");
    assert!(!seen.contains("audit"), "the audit's own keys are nobody's business");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_is_served() {
    let mut server = Server::start().await;
    let handle = server.handle();
    let url = format!("http://{}/openapi.json", handle.http.expect("asked for"));
    let answer = reqwest::Client::new().get(url).bearer_auth(&handle.api_token).send().await.expect("an answer");
    let document: serde_json::Value = answer.json().await.expect("JSON");
    assert_eq!(document["info"]["title"], "Springtide");
    assert!(document["components"]["schemas"]["Problem"].is_object());
    server.stop().await;
}
