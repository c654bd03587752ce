//! Who sends: uniform or Zipf-distributed ids, from a seed.
//!
//! Zipf by rejection-inversion (Hörmann and Derflinger, 1996): constant time and memory for any number of users.

use crate::plan::Users;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The random source of a run: ids and gaps.
#[derive(Debug)]
pub(crate) struct Crowd {
    random: ChaCha8Rng,
    count: u64,
    zipf: Option<Zipf>,
}

impl Crowd {
    pub(crate) fn new(users: Users, seed: u64) -> Self {
        let zipf = users.zipf_exponent.map(|exponent| Zipf::new(users.count, exponent));
        Self { random: ChaCha8Rng::seed_from_u64(seed), count: users.count, zipf }
    }

    /// The next user's id, 1 to count.
    pub(crate) fn user(&mut self) -> u64 {
        match &self.zipf {
            None => self.random.random_range(1..=self.count),
            Some(zipf) => zipf.sample(|| self.random.random::<f64>()),
        }
    }

    /// An exponential draw of mean 1: the gap of a Poisson process.
    pub(crate) fn gap(&mut self) -> f64 {
        -(1.0 - self.random.random::<f64>()).ln()
    }
}

/// Ids 1 to `count` in proportion to k^-exponent.
#[derive(Debug)]
struct Zipf {
    count: f64,
    exponent: f64,
    low: f64,
    high: f64,
    sure: f64,
}

impl Zipf {
    fn new(count: u64, exponent: f64) -> Self {
        let mut zipf = Self { count: count as f64, exponent, low: 0.0, high: 0.0, sure: 0.0 };
        zipf.low = zipf.integral(1.5) - 1.0;
        zipf.high = zipf.integral(zipf.count + 0.5);
        zipf.sure = 2.0 - zipf.integral_inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    fn density(&self, x: f64) -> f64 {
        x.powf(-self.exponent)
    }

    /// Integral of the density, up to a constant.
    fn integral(&self, x: f64) -> f64 {
        let rest = 1.0 - self.exponent;
        if rest.abs() < 1e-9 { x.ln() } else { (x.powf(rest) - 1.0) / rest }
    }

    fn integral_inverse(&self, y: f64) -> f64 {
        let rest = 1.0 - self.exponent;
        if rest.abs() < 1e-9 { y.exp() } else { (1.0 + y * rest).max(0.0).powf(1.0 / rest) }
    }

    fn sample(&self, mut uniform: impl FnMut() -> f64) -> u64 {
        loop {
            let y = self.high + uniform() * (self.low - self.high);
            let x = self.integral_inverse(y);
            let k = x.round().clamp(1.0, self.count);
            if k - x <= self.sure || y >= self.integral(k + 0.5) - self.density(k) {
                return k as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(users: Users, seed: u64, draws: usize) -> Vec<u64> {
        let mut crowd = Crowd::new(users, seed);
        (0..draws).map(|_| crowd.user()).collect()
    }

    #[test]
    fn a_seed_gives_the_same_users_again() {
        for zipf_exponent in [None, Some(1.1)] {
            let users = Users { count: 1_000, zipf_exponent };
            assert_eq!(draw(users, 7, 100), draw(users, 7, 100));
            assert_ne!(draw(users, 7, 100), draw(users, 8, 100));
        }
    }

    #[test]
    fn uniform_users_cover_the_range_evenly() {
        let drawn = draw(Users { count: 4, zipf_exponent: None }, 1, 40_000);
        for user in 1..=4 {
            let share = drawn.iter().filter(|id| **id == user).count() as f64 / 40_000.0;
            assert!((share - 0.25).abs() < 0.02, "user {user}: {share}");
        }
    }

    #[test]
    fn zipf_users_follow_the_law() {
        for exponent in [0.5, 1.0, 1.3] {
            let drawn = draw(Users { count: 50, zipf_exponent: Some(exponent) }, 3, 100_000);
            let weight: f64 = (1..=50).map(|k| f64::from(k).powf(-exponent)).sum();
            for user in [1_u64, 2, 3, 10, 50] {
                let share = drawn.iter().filter(|id| **id == user).count() as f64 / 100_000.0;
                let truth = (user as f64).powf(-exponent) / weight;
                assert!(
                    (share - truth).abs() < 0.1 * truth + 0.001,
                    "exponent {exponent} user {user}: {share} {truth}"
                );
            }
            assert!(drawn.iter().all(|user| (1..=50).contains(user)));
        }
        assert!(draw(Users { count: 1, zipf_exponent: Some(1.0) }, 3, 10).iter().all(|user| *user == 1));
    }

    #[test]
    fn gaps_have_mean_one() {
        let mut crowd = Crowd::new(Users { count: 1, zipf_exponent: None }, 5);
        let mean = (0..50_000).map(|_| crowd.gap()).sum::<f64>() / 50_000.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }
}
