//! Truth against what golden signals make of samples: restarts, jitter, merging, forgetting.

use super::*;
use proptest::prelude::*;

fn edge(service: &str, instance: &str) -> EdgeSample {
    EdgeSample { caller: "outside".into(), service: service.into(), instance: instance.into(), ..EdgeSample::default() }
}

/// Counts `n` requests of one latency, as a proxy would.
fn count(edge: &mut EdgeSample, n: u64, latency_us: u64) {
    edge.started += n;
    edge.requests += n;
    edge.latency_us_sum += n * latency_us;
    edge.buckets.push((model::histogram::bucket_of(latency_us) as u32, n));
}

/// Sends an edge and takes its buckets as sent.
fn send(golden: &mut Golden, proxy: &str, edge: &mut EdgeSample, now: UnixMs) {
    golden.proxy(proxy, now * 1_000, std::slice::from_ref(edge), now);
    edge.buckets.clear();
}

fn row<'a>(rows: &'a [Row], name: &str) -> &'a Row {
    rows.iter().find(|row| row.name == name).expect("the row is there")
}

fn close(a: Option<f64>, b: f64) -> bool {
    a.is_some_and(|a| (a - b).abs() <= b.abs() * 0.02 + 1e-9)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// Restarts that a counter shows are counted exactly; those that it cannot show never count twice.
    #[test]
    fn restarted_proxies_lose_nothing(steps in prop::collection::vec((0..3_usize, prop::bool::weighted(0.2), 0..300_u64), 1..60)) {
        let mut golden = Golden::new();
        let mut edges: Vec<_> = (0..3).map(|_| edge("lottery", "lottery-1")).collect();
        let (mut truth, mut hidden) = (0, 0);
        for (at, (proxy, restart, requests)) in steps.into_iter().enumerate() {
            let before = edges[proxy].requests;
            if restart {
                edges[proxy] = edge("lottery", "lottery-1");
            }
            count(&mut edges[proxy], requests, 1_000);
            truth += requests;
            if restart && edges[proxy].requests >= before && before <= traffic::UNTIDY_REQUESTS_MAX {
                hidden += before;
            }
            send(&mut golden, &format!("proxy-{proxy}"), &mut edges[proxy], 1_000 + at as u64 * 400);
        }
        let traffic = golden.traffic("lottery-1").expect("had traffic");
        prop_assert_eq!(traffic.latency.total(), truth, "the histogram comes as deltas");
        prop_assert_eq!(traffic.requests + hidden, truth);
        prop_assert_eq!(traffic.started, traffic.requests);
    }

    /// A service's quantile is the quantile of its requests, however they fell on instances and proxies.
    #[test]
    fn quantiles_are_of_merged_requests(
        latencies in prop::collection::vec((0..4_usize, 0..2_usize, 1..5_000_000_u64), 1..100),
    ) {
        let mut golden = Golden::new();
        let mut all = LatencyHistogram::default();
        let mut edges: BTreeMap<(usize, usize), EdgeSample> = BTreeMap::new();
        for (instance, proxy, _) in &latencies {
            edges.entry((*instance, *proxy)).or_insert_with(|| edge("gift", &format!("gift-{instance}")));
        }
        for ((_, proxy), edge) in &mut edges {
            send(&mut golden, &format!("proxy-{proxy}"), edge, 9_500);
        }
        for (instance, proxy, us) in &latencies {
            all.record(*us);
            count(edges.get_mut(&(*instance, *proxy)).expect("made above"), 1, *us);
        }
        for ((_, proxy), edge) in &mut edges {
            send(&mut golden, &format!("proxy-{proxy}"), edge, 10_000);
        }
        let top = golden.top(10_200);
        let p99 = all.quantile_us(0.99).map(|us| us / 1_000.0);
        prop_assert_eq!(row(&top.services, "gift").p99_ms, p99);
    }
}

#[test]
fn rates_hold_still_though_samples_jitter() {
    let mut golden = Golden::new();
    let mut edges = [edge("pay", "pay-1"), edge("pay", "pay-1")];
    let mut sent = [0_u64; 2];
    for second in 10..30_u64 {
        for (proxy, edge) in edges.iter_mut().enumerate() {
            // Each second, up to 300 ms late; 700 requests a second at one proxy and 300 at the other.
            let now = second * 1_000 + proxy as u64 * 450 + (second * 7_919 + proxy as u64 * 31) % 300;
            let due = (now - 10_000) * [7, 3][proxy] / 10;
            count(edge, due - sent[proxy], 2_000);
            edge.errors += (due - sent[proxy]) / 10;
            sent[proxy] = due;
            send(&mut golden, &format!("proxy-{proxy}"), edge, now);
        }
        let top = golden.top((second + 1) * 1_000);
        if second >= 17 {
            let pay = row(&top.services, "pay");
            assert!(close(pay.qps, 1_000.0), "{second}: {pay:?}");
            assert!((pay.errors_per_second.expect("measured") - 100.0).abs() < 4.0, "{second}: {pay:?}");
            assert_eq!(row(&top.instances, "pay-1").qps, pay.qps);
        }
    }
    let silent = golden.top(60_000);
    assert_eq!(row(&silent.services, "pay").qps, Some(0.0), "no traffic is 0, not absent");
    assert_eq!(row(&silent.services, "pay").p99_ms, None, "without requests there is no latency");
}

#[test]
fn fast_samples_of_one_service_leave_the_rates_of_others_as_they_are() {
    let mut golden = Golden::new();
    let (mut fast, mut slow) = (edge("lottery", "lottery-1"), edge("gift", "gift-1"));
    for tick in 1..=100_u64 {
        let now = 100_000 + tick * 100;
        count(&mut fast, 50, 1_000);
        count(&mut slow, 20, 1_000);
        let mut edges = vec![fast.clone()];
        fast.buckets.clear();
        if tick % 10 == 3 {
            edges.push(slow.clone());
            slow.buckets.clear();
        }
        golden.proxy("proxy-1", now * 1_000, &edges, now);
    }
    let top = golden.top(110_000);
    assert!(close(row(&top.services, "lottery").qps, 500.0), "{top:?}");
    assert!(close(row(&top.services, "gift").qps, 200.0), "{top:?}");
}

#[test]
fn old_counters_of_an_edge_met_late_are_history() {
    let mut golden = Golden::new();
    let mut old = edge("sso", "sso-1");
    (old.requests, old.started, old.errors, old.latency_us_sum) = (1_000_000, 1_000_004, 5_000, 77);
    count(&mut old, 3, 1_000);
    send(&mut golden, "proxy-1", &mut old, 50_000);
    let traffic = golden.traffic("sso-1").expect("had traffic");
    assert_eq!((traffic.requests, traffic.errors, traffic.latency.total()), (3, 0, 3));
    count(&mut old, 10, 1_000);
    old.errors += 1;
    send(&mut golden, "proxy-1", &mut old, 51_000);
    let traffic = golden.traffic("sso-1").expect("had traffic");
    assert_eq!((traffic.requests, traffic.errors, traffic.started), (13, 1, 10));
    count(&mut old, 5_000, 1_000);
    send(&mut golden, "proxy-1", &mut old, 71_000);
    assert_eq!(golden.traffic("sso-1").expect("had traffic").requests, 5_013, "counted");
    let spike = golden.top(72_500);
    assert_eq!(row(&spike.services, "sso").qps, Some(0.0), "but of unknown time, so in no rate");
}

#[test]
fn answers_of_the_proxy_itself_count_for_the_service_only() {
    let mut golden = Golden::new();
    let mut own = edge("sso", "");
    count(&mut own, 10, 100);
    (own.errors, own.rejects) = (10, 4);
    send(&mut golden, "proxy-1", &mut own, 1_000);
    assert_eq!(golden.traffic_all().count(), 0);
    let top = golden.top(1_000);
    assert_eq!((top.instances.len(), top.services.len()), (0, 1));
}

fn slice(time_us: u64, cpu_usage_us: u64) -> SliceSample {
    let (instance, service) = ("lottery-1".into(), "lottery".into());
    SliceSample { instance, service, time_us, cpu_usage_us, memory_bytes: 1_000, ..SliceSample::default() }
}

#[test]
fn cpu_is_measured_by_the_agents_clock_and_starts_anew_with_the_slice() {
    let mut golden = Golden::new();
    // The agent's clock is an hour off and its samples arrive in bursts: half a core all the same.
    for n in 0..8_u64 {
        let mut sample = slice(3_600_000_000 + n * 1_000_000, n * 500_000);
        (sample.periods, sample.throttled_periods, sample.cpu_pressure_us) = (n * 10, n * 4, Some(n * 250_000));
        golden.agent("host-a", 0, None, &[sample], 10_000 + n / 4 * 4_000);
    }
    let top = golden.top(14_000);
    let lottery = row(&top.instances, "lottery-1");
    assert!(close(lottery.cpu_cores, 0.5) && close(lottery.throttled, 0.4) && close(lottery.cpu_pressure, 0.25));
    assert_eq!((lottery.memory_pressure, lottery.memory_bytes, lottery.qps), (None, Some(1_000), None));
    golden.agent("host-a", 0, None, &[slice(3_608_000_000, 1_000)], 15_000);
    assert_eq!(row(&golden.top(15_000).instances, "lottery-1").cpu_cores, None, "one reading is no rate");
    golden.agent("host-a", 0, None, &[slice(3_609_000_000, 801_000)], 16_000);
    assert!(close(row(&golden.top(16_000).instances, "lottery-1").cpu_cores, 0.8));
    golden.agent("host-a", 0, None, &[slice(3_609_000_000, 801_000)], 16_100);
    assert!(close(row(&golden.top(16_100).instances, "lottery-1").cpu_cores, 0.8), "the same reading twice is one");
    assert_eq!(golden.top(40_000).instances.len(), 0, "an old reading is not shown as current");
}

#[test]
fn a_service_sums_its_slices_and_shows_the_worst_and_hosts_have_rows() {
    let mut golden = Golden::new();
    let host =
        |n: u64| HostSample { cpu_busy_us: n * 1_500_000, cores: 2, memory_used_bytes: 5, ..HostSample::default() };
    for n in 0..3_u64 {
        let mut slices = vec![slice(n * 1_000_000, n * 300_000), slice(n * 1_000_000, n * 100_000)];
        slices[1].instance = "lottery-2".into();
        slices[1].throttled_us = n * 900_000;
        golden.agent("host-a", n * 1_000, Some(&host(n)), &slices, n * 1_000);
    }
    let top = golden.top(2_000);
    let lottery = row(&top.services, "lottery");
    assert!(close(lottery.cpu_cores, 0.4) && close(lottery.throttled, 0.9));
    assert_eq!((lottery.memory_bytes, lottery.qps), (Some(2_000), None));
    let host = row(&top.hosts, "host-a");
    assert!(close(host.cpu_cores, 1.5) && host.cpu_cores_max == Some(2.0));
    assert_eq!((host.throttled, host.cpu_pressure), (None, None));
}

#[test]
fn a_stress_reading_gives_newest_counters_and_new_latencies() {
    let mut golden = Golden::new();
    assert_eq!(golden.stress("lottery-1", 0), None);
    let mut edges = [edge("lottery", "lottery-1"), edge("lottery", "lottery-1"), edge("lottery", "lottery-2")];
    for edge in &mut edges {
        count(edge, 10, 1_000);
        edge.in_flight = 3;
        edge.started += 3;
    }
    golden.proxy("proxy-1", 5_000_000, &[edges[0].clone(), edges[2].clone()], 5_000);
    golden.proxy("proxy-2", 5_040_000, &edges[1..2], 5_040);
    golden.agent("host-a", 0, None, &[slice(5_010_000, 700)], 5_050);
    let first = golden.stress("lottery-1", 5_050).expect("had traffic");
    assert_eq!((first.traffic_time_us, first.latency.total()), (5_020_000, 0));
    assert_eq!((first.started, first.completed, first.in_flight, first.service_started), (26, 20, 6, 39));
    assert_eq!((first.slice_time_us, first.cpu_usage_us), (5_010_000, 700));
    edges.iter_mut().for_each(|edge| edge.buckets.clear());
    send(&mut golden, "proxy-3", &mut edge("gift", "gift-1"), 4_200);
    assert_eq!(golden.stress("lottery-1", 5_060).expect("had traffic").traffic_time_us, 5_020_000, "not its proxy");
    count(&mut edges[0], 5, 9_000);
    send(&mut golden, "proxy-1", &mut edges[0], 5_100);
    let second = golden.stress("lottery-1", 5_100).expect("had traffic");
    assert_eq!((second.traffic_time_us, second.completed, second.latency.total()), (5_070_000, 25, 5));
    assert!(second.latency.quantile_us(0.5).is_some_and(|us| us > 8_500.0));
    assert_eq!(golden.stress("lottery-1", 5_110).expect("had traffic").latency.total(), 0, "each latency once");
    // A proxy that fell silent neither holds the clock back nor keeps requests in flight.
    count(&mut edges[0], 5, 9_000);
    send(&mut golden, "proxy-1", &mut edges[0], 10_500);
    let later = golden.stress("lottery-1", 10_500).expect("had traffic");
    assert_eq!((later.traffic_time_us, later.in_flight, later.completed), (10_500_000, 3, 30));
    golden.stress_end("lottery-1");
    assert_eq!(golden.stress("lottery-1", 10_500).expect("had traffic").latency.total(), 0, "begins anew");
    for n in 0..TAPS_MAX as u64 + 5 {
        send(&mut golden, "proxy-1", &mut edge("gift", &format!("gift-{n}")), 10_600);
        golden.stress(&format!("gift-{n}"), 10_600).expect("had traffic");
    }
    assert_eq!(golden.taps.len(), TAPS_MAX);
}

#[test]
fn the_silent_are_forgotten() {
    let mut golden = Golden::new();
    let mut store = SeriesStore::new(crate::Limits::default());
    Golden::describe(&mut store);
    for instance in ["lottery-1", "lottery-2"] {
        let mut edge = edge("lottery", instance);
        count(&mut edge, 10, 1_000);
        edge.in_flight = 1;
        send(&mut golden, "proxy-1", &mut edge, 1_000);
    }
    golden.agent("host-a", 1_000, Some(&HostSample::default()), &[slice(1, 1)], 1_000);
    assert_eq!(golden.tick(1_500, &mut store), 0, "every point is described and taken");
    golden.tick(1_000 + SILENT_MS_MAX + 1, &mut store);
    assert!(golden.machine.slices.is_empty() && golden.machine.hosts.is_empty());
    assert_eq!(golden.flows.proxies(1_000 + SILENT_MS_MAX + 1), 0);
    assert_eq!(golden.traffic("lottery-1").map(|traffic| traffic.requests), Some(10), "gates may still ask");
    let later = 1_000 + IDLE_MS_MAX + 1;
    golden.agent("host-a", later, None, &[slice(1, 1)], later);
    golden.tick(later, &mut store);
    assert_eq!(
        golden.traffic_all().map(|(instance, _)| instance).collect::<Vec<_>>(),
        ["lottery-1"],
        "its slice lives"
    );
    assert!(golden.flows.services.is_empty() && golden.flows.pairs.is_empty());
}
