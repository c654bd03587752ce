//! Medians and quantiles of a few rounds.

/// The quantile `q` (0 to 1) by nearest rank; NaN when empty.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted: Vec<f64> = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// The largest; NaN when empty.
pub fn max(values: &[f64]) -> f64 {
    quantile(values, 1.0)
}

/// The median; NaN when empty.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// A mean and its 95% interval by Student's t: of few rounds that are independent and roughly normal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// Half the interval's width; 0 for a single value.
    pub half: f64,
}

/// 97.5% quantiles of Student's t by degrees of freedom, from 1 to 30; beyond them the normal's serves.
const T_975: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

impl Interval {
    /// Of the values of several rounds; NaN when there are none.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let Some(freedom) = values.len().checked_sub(1).filter(|freedom| *freedom > 0) else {
            return Self { mean, half: 0.0 };
        };
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / freedom as f64;
        let t = T_975.get(freedom - 1).copied().unwrap_or(1.96);
        Self { mean, half: t * (variance / n).sqrt() }
    }

    /// Its lower end.
    pub fn low(self) -> f64 {
        self.mean - self.half
    }

    /// Its upper end.
    pub fn high(self) -> f64 {
        self.mean + self.half
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_by_students_t() {
        let interval = Interval::of(&[1.0, 2.0, 3.0, 4.0]);
        // s = 1.29099, t(3) = 3.182: 3.182 · 1.29099 / 2.
        assert!((interval.mean - 2.5).abs() < 1e-12 && (interval.half - 2.054).abs() < 1e-3, "{interval:?}");
        assert_eq!((Interval::of(&[7.0]).low(), Interval::of(&[7.0]).high()), (7.0, 7.0));
    }

    #[test]
    fn nearest_rank() {
        let values = [5.0, 1.0, 3.0, 2.0, 4.0];
        assert_eq!((median(&values), max(&values), quantile(&values, 0.95)), (3.0, 5.0, 5.0));
        assert!(median(&[]).is_nan());
    }
}
