//! Seeded randomness: xoshiro256++ (Blackman and Vigna, 2019), seeded by SplitMix64, and values drawn from a key alone.
//!
//! Absent on purpose: any source from outside. Values drawn from a key make runs of different schemes comparable: the same
//! task of the same seed needs the same work under each of them.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Rng([u64; 4]);

/// One step of SplitMix64: a well-mixed value of `x`.
pub fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A value of several keys.
pub fn mix_all(keys: &[u64]) -> u64 {
    keys.iter().fold(0x5bd1_e995, |state, key| mix(state ^ mix(*key)))
}

/// A number in (0, 1] from 64 random bits.
pub fn unit(bits: u64) -> f64 {
    ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64
}

impl Rng {
    /// The stream `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let start = mix_all(&[seed, stream]);
        Self(std::array::from_fn(|i| mix(start.wrapping_add(i as u64))))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in (0, 1].
    pub fn unit(&mut self) -> f64 {
        unit(self.bits())
    }

    /// An index below `n` (which is not 0).
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// An exponential of mean 1.
    pub fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_repeat() {
        let take = |seed, stream| {
            let mut rng = Rng::new(seed, stream);
            [rng.bits(), rng.bits()]
        };
        assert_eq!(take(1, 2), take(1, 2));
        assert_ne!(take(1, 2), take(1, 3));
        assert_ne!(take(1, 2), take(2, 2));
    }

    #[test]
    fn means_are_right() {
        let mut rng = Rng::new(7, 0);
        let n = 200_000;
        let mean = (0..n).map(|_| rng.exponential()).sum::<f64>() / f64::from(n);
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        let hits = (0..n).filter(|_| rng.below(3) == 2).count();
        assert!((hits as f64 / f64::from(n) - 1.0 / 3.0).abs() < 0.01);
    }
}
