//! Failures among requests: counts are binomial, and are tested as such.
//!
//! A second with `hits` of `trials` adds the log likelihood ratio of "the share is clearly higher" against "the share is
//! as it was", divided by the overdispersion that the series has shown (failures come in bursts). This is the optimal
//! test for counts: a busy service is decided in two seconds, ten requests are not asked to tell what they cannot.

use crate::cusum::Cusum;
use crate::kept::kept;

/// Seconds over which the baseline forgets.
const MEMORY_S: f32 = 600.0;
/// What a series is believed to be before it has shown anything: this many hits…
const PRIOR_HITS: f32 = 0.05;
/// …in this many trials.
const PRIOR_TRIALS: f32 = 50.0;
/// Largest overdispersion granted.
const SPREAD_MAX: f32 = 12.0;
/// Share of the recent window kept each second.
const RECENT_KEEP: f32 = 0.5;
/// Share of the lasting window kept each second: who failed stays known for some ten seconds after it has gone.
const LASTING_KEEP: f32 = 0.93;
/// Largest share that counts as a baseline: of what fails always nothing more is expected.
const SHARE_MAX: f32 = 0.6;

/// How strict a test is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RatioTest {
    /// Threshold of the log likelihood ratio.
    pub(crate) h: f32,
    /// The alternative: this many times the baseline…
    pub(crate) lift: f32,
    /// …and at least this much above it.
    pub(crate) step: f32,
    /// Rise of the share that matters.
    pub(crate) effect_min: f32,
}

/// State of one series of failures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratio {
    hits: f32,
    trials: f32,
    spread: f32,
    recent_hits: f32,
    recent_trials: f32,
    lasting_hits: f32,
    lasting_trials: f32,
    pub(crate) cusum: Cusum,
}

kept!(Ratio { hits, trials, spread, recent_hits, recent_trials, lasting_hits, lasting_trials, cusum });

impl Default for Ratio {
    fn default() -> Self {
        Self {
            hits: 0.0,
            trials: 0.0,
            spread: 1.0,
            recent_hits: 0.0,
            recent_trials: 0.0,
            lasting_hits: 0.0,
            lasting_trials: 0.0,
            cusum: Cusum::default(),
        }
    }
}

impl Ratio {
    /// The share that is normal here.
    pub(crate) fn baseline(&self) -> f32 {
        ((self.hits + PRIOR_HITS) / (self.trials + PRIOR_TRIALS)).min(SHARE_MAX)
    }

    /// The share of the last two to three seconds.
    pub(crate) fn recent(&self) -> f32 {
        if self.recent_trials <= 0.0 { 0.0 } else { self.recent_hits / self.recent_trials }
    }

    /// Tests one second; `floor` is what the peers show at the same time, which this series must exceed as well.
    pub(crate) fn test(&mut self, hits: f32, trials: f32, floor: f32, test: &RatioTest, second: u32) -> bool {
        let hits = hits.min(trials);
        self.recent_hits = self.recent_hits * RECENT_KEEP + hits;
        self.recent_trials = self.recent_trials * RECENT_KEEP + trials;
        self.lasting_hits = self.lasting_hits * LASTING_KEEP + hits;
        self.lasting_trials = self.lasting_trials * LASTING_KEEP + trials;
        if trials <= 0.0 {
            let fade = -0.1 * self.cusum.score(1.0);
            self.cusum.add(fade, test.h, second);
        } else if hits > 0.0 || !self.cusum.idle() {
            let evidence = self.evidence(hits, trials, floor, test);
            self.cusum.add(evidence, test.h, second);
        }
        if self.cusum.idle() {
            return false;
        }
        let share = self.baseline().max(floor.min(SHARE_MAX));
        let effect = (self.recent() - share) / test.effect_min.max(share);
        self.cusum.settle(test.h, effect)
    }

    fn evidence(&self, hits: f32, trials: f32, floor: f32, test: &RatioTest) -> f32 {
        let usual = self.baseline().max(floor.min(SHARE_MAX)).max(1e-5);
        let raised = (usual * test.lift).max(usual + test.step).min(0.95);
        let likelihood = hits * (raised / usual).ln() + (trials - hits) * ((1.0 - raised) / (1.0 - usual)).ln();
        likelihood / self.spread
    }

    /// Learns one second, unless it may be a fault.
    pub(crate) fn learn(&mut self, hits: f32, trials: f32, h: f32, frozen: bool) {
        if frozen || self.cusum.suspects(h) || trials <= 0.0 {
            return;
        }
        let usual = self.baseline();
        let expected = trials * usual;
        let off = hits.min(trials) - expected;
        if self.trials > PRIOR_TRIALS {
            let pearson = (off * off / (expected * (1.0 - usual) + 0.25)).min(2.0 * SPREAD_MAX);
            self.spread = (self.spread + (pearson - self.spread) / MEMORY_S).clamp(1.0, SPREAD_MAX);
        }
        let keep = 1.0 - 1.0 / MEMORY_S;
        self.hits = self.hits * keep + hits.min(trials);
        self.trials = self.trials * keep + trials;
    }

    /// Starts from what the peers show.
    pub(crate) fn adopt(&mut self, share: f32) {
        self.hits = share.clamp(0.0, SHARE_MAX) * PRIOR_TRIALS;
        self.trials = PRIOR_TRIALS;
    }

    /// Hits above a share of the trials, over the last ten seconds or so.
    pub(crate) fn lasting_excess(&self, share: f32) -> f32 {
        self.lasting_hits - share * self.lasting_trials
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: RatioTest = RatioTest { h: 14.0, lift: 2.5, step: 0.015, effect_min: 0.01 };

    fn warm(share_in: u32, trials: f32) -> Ratio {
        let mut ratio = Ratio::default();
        for second in 0..900 {
            let hits = if second % share_in == 0 { trials * 0.01 * share_in as f32 } else { 0.0 };
            ratio.test(hits, trials, 0.0, &TEST, second);
            ratio.learn(hits, trials, TEST.h, false);
        }
        assert!(!ratio.cusum.on());
        ratio
    }

    #[test]
    fn one_to_five_percent_of_a_busy_service_takes_two_seconds() {
        let mut ratio = warm(1, 1_000.0);
        assert!((ratio.baseline() - 0.01).abs() < 0.002);
        assert!(!ratio.test(50.0, 1_000.0, 0.0, &TEST, 1_000));
        assert!(ratio.test(50.0, 1_000.0, 0.0, &TEST, 1_001));
    }

    #[test]
    fn what_the_peers_show_too_is_not_its_own() {
        let mut ratio = warm(1, 1_000.0);
        assert!((0..60).all(|second| !ratio.test(50.0, 1_000.0, 0.05, &TEST, 1_000 + second)));
    }

    #[test]
    fn bursts_that_are_usual_widen_the_test() {
        let calm = warm(1, 100.0);
        let bursty = warm(10, 100.0);
        assert!(bursty.spread > 2.0 * calm.spread, "{} {}", bursty.spread, calm.spread);
        assert!((bursty.baseline() - calm.baseline()).abs() < 0.005);
    }

    #[test]
    fn few_requests_decide_nothing() {
        let mut ratio = warm(1, 1_000.0);
        assert!(!ratio.test(1.0, 2.0, 0.0, &TEST, 1_000));
        assert!(!ratio.test(1.0, 2.0, 0.0, &TEST, 1_001));
    }
}
