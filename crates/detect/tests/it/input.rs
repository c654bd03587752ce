//! Bad input: whatever comes, nothing breaks, and silence of the collection is not the death of the fleet.

use crate::fleet::{Watch, topology};
use detect::{Config, Detector, Frame};
use proptest::prelude::*;

#[test]
fn nobody_heard_is_a_failed_collection_and_no_incident() {
    let mut watch = Watch::warm();
    watch.run(30, |_, frame| {
        frame.instances.cpu.fill(f32::NAN);
        frame.instances.requests.fill(f32::NAN);
    });
    watch.run(30, |_, _| {});
    assert!(watch.opened().is_empty(), "{:?}", watch.changes);
    assert_eq!(watch.detector.health().blind, 30);
}

#[test]
fn late_and_repeated_frames_are_refused_and_a_clock_set_back_begins_anew() {
    let mut watch = Watch::warm();
    let frames = watch.detector.health().frames;
    watch.second -= 5;
    watch.run(5, |_, _| {});
    assert_eq!((watch.detector.health().frames, watch.detector.health().refused), (frames, 5));
    watch.second -= 600;
    watch.run(120, |_, _| {});
    watch.second += 300;
    watch.run(60, |_, _| {});
    let health = watch.detector.health();
    assert_eq!((health.frames, health.gaps), (frames + 180, 2));
    assert!(watch.opened().is_empty(), "{:?}", watch.changes);
}

#[test]
fn a_frame_of_another_shape_is_refused() {
    let mut detector = Detector::new(Config::default());
    detector.retarget(topology());
    assert!(detector.tick(&Frame::default(), 0).is_empty());
    assert_eq!(detector.health().refused, 1);
}

#[test]
fn a_detector_is_silent_until_it_is_warm() {
    let mut detector = Detector::new(Config::default());
    detector.retarget(topology());
    let mut frame = Frame::new(detector.topology());
    for second in 0..40 {
        frame.second = second;
        frame.instances.requests.fill(100.0);
        frame.instances.errors.fill(if second > 20 { 90.0 } else { 0.0 });
        frame.instances.cpu.fill(0.5);
        assert!(detector.tick(&frame, second * 1_000).is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_comes_all_that_is_said_is_finite(values in prop::collection::vec(any::<f32>(), 64), seed in any::<u8>()) {
        let mut watch = Watch::warm();
        let at = |n: usize| values[(n * 7 + usize::from(seed)) % values.len()];
        watch.run(40, |second, frame| {
            for n in 0..frame.instances.requests.len() {
                let n2 = n + second as usize;
                frame.instances.requests[n] = at(n2);
                frame.instances.errors[n] = at(n2 + 1);
                frame.instances.rejects[n] = at(n2 + 2);
                frame.instances.latency_ms[n] = at(n2 + 3);
                frame.instances.cpu[n] = at(n2 + 4);
                frame.instances.memory[n] = at(n2 + 5);
            }
            frame.pairs.latency_ms.iter_mut().enumerate().for_each(|(n, ms)| *ms = at(n + 9));
            frame.hosts.cpu.iter_mut().enumerate().for_each(|(n, cpu)| *cpu = at(n + 11));
        });
        for incident in watch.detector.incidents() {
            for finding in &incident.findings {
                prop_assert!(finding.score.is_finite() && !finding.baseline.is_nan() && !finding.observed.is_nan());
            }
            for cause in &incident.causes {
                prop_assert!(cause.score.is_finite());
            }
        }
        // And health is heard again.
        watch.run(120, |_, _| {});
        prop_assert!(watch.detector.health().frames > 0);
    }
}
