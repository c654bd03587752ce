//! Scales of axes: linear from zero, or logarithmic where a few far values would press the others into one line. Nothing
//! is cut off.

/// A scale is logarithmic when the largest value is so many times the median.
const SPREAD_MAX: f64 = 5.0;
/// Widest logarithmic scale: largest over smallest value.
const RANGE_MAX: f64 = 10_000.0;
/// Ends of linear scales: their quarters are round.
const ENDS: [f64; 10] = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0];
/// Steps of logarithmic scales.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];
/// What computing with powers of ten may be off by.
const CLOSE: f64 = 1.000_001;

/// The scale of one axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// From 0.
    Linear { most: f64 },
    /// From more than 0.
    Log { least: f64, most: f64 },
}

impl Scale {
    /// From 0 to a round number that is not below `most`.
    pub fn linear(most: f64) -> Self {
        let most = if most.is_finite() { most.max(1e-3) } else { 1.0 };
        Self::Linear { most: up(most, &ENDS) }
    }

    /// The scale that shows all of these values well.
    pub fn spread(values: &[f64]) -> Self {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite() && *value > 0.0).collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else { return Self::linear(1.0) };
        if *most <= sorted[sorted.len() / 2] * SPREAD_MAX {
            return Self::linear(*most);
        }
        Self::Log { least: down(least.max(most / RANGE_MAX)), most: up(*most, &STEPS) }
    }

    /// Place of a value, 0 to 1; what is no number is at 0.
    pub fn part(&self, value: f64) -> f64 {
        let part = match self {
            Self::Linear { most } => value / most,
            Self::Log { least, most } => (value.max(*least) / least).ln() / (most / least).ln(),
        };
        if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) }
    }

    /// Values worth a label, from the smallest.
    pub fn ticks(&self) -> Vec<f64> {
        match self {
            Self::Linear { most } => (0..=4).map(|quarter| most * f64::from(quarter) / 4.0).collect(),
            Self::Log { least, most } => {
                let mut ticks = vec![*least];
                while let Some(last) = ticks.last().filter(|last| **last * CLOSE < *most) {
                    ticks.push(up(last * CLOSE * CLOSE, &STEPS));
                }
                ticks
            }
        }
    }

    /// What the label of the axis must say beside its unit.
    pub fn note(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "",
            Self::Log { .. } => " (logarithmic)",
        }
    }
}

/// The smallest of the steps, times a power of ten, that is not below `value`.
fn up(value: f64, steps: &[f64]) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    steps.iter().map(|step| step * power).find(|at| at * CLOSE >= value).unwrap_or(10.0 * power)
}

/// The largest 1, 2 or 5 times a power of ten that is not above `value`.
fn down(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    STEPS.iter().rev().map(|step| step * power).find(|at| *at <= value * CLOSE).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_values_stand_on_a_linear_scale() {
        assert_eq!(Scale::spread(&[10.0, 20.0, 23.0]), Scale::Linear { most: 24.0 });
        assert_eq!(Scale::linear(100.0).ticks(), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(Scale::spread(&[f64::NAN, 0.0]), Scale::Linear { most: 1.0 });
        assert_eq!(Scale::linear(f64::INFINITY), Scale::Linear { most: 1.0 });
    }

    #[test]
    fn far_values_stand_on_a_logarithmic_scale() {
        let scale = Scale::spread(&[12.0, 14.0, 15.0, 503.0]);
        let ticks = scale.ticks();
        let wanted = [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];
        assert_eq!(ticks.len(), wanted.len(), "{ticks:?}");
        assert!(ticks.iter().zip(wanted).all(|(one, other)| (one - other).abs() < 1e-6), "{ticks:?}");
        assert!((scale.part(100.0) - 0.5).abs() < 1e-9);
        assert_eq!((scale.part(0.0), scale.part(f64::NAN), scale.part(1e9)), (0.0, 0.0, 1.0));
        let wide = Scale::spread(&[1e-9, 1.0, 1e9]).ticks();
        assert!(wide.len() <= 14, "{wide:?}");
    }
}
