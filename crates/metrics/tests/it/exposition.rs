//! Golden text, and the whole output of a busy server through the strict parser.

use crate::parser::parse;
use metrics::golden::{Device, EdgeSample, Golden, HostRest, HostSample, SliceRest, SliceSample};
use metrics::{Description, Kind, Limits, SeriesStore};
use model::LatencyHistogram;

const EXPECTED: &str = r#"# HELP shop_open_doors Doors open.
# TYPE shop_open_doors gauge
shop_open_doors 0.25
# HELP shop_orders_total Orders taken.\nSince the start, in \\ all.
# TYPE shop_orders_total counter
shop_orders_total{city="Shenzhen 深圳",name="a \"b\" \\ c\nd"} 12
# HELP shop_wait_seconds Time waited.
# TYPE shop_wait_seconds histogram
shop_wait_seconds_bucket{side="left",le="0.001"} 1
shop_wait_seconds_bucket{side="left",le="0.0025"} 1
shop_wait_seconds_bucket{side="left",le="0.005"} 1
shop_wait_seconds_bucket{side="left",le="0.01"} 1
shop_wait_seconds_bucket{side="left",le="0.025"} 1
shop_wait_seconds_bucket{side="left",le="0.05"} 3
shop_wait_seconds_bucket{side="left",le="0.1"} 3
shop_wait_seconds_bucket{side="left",le="0.25"} 3
shop_wait_seconds_bucket{side="left",le="0.5"} 3
shop_wait_seconds_bucket{side="left",le="1"} 3
shop_wait_seconds_bucket{side="left",le="2.5"} 3
shop_wait_seconds_bucket{side="left",le="5"} 3
shop_wait_seconds_bucket{side="left",le="10"} 3
shop_wait_seconds_bucket{side="left",le="+Inf"} 4
shop_wait_seconds_sum{side="left"} 99.0609
shop_wait_seconds_count{side="left"} 4
# HELP springtide_series Series in memory.
# TYPE springtide_series gauge
springtide_series 19
# HELP springtide_store_points_total Points taken into the series store.
# TYPE springtide_store_points_total counter
springtide_store_points_total 19
# HELP springtide_store_memory_bytes Memory of the series store, about.
# TYPE springtide_store_memory_bytes gauge
springtide_store_memory_bytes 0
# HELP springtide_store_lost_points_total Points that left memory before they were on disk.
# TYPE springtide_store_lost_points_total counter
springtide_store_lost_points_total 0
# HELP springtide_points_refused_total Points that the series store refused, by reason.
# TYPE springtide_points_refused_total counter
springtide_points_refused_total{reason="undescribed"} 0
springtide_points_refused_total{reason="bad_label"} 0
springtide_points_refused_total{reason="too_many_series"} 0
springtide_points_refused_total{reason="out_of_order"} 0
springtide_points_refused_total{reason="not_finite"} 0
springtide_points_refused_total{reason="source_full"} 0
springtide_points_refused_total{reason="memory"} 0
springtide_points_refused_total{reason="duplicate"} 0
springtide_points_refused_total{reason="too_old"} 0
springtide_points_refused_total{reason="too_new"} 0
"#;

#[test]
fn a_small_store_is_exposed_like_this() {
    let mut store = SeriesStore::new(Limits::default());
    let describe = |name, kind, unit, help| Description { name, kind, unit, help };
    store.describe(describe(
        "shop_orders_total",
        Kind::Counter,
        "orders",
        "Orders taken.\nSince the start, in \\ all.",
    ));
    store.describe(describe("shop_wait_seconds", Kind::Histogram, "seconds", "Time waited."));
    store.describe(describe("shop_open_doors", Kind::Gauge, "doors", "Doors open."));
    store.describe(describe("shop_closed_doors", Kind::Gauge, "doors", "Never written, never shown."));
    let labels = [("name", "a \"b\" \\ c\nd"), ("city", "Shenzhen 深圳")];
    store.push("shop_orders_total", &labels, 100_000, 12.0).expect("takes");
    store.push("shop_open_doors", &[], 100_000, 0.25).expect("takes");
    store.push("shop_open_doors", &[("side", "old")], 1_000, 1.0).expect("takes");
    let mut latency = LatencyHistogram::default();
    [900, 30_000, 30_000, 99_000_000].iter().for_each(|us| latency.record(*us));
    let row = store.row(&[("side", "left")]).expect("a row");
    store.set_histogram(row, "shop_wait_seconds", 100_000, &latency, 99_060_900).expect("takes");
    let text = store.exposition(101_000);
    parse(&text).expect("the strict parser takes it");
    assert_eq!(text, EXPECTED);
}

fn slice_rest() -> SliceRest {
    let some = Some(7);
    SliceRest {
        memory_file_bytes: some,
        memory_anon_bytes: some,
        memory_peak_bytes: some,
        io_pressure_us: some,
        io_pressure_full_us: some,
        io_read_bytes: some,
        io_written_bytes: some,
        io_reads: some,
        io_writes: some,
    }
}

fn host_rest(second: u64) -> HostRest {
    let device = |name: &str, counters| Device { name: name.into(), counters: vec![second as f64; counters] };
    HostRest {
        disks: vec![device("vda", 5), device("vdb", 5)],
        nics: vec![device("eth0", 8)],
        space_bytes: (100, 40),
        inodes: (10, 5),
    }
}

fn busy(second: u64) -> (Vec<EdgeSample>, Vec<SliceSample>, HostSample) {
    let edges = (0..40).map(|n| EdgeSample {
        caller: ["outside", "sso"][n % 2].to_owned(),
        service: format!("service-{}", n % 5),
        instance: format!("service-{}-{n}", n % 5),
        requests: second * 10,
        errors: second,
        rejects: second / 2,
        in_flight: 2,
        latency_us_sum: second * 10 * 1_500,
        buckets: vec![(100, 6), (300, 4)],
        started: second * 10 + 2,
        retries: second,
        queue_us_sum: second * 10 * 20,
        back_us_sum: second * 10 * 1_000,
        back_buckets: vec![(90, 6), (280, 4)],
    });
    let slices = (0..40).map(|n| SliceSample {
        instance: format!("service-{}-{n}", n % 5),
        service: format!("service-{}", n % 5),
        cpu_usage_us: second * 100_000,
        cpu_pressure_us: Some(second * 1_000),
        memory_pressure_us: Some(0),
        cpu_pressure_full_us: Some(second),
        memory_pressure_full_us: Some(0),
        rest: second.is_multiple_of(5).then(slice_rest),
        time_us: second * 1_000_000,
        ..SliceSample::default()
    });
    let host = HostSample {
        cpu_busy_us: second,
        cores: 2,
        io_pressure_us: Some(second),
        io_pressure_full_us: Some(second),
        rest: second.is_multiple_of(5).then(|| host_rest(second)),
        ..HostSample::default()
    };
    (edges.collect(), slices.collect(), host)
}

#[test]
fn a_busy_server_is_exposed_without_fault() {
    let mut store = SeriesStore::new(Limits::default());
    let mut golden = Golden::new();
    Golden::describe(&mut store);
    for second in 1..=10 {
        let (edges, slices, host) = busy(second);
        golden.proxy("proxy-1", second * 1_000_000, &edges, second * 1_000);
        golden.agent("host-a", second * 1_000, Some(&host), &slices, second * 1_000);
        assert_eq!(golden.tick(second * 1_000, &mut store), 0, "nothing is refused");
    }
    let metrics = parse(&store.exposition(10_000)).expect("the strict parser takes it");
    assert!(metrics.values().all(|metric| metric.help.len() > 10));
    let missing: Vec<_> = store.descriptions().map(|d| d.name).filter(|name| !metrics.contains_key(*name)).collect();
    let unmeasured = [
        "springtide_host_cpu_pressure_full_seconds_total",
        "springtide_host_cpu_pressure_seconds_total",
        "springtide_host_memory_pressure_full_seconds_total",
        "springtide_host_memory_pressure_seconds_total",
    ];
    assert_eq!(missing, unmeasured, "all but what this host does not measure");
    let one = &metrics["springtide_instance_requests_total"].samples;
    assert_eq!(one.len(), 40);
    assert_eq!(one[0].2, 100.0, "10 requests a second for 10 s");
    let rate = &metrics["springtide_service_requests_per_second"].samples;
    assert!(rate.iter().all(|(_, _, value)| (*value - 80.0).abs() < 1.0), "8 instances of 10 a second: {rate:?}");
    let disks = &metrics["springtide_host_disk_read_bytes_total"].samples;
    assert_eq!(
        disks.iter().map(|(_, labels, value)| (labels["device"].as_str(), *value)).collect::<Vec<_>>(),
        [("vda", 10.0), ("vdb", 10.0)]
    );
    let wait = &metrics["springtide_edge_queue_delay_seconds"].samples;
    assert!(wait.iter().all(|(_, _, value)| (*value - 200e-6 / 9.0).abs() < 1e-9), "200 us for nine calls: {wait:?}");
    let edge = metrics["springtide_edge_requests_total"].samples.len();
    assert_eq!(edge, 10, "pairs, not pairs by instance");
    assert!(store.exposition(100_000).lines().count() < 30, "a silent server exposes nothing old");
}
