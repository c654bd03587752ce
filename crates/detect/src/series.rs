//! One series by itself, at any interval: a robust level, what is usual at this time of day, spikes and shifts, with a
//! threshold that the series calibrates itself (peaks over threshold).
//!
//! For series without peers or calls: host metrics, what services expose, the NAB files. It never opens an incident;
//! it says when something began.

/// Peaks over the threshold, after which the tail is believed.
const PEAKS_MIN: f64 = 10.0;
/// Share of samples that are peaks.
const PEAK_SHARE: f64 = 0.02;
/// Slots of a period at most.
const SLOTS_MAX: usize = 2_048;

/// How a series is watched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeriesConfig {
    /// Samples before it says anything.
    pub warm: u32,
    /// Samples over which the level forgets.
    pub level: f64,
    /// Samples over which the scale forgets.
    pub scale: f64,
    /// Samples in a season, 0 for none, at most 2,048.
    pub period: usize,
    /// Chance of a false peak, for each sample.
    pub risk: f64,
    /// Drift of the shift test, in scales.
    pub drift: f64,
    /// Threshold of the shift test, in scales.
    pub shift: f64,
    /// Samples without an alarm after an alarm.
    pub pause: u32,
}

/// What began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Alarm {
    /// One value far out; how far by threshold.
    Spike(f64),
    /// A lasting change; how far by threshold.
    Shift(f64),
}

/// The state of one series: bounded by its period.
#[derive(Debug, Clone)]
pub struct SeriesDetector {
    config: SeriesConfig,
    level: f64,
    scale: f64,
    seasons: Vec<f64>,
    seen: u64,
    at: usize,
    up: f64,
    down: f64,
    peak_from: f64,
    peaks: f64,
    excess_mean: f64,
    quiet: u32,
}

impl SeriesDetector {
    /// Nothing seen yet.
    pub fn new(config: SeriesConfig) -> Self {
        let seasons = vec![f64::NAN; config.period.min(SLOTS_MAX)];
        Self {
            config,
            level: 0.0,
            scale: 0.0,
            seasons,
            seen: 0,
            at: 0,
            up: 0.0,
            down: 0.0,
            peak_from: 3.0,
            peaks: 0.0,
            excess_mean: 1.0,
            quiet: 0,
        }
    }

    /// Takes a value; NaN and infinities are no values, and only let time pass.
    pub fn step(&mut self, value: f64) -> Option<Alarm> {
        let slot = self.at;
        self.at = (self.at + 1) % self.seasons.len().max(1);
        if !value.is_finite() {
            return None;
        }
        self.seen += 1;
        if self.seen == 1 {
            self.level = value;
            self.scale = value.abs() * 0.05;
            return None;
        }
        let off = self.off(value, slot);
        let scale = self.scale.max(self.level.abs() * 1e-3).max(1e-9);
        let score = off / scale;
        let alarm = self.judge(score);
        self.learn(value, off, slot, score.abs());
        let warm = self.seen > u64::from(self.config.warm);
        self.quiet = self.quiet.saturating_sub(1);
        let alarm = alarm.filter(|_| warm && self.quiet == 0);
        if alarm.is_some() {
            self.quiet = self.config.pause;
        }
        alarm
    }

    /// The smaller of what it is off its level and off its season.
    fn off(&self, value: f64, slot: usize) -> f64 {
        let off = value - self.level;
        let season = self.seasons.get(slot).map_or(f64::NAN, |usual| value - usual);
        if season.abs() < off.abs() { season } else { off }
    }

    fn judge(&mut self, score: f64) -> Option<Alarm> {
        let (drift, limit) = (self.config.drift, self.config.shift);
        let clipped = score.clamp(-4.0, 4.0);
        self.up = (self.up + clipped - drift).clamp(0.0, 2.0 * limit);
        self.down = (self.down - clipped - drift).clamp(0.0, 2.0 * limit);
        let threshold = self.threshold();
        let size = score.abs();
        if size >= threshold {
            return Some(Alarm::Spike(size / threshold));
        }
        let shift = self.up.max(self.down);
        if shift >= limit {
            (self.up, self.down) = (0.0, 0.0);
            return Some(Alarm::Shift(shift / limit));
        }
        None
    }

    /// Where the exponential tail of the peaks leaves the wanted risk.
    fn threshold(&self) -> f64 {
        let rate = self.peaks.max(1.0) / self.seen as f64;
        let excess = if self.peaks < PEAKS_MIN { self.excess_mean.max(1.0) } else { self.excess_mean };
        self.peak_from + excess * (rate / self.config.risk).ln().max(1.0)
    }

    fn learn(&mut self, value: f64, off: f64, slot: usize, size: f64) {
        // The bar of peaks moves so that its share of samples stays as wanted.
        let step = 0.02 * self.peak_from.max(0.5);
        let is_peak = size > self.peak_from;
        self.peak_from += if is_peak { step * (1.0 - PEAK_SHARE) } else { -step * PEAK_SHARE };
        if is_peak {
            self.peaks += 1.0;
            let excess = (size - self.peak_from).clamp(0.0, 20.0);
            self.excess_mean += (excess - self.excess_mean) / self.peaks.min(100.0);
        }
        let bound = 4.0 * self.scale.max(self.level.abs() * 1e-3).max(1e-9);
        let age = self.seen as f64;
        let free = age < 10.0;
        let clip = |by: f64| if free { by } else { by.clamp(-bound, bound) };
        self.level += clip(value - self.level) / self.config.level.min(age);
        self.scale += (clip(off.abs() * 1.2533) - self.scale) / self.config.scale.min(age);
        if let Some(usual) = self.seasons.get_mut(slot) {
            *usual = if usual.is_nan() { value } else { *usual + 0.4 * (value - *usual) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: SeriesConfig = SeriesConfig {
        warm: 100,
        level: 50.0,
        scale: 200.0,
        period: 0,
        risk: 1e-4,
        drift: 0.75,
        shift: 12.0,
        pause: 20,
    };

    fn noise(at: u64) -> f64 {
        let mixed = at.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (at << 7);
        ((mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f64 / (1u64 << 24) as f64) * 2.0 - 1.0
    }

    fn alarms(config: SeriesConfig, of: impl Fn(u64) -> f64) -> Vec<u64> {
        let mut detector = SeriesDetector::new(config);
        (0..2_000).filter(|at| detector.step(of(*at)).is_some()).collect()
    }

    #[test]
    fn noise_is_silent_and_a_spike_and_a_shift_are_not() {
        assert_eq!(alarms(CONFIG, |at| 100.0 + noise(at)), [] as [u64; 0]);
        assert_eq!(alarms(CONFIG, |at| 100.0 + noise(at) + if at == 1_500 { 50.0 } else { 0.0 }), [1_500]);
        let shift = alarms(CONFIG, |at| 100.0 + noise(at) + if at >= 1_500 { 2.5 } else { 0.0 });
        assert!((1_500..1_515).contains(&shift[0]), "{shift:?}");
    }

    #[test]
    fn what_comes_daily_is_usual_after_a_day() {
        let config = SeriesConfig { period: 200, warm: 450, ..CONFIG };
        let daily = |at: u64| 100.0 + noise(at) + if (50..60).contains(&(at % 200)) { 40.0 } else { 0.0 };
        assert_eq!(alarms(config, daily), [] as [u64; 0]);
    }

    #[test]
    fn nan_and_infinities_are_no_values() {
        let mut detector = SeriesDetector::new(CONFIG);
        for at in 0..1_000 {
            let value = match at % 5 {
                0 => f64::NAN,
                1 => f64::INFINITY,
                _ => 100.0 + noise(at),
            };
            assert_eq!(detector.step(value), None);
        }
    }
}
