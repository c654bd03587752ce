//! An overload control as the engine sees it: asked where a call is sent, where it arrives and where its work would begin.
//!
//! Absent on purpose: knowledge of the engine. A scheme sees what a real one could see: its own queue, its own answers.

pub mod breakwater;
pub mod catalog;
pub mod codel;
pub mod dagor;
pub mod gradient2;
pub mod ours;
pub mod random;

use crate::rng::Rng;
use serde::Serialize;

/// What a call carries.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The user.
    pub user: u64,
    /// Business class, 0 the most important.
    pub class: u8,
    /// The scheme's own priority of the task, lower is more important.
    pub priority: u32,
    /// When the caller gives this attempt up, in microseconds of virtual time.
    pub deadline_us: u64,
    /// When the time of the task, or of the call for which this one is made, is over.
    pub task_deadline_us: u64,
    /// 0 for the first attempt of this call.
    pub attempt: u32,
    /// A call of this task was admitted by this service before.
    pub admitted: bool,
    /// What the caller tells beside its call: pairs whose meaning is the scheme's.
    pub report: Vec<(u32, u32)>,
}

/// What a copy tells its callers with each answer; each scheme uses the fields it has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Advert {
    /// Priorities below it are admitted.
    pub level: u32,
    /// Calls per second that wanted in.
    pub demand_rps: f32,
    /// Calls per second that the copy can do.
    pub capacity_rps: f32,
    /// Queue delay, in microseconds.
    pub queue_delay_us: u32,
    /// Calls that the caller may send.
    pub credits: i32,
}

impl Advert {
    /// Says nothing against any call.
    pub const OPEN: Self =
        Self { level: u32::MAX, demand_rps: 0.0, capacity_rps: 0.0, queue_delay_us: 0, credits: i32::MAX };
}

/// Why a call did not get its work done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The caller did not send it.
    Shed,
    /// Turned away on arrival.
    Rejected,
    /// Taken out of the queue for its delay.
    Dropped,
    /// Its deadline had passed before its work began.
    Expired,
    /// The queue was full.
    Overflow,
    /// The caller heard nothing in time.
    Timeout,
    /// A call that it made failed.
    Downstream,
}

impl Refusal {
    /// All, in order.
    pub const ALL: [Self; 7] =
        [Self::Shed, Self::Rejected, Self::Dropped, Self::Expired, Self::Overflow, Self::Timeout, Self::Downstream];

    /// True when an overload control chose to refuse work that could have been done in time.
    pub fn is_shedding(self) -> bool {
        matches!(self, Self::Shed | Self::Rejected | Self::Dropped)
    }
}

/// What a copy's queue looks like when a call arrives.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    /// Calls that wait.
    pub waiting: u32,
    /// Calls that are worked on.
    pub working: u32,
}

/// The part of a scheme at one copy of a service.
pub trait Guard {
    /// A call arrives.
    fn arrive(&mut self, head: &Head, queue: Queue, now_us: u64, rng: &mut Rng) -> Result<(), Refusal>;
    /// A worker takes a call that waited `delay_us`.
    fn start(&mut self, head: &Head, delay_us: u64, now_us: u64) -> Result<(), Refusal>;
    /// A worker has finished with a call, which waited `delay_us` and took `work_us`.
    fn finish(&mut self, head: &Head, delay_us: u64, work_us: u64, now_us: u64);
    /// The caller of an admitted call gave it up, `waited_us` after it arrived. True where the guard wants to hear no more
    /// of it, as one that stands before the copy and sees answers only.
    fn given_up(&mut self, _waited_us: u64, _now_us: u64) -> bool {
        false
    }
    /// An admitted call is taken out of the queue: its caller gave it up, and the copy noticed.
    fn unstarted(&mut self, _head: &Head, _now_us: u64) {}
    /// What to tell the caller with the answer to this call; `origin` numbers the callers.
    fn advert(&mut self, origin: u32, head: &Head, now_us: u64) -> Advert;
}

/// The part of a scheme at one caller, for the service it calls.
pub trait Caller {
    /// May this call go to copy `endpoint`? If so, `head.report` may be filled in.
    fn send(&mut self, endpoint: usize, head: &mut Head, now_us: u64, rng: &mut Rng) -> Result<(), Refusal>;
    /// Copy `endpoint` answered; `refused` says that it did no work.
    fn heard(&mut self, endpoint: usize, advert: &Advert, refused: bool, now_us: u64);
    /// Copy `endpoint` did not answer in time.
    fn lost(&mut self, _endpoint: usize, _now_us: u64) {}
    /// May this call be tried again, and after how many microseconds? `why` the attempt before failed; `wait_us` is what the
    /// script's back-off says, and its bound on attempts has been checked already.
    fn retry(&mut self, _head: &Head, _why: Refusal, wait_us: u64, _now_us: u64, _rng: &mut Rng) -> Option<u64> {
        Some(wait_us)
    }
}

/// An overload control.
pub trait Scheme {
    /// Its name, in tables.
    fn name(&self) -> String;
    /// The priority of a task, given at the entry.
    fn priority(&self, user: u64, class: u8, now_us: u64) -> u32;
    /// Its part at copy `instance` of a service with `workers` workers, whose true capacity is `capacity_rps`.
    /// Only a scheme that would know the capacity in reality may use it; [`random`] does, to be as good as it can be.
    fn guard(&self, instance: u32, workers: u32, capacity_rps: f64) -> Box<dyn Guard>;
    /// Its part at a caller, for a service of `endpoints` copies; `origin` numbers the callers.
    fn caller(&self, origin: u32, endpoints: usize) -> Box<dyn Caller>;
}

/// No overload control: first come, first served, until the queue is full.
pub struct Nothing;

impl Scheme for Nothing {
    fn name(&self) -> String {
        "none".to_owned()
    }
    fn priority(&self, _user: u64, class: u8, _now_us: u64) -> u32 {
        u32::from(class)
    }
    fn guard(&self, _instance: u32, _workers: u32, _capacity_rps: f64) -> Box<dyn Guard> {
        Box::new(Nothing)
    }
    fn caller(&self, _origin: u32, _endpoints: usize) -> Box<dyn Caller> {
        Box::new(Nothing)
    }
}

impl Guard for Nothing {
    fn arrive(&mut self, _head: &Head, _queue: Queue, _now_us: u64, _rng: &mut Rng) -> Result<(), Refusal> {
        Ok(())
    }
    fn start(&mut self, _head: &Head, _delay_us: u64, _now_us: u64) -> Result<(), Refusal> {
        Ok(())
    }
    fn finish(&mut self, _head: &Head, _delay_us: u64, _work_us: u64, _now_us: u64) {}
    fn advert(&mut self, _origin: u32, _head: &Head, _now_us: u64) -> Advert {
        Advert::OPEN
    }
}

impl Caller for Nothing {
    fn send(&mut self, _endpoint: usize, _head: &mut Head, _now_us: u64, _rng: &mut Rng) -> Result<(), Refusal> {
        Ok(())
    }
    fn heard(&mut self, _endpoint: usize, _advert: &Advert, _refused: bool, _now_us: u64) {}
}

/// A share of retries in the recent first attempts, as several baselines may be given it: a token bucket.
#[derive(Debug, Clone)]
pub struct RetryShare {
    share: f64,
    tokens: f64,
}

/// Most retries that a [`RetryShare`] lets pass in a burst.
pub const RETRY_BURST_MAX: f64 = 10.0;

impl RetryShare {
    /// Retries up to `share` of first attempts.
    pub fn new(share: f64) -> Self {
        Self { share, tokens: 0.0 }
    }
    /// A first attempt was sent.
    pub fn earn(&mut self) {
        self.tokens = (self.tokens + self.share).min(RETRY_BURST_MAX);
    }
    /// May a retry be sent?
    pub fn spend(&mut self) -> bool {
        let may = self.tokens >= 1.0;
        if may {
            self.tokens -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests;
