//! Service times: from a distribution and a key to microseconds.

use crate::rng::{mix, unit};
use crate::script::{Shape, Work};

impl Work {
    /// The work of the request with this key, in microseconds, at least 1.
    pub fn sample_us(&self, key: u64) -> u64 {
        let u = unit(mix(key));
        let factor = match self.shape {
            Shape::Fixed => 1.0,
            Shape::Exponential => -u.ln(),
            Shape::Lognormal => {
                let variance = (1.0 + self.cv.unwrap_or(1.0).powi(2)).ln();
                let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * unit(mix(key ^ 0xff))).cos();
                (variance.sqrt() * normal - variance / 2.0).exp()
            }
            Shape::Bimodal => {
                let (share, slow) = (self.slow_share.unwrap_or(0.0), self.slow_ms.unwrap_or(self.mean_ms));
                let fast = (self.mean_ms - share * slow) / (1.0 - share);
                if u <= share { slow / self.mean_ms } else { fast / self.mean_ms }
            }
        };
        ((self.mean_ms * 1000.0 * factor).round() as u64).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(work: &Work) -> (f64, f64) {
        let n = 200_000u64;
        let values: Vec<f64> = (0..n).map(|key| work.sample_us(key) as f64 / 1000.0).collect();
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
        (mean, variance.sqrt() / mean)
    }

    #[test]
    fn each_shape_has_its_mean_and_spread() {
        let work = |shape, cv, slow_share, slow_ms| Work { shape, mean_ms: 10.0, cv, slow_share, slow_ms };
        for (work, cv) in [
            (work(Shape::Fixed, None, None, None), 0.0),
            (work(Shape::Exponential, None, None, None), 1.0),
            (work(Shape::Lognormal, Some(0.5), None, None), 0.5),
            (work(Shape::Bimodal, None, Some(0.1), Some(50.0)), 4.0 / 3.0),
        ] {
            let (mean, spread) = moments(&work);
            assert!((mean - 10.0).abs() < 0.1, "{work:?}: mean {mean}");
            assert!((spread - cv).abs() < 0.02, "{work:?}: cv {spread}");
        }
    }
}
