//! Remote write to a real Prometheus and a real VictoriaMetrics: right values, and nothing missing after an absence.

use super::harness::{self, until};
use super::receivers::{Kind, Receiver, Sample};
use api::client::{Address, Client};

/// A series of the server's own: a value of its own each second.
const NAME: &str = "springtide_server_cpu_seconds_total";
/// Samples owed after each act.
const OWED: usize = 3;

async fn ours(client: &Client) -> Vec<Sample> {
    let data = client.prometheus("query", &[("query", format!("{NAME}[1h]"))]).await.expect("answered");
    let points = data["result"][0]["values"].as_array().cloned().unwrap_or_default();
    let point = |at: &serde_json::Value| {
        let ms = (at[0].as_f64().expect("a time") * 1_000.0).round() as i64;
        (ms, at[1].as_str().expect("a value").parse().expect("a number"))
    };
    points.iter().map(point).collect()
}

/// Waits until a receiver has everything of ours up to now; gives how much that was.
async fn has_all(receiver: &Receiver, client: &Client, after: i64) -> usize {
    let owed: Vec<Sample> = ours(client).await.into_iter().filter(|(at, _)| *at >= after).collect();
    until("all samples at the receiver", || async {
        let there = receiver.samples(NAME).await;
        // VictoriaMetrics keeps decimals: the last bit of a value may differ.
        let same = |(at, value): &Sample, (other_at, other): &Sample| {
            at == other_at && (value - other).abs() <= 1e-12 * value.abs()
        };
        owed.iter().all(|sample| there.iter().any(|other| same(sample, other))).then_some(())
    })
    .await;
    owed.len()
}

#[tokio::test]
async fn real_receivers_get_every_sample_also_after_an_absence_and_a_restart() {
    let mut receivers = [Kind::Prometheus, Kind::VictoriaMetrics].map(Receiver::new);
    receivers.iter_mut().for_each(Receiver::start);
    let data = tempfile::tempdir().expect("a folder");
    let mut config = harness::config(data.path());
    config.remote_write = receivers.iter().map(|receiver| receiver.url().parse().expect("a receiver")).collect();
    let client = Client::new(&Address::Socket(harness::socket(data.path())));
    let handle = server::start(config.clone()).await.expect("a server");

    let grown = |more: usize| {
        let client = &client;
        async move {
            let before = ours(client).await.len();
            until("more samples", || async { (ours(client).await.len() >= before + more).then_some(()) }).await;
        }
    };
    grown(OWED).await;
    // The first sample may be older than the sender's first look.
    let begun = ours(&client).await[1].0;
    receivers.iter_mut().for_each(Receiver::stop);
    grown(OWED).await;
    receivers.iter_mut().for_each(Receiver::start);
    for receiver in &receivers {
        assert!(has_all(receiver, &client, begun).await >= 2 * OWED - 1);
    }

    // The counters say it too, and the cursor outlives the server.
    let sent = client.prometheus("query", &[("query", "springtide_remote_write_sent_samples_total".to_owned())]).await;
    assert_eq!(sent.expect("answered")["result"].as_array().map(Vec::len), Some(2), "one series a receiver");
    let dropped =
        client.prometheus("query", &[("query", "sum(springtide_remote_write_dropped_samples_total)".to_owned())]).await;
    assert_eq!(dropped.expect("answered")["result"][0]["value"][1], "0");
    handle.stop().await.expect("it stops well");
    let kept = std::fs::read_dir(data.path().join("remote-write")).expect("the cursors").count();
    assert_eq!(kept, 2);
}
