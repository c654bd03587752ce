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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rank() {
        let values = [5.0, 1.0, 3.0, 2.0, 4.0];
        assert_eq!((median(&values), max(&values), quantile(&values, 0.95)), (3.0, 5.0, 5.0));
        assert!(median(&[]).is_nan());
    }
}
