//! Peers of one service compared in one second: where the middle is.
//!
//! The lower median: with two datacenters and one of them ill, half of the peers are high, and the low half is right.

/// Peers needed for a comparison.
pub(crate) const PEERS_MIN: usize = 3;

/// Lower median of the values that are numbers; reorders them. None when there are fewer than [`PEERS_MIN`].
pub(crate) fn lower_median(values: &mut Vec<f32>) -> Option<f32> {
    values.retain(|value| value.is_finite());
    if values.len() < PEERS_MIN {
        return None;
    }
    let middle = (values.len() - 1) / 2;
    Some(*values.select_nth_unstable_by(middle, f32::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_peers_ill_leaves_the_middle_with_the_well() {
        assert_eq!(lower_median(&mut vec![0.7, 0.0, 0.7, 0.0]), Some(0.0));
        assert_eq!(lower_median(&mut vec![3.0, 1.0, f32::NAN, 2.0]), Some(2.0));
    }

    #[test]
    fn few_peers_give_no_middle() {
        assert_eq!(lower_median(&mut vec![1.0, 2.0]), None);
        assert_eq!(lower_median(&mut vec![1.0, 2.0, f32::INFINITY, f32::NAN]), None);
    }
}
