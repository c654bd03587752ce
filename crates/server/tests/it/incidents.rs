//! Incidents through the server's real doors: a rule that holds, who is told, acknowledged, silenced and told again, restarted.

use crate::agent::Agent;
use crate::harness::{Server, apply, apply_pay, facilities, request, settled, until};
use crate::proxy::Proxy;
use api::client::Error;
use api::http::{Incident, SilenceRequest};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::Value;
use std::sync::{Arc, Mutex};

/// What a receiver got, and how often it still answers 500.
type Inbox = Arc<Mutex<(u32, Vec<Value>)>>;

async fn receiver(failures: u32) -> (Inbox, String) {
    let inbox: Inbox = Arc::new(Mutex::new((failures, Vec::new())));
    let take = |State(inbox): State<Inbox>, body: String| async move {
        let mut inbox = inbox.lock().expect("no panic");
        if inbox.0 > 0 {
            inbox.0 -= 1;
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        inbox.1.push(serde_json::from_str(&body).expect("JSON"));
        StatusCode::OK
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let router = Router::new().route("/", post(take)).with_state(inbox.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (inbox, url)
}

fn alerts(inbox: &Inbox, status: &str) -> Vec<String> {
    let inbox = inbox.lock().expect("no panic");
    let all = inbox.1.iter().flat_map(|payload| payload["alerts"].as_array().cloned().unwrap_or_default());
    let wanted = all.filter(|alert| alert["status"] == status);
    wanted.filter_map(|alert| alert["labels"]["incident"].as_str().map(str::to_owned)).collect()
}

const RULE: &str = "kind: AlertRule\nname: busy-pay\nexpression: requests(service=pay) > LIMIT for 2s\nseverity: critical\nsummary: pay is asked at all\n";

async fn state(server: &Server, id: &str) -> Option<Incident> {
    server.client().incident(id).await.ok()
}

#[tokio::test]
async fn a_rule_that_holds_is_an_incident_told_acknowledged_silenced_and_kept_over_a_restart() {
    let mut server = Server::start().await;
    let agents = Agent::fleet(2, server.data.path());
    let _proxy = Proxy::start(server.data.path(), &agents);
    apply(&server.client(), &[("facilities.yaml", facilities(2))]).await;
    apply_pay(&server.client(), 1, 1).await;
    settled(&server.client(), "pay", 2).await;
    let (inbox, url) = receiver(2).await;
    let told = format!("kind: Receiver\nname: pager\nwebhook: {url}\n---\n{}", RULE.replace("LIMIT", "1"));
    apply(&server.client(), &[("alerts.yaml", told)]).await;

    let opened = until("an incident", || async {
        let all = server.client().incidents(&[("state", "open".to_owned())]).await.ok()?;
        all.into_iter().find(|incident| incident.rule.as_deref() == Some("busy-pay"))
    })
    .await;
    assert_eq!((opened.title.as_str(), opened.severity.as_str()), ("rule busy-pay: pay is asked at all", "critical"));
    assert_eq!(opened.services, ["pay"]);
    assert!(opened.findings[0].what.starts_with("requests of service pay"), "{:?}", opened.findings);
    until("the pager, which answers 500 twice, is told", || async {
        alerts(&inbox, "firing").contains(&opened.id).then_some(())
    })
    .await;

    let acknowledged = server.client().incident_ack(&opened.id).await.expect("it goes on");
    assert_eq!((acknowledged.state.as_str(), acknowledged.acknowledged_by.is_some()), ("acknowledged", true));
    let wish = SilenceRequest { r#for: "10m".to_owned(), reason: "on it".to_owned() };
    let silenced = server.client().incident_silence(&opened.id, &wish).await.expect("it goes on");
    assert_eq!(silenced.silences, [format!("{}-pay", opened.id)]);
    let audit = server.client().audit_newest(20).await.expect("the audit");
    for what in [format!("incident {}", opened.id), format!("silence {}-pay", opened.id)] {
        assert!(audit.iter().any(|entry| entry.what == what), "{what} is not in the audit");
    }
    until("it shows as silenced", || async { state(&server, &opened.id).await?.silenced_until }).await;
    let lifted = server.client().incident_unsilence(&opened.id).await.expect("it is silenced");
    assert_eq!(lifted.silences, silenced.silences);
    assert!(lifted.until < silenced.until && lifted.revision > silenced.revision, "{lifted:?}");
    until("it no longer shows as silenced", || async {
        state(&server, &opened.id).await?.silenced_until.is_none().then_some(())
    })
    .await;
    let entry = server.client().audit_newest(1).await.expect("the audit").remove(0);
    assert_eq!((entry.what, entry.after), (format!("silence {}-pay", opened.id), Value::Null));
    let twice = server.client().incident_unsilence(&opened.id).await.expect_err("nothing is silenced any more");
    assert!(matches!(&twice, Error::Refused(problem, _) if problem.code == "conflict"), "{twice}");

    server.restart().await;
    let after = until("it is there after a restart", || state(&server, &opened.id)).await;
    assert_eq!((after.state.as_str(), after.started_at), ("acknowledged", opened.started_at));
    // The rule is another one now, which does not hold: the incident ends, and who heard of its begin hears of that.
    apply(&server.client(), &[("alerts.yaml", RULE.replace("LIMIT", "1000000000"))]).await;
    let ended =
        until("it ends", || async { state(&server, &opened.id).await.filter(|of| of.ended_at.is_some()) }).await;
    assert_eq!(ended.state, "resolved");
    let all = server.client().incidents(&[]).await.expect("incidents");
    assert_eq!(all.iter().filter(|of| of.rule.is_some()).count(), 1, "{all:?}");
    let twice = server.client().incident_ack(&opened.id).await.expect_err("it has ended");
    assert!(matches!(&twice, Error::Refused(problem, _) if problem.code == "conflict"), "{twice}");
    until("its end is told", || async { alerts(&inbox, "resolved").contains(&opened.id).then_some(()) }).await;
    server.stop().await;
}

#[tokio::test]
async fn a_rule_that_is_none_is_refused_with_its_place() {
    let server = Server::start().await;
    let wrong = RULE.replace("requests(service=pay) > LIMIT", "speed(service=pay) > 1");
    let refused = server.client().apply(&request(&[("alerts.yaml", wrong)])).await.expect_err("no such signal");
    let Error::Refused(problem, _) = refused else { panic!("{refused}") };
    let fault = &problem.faults[0];
    assert_eq!((fault.file.as_str(), fault.line, fault.field.as_str()), ("alerts.yaml", 3, "expression"));
    assert!(fault.message.contains("column 1: no signal \"speed\": use requests"), "{}", fault.message);
    let both = "kind: Receiver\nname: r\nwebhook: http://127.0.0.1:1/\ncommand: [true]\n".to_owned();
    let refused = server.client().apply(&request(&[("r.yaml", both)])).await.expect_err("one of the two");
    assert!(refused.to_string().contains("r.yaml:4: command: stands beside `webhook`"), "{refused}");
    let unknown = server.client().incident("inc-99").await.expect_err("there is none");
    assert!(unknown.to_string().contains("there is no incident \"inc-99\""), "{unknown}");
}
