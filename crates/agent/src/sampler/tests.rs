//! The thread as the link sees it, and what one sample costs.

use super::*;
use crate::cgroup::tests_support;
use api::fleet::{AgentSamples, AgentUp, Trip, agent_up};
use prost::Message;

fn decode(encoded: &Bytes) -> AgentSamples {
    match AgentUp::decode(&encoded[..]).expect("a message").message {
        Some(agent_up::Message::Samples(samples)) => samples,
        other => panic!("samples, not {other:?}"),
    }
}

fn own() -> Gauge {
    Gauge::open(None, "lottery-1", std::process::id())
}

#[test]
fn the_rhythm_is_kept_and_missed_beats_are_left_out() {
    let start = Instant::now();
    let ms = |n| start + Duration::from_millis(n);
    assert_eq!(following(start, 100, ms(5)), ms(100));
    assert_eq!(following(start, 100, ms(350)), ms(400));
    assert_eq!(following(start, 100, ms(400)), ms(500));
}

fn next(samples: &mut mpsc::Receiver<Bytes>) -> AgentSamples {
    let late = Instant::now() + Duration::from_secs(20);
    loop {
        match samples.try_recv() {
            Ok(sample) => return decode(&sample),
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
        assert!(Instant::now() < late, "waited in vain for a sample");
    }
}

#[test]
fn fast_sampling_ends_by_itself() {
    let (sampler, mut samples) = Sampler::start(None);
    sampler.add("lottery-1", "lottery", own());
    sampler.add("gift-1", "gift", own());
    sampler.fast(vec!["lottery".into()], 60_000);
    let is_fast = |sample: &AgentSamples| sample.host.is_none();
    let first = (0..20).map(|_| next(&mut samples)).find(is_fast).expect("ten a second");
    sampler.fast(vec!["lottery".into()], 350);
    // What came while this thread stood still is of the longer life.
    while samples.try_recv().is_ok() {}
    let (mut fast, mut full) = (vec![first], 0);
    while full < 3 {
        match next(&mut samples) {
            sample if is_fast(&sample) => fast.push(sample),
            _ => full += 1,
        }
    }
    assert!(fast.len() <= 1 + 6, "{} fast samples in 350 ms", fast.len() - 1);
    assert!(fast.iter().all(|sample| sample.slices.iter().all(|slice| slice.service == "lottery")));
}

fn sampling() -> (Sampling, mpsc::Receiver<Bytes>) {
    let (out, samples) = mpsc::channel(SAMPLES_QUEUE_MAX);
    (Sampling::new(Some(Path::new("/")), out), samples)
}

#[test]
fn the_rest_comes_at_first_and_then_every_sixth_time() {
    let dir = tempfile::tempdir().expect("temp");
    let (mut sampling, mut samples) = sampling();
    let gauge = Gauge::Slice(tests_support::meter(dir.path()));
    sampling.take(Order::Add { instance: "lottery-1".into(), service: "lottery".into(), gauge });
    let mut with_rest = Vec::new();
    for _ in 0..14 {
        sampling.sample(true);
        let sample = decode(&samples.try_recv().expect("one a turn"));
        let [slice] = &sample.slices[..] else { panic!("{sample:?}") };
        assert_eq!((slice.instance.as_str(), slice.service.as_str()), ("lottery-1", "lottery"));
        assert!(slice.time_unix_us > 0 && sample.time_unix_ms > 0);
        with_rest.push((slice.rest.is_some(), sample.host.expect("all").rest.is_some()));
    }
    let turns = |of: fn(&(bool, bool)) -> bool| -> Vec<usize> {
        with_rest.iter().enumerate().filter(|(_, at)| of(at)).map(|(at, _)| at).collect()
    };
    assert_eq!(turns(|at| at.0), [0, 1, 7, 13]);
    assert_eq!(turns(|at| at.1), [0, 6, 12]);
}

/// Trips of instances; those of the host are of this machine, whose disk may be full.
fn of_instances(sample: &AgentSamples) -> Vec<&Trip> {
    sample.trips.iter().filter(|trip| !trip.subject.is_empty()).collect()
}

#[test]
fn an_exit_and_an_oom_kill_bring_the_rest_along() {
    let dir = tempfile::tempdir().expect("temp");
    let (mut sampling, mut samples) = sampling();
    for instance in ["lottery-1", "lottery-2"] {
        let gauge = Gauge::Slice(tests_support::meter(dir.path()));
        sampling.take(Order::Add { instance: instance.into(), service: "lottery".into(), gauge });
    }
    for _ in 0..4 {
        sampling.sample(true);
        assert!(of_instances(&decode(&samples.try_recv().expect("one a turn"))).is_empty());
    }
    sampling.take(Order::Exited { instance: "lottery-2".into(), code: -9 });
    sampling.sample(true);
    let sample = decode(&samples.try_recv().expect("one a turn"));
    let [trip] = of_instances(&sample)[..] else { panic!("{:?}", sample.trips) };
    assert_eq!((trip.kind(), trip.subject.as_str(), trip.value), (TripKind::TripInstanceExit, "lottery-2", -9.0));
    assert_eq!(sample.slices.iter().map(|slice| slice.rest.is_some()).collect::<Vec<_>>(), [false, true]);
    assert!(sample.host.expect("all").rest.is_some());
    std::fs::write(dir.path().join("memory.events"), "low 0\noom 1\noom_kill 5\n").expect("temp");
    sampling.sample(true);
    let sample = decode(&samples.try_recv().expect("one a turn"));
    let trips = of_instances(&sample);
    assert_eq!(trips.len(), 2, "both read the same file: {trips:?}");
    assert!(trips.iter().all(|trip| trip.kind() == TripKind::TripOomKill && trip.value == 1.0));
    sampling.sample(true);
    assert!(of_instances(&decode(&samples.try_recv().expect("one a turn"))).is_empty());
}

/// The kernel's own files: a real slice, read as if it were a hundred.
#[test]
fn a_sample_of_a_hundred_slices_allocates_nothing() {
    let tree = tests_support::real("allocations");
    let slice = tree.slice("one");
    slice.create(&tests_support::limits()).expect("made");
    let (mut sampling, mut samples) = sampling();
    for number in 0..100 {
        let gauge = Gauge::open(Some(&tree), "one", 0);
        sampling.take(Order::Add { instance: format!("lottery-{number}"), service: "lottery".into(), gauge });
    }
    let round = |sampling: &mut Sampling, samples: &mut mpsc::Receiver<Bytes>| {
        for _ in 0..REST_TURNS {
            sampling.sample(true);
            sampling.sample(false);
            drop(samples.try_recv().expect("one a turn"));
        }
    };
    // Buffers grow to their size, names of devices are looked up, the queue gets its blocks.
    for _ in 0..20 {
        round(&mut sampling, &mut samples);
    }
    let counted = allocation_counter::measure(|| {
        for _ in 0..20 {
            round(&mut sampling, &mut samples);
        }
    });
    slice.remove().expect("removed");
    tree.close();
    assert_eq!(counted.count_total, 0, "allocations in 120 samples of 100 slices: {counted:?}");
}
