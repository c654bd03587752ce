//! Seeded noise for millions of samples a second: a counter hashed by SplitMix64, and a table of normal deviates.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const TABLE: usize = 4_096;

/// A stream of noise.
pub struct Noise {
    state: u64,
    normals: Vec<f32>,
}

impl Noise {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let normals = (0..TABLE).map(|_| normal(&mut random)).collect();
        Self { state: random.random(), normals }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in 0..1.
    pub fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 24) as f32
    }

    /// Standard normal, to the grain of the table.
    pub fn normal(&mut self) -> f32 {
        let bits = self.next();
        // Sums of two entries fill the gaps of the table.
        let (a, b) = (bits as usize % TABLE, (bits >> 32) as usize % TABLE);
        (self.normals[a] + self.normals[b]) * std::f32::consts::FRAC_1_SQRT_2
    }

    /// Poisson with this mean.
    pub fn poisson(&mut self, mean: f32) -> f32 {
        if mean <= 0.0 {
            return 0.0;
        }
        if mean > 30.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0);
        }
        let mut left = self.uniform();
        let (mut count, mut chance) = (0.0, (-mean).exp());
        while left > chance && count < 200.0 {
            left -= chance;
            count += 1.0;
            chance *= mean / count;
        }
        count
    }
}

fn normal(random: &mut ChaCha8Rng) -> f32 {
    let (a, b): (f64, f64) = (random.random::<f64>().max(1e-12), random.random());
    ((-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32
}
