//! When each request is intended: the area under the rate's curve, one request (or one exponential draw) at a time. Pure.

use crate::plan::Segment;

/// Walks the profile. Times are seconds since the start.
#[derive(Debug)]
pub(crate) struct Schedule {
    segments: Vec<Segment>,
    /// A steered rate that stands instead of the profile's.
    steered_rps: Option<f64>,
    /// The walk has come to here,
    at_s: f64,
    /// and this much area is left until the next request.
    area_left: f64,
}

impl Schedule {
    /// Starts before the first request; `area` is 1 for even arrivals, else a draw.
    pub(crate) fn new(segments: Vec<Segment>, area: f64) -> Self {
        Self { segments, steered_rps: None, at_s: 0.0, area_left: area }
    }

    /// When the profile ends.
    pub(crate) fn end_s(&self) -> f64 {
        self.segments.last().map_or(0.0, |last| last.to_s)
    }

    /// When the next request is intended; `None` when not before the end.
    pub(crate) fn next_s(&self) -> Option<f64> {
        let mut left = self.area_left;
        for segment in self.remaining() {
            let area = area(segment);
            if area >= left && area > 0.0 {
                return Some(solve(segment, left));
            }
            left -= area;
        }
        None
    }

    /// The request intended at `due_s` was sent; the next one is `area` away.
    pub(crate) fn sent(&mut self, due_s: f64, area: f64) {
        self.at_s = due_s;
        self.area_left = area;
    }

    /// Changes the steered rate at a time; what has passed of the present gap still counts.
    pub(crate) fn steer(&mut self, now_s: f64, rps: Option<f64>) {
        let passed: f64 = self.remaining().map(|segment| clip(segment, now_s)).map(area).sum();
        self.area_left = (self.area_left - passed).max(0.0);
        self.at_s = self.at_s.max(now_s);
        self.steered_rps = rps;
    }

    /// What lies between here and the end.
    fn remaining(&self) -> impl Iterator<Item = Segment> + '_ {
        let steered = self.steered_rps.map(|rps| {
            let to_s = self.end_s().max(self.at_s);
            Segment { from_s: self.at_s, to_s, from_rps: rps, to_rps: rps }
        });
        let profile = if steered.is_some() { &[][..] } else { &self.segments[..] };
        let ahead = profile.iter().filter(|segment| segment.to_s > self.at_s).map(|segment| {
            let from_s = segment.from_s.max(self.at_s);
            Segment { from_s, from_rps: rate_at(*segment, from_s), ..*segment }
        });
        steered.into_iter().chain(ahead)
    }
}

fn rate_at(segment: Segment, at_s: f64) -> f64 {
    let length = segment.to_s - segment.from_s;
    if length <= 0.0 {
        return segment.to_rps;
    }
    segment.from_rps + (segment.to_rps - segment.from_rps) * (at_s - segment.from_s) / length
}

/// The part of a stretch before a time.
fn clip(segment: Segment, before_s: f64) -> Segment {
    let to_s = segment.to_s.min(before_s).max(segment.from_s);
    Segment { to_s, to_rps: rate_at(segment, to_s), ..segment }
}

fn area(segment: Segment) -> f64 {
    (segment.from_rps + segment.to_rps) / 2.0 * (segment.to_s - segment.from_s)
}

/// When the area from the start of the stretch reaches `wanted` (which is at most the whole).
fn solve(segment: Segment, wanted: f64) -> f64 {
    let slope = (segment.to_rps - segment.from_rps) / (segment.to_s - segment.from_s);
    // rate·t + slope·t²/2 = wanted, in the form that stays exact when the slope is small.
    let root = (segment.from_rps * segment.from_rps + 2.0 * slope * wanted).max(0.0).sqrt();
    let denominator = segment.from_rps + root;
    let t = if denominator > 0.0 { 2.0 * wanted / denominator } else { 0.0 };
    (segment.from_s + t).min(segment.to_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Profile, Step};

    fn times(profile: &Profile) -> Vec<f64> {
        let mut schedule = Schedule::new(profile.segments().unwrap(), 1.0);
        let mut times = Vec::new();
        while let Some(due) = schedule.next_s() {
            times.push(due);
            schedule.sent(due, 1.0);
        }
        times
    }

    #[test]
    fn constant_rates_are_even() {
        let times = times(&Profile::Constant { rps: 4.0, seconds: 2.0 });
        assert_eq!(times.len(), 8);
        for (number, time) in times.iter().enumerate() {
            assert!((time - (number + 1) as f64 / 4.0).abs() < 1e-9, "{times:?}");
        }
    }

    #[test]
    fn ramps_and_curves_have_the_area_of_their_rates() {
        let ramp = times(&Profile::Ramp { from_rps: 0.0, to_rps: 100.0, seconds: 10.0 });
        assert!((499..=500).contains(&ramp.len()), "{}", ramp.len());
        let half = ramp.iter().filter(|time| **time <= 5.0).count();
        assert!((124..=125).contains(&half), "a quarter of the area lies in the first half: {half}");
        let curve = times(&Profile::Replay(vec![(30.0, 10.0), (31.0, 30.0), (33.0, 0.0), (34.0, 0.0)]));
        assert!((49..=50).contains(&curve.len()), "{}", curve.len());
        assert!(curve.iter().all(|time| *time <= 3.0) && curve.is_sorted());
    }

    #[test]
    fn steps_follow_one_another_across_silence() {
        let silent = Step { rps: 0.0, seconds: 5.0 };
        let steps = vec![Step { rps: 1.0, seconds: 1.5 }, silent, Step { rps: 2.0, seconds: 1.0 }];
        let times = times(&Profile::Steps(steps));
        assert_eq!(times.len(), 3);
        assert!((times[1] - 6.75).abs() < 1e-9, "half a request was left from the first step: {times:?}");
    }

    #[test]
    fn steering_keeps_what_has_passed_of_the_gap() {
        let segments = Profile::Constant { rps: 1.0, seconds: 10.0 }.segments().unwrap();
        let mut schedule = Schedule::new(segments, 1.0);
        schedule.steer(0.5, Some(5.0));
        assert!((schedule.next_s().unwrap() - 0.6).abs() < 1e-9);
        schedule.steer(0.55, Some(0.0));
        assert_eq!(schedule.next_s(), None);
        schedule.steer(8.0, None);
        assert!((schedule.next_s().unwrap() - 8.25).abs() < 1e-9);
        schedule.sent(9.5, 1.0);
        assert_eq!(schedule.next_s(), None, "past the end");
    }

    #[test]
    fn senseless_profiles_are_refused() {
        for profile in [
            Profile::Constant { rps: -1.0, seconds: 1.0 },
            Profile::Constant { rps: f64::NAN, seconds: 1.0 },
            Profile::Constant { rps: 1.0, seconds: f64::INFINITY },
            Profile::Ramp { from_rps: 0.0, to_rps: 1e9, seconds: 1.0 },
            Profile::Steps(Vec::new()),
            Profile::Replay(vec![(0.0, 5.0)]),
            Profile::Replay(vec![(3.0, 5.0), (1.0, 5.0)]),
        ] {
            let message = profile.segments().unwrap_err().to_string();
            assert!(message.starts_with("profile: "), "{message}");
        }
    }
}
