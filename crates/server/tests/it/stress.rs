//! An online stress test as the fleet meets it: leased weights over ADS, fast sampling, a curve in the end.

use crate::agent::Agent;
use crate::harness::{Server, apply, facilities, service, settled, until};
use crate::proxy::Proxy;
use crate::xds::{Client, endpoints};
use api::http::{OperationRequest, SizeRequest};
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};
use envoy_types::pb::google::protobuf::value::Kind;

/// Length of the test.
const STRESS_MS: u32 = 4_000;
/// Longest life that a lease may have.
const LIFE_MS_MAX: f64 = 5_000.0;

fn number(at: &LbEndpoint, name: &str) -> Option<f64> {
    match at.metadata.as_ref()?.filter_metadata.get("springtide")?.fields.get(name)?.kind {
        Some(Kind::NumberValue(value)) => Some(value),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stress_test_leases_weights_and_leaves_a_curve() {
    let mut server = Server::start().await;
    let client = server.client();
    let pay = service(1, 1).replace("layer: logic", "layer: access");
    apply(&client, &[("f.yaml", facilities(2)), ("p.yaml", pay)]).await;
    let agents = Agent::fleet(2, server.data.path());
    let proxy = Proxy::start(server.data.path(), &agents);
    settled(&client, "pay", 2).await;
    let mut xds = Client::connect(server.data.path()).await;
    xds.subscribe::<ClusterLoadAssignment>(&["pay"]).await;
    xds.next::<ClusterLoadAssignment>().await;

    let stress =
        OperationRequest::Stress { service: "pay".to_owned(), instance: None, duration_ms_max: Some(STRESS_MS) };
    let operation = client.open_operation(&stress).await.expect("opened");
    let mut lives = Vec::new();
    // Weights are leased, renewed, and given back.
    loop {
        let next = xds.next::<ClusterLoadAssignment>().await;
        let leased: Vec<_> = endpoints(&next[0]).into_iter().filter_map(|at| number(at, "override_life_ms")).collect();
        match leased.first() {
            Some(life) => lives.push(*life),
            // Given back for want of news once, when the machine stood still; leased again.
            None if lives.len() < 2 => continue,
            None => break,
        }
        assert_eq!(leased.len(), 1, "one instance is under test");
    }
    assert!(lives.iter().all(|life| *life > 0.0 && *life <= LIFE_MS_MAX), "{lives:?}");
    let ended = until("the end", || async {
        client.operation(operation.id.as_str()).await.ok().filter(|operation| operation.phase.is_final())
    })
    .await;
    assert!(ended.failures.is_empty(), "{:?}", ended.failures);
    let fast = |agent: &Agent| agent.seen.lock().expect("no panic").fast.contains("pay");
    assert!(agents.iter().filter(|agent| !agent.running().is_empty()).all(fast), "agents sample it fast");
    assert!(proxy.fast().contains("pay"), "proxies sample it fast");

    let curves = client.curves(Some("pay")).await.expect("listed");
    assert_eq!((curves.len(), &curves[0].operation), (1, &operation.id));
    assert!(curves[0].requests > 0 && !curves[0].points.is_empty());
    assert!(client.curve_svg(operation.id.as_str()).await.expect("drawn").contains("<svg"));
    assert!(client.curves(Some("gift")).await.expect("listed").is_empty());
    let event = "kind: Event\nname: midnight\nbusiness: night\nentry_requests_per_second: { pay: 5000 }\n".to_owned();
    apply(&client, &[("e.yaml", event)]).await;
    let sized = client.size(&SizeRequest { event: "midnight".to_owned(), apply: false }).await.expect("sized");
    let pay = &sized.services[0];
    assert_eq!((pay.service.as_str(), pay.load_rps, pay.now.values().sum::<u32>()), ("pay", 5_000.0, 2));
    assert!(pay.basis.contains(operation.id.as_str()) && pay.needed.values().sum::<u32>() > 2, "{pay:?}");
    assert!(client.size(&SizeRequest { event: "never".to_owned(), apply: false }).await.is_err());
    let sized = client.size(&SizeRequest { event: "midnight".to_owned(), apply: true }).await.expect("sized");
    assert_eq!((sized.operations.len(), client.operations().await.expect("listed").len()), (1, 3), "{sized:?}");
    server.restart().await;
    assert_eq!(server.client().curves(None).await.expect("listed"), curves, "a curve is a record");
    server.stop().await;
}
