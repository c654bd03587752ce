//! Policies from the click to where they act: proxies over real ADS, agents over their stream, a server that dies.

use crate::agent::{Agent, authorized, place};
use crate::crash;
use crate::harness::{Server, apply, apply_pay, facilities, service, socket, until};
use api::client::{Address, Client, Error};
use api::fleet::fleet_client::FleetClient;
use api::fleet::{
    DryRunFindings, DryRunRow, Policies, PolicySample, ProxyHello, ProxySamples, ProxyUp, proxy_down, proxy_up,
};
use api::http::{
    DryRunQuestion, FireRequest, LiftRequest, ManifestFile, ProtectRequest, ProtectResponse, RollbackRequest,
};
use envoy_types::pb::envoy::config::core::v3::{Locality, Node};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use prost::Message;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// A client that follows policies over ADS as our proxy does, and comes back when its stream ends.
struct Enforcer {
    task: tokio::task::JoinHandle<()>,
    seen: Arc<Mutex<(Policies, Instant)>>,
}

impl Drop for Enforcer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Enforcer {
    fn start(name: &str, datacenter: &str, data: &Path, refuses: bool) -> Self {
        let seen = Arc::new(Mutex::new((Policies::default(), Instant::now())));
        let (name, datacenter, data, kept) = (name.to_owned(), datacenter.to_owned(), data.to_owned(), seen.clone());
        let task = tokio::spawn(async move {
            loop {
                follow(&name, &datacenter, &data, &kept, refuses).await;
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        });
        Self { task, seen }
    }

    fn policies(&self) -> Policies {
        self.seen.lock().expect("no panic").0.clone()
    }

    fn names(&self) -> Vec<String> {
        self.policies().policies.into_iter().map(|of| of.name).collect()
    }
}

async fn follow(
    name: &str,
    datacenter: &str,
    data: &Path,
    seen: &Mutex<(Policies, Instant)>,
    refuses: bool,
) -> Option<()> {
    let (url, token) = place(data)?;
    let mut client = AggregatedDiscoveryServiceClient::connect(url).await.ok()?;
    let (to, requests) = mpsc::channel(8);
    let locality = Some(Locality { zone: datacenter.to_owned(), ..Locality::default() });
    let node = Some(Node { id: name.to_owned(), locality, ..Node::default() });
    let type_url = api::policies::TYPE_URL.to_owned();
    to.send(DiscoveryRequest { node, type_url: type_url.clone(), ..Default::default() }).await.ok()?;
    let answers = client.stream_aggregated_resources(authorized(ReceiverStream::new(requests), &token)).await;
    let mut answers = answers.ok()?.into_inner();
    while let Some(answer) = answers.message().await.ok()? {
        let policies = Policies::decode(answer.resources.first()?.value.as_slice()).expect("decodes");
        let error_detail = (refuses && !policies.policies.is_empty()).then(|| {
            let message = "newer: not understood here".to_owned();
            envoy_types::pb::google::rpc::Status { code: 3, message, details: Vec::new() }
        });
        *seen.lock().expect("no panic") = (policies, Instant::now());
        let acknowledged = DiscoveryRequest {
            type_url: type_url.clone(),
            version_info: answer.version_info,
            response_nonce: answer.nonce,
            error_detail,
            ..Default::default()
        };
        to.send(acknowledged).await.ok()?;
    }
    None
}

fn throttle(name: &str, percent: u32) -> String {
    format!("kind: Policy\nname: {name}\nservice: pay\naction: {{throttle: {{users_percent: {percent}}}}}\n")
}

fn request(text: &str, life: Option<&str>) -> ProtectRequest {
    let files = vec![ManifestFile { path: "p.yaml".to_owned(), text: text.to_owned() }];
    ProtectRequest { files, life: life.map(str::to_owned), force: false, wait_ms: Some(10_000) }
}

async fn put(client: &Client, text: &str, life: &str) -> ProtectResponse {
    client.protect_apply(&request(text, Some(life))).await.expect("put in force")
}

fn refused(result: Result<ProtectResponse, Error>) -> Vec<String> {
    match result {
        Err(Error::Refused(problem, _)) if problem.faults.is_empty() => vec![problem.message],
        Err(Error::Refused(problem, _)) => {
            problem.faults.iter().map(|at| format!("{}:{}: {}: {}", at.file, at.line, at.field, at.message)).collect()
        }
        other => panic!("a refusal: {other:?}"),
    }
}

const PRESET: &str = "kind: Preset\nname: surge\npolicies:\n\
    - {name: users, service: pay, action: {throttle: {users_percent: 30}}, for: 10m}\n\
    - {name: gifts, service: pay, route: /gift, action: {suppress: {}}, for: 5m}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_click_is_in_force_everywhere_and_the_answer_says_so() {
    let server = Server::start().await;
    let client = server.client();
    apply(&client, &[("f.yaml", facilities(1)), ("s.yaml", service(0, 0))]).await;
    let data = server.data.path();
    let proxies: Vec<Enforcer> =
        (0..4).map(|n| Enforcer::start(&format!("proxy-{n}"), ["north", "east"][n % 2], data, n == 3)).collect();
    let agents = Agent::fleet(1, data);
    until("all", || async {
        let there = client.protect().await.ok()?.in_force;
        (there.proxies == 4 && there.hosts == 2 && there.waiting.is_empty()).then_some(())
    })
    .await;
    let done = put(&client, &throttle("fewer", 20), "30m").await;
    let there = &done.in_force;
    assert_eq!((there.proxies, there.proxies_taken, there.hosts, there.hosts_taken), (4, 3, 2, 2), "{there:?}");
    assert_eq!(there.refused.len(), 1);
    assert_eq!((there.refused[0].proxy.as_str(), there.waiting.len()), ("proxy-3", 0), "{there:?}");
    assert!(there.after_ms.expect("measured") < 10_000.0, "{there:?}");
    for proxy in &proxies {
        let policies = proxy.policies();
        assert_eq!(policies.policies.len(), 1, "in force when the answer says so");
        let of = &policies.policies[0];
        assert_eq!((of.name.as_str(), of.version), ("fewer", 1));
        assert!((1_790_000..=1_801_000).contains(&of.life_ms), "{}", of.life_ms);
    }
    for agent in &agents {
        assert_eq!(agent.seen.lock().expect("no panic").policies.policies.len(), 1);
    }
    // A rate is shared by the proxies in scope: each is told how many there are.
    let rate = "kind: Policy\nname: rate\nservice: pay\naction: {throttle: {requests_per_second: 100}}\n";
    put(&client, rate, "30m").await;
    let counted = proxies[0].policies().proxies;
    assert_eq!((counted.get("north"), counted.get("east")), (Some(&2), Some(&2)));
    let of_name = LiftRequest { names: vec!["fewer".to_owned()], wait_ms: Some(10_000), ..Default::default() };
    assert_eq!(client.protect_lift(&of_name).await.expect("lifted").changes.len(), 1);
    assert_eq!(proxies[0].names(), ["rate"]);
    let audit = client.audit(0, 1_000).await.expect("listed");
    let of_policy: Vec<bool> =
        audit.iter().filter(|entry| entry.what == "Policy fewer").map(|entry| entry.after.is_null()).collect();
    assert_eq!(of_policy, [false, true], "each change is audited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preset_is_fired_and_taken_back_in_one_commit_each() {
    let server = Server::start().await;
    let client = server.client();
    apply(&client, &[("f.yaml", facilities(1)), ("s.yaml", service(0, 0))]).await;
    let proxy = Enforcer::start("proxy", "north", server.data.path(), false);
    client.protect_apply(&request(PRESET, None)).await.expect("stored");
    assert!(proxy.names().is_empty(), "stored is not fired");
    let fired = client.protect_fire("surge", &FireRequest::default()).await.expect("fired");
    assert_eq!(fired.changes.len(), 2);
    let overlap = &fired.overlaps[0];
    assert_eq!(
        (overlap.earlier.as_str(), overlap.later.as_str(), overlap.relation.as_str()),
        ("surge.gifts", "surge.users", "before")
    );
    until("the policies", || async { (proxy.names() == ["surge.gifts", "surge.users"]).then_some(()) }).await;
    let view = client.protect().await.expect("seen");
    // An end is a whole second, the one after: what is left is a little more or less than what was asked for.
    let lives: Vec<u64> = view.policies.iter().map(|of| (of.life_ms + 30_000) / 60_000).collect();
    assert_eq!(lives, [5, 10], "minutes, in the order in which the policies are asked");
    let back = client.protect_rollback(&RollbackRequest::default()).await.expect("taken back");
    assert_eq!(back.changes.len(), 2, "all of the last click");
    assert!(client.protect().await.expect("seen").policies.is_empty());
    // Taking that back again brings them back, with the ends they had.
    client.protect_rollback(&RollbackRequest::default()).await.expect("and back");
    assert_eq!(client.protect().await.expect("seen").policies.len(), 2);
    let of_preset = LiftRequest { preset: Some("surge".to_owned()), ..Default::default() };
    assert_eq!(client.protect_lift(&of_preset).await.expect("lifted").changes.len(), 2);
    let refused_fire = client.protect_fire("sruge", &FireRequest::default()).await;
    assert!(refused(refused_fire)[0].contains("did you mean surge?"));
}

#[tokio::test]
async fn versions_are_kept_and_gone_back_to() {
    let server = Server::start().await;
    let client = server.client();
    apply(&client, &[("f.yaml", facilities(1)), ("s.yaml", service(0, 0))]).await;
    for percent in [10, 20, 30] {
        put(&client, &throttle("fewer", percent), "30m").await;
    }
    let percent = || async {
        let view = client.protect().await.expect("seen");
        let action = serde_json::to_value(&view.policies[0].policy.action).expect("plain");
        (action["throttle"]["users_percent"].as_f64().expect("a number"), view.policies[0].version)
    };
    let back = |name: &str, to: Option<u64>| RollbackRequest { name: Some(name.to_owned()), to, ..Default::default() };
    client.protect_rollback(&back("fewer", None)).await.expect("one back");
    assert_eq!(percent().await, (20.0, 4));
    client.protect_rollback(&back("fewer", Some(1))).await.expect("to the first");
    assert_eq!(percent().await, (10.0, 5));
    let history = client.protect_history("fewer").await.expect("kept");
    assert_eq!(history.versions.iter().map(|of| of.version).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(history.versions.iter().all(|of| of.who.starts_with("unix:")));
    let why = refused(client.protect_rollback(&back("fewer", Some(9))).await);
    assert!(why[0].contains("fewer is at version 5; name an earlier one"), "{why:?}");
    let why = refused(client.protect_rollback(&back("fwer", None)).await);
    assert!(why[0].contains("did you mean fewer?"), "{why:?}");
    client.protect_rollback(&back("fewer", Some(0))).await.expect("before its first version it was not there");
    assert!(client.protect().await.expect("seen").policies.is_empty());
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_its_place() {
    let server = Server::start().await;
    let client = server.client();
    apply(&client, &[("f.yaml", facilities(1)), ("s.yaml", service(0, 0))]).await;
    let why = |text: String| {
        let client = client.clone();
        async move { refused(client.protect_apply(&request(&text, Some("30m"))).await).join("\n") }
    };
    for (text, expected) in [
        (throttle("p", 100), "p.yaml:4: action: would reject every user; narrow it, or put it in force with --force"),
        (
            throttle("p", 5).replace("percent: 5", "percent: -5"),
            "p.yaml:4: action.throttle.users_percent: -5 is no share",
        ),
        (
            format!("{}when: request.pth == '/x'\n", throttle("p", 5)),
            "p.yaml:5: when: unknown field of request `pth`; did you mean `path`?",
        ),
        (format!("{}when: size(\n", throttle("p", 5)), "p.yaml:5: when: column "),
        (
            throttle("p", 5).replace("service: pay", "service: pya"),
            "p.yaml:3: service: no Service or External is called `pya`; did you mean `pay`?",
        ),
        ("kind: Region\nname: x\n".to_owned(), "p.yaml:1: kind: a Region is applied with `springtide apply`"),
        ("kind: Policy\nname: [\n".to_owned(), "not YAML"),
    ] {
        let said = why(text.clone()).await;
        assert!(said.contains(expected), "{text}: {said}");
    }
    let too_long = client.protect_apply(&request(&throttle("p", 5), Some("25h"))).await;
    assert!(refused(too_long)[0].contains("a life from 1s to 24h"));
    let over = throttle("p", 5) + "expires_at: 2020-01-01T00:00:00Z\n";
    let why = refused(client.protect_apply(&request(&over, None)).await);
    assert!(why[0].contains("p.yaml:5: expires_at: 2020-01-01T00:00:00Z is over already"), "{why:?}");
    // The common way in refuses the same, and prune takes no policy away.
    let swept = [("p.yaml", throttle("p", 100) + "expires_at: 2020-01-01T00:00:00Z\n")];
    let swept = client.apply(&crate::harness::request(&swept)).await;
    assert!(matches!(swept, Err(Error::Refused(problem, _)) if problem.faults.len() == 2));
    let mut forced = request(&throttle("all", 100), Some("1h"));
    forced.force = true;
    client.protect_apply(&forced).await.expect("forced");
    let mut pruned = crate::harness::request(&[("f.yaml", facilities(1)), ("s.yaml", service(0, 0))]);
    pruned.prune = true;
    client.apply(&pruned).await.expect("applied");
    assert_eq!(client.protect().await.expect("seen").policies.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_lapses_by_itself_everywhere() {
    let server = Server::start().await;
    let client = server.client();
    apply(&client, &[("f.yaml", facilities(1)), ("s.yaml", service(0, 0))]).await;
    let proxy = Enforcer::start("proxy", "north", server.data.path(), false);
    put(&client, &throttle("short", 20), "6s").await;
    put(&client, &throttle("long", 5), "1h").await;
    until("both", || async { (proxy.names().len() == 2).then_some(()) }).await;
    let ends = client.protect().await.expect("seen").policies.iter().map(|of| of.life_ms).min().expect("two");
    let began = Instant::now();
    until("one is gone", || async { (proxy.names() == ["long"]).then_some(()) }).await;
    let late = began.elapsed().saturating_sub(Duration::from_millis(ends));
    assert!(late < Duration::from_secs(10), "{late:?} after its end");
    until("gone from the store", || async { (client.resources("Policy").await.ok()?.len() == 1).then_some(()) }).await;
    let history = client.protect_history("short").await.expect("kept");
    let last = history.versions.last().expect("two");
    assert_eq!((last.version, last.who.as_str(), last.policy.is_none()), (2, "expiry", true));
    let again = RollbackRequest { name: Some("short".to_owned()), ..Default::default() };
    let why = refused(client.protect_rollback(&again).await);
    assert!(why[0].contains("give it a life, such as --for 30m"), "{why:?}");
    let again = RollbackRequest { life: Some("30m".to_owned()), ..again };
    client.protect_rollback(&again).await.expect("in force again");
    assert_eq!(client.protect().await.expect("seen").policies.len(), 2);
}

/// Real processes, killed as the power would: what was answered is there, and each proxy gets it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_loses_no_policy() {
    let data = tempfile::tempdir().expect("a folder");
    let mut process = crash::start(data.path(), None);
    let client = Client::new(&Address::Socket(socket(data.path())));
    crash::ready(&client).await;
    apply(&client, &[("f.yaml", facilities(1)), ("s.yaml", service(0, 0))]).await;
    let proxy = Enforcer::start("proxy", "north", data.path(), false);
    client.protect_apply(&request(PRESET, None)).await.expect("stored");
    for round in 0..5_u32 {
        put(&client, &throttle(&format!("p-{round}"), round + 1), "1h").await;
        if round == 2 {
            client.protect_fire("surge", &FireRequest::default()).await.expect("fired");
        }
        drop(process);
        process = crash::start(data.path(), None);
        crash::ready(&client).await;
        let wanted = round as usize + 1 + if round >= 2 { 2 } else { 0 };
        let there = client.protect().await.expect("seen").policies;
        assert_eq!(there.len(), wanted, "after the kill of round {round}");
        assert!(there.iter().all(|of| of.version == 1 && of.life_ms > 200_000));
        until("the proxy has them again", || async { (proxy.names().len() == wanted).then_some(()) }).await;
    }
    let view = client.protect().await.expect("seen");
    assert_eq!((view.presets.len(), view.policies.len()), (1, 7));
    drop(process);
}

/// A proxy of the fleet's stream that answers dry runs and says what policies did.
async fn sampled(data: &Path, findings: DryRunFindings) -> Option<()> {
    let (url, token) = place(data)?;
    let mut client = FleetClient::connect(url).await.ok()?;
    let (to, up) = mpsc::channel(8);
    let hello = ProxyHello { proxy: "proxy".to_owned(), protocol: 1, ..ProxyHello::default() };
    to.send(ProxyUp { message: Some(proxy_up::Message::Hello(hello)) }).await.ok()?;
    let sample = PolicySample {
        policy: "fewer".to_owned(),
        version: 1,
        matched: 90,
        taken: 12,
        failed: 3,
        failure: "there is no \"x-client\"".to_owned(),
        action: "throttle".to_owned(),
    };
    let samples = ProxySamples { policies: vec![sample], ..ProxySamples::default() };
    to.send(ProxyUp { message: Some(proxy_up::Message::Samples(samples)) }).await.ok()?;
    let mut down = client.proxy(authorized(ReceiverStream::new(up), &token)).await.ok()?.into_inner();
    while let Some(message) = down.message().await.ok()? {
        if let Some(proxy_down::Message::DryRun(asked)) = message.message {
            let policies = asked.policies.expect("policies");
            assert!(policies.policies.iter().any(|of| of.name == "fewer"), "those in force are asked beside it");
            let findings = DryRunFindings { id: asked.id, ..findings.clone() };
            to.send(ProxyUp { message: Some(proxy_up::Message::DryRun(findings)) }).await.ok()?;
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_counts_what_proxies_sampled_and_says_when_nothing_was() {
    let server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 0, 0).await;
    put(&client, &throttle("fewer", 20), "30m").await;
    let question = DryRunQuestion {
        files: vec![ManifestFile { path: "q.yaml".to_owned(), text: throttle("more", 100) }],
        preset: None,
    };
    let empty = client.protect_dry_run(&question).await.expect("answered");
    assert_eq!((empty.proxies, empty.sampled), (0, 0));
    let row = |place, hits| DryRunRow { place, user: true, requests: 4, hits: vec![hits] };
    let rows = (1..=100_u64).map(|place| row(place, if place <= 12 { 4 } else { 0 })).collect();
    let findings =
        DryRunFindings { below: u64::MAX / 10, window_us: 50_000_000, rows, failed: vec![7], ..Default::default() };
    let data = server.data.path().to_owned();
    let proxy = tokio::spawn(async move { sampled(&data, findings).await });
    until("the proxy", || async { (client.status().await.ok()?.proxies == 1).then_some(()) }).await;
    let told = until("the proxy's answer", || async {
        client.protect_dry_run(&question).await.ok().filter(|told| (told.proxies, told.answered) == (1, 1))
    })
    .await;
    assert_eq!((told.sampled, told.sampled_users), (400, 100));
    let effect = &told.policies[0];
    assert_eq!((effect.policy.as_str(), effect.sampled, effect.failed), ("more", 48, 7));
    assert!((effect.requests_share.value - 0.12).abs() < 1e-9, "{effect:?}");
    assert!((effect.users.value - 120.0).abs() < 0.1 && effect.users.low < 70.0, "{effect:?}");
    assert!(client.protect().await.expect("seen").policies.len() == 1, "a question changes nothing");
    let of = until("what the policy did", || async {
        client.protect().await.ok()?.policies.into_iter().find(|of| of.matched > 0)
    })
    .await;
    assert_eq!((of.matched, of.taken, of.failed), (90, 12, 3));
    assert!(of.failure.contains("x-client"));
    proxy.abort();
}
