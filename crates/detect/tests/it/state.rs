//! What outlives a detector: what it learnt, as bytes, and its incidents, as records.

use crate::fleet::{Watch, topology};
use detect::{Change, Config, Detector, Incident, IncidentState, StateFault};

/// A detector after a restart, `away_s` later.
fn restarted(before: &Watch, state: &[u8], away_s: u64) -> Watch {
    let mut detector = Detector::new(Config::default());
    detector.restore(state).unwrap();
    detector.resume(before.detector.incidents().cloned().collect());
    detector.retarget(topology());
    let second = before.second + away_s;
    Watch { frame: detect::Frame::new(detector.topology()), detector, second, changes: Vec::new() }
}

fn open(watch: &Watch) -> Vec<Incident> {
    watch.detector.incidents().filter(|incident| incident.state.is_open()).cloned().collect()
}

#[test]
fn a_restarted_detector_finds_a_fault_at_once_and_says_nothing_of_health() {
    let before = Watch::warm();
    let mut watch = restarted(&before, &before.detector.save(), 5);
    watch.run(60, |_, _| {});
    assert_eq!(watch.changes, []);
    watch.run(10, |_, frame| frame.instances.errors[8..16].fill(30.0));
    assert_eq!(watch.opened(), ["inc-1"]);
    assert!(watch.changes[0].0 <= 3, "{:?}", watch.changes);
}

#[test]
fn an_incident_that_was_open_stays_the_same_one_and_ends_as_one() {
    let mut before = Watch::warm();
    before.run(10, |_, frame| frame.instances.errors[8..16].fill(30.0));
    let state = before.detector.save();
    let mut watch = restarted(&before, &state, 8);
    watch.run(40, |_, frame| frame.instances.errors[8..16].fill(30.0));
    assert_eq!(watch.opened(), Vec::<String>::new(), "{:?}", watch.changes);
    assert_eq!(open(&watch).len(), 1);
    let lead = |incidents: Vec<Incident>| incidents[0].causes.first().map(|cause| (cause.kind, cause.entity.clone()));
    assert_eq!(lead(open(&watch)), lead(open(&before)));
    watch.run(40, |_, _| {});
    assert_eq!(watch.changes.last().map(|(_, change)| change), Some(&Change::Resolved("inc-1".to_owned())));
    // The next one has a number of its own.
    watch.run(150, |_, _| {});
    watch.run(10, |_, frame| frame.instances.errors[16..24].fill(30.0));
    assert_eq!(watch.opened(), ["inc-2"]);
}

#[test]
fn an_incident_whose_trouble_went_meanwhile_ends_by_itself() {
    let mut before = Watch::warm();
    before.run(10, |_, frame| frame.instances.errors[8..16].fill(30.0));
    let mut watch = restarted(&before, &before.detector.save(), 5);
    watch.run(25, |_, _| {});
    assert_eq!(open(&watch).len(), 1, "it is not ended before its findings could have been heard");
    watch.run(10, |_, _| {});
    assert_eq!(watch.detector.incident("inc-1").map(|incident| incident.state), Some(IncidentState::Resolved));
}

#[test]
fn damaged_bytes_and_those_of_another_version_are_refused_and_change_nothing() {
    let watch = Watch::warm();
    let whole = watch.detector.save();
    let mut detector = Detector::new(Config::default());
    for cut in (0..whole.len()).step_by(whole.len() / 50) {
        assert!(detector.restore(&whole[..cut]).is_err(), "cut at {cut}");
        let mut wrong = whole.clone();
        wrong[cut] ^= 0x10;
        assert!(detector.restore(&wrong).is_err(), "wrong at {cut}");
    }
    let mut newer = whole.clone();
    newer[0] = 99;
    assert_eq!(detector.restore(&newer), Err(StateFault::Version(99)));
    assert_eq!(detector.health().series, 0);
    assert_eq!(detector.restore(&whole), Ok(()));
    assert_eq!(detector.save(), whole);
}
