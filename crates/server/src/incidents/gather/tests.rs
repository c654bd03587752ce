//! Sources of any phase, clock and mood, and the frames that come of them.

use super::*;
use api::fleet::{EdgeSample, HostSample, ProtectionSample, SliceSample};
use detect::{Host, Instance, Pair, Parts, Rack, Service};

const BEGIN_MS: u64 = 1_800_000_000_000;

fn topology() -> Topology {
    let instance = |at: u32| Instance { name: format!("pay-{at}"), service: 0, host: 0, version: 1, wanted: true };
    Topology::new(Parts {
        datacenters: vec!["east".to_owned()],
        racks: vec![Rack { name: "r".to_owned(), datacenter: 0 }],
        hosts: vec![Host { name: "h".to_owned(), rack: 0 }],
        services: ["pay", "web"].map(|name| Service { name: name.to_owned(), external: false }).into(),
        instances: (1..=2).map(instance).collect(),
        pairs: vec![Pair { caller: 1, callee: 0 }],
    })
    .expect("whole")
}

/// A proxy of the protocol: its counters, its clock's error, and when it speaks.
struct Source {
    name: &'static str,
    phase_ms: u64,
    clock_off_ms: i64,
    requests: [u64; 2],
    errors: [u64; 2],
}

impl Source {
    fn new(name: &'static str, phase_ms: u64) -> Self {
        Self { name, phase_ms, clock_off_ms: 0, requests: [0; 2], errors: [0; 2] }
    }

    fn sample(&mut self, at_ms: u64, requests: u64, errors: u64) -> ProxySamples {
        let edges = (0..2).filter(|_| requests > 0).map(|at| {
            self.requests[at] += requests;
            self.errors[at] += errors;
            EdgeSample {
                caller: "web".to_owned(),
                service: "pay".to_owned(),
                instance: format!("pay-{}", at + 1),
                requests: self.requests[at],
                errors: self.errors[at],
                bucket: vec![200],
                bucket_count: vec![requests],
                ..EdgeSample::default()
            }
        });
        let edges: Vec<EdgeSample> = edges.collect();
        let time_ms = at_ms.checked_add_signed(self.clock_off_ms).expect("a time");
        ProxySamples { time_unix_us: time_ms * 1_000, edges, ..ProxySamples::default() }
    }
}

/// Runs seconds with these sources; gives each second's frame, and how long after the second's end it was closed.
fn run(sources: &mut [Source], seconds: u64, requests: impl Fn(&str, u64) -> Option<u64>) -> Vec<(u64, Frame)> {
    run_late(sources, seconds, requests, |_, at_ms| at_ms)
}

/// The same with samples that arrive later than they were sent: `arrives` has the source's name and both times.
fn run_late(
    sources: &mut [Source],
    seconds: u64,
    requests: impl Fn(&str, u64) -> Option<u64>,
    arrives: impl Fn(&str, UnixMs) -> UnixMs,
) -> Vec<(u64, Frame)> {
    let topology = topology();
    let mut gather = Gather::default();
    let places = gather.places(&topology);
    let mut frames = Vec::new();
    let mut on_their_way: Vec<(UnixMs, &str, ProxySamples)> = Vec::new();
    for step in 0..seconds * 20 {
        let now = BEGIN_MS + step * 50;
        for source in sources.iter_mut().filter(|source| now % 1_000 == source.phase_ms) {
            if let Some(requests) = requests(source.name, step / 20) {
                let samples = source.sample(now, requests, requests / 10);
                on_their_way.push((arrives(source.name, now), source.name, samples));
            }
        }
        for (_, name, samples) in on_their_way.extract_if(.., |(at, ..)| *at <= now) {
            gather.proxy(name, &samples, now);
        }
        while let Some(second) = gather.due(now) {
            let mut frame = Frame::new(&topology);
            gather.close(second, &topology, &places, &mut frame);
            frames.push((now.saturating_sub((second + 1) * 1_000), frame));
        }
    }
    frames
}

#[test]
fn each_second_has_each_sources_sample_once_whatever_its_phase() {
    let mut sources = [Source::new("a", 50), Source::new("b", 450), Source::new("c", 950)];
    let frames = run(&mut sources, 30, |_, _| Some(100));
    for (_, frame) in &frames[5..] {
        assert_eq!(frame.instances.requests, [300.0, 300.0], "second {}", frame.second);
        assert_eq!(frame.instances.errors, [30.0, 30.0]);
        assert_eq!(frame.pairs.requests, [600.0]);
        assert!((frame.instances.latency_ms[0] - frame.pairs.latency_ms[0]).abs() < 1e-6);
    }
}

#[test]
fn a_second_closes_as_soon_as_all_have_spoken() {
    let frames = run(&mut [Source::new("a", 50), Source::new("b", 100)], 20, |_, _| Some(10));
    assert!(
        frames[5..].iter().all(|(late_ms, _)| *late_ms == 100),
        "{:?}",
        frames.iter().map(|at| at.0).collect::<Vec<_>>()
    );
}

#[test]
fn a_clock_minutes_off_changes_nothing() {
    let mut off = Source::new("a", 100);
    off.clock_off_ms = -300_000;
    let mut ahead = Source::new("b", 150);
    ahead.clock_off_ms = 300_000;
    let frames = run(&mut [off, ahead], 20, |_, _| Some(100));
    assert!(frames[5..].iter().all(|(_, frame)| frame.instances.requests == [200.0, 200.0]));
}

/// From second 10 on nothing arrives for so long; then all of it does, at once.
fn held_up(for_ms: u64) -> impl Fn(&str, UnixMs) -> UnixMs {
    let from_ms = BEGIN_MS + 10_000;
    move |_, at_ms| if at_ms >= from_ms { at_ms.max(from_ms + for_ms) } else { at_ms }
}

#[test]
fn what_was_held_up_on_its_way_counts_for_the_second_in_which_it_was_sent() {
    for clock_off_ms in [0, -300_000, 300_000] {
        let mut sources = [Source::new("a", 50), Source::new("b", 300)];
        sources[0].clock_off_ms = clock_off_ms;
        // Each second brings another number, so that a sample of the wrong second shows.
        let frames = run_late(&mut sources, 30, |_, second| Some(100 + second), held_up(1_600));
        let base = BEGIN_MS / 1_000;
        assert!(frames.len() >= 28, "{} seconds closed", frames.len());
        for (_, frame) in &frames[5..] {
            // What a source says just after a second's end is of that second.
            let expected = (2 * (101 + frame.second - base)) as f32;
            assert_eq!(frame.instances.requests[0], expected, "second {}", frame.second - base);
        }
        // And it is as prompt as before as soon as they are heard again.
        let late: Vec<u64> = frames[14..].iter().map(|(late_ms, _)| *late_ms).collect();
        assert!(late.iter().all(|late_ms| *late_ms == 300), "{late:?}");
    }
}

#[test]
fn one_that_is_late_is_not_waited_for_as_all_of_them_are() {
    let only_a = |name: &str, at_ms| if name == "a" { held_up(1_600)(name, at_ms) } else { at_ms };
    let mut sources = [Source::new("a", 50), Source::new("b", 100), Source::new("c", 150)];
    let frames = run_late(&mut sources, 30, |_, _| Some(100), only_a);
    let most = frames[5..].iter().map(|(late_ms, _)| *late_ms).max();
    assert_eq!(most, Some(GRACE_MS), "a third that is late");
}

#[test]
fn proxies_are_waited_for_however_many_agents_have_spoken() {
    let mut gather = Gather::default();
    let mut source = Source::new("a", 0);
    for second in 0..12 {
        let now = BEGIN_MS + second * 1_000 + 50;
        for host in ["h1", "h2", "h3"] {
            gather.agent(host, &reading(second, false), now);
        }
        if second < 11 {
            gather.proxy("a", &source.sample(now, 10, 0), now);
        }
        while second < 11
            && let Some(due) = gather.due(now)
        {
            gather.next = Some(due + 1);
        }
    }
    let (next, end_ms) = (BEGIN_MS / 1_000 + 10, BEGIN_MS + 11_000);
    assert_eq!(gather.due(end_ms + GRACE_MS), None);
    assert_eq!(gather.silent(next, end_ms + GRACE_MS), (1, vec!["a"]));
    assert_eq!(gather.due(end_ms + HELD_UP_MS), Some(next));
}

#[test]
fn silence_of_all_is_waited_for_only_so_long() {
    let quiet = |_: &str, second| (second < 10).then_some(100);
    let mut sources = [Source::new("a", 50), Source::new("b", 100)];
    let frames = run(&mut sources, 20, quiet);
    let most = frames[5..].iter().map(|(late_ms, _)| *late_ms).max();
    assert_eq!(most, Some(HELD_UP_MS), "{:?}", frames.iter().map(|at| at.0).collect::<Vec<_>>());
}

#[test]
fn nothing_moved_is_none_where_all_who_carry_it_spoke_and_unknown_where_one_is_silent() {
    let quiet = |name: &str, second| match (name, second) {
        (_, 0..10) => Some(100),
        ("a", 20..) => None,
        _ => Some(0),
    };
    let frames = run(&mut [Source::new("a", 50), Source::new("b", 100)], 24, quiet);
    let at = |second: u64| {
        let found = frames.iter().find(|(_, frame)| frame.second == BEGIN_MS / 1_000 + second);
        found.expect("it was closed").1.instances.requests.clone()
    };
    assert_eq!(at(15), [0.0, 0.0]);
    assert!(at(20)[0].is_nan(), "{:?}", at(20));
}

#[test]
fn a_lost_sample_is_made_up_by_the_next_and_doubles_nothing() {
    // The counters went on while the sample of second 12 was lost: twice as much in two seconds.
    let lost = |_: &str, second| match second {
        12 => None,
        13 => Some(200),
        _ => Some(100),
    };
    let frames = run(&mut [Source::new("a", 100)], 20, lost);
    let requests: Vec<f32> = frames.iter().map(|(_, frame)| frame.instances.requests[0]).collect();
    assert!(requests[5..].iter().all(|requests| requests.is_nan() || *requests == 100.0), "{requests:?}");
}

#[test]
fn a_proxy_that_comes_or_falls_silent_is_told() {
    let mut gather = Gather::default();
    let mut source = Source::new("a", 0);
    for second in 0..10 {
        let now = BEGIN_MS + second * 1_000;
        gather.proxy("a", &source.sample(now, 10, 0), now);
    }
    assert_eq!(gather.look_at_proxies(BEGIN_MS + 10_000), Some(BEGIN_MS));
    assert_eq!(gather.look_at_proxies(BEGIN_MS + 13_000), Some(BEGIN_MS + 13_000));
    let back = BEGIN_MS + 40_000;
    gather.proxy("a", &source.sample(back, 10, 0), back);
    assert_eq!(gather.look_at_proxies(back), Some(back));
    assert_eq!(gather.proxies(), (1, 2));
    gather.look_at_proxies(back + 70_000);
    assert_eq!(gather.proxies(), (0, 0));
}

fn reading(second: u64, nonsense: bool) -> AgentSamples {
    let slice = |at: u64| SliceSample {
        instance: format!("pay-{at}"),
        service: "pay".to_owned(),
        cpu_usage_us: if nonsense { u64::MAX } else { second * 250_000 },
        memory_bytes: 1 << 20,
        time_unix_us: (BEGIN_MS + second * 1_000) * 1_000,
        ..SliceSample::default()
    };
    let host = HostSample {
        cpu_busy_us: second * 2_000_000,
        cores: 4,
        memory_total_bytes: 8,
        memory_used_bytes: 2,
        ..HostSample::default()
    };
    let (time_unix_ms, slices) = (BEGIN_MS + second * 1_000, vec![slice(1), slice(2)]);
    AgentSamples { time_unix_ms, host: Some(host), slices, ..AgentSamples::default() }
}

#[test]
fn slices_and_hosts_are_used_as_they_say_and_silent_after_two_intervals() {
    let topology = topology();
    let mut gather = Gather::default();
    let places = gather.places(&topology);
    let mut frames = Vec::new();
    for second in 0..20 {
        let now = BEGIN_MS + second * 1_000 + 60;
        if second < 10 {
            gather.agent("h", &reading(second, false), now);
            // Twice the same is one.
            gather.agent("h", &reading(second, false), now);
        }
        while let Some(due) = gather.due(now) {
            let mut frame = Frame::new(&topology);
            gather.close(due, &topology, &places, &mut frame);
            frames.push(frame);
        }
    }
    let at = |second: u64| frames.iter().find(|frame| frame.second == BEGIN_MS / 1_000 + second).expect("a frame");
    assert_eq!(at(6).instances.cpu, [0.25, 0.25]);
    assert_eq!(at(6).hosts.cpu, [0.5]);
    assert_eq!(at(6).hosts.memory, [0.25]);
    assert!(at(12).instances.cpu[0].is_nan() && at(12).hosts.cpu[0].is_nan());
    assert!(gather.dropped().0.not_newer >= 10);
}

#[test]
fn what_is_absurd_is_bounded_and_stops_nobody() {
    let topology = topology();
    let mut gather = Gather::default();
    let places = gather.places(&topology);
    for second in 0..10 {
        let now = BEGIN_MS + second * 1_000;
        gather.agent("h", &reading(second, second % 2 == 1), now);
        let wild = EdgeSample {
            caller: String::new(),
            service: "pay".to_owned(),
            instance: "pay-1".to_owned(),
            requests: if second % 2 == 0 { u64::MAX } else { 3 },
            errors: u64::MAX,
            rejects: u64::MAX,
            bucket: vec![u32::MAX, 7],
            bucket_count: vec![1],
            ..EdgeSample::default()
        };
        let samples = ProxySamples { time_unix_us: now * 1_000, edges: vec![wild], ..ProxySamples::default() };
        gather.proxy("a", &samples, now);
        while let Some(due) = gather.due(now) {
            let mut frame = Frame::new(&topology);
            gather.close(due, &topology, &places, &mut frame);
            assert!(!frame.instances.requests[0].is_infinite());
        }
    }
    gather.catch_up(BEGIN_MS + 3_600_000, 30);
    assert_eq!(gather.due(BEGIN_MS + 3_600_000), Some((BEGIN_MS + 3_600_000) / 1_000 - 30));
}

/// What a proxy that throttles tells: of `web`'s requests at `pay` it rejects so many each second, and of them so many for a
/// policy; another pair from the tenth second on.
fn throttled(gather: &mut Gather, second: u64, at: [(u64, u64); 2]) {
    let now = BEGIN_MS + second * 1_000 + 50;
    let count = |per: &dyn Fn((u64, u64)) -> u64| (0..=second).map(|of| per(at[usize::from(of >= 10)])).sum::<u64>();
    let (rejects, by_policy) = (count(&|of| of.0), count(&|of| of.1));
    let edge = |instance: &str, requests: u64, rejects: u64, bucket: u32| EdgeSample {
        caller: "web".to_owned(),
        service: "pay".to_owned(),
        instance: instance.to_owned(),
        requests,
        errors: rejects,
        rejects,
        bucket: vec![bucket],
        bucket_count: vec![requests / (second + 1)],
        ..EdgeSample::default()
    };
    let edges = vec![edge("pay-1", 100 * (second + 1), 0, 200), edge("", rejects, rejects, 5)];
    let protection =
        vec![ProtectionSample { service: "pay".to_owned(), rejects_policy: by_policy, ..ProtectionSample::default() }];
    gather.proxy("a", &ProxySamples { time_unix_us: now * 1_000, edges, protection, ..ProxySamples::default() }, now);
}

fn frames_of(at: [(u64, u64); 2]) -> Vec<Frame> {
    let topology = topology();
    let mut gather = Gather::default();
    let places = gather.places(&topology);
    let mut frames = Vec::new();
    for second in 0..20 {
        throttled(&mut gather, second, at);
        while let Some(due) = gather.due(BEGIN_MS + second * 1_000 + 60) {
            let mut frame = Frame::new(&topology);
            gather.close(due, &topology, &places, &mut frame);
            frames.push(frame);
        }
    }
    frames.drain(..12);
    frames
}

#[test]
fn what_a_policy_rejects_is_excused_and_what_is_rejected_beyond_it_is_not() {
    for frame in frames_of([(0, 0), (400, 400)]) {
        assert_eq!((frame.services.rejects[0], frame.pairs.rejects[0]), (0.0, 0.0), "second {}", frame.second);
        assert_eq!((frame.services.errors[0], frame.pairs.errors[0]), (0.0, 0.0));
        assert_eq!(
            (frame.services.requests[0], frame.pairs.requests[0]),
            (0.0, 100.0),
            "none is an answer of the service"
        );
        assert_eq!(frame.pairs.latency_ms[0], frame.instances.latency_ms[0], "the policy's answers have no latency");
    }
    for frame in frames_of([(0, 0), (400, 300)]) {
        assert_eq!((frame.services.rejects[0], frame.pairs.rejects[0]), (100.0, 100.0), "second {}", frame.second);
        assert_eq!((frame.services.requests[0], frame.pairs.requests[0]), (100.0, 200.0));
    }
    for frame in frames_of([(0, 0), (400, 0)]) {
        assert_eq!((frame.services.rejects[0], frame.pairs.rejects[0]), (400.0, 400.0), "second {}", frame.second);
    }
}

/// The frame after some seconds in each of which a proxy told this of `web`'s requests at `pay`.
fn told_each_second(edges: fn(u64) -> Vec<EdgeSample>, policy_answers: u64) -> Frame {
    let topology = topology();
    let mut gather = Gather::default();
    let places = gather.places(&topology);
    let mut frame = Frame::new(&topology);
    for second in 1..4_u64 {
        let now = BEGIN_MS + second * 1_000 + 50;
        let answers = ProtectionSample { policy_answers: policy_answers * second, ..ProtectionSample::default() };
        let protection = vec![ProtectionSample { service: "pay".to_owned(), ..answers }];
        let edges = edges(second);
        gather.proxy(
            "a",
            &ProxySamples { time_unix_us: now * 1_000, edges, protection, ..ProxySamples::default() },
            now,
        );
        if let Some(due) = gather.due(now) {
            gather.close(due, &topology, &places, &mut frame);
        }
    }
    frame
}

fn hundred_at(instance: &str, second: u64, errors: u64, bucket: u32) -> EdgeSample {
    EdgeSample {
        caller: "web".to_owned(),
        service: "pay".to_owned(),
        instance: instance.to_owned(),
        requests: 100 * second,
        errors: errors * second,
        bucket: vec![bucket],
        bucket_count: vec![100],
        ..EdgeSample::default()
    }
}

#[test]
fn what_a_proxy_answers_in_a_services_place_is_neither_its_answer_nor_its_latency() {
    let frame = told_each_second(|at| vec![hundred_at("pay-1", at, 0, 200), hundred_at("", at, 0, 5)], 100);
    assert_eq!((frame.services.requests[0], frame.instances.requests[0], frame.pairs.requests[0]), (0.0, 100.0, 100.0));
    assert_eq!(frame.pairs.latency_ms[0], frame.instances.latency_ms[0]);
}

/// What has no instances, such as an external, answers itself.
#[test]
fn answers_of_what_has_no_instances_count_while_no_policy_acts() {
    let frame = told_each_second(|at| vec![hundred_at("", at, 5, 200)], 0);
    assert_eq!((frame.pairs.requests[0], frame.pairs.errors[0]), (100.0, 5.0));
    assert!(frame.pairs.latency_ms[0] > 0.0);
}

#[test]
fn rejections_that_edges_show_a_second_late_are_excused_and_older_ones_excuse_nothing() {
    let mut left = BTreeMap::new();
    let second = |policies: f32, proxy: f32| {
        let mut excuses = Excuses::default();
        excuses.policies(0, policies);
        excuses.proxy(1, 0, proxy);
        excuses
    };
    let of = |done: (BTreeMap<u32, f32>, BTreeMap<(u32, u32), f32>)| done.0.get(&0).copied().unwrap_or(0.0);
    assert_eq!(of(second(100.0, 90.0).settle(&mut left)), 90.0);
    assert_eq!(of(second(100.0, 110.0).settle(&mut left)), 110.0);
    assert!(left.is_empty());
    assert_eq!(of(second(50.0, 0.0).settle(&mut left)), 0.0);
    assert_eq!(of(second(0.0, 20.0).settle(&mut left)), 20.0);
    assert_eq!(of(second(0.0, 20.0).settle(&mut left)), 0.0);
}
