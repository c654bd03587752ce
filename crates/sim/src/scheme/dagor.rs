//! DAGOR: Zhou et al., "Overload Control for Scaling WeChat Microservices", SoCC 2018, §4.
//!
//! Each copy watches its mean queuing time in windows of `window_us` or `window_calls` calls. When it is over `delay_us`, the
//! next window is to admit `1 - alpha` of the calls that this one admitted, otherwise as many and `beta` of all that came.
//! A histogram of the priorities that came turns that number into a level (the paper's algorithm 2). The level rides back
//! on answers. Priorities are (business level, one of 128 user levels), the user's rehashed each rotation.
//!
//! The paper leaves open what the histogram knows of calls that callers kept back. Without them it is empty above the level
//! and the level jumps; so `keep_back` is a parameter: callers either send everything, or keep back what the level refuses.

use super::{Advert, Caller, Guard, Head, Queue, Refusal, RetryShare, Scheme};
use crate::rng::{Rng, mix_all};

/// User levels (the paper's 128).
pub const USER_LEVELS: u32 = 128;
/// Business levels (the paper's 64).
pub const BUSINESS_LEVELS: u32 = 64;
const LEVELS: usize = (USER_LEVELS * BUSINESS_LEVELS) as usize;

/// Its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Dagor {
    /// Name in tables.
    pub label: &'static str,
    /// Longest window, in microseconds.
    pub window_us: u64,
    /// A window ends after this many calls too.
    pub window_calls: u32,
    /// Mean queuing time that means overload, in microseconds.
    pub delay_us: u64,
    /// Step down, as a share of the calls admitted.
    pub alpha: f64,
    /// Step up, as a share of the calls that came.
    pub beta: f64,
    /// Calls past their deadline are dropped before their work (not in the paper).
    pub drop_expired: bool,
    /// Callers keep back what the level refuses.
    pub keep_back: bool,
    /// Retries as a share of first attempts (not in the paper); without it, callers retry as they like.
    pub retry_share: Option<f64>,
    /// How long a user keeps its level, in microseconds.
    pub rotation_us: u64,
}

impl Dagor {
    /// The paper's parameters.
    pub fn paper(rotation_us: u64) -> Self {
        Self {
            label: "dagor",
            window_us: 1_000_000,
            window_calls: 2_000,
            delay_us: 20_000,
            alpha: 0.05,
            beta: 0.01,
            drop_expired: false,
            keep_back: false,
            retry_share: None,
            rotation_us,
        }
    }
}

impl Scheme for Dagor {
    fn name(&self) -> String {
        self.label.to_owned()
    }
    fn priority(&self, user: u64, class: u8, now_us: u64) -> u32 {
        let level = mix_all(&[user, now_us / self.rotation_us.max(1), 0xda60]) % u64::from(USER_LEVELS);
        u32::from(class.min(63)) * USER_LEVELS + level as u32
    }
    fn guard(&self, _instance: u32, _workers: u32, _capacity_rps: f64) -> Box<dyn Guard> {
        Box::new(Window {
            dagor: self.clone(),
            ends_us: self.window_us,
            histogram: vec![0; LEVELS],
            came: 0,
            admitted: 0,
            delay_sum_us: 0,
            started: 0,
            level: LEVELS as u32,
        })
    }
    fn caller(&self, _origin: u32, endpoints: usize) -> Box<dyn Caller> {
        Box::new(View {
            levels: vec![LEVELS as u32; endpoints],
            keep_back: self.keep_back,
            retries: self.retry_share.map(RetryShare::new),
        })
    }
}

struct Window {
    dagor: Dagor,
    ends_us: u64,
    histogram: Vec<u32>,
    came: u32,
    admitted: u32,
    delay_sum_us: u64,
    started: u32,
    level: u32,
}

impl Window {
    fn roll(&mut self, now_us: u64) {
        if now_us < self.ends_us && self.came < self.dagor.window_calls {
            return;
        }
        let overloaded = self.delay_sum_us > self.dagor.delay_us * u64::from(self.started);
        let expected = if overloaded {
            f64::from(self.admitted) * (1.0 - self.dagor.alpha)
        } else {
            f64::from(self.admitted) + self.dagor.beta * f64::from(self.came)
        };
        self.level = self.level_for(expected);
        self.histogram.fill(0);
        (self.came, self.admitted, self.delay_sum_us, self.started) = (0, 0, 0, 0);
        self.ends_us = now_us + self.dagor.window_us;
    }

    /// The highest level below which at most `expected` calls came.
    fn level_for(&self, expected: f64) -> u32 {
        let mut sum = 0;
        for (level, count) in self.histogram.iter().enumerate() {
            sum += count;
            if f64::from(sum) > expected {
                return level as u32;
            }
        }
        LEVELS as u32
    }
}

impl Guard for Window {
    fn arrive(&mut self, head: &Head, _queue: Queue, now_us: u64, _rng: &mut Rng) -> Result<(), Refusal> {
        self.roll(now_us);
        self.came += 1;
        self.histogram[head.priority as usize] += 1;
        if head.priority >= self.level {
            return Err(Refusal::Rejected);
        }
        self.admitted += 1;
        Ok(())
    }
    fn start(&mut self, head: &Head, delay_us: u64, now_us: u64) -> Result<(), Refusal> {
        self.delay_sum_us += delay_us;
        self.started += 1;
        if self.dagor.drop_expired && now_us >= head.deadline_us { Err(Refusal::Expired) } else { Ok(()) }
    }
    fn finish(&mut self, _head: &Head, _delay_us: u64, _work_us: u64, _now_us: u64) {}
    fn advert(&mut self, _origin: u32, _head: &Head, _now_us: u64) -> Advert {
        Advert { level: self.level, ..Advert::OPEN }
    }
}

struct View {
    levels: Vec<u32>,
    keep_back: bool,
    retries: Option<RetryShare>,
}

impl Caller for View {
    fn send(&mut self, endpoint: usize, head: &mut Head, _now_us: u64, _rng: &mut Rng) -> Result<(), Refusal> {
        if self.keep_back && head.priority >= self.levels[endpoint] {
            return Err(Refusal::Shed);
        }
        if let Some(retries) = self.retries.as_mut().filter(|_| head.attempt == 0) {
            retries.earn();
        }
        Ok(())
    }
    fn heard(&mut self, endpoint: usize, advert: &Advert, _refused: bool, _now_us: u64) {
        self.levels[endpoint] = advert.level;
    }
    fn retry(&mut self, _head: &Head, _why: Refusal, wait_us: u64, _now_us: u64, _rng: &mut Rng) -> Option<u64> {
        self.retries.as_mut().is_none_or(RetryShare::spend).then_some(wait_us)
    }
}
