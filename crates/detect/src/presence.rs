//! Absence as a signal of its own: an instance that answers nothing though its share of the traffic says it should, and
//! does not report either.
//!
//! Silence of `expected` requests has probability e^-expected (Poisson): that is the evidence. A missing heartbeat counts
//! by itself, so that an idle instance is missed too; a heartbeat without traffic needs longer, since weights may be zero.

use crate::cusum::Cusum;
use crate::kept::kept;

/// Threshold of evidence.
pub(crate) const H: f32 = 12.0;
/// Seconds over which the share of traffic forgets.
const SHARE_S: f32 = 60.0;
/// Share of the threshold that a second without a report adds while the host reports…
const QUIET_SHARE: f32 = 0.125;
/// …and while the host is silent too. An agent that restarts is silent for a second or two, and that is no loss.
const QUIET_HOST_SHARE: f32 = 0.34;
/// Seconds for which a missing report makes what else is found wait.
const QUIET_S_MAX: u16 = 2;
/// Share of the threshold that each request which was due and not answered adds while the instance reports: some 24 of them
/// in a row leave less than one false loss a day and 100,000 series.
const DUE_SHARE: f32 = 0.05;
/// Share of the threshold from which a silence is watched.
const BREWING: f32 = 0.3;
/// Reports needed before absence means anything.
const AGE_MIN: u16 = 5;

/// State of one instance's presence.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Presence {
    share: f32,
    age: u16,
    quiet_s: u16,
    pub(crate) cusum: Cusum,
}

/// One second of an instance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Second {
    /// Requests answered, failed ones aside.
    pub(crate) answered: f32,
    /// Its traffic was reported, be it none.
    pub(crate) heard: bool,
    /// Requests that its whole service answered.
    pub(crate) service_answered: f32,
    /// Its agent reports it.
    pub(crate) beat: bool,
    /// Its host reports at all.
    pub(crate) host_beat: bool,
    /// The second.
    pub(crate) second: u32,
}

kept!(Presence { share, age, quiet_s, cusum });

impl Presence {
    /// Requests it would answer in this second.
    pub(crate) fn expected(&self, service_answered: f32) -> f32 {
        self.share * service_answered
    }

    /// True in the second or two before silence becomes absence.
    pub(crate) fn brewing(&self) -> bool {
        let quiet = self.age >= AGE_MIN && (1..=QUIET_S_MAX).contains(&self.quiet_s);
        !self.cusum.on() && (quiet || self.cusum.score(H) >= BREWING)
    }

    /// Tests one second; `excused` says that its absence is intended.
    pub(crate) fn test(&mut self, at: Second, excused: bool) -> bool {
        self.quiet_s = if at.beat { 0 } else { self.quiet_s.saturating_add(1) };
        if self.age < AGE_MIN || excused {
            self.cusum.reset();
            return false;
        }
        let evidence = match (at.answered > 0.0, at.beat) {
            (true, _) => -H,
            (false, false) => {
                let quiet = match (at.host_beat, self.quiet_s) {
                    (true, _) => QUIET_SHARE,
                    // Silent seconds of one stall are one piece of evidence, not several.
                    (false, 2) => QUIET_HOST_SHARE / 2.0,
                    (false, 3) => 0.0,
                    (false, _) => QUIET_HOST_SHARE,
                };
                let due = if at.heard { 0.5 * self.expected(at.service_answered) } else { 0.0 };
                quiet * H + due
            }
            // Silence of n due requests has chance e^-n, and a fleet has a thousand million instance-seconds a day.
            (false, true) => (DUE_SHARE * H * (self.expected(at.service_answered) - 1.0)).clamp(-2.0, 0.34 * H),
        };
        self.cusum.add(evidence, H, at.second);
        self.cusum.settle(H, 1.0)
    }

    /// Learns one second.
    pub(crate) fn learn(&mut self, at: Second) {
        let alive = at.answered > 0.0 || at.beat;
        if !alive || self.cusum.on() {
            return;
        }
        self.age = self.age.saturating_add(1);
        if at.service_answered > 0.0 {
            let share = at.answered / at.service_answered;
            let gain = 1.0 / f32::from(self.age).min(SHARE_S);
            self.share += (share - self.share) * gain;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(answered: f32, beat: bool, second: u32) -> Second {
        Second { answered, heard: true, service_answered: 1_000.0, beat, host_beat: true, second }
    }

    fn warm(answered: f32) -> Presence {
        let mut presence = Presence::default();
        for second in 0..120 {
            assert!(!presence.test(at(answered, true, second), false));
            presence.learn(at(answered, true, second));
        }
        presence
    }

    #[test]
    fn loss_is_seen_in_two_seconds_and_that_of_an_idle_one_within_eight() {
        for (answered, seconds) in [(100.0, 2), (0.0, 8)] {
            let mut presence = warm(answered);
            let first = (0..20).position(|second| presence.test(at(0.0, false, 200 + second), false));
            assert_eq!(first, Some(seconds - 1));
            assert!(!presence.test(at(answered.max(1.0), true, 230), false));
        }
    }

    #[test]
    fn a_stalled_agent_of_a_quiet_instance_is_no_loss() {
        let mut presence = warm(5.0);
        for second in 0..3 {
            let stalled = Second { host_beat: false, heard: second != 1, ..at(0.0, false, 200 + second) };
            assert!(!presence.test(stalled, false), "{second}");
        }
        assert!(!presence.test(at(5.0, true, 203), false));
    }

    #[test]
    fn a_lost_report_of_a_working_instance_is_no_loss() {
        let mut presence = warm(100.0);
        assert!((0..30).all(|second| !presence.test(at(90.0, false, 200 + second), false)));
    }

    #[test]
    fn without_traffic_but_reporting_takes_longer_and_an_idle_one_never() {
        let mut busy = warm(100.0);
        let first = (0..10).position(|second| busy.test(at(0.0, true, 200 + second), false));
        assert_eq!(first, Some(2));
        let mut idle = warm(0.0);
        assert!((0..100).all(|second| !idle.test(at(0.0, true, 200 + second), false)));
    }

    #[test]
    fn a_few_seconds_without_the_few_requests_that_are_due_are_chance() {
        let mut presence = warm(5.0);
        let first = (0..10).position(|second| presence.test(at(0.0, true, 200 + second), false));
        assert!(first.is_some_and(|first| (4..=5).contains(&first)), "{first:?}: 25 requests due");
    }

    #[test]
    fn what_is_intended_is_no_loss() {
        let mut presence = warm(100.0);
        assert!((0..30).all(|second| !presence.test(at(0.0, false, 200 + second), true)));
    }
}
