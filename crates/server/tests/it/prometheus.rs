//! Prometheus' API of a real server, as Grafana and people meet it.

use super::harness::{Server, until};
use serde_json::Value;
use std::collections::BTreeSet;

struct Asker {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Asker {
    /// Over TCP with the token, as Grafana comes.
    async fn of(server: &Server) -> Self {
        let base = format!("http://{}/api/v1", server.handle().http.expect("TCP"));
        let asker = Self { http: reqwest::Client::new(), base, token: server.handle().api_token.clone() };
        until("the first samples", || async {
            let (_, answer) =
                asker.get("query", &[("query", "count_over_time(springtide_server_commits_total[1m]) >= 3")]).await;
            answer["data"]["result"].as_array().is_some_and(|found| !found.is_empty()).then_some(())
        })
        .await;
        asker
    }

    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> (u16, Value) {
        let request = self.http.get(format!("{}/{path}", self.base)).query(parameters).bearer_auth(&self.token);
        let answer = request.send().await.expect("answered");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    /// As Grafana does where queries may be long.
    async fn post(&self, path: &str, form: &str) -> (u16, Value) {
        let request = self.http.post(format!("{}/{path}", self.base)).bearer_auth(&self.token);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        let answer = request.send().await.expect("answered");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }
}

#[tokio::test]
async fn what_grafana_asks_is_answered_and_what_is_wrong_is_said_as_prometheus_says_it() {
    let mut server = Server::start().await;
    let asker = Asker::of(&server).await;

    let (status, answer) = asker.get("query", &[("query", "springtide_server_commits_total + 0.5")]).await;
    assert_eq!((status, &answer["status"], &answer["data"]["resultType"]), (200, &"success".into(), &"vector".into()));
    let (status, answer) = asker.post("query", "query=1%2B1&time=1435781451.781").await;
    assert_eq!((status, &answer["data"]["result"]), (200, &serde_json::json!([1_435_781_451.781, "2"])));
    let (status, answer) = asker.post("query_range", "query=vector(7)&start=100&end=160&step=30s").await;
    let values = &answer["data"]["result"][0]["values"];
    assert_eq!((status, values), (200, &serde_json::json!([[100, "7"], [130, "7"], [160, "7"]])));

    let (_, answer) = asker.get("label/__name__/values", &[("match[]", "{__name__=~\"springtide_server.*\"}")]).await;
    assert!(answer["data"].as_array().expect("names").contains(&"springtide_server_agents".into()), "{answer}");
    let (_, answer) = asker.post("series", "match[]=springtide_server_agents").await;
    assert_eq!(answer["data"], serde_json::json!([{ "__name__": "springtide_server_agents" }]));
    let (_, answer) = asker.get("labels", &[]).await;
    assert!(answer["data"].as_array().expect("names").contains(&"__name__".into()));
    let (_, answer) = asker.get("metadata", &[("metric", "springtide_server_commits_total")]).await;
    assert_eq!(answer["data"]["springtide_server_commits_total"][0]["type"], "counter");
    let (_, answer) = asker.get("status/buildinfo", &[]).await;
    assert!(answer["data"]["version"].as_str().expect("a version").starts_with("2.42.0+springtide-"));

    let wrong = [
        ("query", vec![("query", "sum(")], 400, "bad_data", "1:5: parse error"),
        ("query", vec![("query", "hour(vector(1))")], 400, "bad_data", "not supported here; supported are abs"),
        ("query", vec![], 400, "bad_data", "missing"),
        ("query", vec![("query", "1"), ("time", "soon")], 400, "bad_data", "RFC 3339"),
        (
            "query_range",
            vec![("query", "1"), ("start", "0"), ("end", "100000"), ("step", "1")],
            422,
            "execution",
            "11000 are the most",
        ),
        (
            "query_range",
            vec![("query", "1"), ("start", "9"), ("end", "0"), ("step", "1")],
            400,
            "bad_data",
            "before the start",
        ),
        (
            "query_range",
            vec![("query", "1"), ("start", "0"), ("end", "9"), ("step", "0")],
            400,
            "bad_data",
            "longer than zero",
        ),
        ("series", vec![], 400, "bad_data", "match[]"),
        ("label/a-b/values", vec![], 400, "bad_data", "letters, digits"),
        ("rules", vec![], 404, "not_found", "query_range"),
    ];
    for (path, parameters, status, kind, part) in wrong {
        let (found, answer) = asker.get(path, &parameters).await;
        let message = answer["error"].as_str().unwrap_or("");
        let right =
            found == status && answer["status"] == "error" && answer["errorType"] == kind && message.contains(part);
        assert!(right, "{path} {parameters:?}: {found} {answer}");
    }
    let stranger = Asker { token: "wrong".to_owned(), ..asker };
    assert_eq!(stranger.get("query", &[("query", "1")]).await.0, 401);
    server.stop().await;
}

/// Every query of the dashboard, by panel.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = |panel: &Value| {
        let title = panel["title"].as_str().unwrap_or("").to_owned();
        let all = panel["targets"].as_array().cloned().unwrap_or_default();
        all.into_iter().map(move |target| (title.clone(), target["expr"].as_str().expect("a query").to_owned()))
    };
    panels.iter().flat_map(targets).collect()
}

#[tokio::test]
async fn every_query_of_the_dashboard_is_answered_and_names_metrics_there_are() {
    let mut server = Server::start().await;
    let asker = Asker::of(&server).await;
    let dashboard: Value =
        serde_json::from_str(include_str!("../../../../docs/grafana/springtide.json")).expect("JSON");
    let (_, answer) = asker.get("metadata", &[]).await;
    let known: BTreeSet<String> = answer["data"].as_object().expect("metrics").keys().cloned().collect();
    let (now, mut asked, mut with_data) = (std::time::SystemTime::now(), 0, 0);
    let now = now.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    for (panel, query) in queries(&dashboard) {
        let query = query.replace("$__rate_interval", "1m").replace("$service", ".*");
        assert!(!query.contains('$'), "{panel}: a variable is left in {query}");
        for name in
            query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("springtide_"))
        {
            let base = name.trim_end_matches("_bucket");
            assert!(known.contains(base), "{panel}: there is no metric {name}");
        }
        let (start, end) = ((now - 60).to_string(), now.to_string());
        let range = [("query", query.as_str()), ("start", &start), ("end", &end), ("step", "1")];
        let (status, answer) = asker.get("query_range", &range).await;
        assert_eq!(status, 200, "{panel}: {query}: {answer}");
        asked += 1;
        with_data += usize::from(!answer["data"]["result"].as_array().expect("series").is_empty());
    }
    assert!(asked >= 30, "{asked} queries");
    assert!(with_data >= 5, "a server without a fleet draws its own panels: {with_data}");
    server.stop().await;
}
