//! Who gets how much of the live traffic, by the instances' own count: what the proxies really do with the weights.

use anyhow::{Context, Result, bail};
use springtide_bench::fleet::Fleet;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Share of one instance of four that only an override gives it.
const MOVED: f64 = 0.45;
/// Time over which shares are counted.
const WINDOW: Duration = Duration::from_millis(500);
/// Longest time that one look counts for: where it took longer, the machine stood still, and leases with it.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// Longest reading of all counters that is believed: what is counted later has more time, and a share that is not true.
const READING_MAX: Duration = Duration::from_millis(250);
/// Requests in a window below which it says nothing: of that many, chance gives none of four so large a share.
const REQUESTS_MIN: f64 = 60.0;
/// Windows that say nothing at the end, as when the machine stands still, before the service counts as not served.
const SILENT_MAX: Duration = Duration::from_secs(4);

/// The endpoints of a service, by instance.
pub async fn endpoints(fleet: &Fleet) -> Result<BTreeMap<String, String>> {
    let instances = fleet.client.instances(Some("probe"), None).await?;
    Ok(instances.into_iter().map(|at| (at.instance.to_string(), at.endpoint)).collect())
}

/// Waits until the busiest instance has far more than its even share of traffic.
pub async fn await_moved(endpoints: &BTreeMap<String, String>, seconds_max: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(seconds_max);
    let mut last = served(endpoints).await;
    while Instant::now() < deadline {
        if window(endpoints, &mut last).await.is_some_and(|(share, _)| share > MOVED) {
            return Ok(());
        }
    }
    bail!("no traffic was moved within {seconds_max} s")
}

/// Watches for `watch` from `since` on; gives how long after it the traffic was last seen away from its even shares.
/// Fails when nothing was served at the end.
pub async fn last_moved(endpoints: &BTreeMap<String, String>, since: Instant, watch: Duration) -> Result<Duration> {
    let mut last = served(endpoints).await;
    let mut awake = since.elapsed().min(LOOK_MAX);
    let mut moved = Duration::ZERO;
    let mut served = None;
    while awake < watch {
        let (began, look) = (awake, Instant::now());
        let found = window(endpoints, &mut last).await;
        awake += look.elapsed().min(LOOK_MAX);
        if found.is_some() {
            served = Some(awake);
        }
        if found.is_some_and(|(share, _)| share > MOVED) {
            // So large a share says that it stood for more than half of the window.
            moved = began + WINDOW / 2;
        }
    }
    let to_the_end = served.is_some_and(|last| last + SILENT_MAX >= watch);
    to_the_end.then_some(moved).context("the service was not served any more")
}

/// One window: the largest share, and how many requests it is of.
async fn window(endpoints: &BTreeMap<String, String>, last: &mut BTreeMap<String, f64>) -> Option<(f64, f64)> {
    // Not a wait for something to happen, but the length of the window over which shares are counted.
    tokio::time::sleep(WINDOW).await;
    let asked = Instant::now();
    let now = served(endpoints).await;
    if asked.elapsed() > READING_MAX {
        // Neither the window that ends here nor the next one says anything.
        last.clear();
        return None;
    }
    // An instance that was restarted counts from 0 again: what it served before is not known.
    let used: Vec<f64> = now
        .iter()
        .filter_map(|(instance, count)| Some(count - last.get(instance)?).filter(|used| *used >= 0.0))
        .collect();
    *last = now;
    let (most, all) = (used.iter().copied().fold(0.0, f64::max), used.iter().sum::<f64>());
    (all >= REQUESTS_MIN).then(|| (most / all, all))
}

/// Requests that each instance has served, by its own count; one that does not answer is left out.
async fn served(endpoints: &BTreeMap<String, String>) -> BTreeMap<String, f64> {
    let mut counts = BTreeMap::new();
    for (instance, endpoint) in endpoints {
        if let Ok(count) = count(endpoint).await {
            counts.insert(instance.clone(), count);
        }
    }
    counts
}

async fn count(endpoint: &str) -> Result<f64> {
    let stats = reqwest::get(format!("http://{endpoint}/stats")).await?.text().await?;
    let stats: serde_json::Value = serde_json::from_str(&stats)?;
    stats.pointer("/work/requests").and_then(serde_json::Value::as_f64).context("it counts")
}
