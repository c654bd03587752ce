//! The crowd of the night: each of its requests is kept, so that any stretch of time can be told afterwards: who asked,
//! who was served, who was rejected and by whom.

use anyhow::Result;
use loadgen::{End, Ended, Plan, Report, Users};
use springtide_bench::load::{self, Load};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Users that draw: few enough that each asks several times within one phase.
const USERS: u64 = 1_000;
/// How long a user waits for an answer.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// Requests kept at most; a night has a tenth of it.
const KEPT_MAX: usize = 1_000_000;
/// Requests of one user in a phase from which on something can be said about that user.
const ASKED_MIN: u32 = 3;

/// The running crowd.
pub struct Crowd {
    load: Load,
    kept: Arc<Mutex<Vec<Ended>>>,
}

impl Crowd {
    /// Draws at the entry, `rate` a second.
    pub fn start(entry: SocketAddr, rate: f64, seed: u64) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keeper = Arc::clone(&kept);
        let users = Users { count: USERS, zipf_exponent: None };
        let plan = Plan { users, timeout_ms: PATIENCE.as_millis() as u32, ..load::crowd(entry, "/draw", rate, seed) };
        let load = Load::watched(plan, move |ended| {
            let mut kept = keeper.lock().expect("no holder of this lock panics");
            if kept.len() < KEPT_MAX {
                kept.push(ended);
            }
        });
        Self { load, kept }
    }

    /// Changes the rate.
    pub fn set_rate(&self, rate: f64) {
        self.load.set_rate(rate);
    }

    /// What became of the requests of a stretch of time. Complete once [`PATIENCE`] has passed since its end.
    pub fn tally(&self, from: Instant, to: Instant) -> Tally {
        let kept = self.kept.lock().expect("no holder of this lock panics");
        let within = kept.iter().filter(|ended| (from..to).contains(&ended.due));
        Tally::of(within, to.duration_since(from).as_secs_f64())
    }

    /// Stops it; gives what the generator measured.
    pub fn stop(self) -> Result<Report> {
        self.load.stop()
    }
}

/// Who rejected a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rejection {
    /// A service that has more to do than it can, by the level of the user.
    Level,
    /// An operator's policy.
    Policy,
    /// A deadline, a full queue, a throttle, a tenant's cap.
    Other,
}

/// The word before the semicolon says why, see `docs/protection.md`.
fn rejection(why: &str) -> Rejection {
    match why.split(';').next().unwrap_or_default().trim() {
        "overload" => Rejection::Level,
        "policy" => Rejection::Policy,
        _ => Rejection::Other,
    }
}

/// What one user got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    asked: u32,
    served: u32,
    by_policy: u32,
}

/// A stretch of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    seconds: f64,
    /// Requests that were to be sent.
    pub offered: u64,
    /// Answered well.
    pub served: u64,
    /// Rejected by a service's level.
    pub by_level: u64,
    /// Rejected by a policy.
    pub by_policy: u64,
    /// Rejected otherwise.
    pub by_other: u64,
    /// Everything else.
    pub failed: u64,
    /// 99th percentile of the latency of what was served.
    pub p99_ms: f64,
    /// 99th percentile of the generator's own lag.
    pub lag_p99_ms: f64,
    users: BTreeMap<u64, Seen>,
}

impl Tally {
    /// Of these requests, over so many seconds.
    pub fn of<'a>(ended: impl Iterator<Item = &'a Ended>, seconds: f64) -> Self {
        let mut tally = Self { seconds, ..Self::default() };
        let (mut latencies_us, mut lags_us) = (Vec::new(), Vec::new());
        for one in ended {
            let user = tally.users.entry(one.user).or_default();
            tally.offered += 1;
            user.asked += 1;
            lags_us.push(one.lag_us);
            match &one.end {
                End::Served => {
                    tally.served += 1;
                    user.served += 1;
                    latencies_us.push(one.latency_us);
                }
                End::Rejected(why) => match rejection(why) {
                    Rejection::Level => tally.by_level += 1,
                    Rejection::Policy => {
                        tally.by_policy += 1;
                        user.by_policy += 1;
                    }
                    Rejection::Other => tally.by_other += 1,
                },
                End::Failed | End::Dropped => tally.failed += 1,
            }
        }
        (tally.p99_ms, tally.lag_p99_ms) = (p99_ms(latencies_us), p99_ms(lags_us));
        tally
    }

    /// Rejected by whomever.
    pub fn rejected(&self) -> u64 {
        self.by_level + self.by_policy + self.by_other
    }

    /// Requests a second, of so many.
    pub fn rate(&self, count: u64) -> f64 {
        count as f64 / self.seconds.max(1e-9)
    }

    /// Share of the requests, 0 to 1.
    pub fn share(&self, count: u64) -> f64 {
        count as f64 / self.offered.max(1) as f64
    }

    /// One line on the users: who was served always, at times, never.
    pub fn users_served(&self) -> String {
        let known = || self.users.values().filter(|user| user.asked >= ASKED_MIN);
        let of = |wanted: fn(&Seen) -> bool| known().filter(|user| wanted(user)).count();
        format!(
            "of {} users who asked {ASKED_MIN} times or more, {} were served each time, {} at times, {} never",
            known().count(),
            of(|user| user.served == user.asked),
            of(|user| user.served > 0 && user.served < user.asked),
            of(|user| user.served == 0)
        )
    }

    /// Users whom a policy turned away, and those of them who got past it at another time.
    pub fn users_throttled(&self) -> (usize, usize) {
        let throttled = || self.users.values().filter(|user| user.by_policy > 0);
        (throttled().count(), throttled().filter(|user| user.by_policy < user.asked).count())
    }

    /// Users who asked.
    pub fn users_asked(&self) -> usize {
        self.users.len()
    }
}

fn p99_ms(mut of_us: Vec<u64>) -> f64 {
    of_us.sort_unstable();
    let at = (of_us.len() * 99).div_ceil(100).saturating_sub(1);
    of_us.get(at).map_or(0.0, |us| *us as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(user: u64, latency_us: u64, end: End) -> Ended {
        Ended { user, due: Instant::now(), lag_us: 100, latency_us, end }
    }

    #[test]
    fn a_phase_is_told_by_who_rejected_and_by_user() {
        let rejected = |why: &str| End::Rejected(why.to_owned());
        let requests = [
            ended(1, 5_000, End::Served),
            ended(1, 7_000, End::Served),
            ended(1, 9_000, End::Served),
            ended(2, 1_000, rejected("policy; by=midnight-surge.half")),
            ended(2, 1_000, rejected("policy; by=midnight-surge.half")),
            ended(2, 1_000, rejected("policy; by=midnight-surge.half")),
            ended(3, 1_000, rejected("overload; by=lottery")),
            ended(3, 8_000, End::Served),
            ended(3, 1_000, rejected("deadline; by=sso")),
            ended(4, 1_000, rejected("policy")),
            ended(4, 3_000_000, End::Failed),
        ];
        let tally = Tally::of(requests.iter(), 2.0);
        assert_eq!((tally.offered, tally.served, tally.failed), (11, 4, 1));
        assert_eq!((tally.by_level, tally.by_policy, tally.by_other), (1, 4, 1));
        assert_eq!((tally.rate(tally.served), tally.p99_ms, tally.lag_p99_ms), (2.0, 9.0, 0.1));
        assert_eq!(tally.users_throttled(), (2, 1), "the fourth got past it once");
        let line = "of 3 users who asked 3 times or more, 1 were served each time, 1 at times, 1 never";
        assert_eq!(tally.users_served(), line);
        assert_eq!((Tally::default().p99_ms, Tally::default().share(0)), (0.0, 0.0));
    }
}
