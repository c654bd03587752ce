//! The cost of a request: CPU burnt by the thread's own clock; workers, a lock and a pool held without CPU.
//!
//! Time is held with the runtime's timers, which tick in milliseconds; what was really held is measured and told in `/stats`.

use crate::config::Config;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Rounds of arithmetic between two looks at the clock: about a microsecond.
const ROUNDS_PER_LOOK: u64 = 400;

/// What a request costs here, and what all of them have cost.
#[derive(Debug)]
pub struct Work {
    cpu_us: u64,
    lock_us: u64,
    hold_us: u64,
    workers: Option<Slots>,
    lock: Slots,
    pool: Option<Slots>,
    requests: AtomicU64,
    cpu_burnt_us: AtomicU64,
}

/// What `/stats` says of the work. Times add up over all requests.
#[derive(Debug, Serialize)]
pub struct WorkStats {
    requests: u64,
    /// By the thread's clock, of the work alone.
    cpu_burnt_us: u64,
    /// By the process's clock, all that it used since its start.
    cpu_process_us: u64,
    workers: Option<SlotStats>,
    lock: SlotStats,
    pool: Option<SlotStats>,
}

/// What `/stats` says of something that few can hold at a time.
#[derive(Debug, Serialize)]
pub struct SlotStats {
    slots: usize,
    in_use: usize,
    holds: u64,
    held_us: u64,
}

impl Work {
    /// The work that a config asks for.
    pub fn new(config: &Config) -> Self {
        Self {
            cpu_us: config.cpu_us,
            lock_us: config.lock_us,
            hold_us: config.hold_us,
            workers: config.workers.map(Slots::new),
            lock: Slots::new(1),
            pool: config.pool.map(Slots::new),
            requests: AtomicU64::new(0),
            cpu_burnt_us: AtomicU64::new(0),
        }
    }

    /// Does one request's work: a worker from the beginning to the end; inside it CPU, the lock, the pool.
    pub async fn run(&self) {
        let _worker = take(self.workers.as_ref()).await;
        self.cpu_burnt_us.fetch_add(burn(self.cpu_us), Relaxed);
        if self.lock_us > 0 {
            let _alone = self.lock.take().await;
            sleep_us(self.lock_us).await;
        }
        if self.hold_us > 0 {
            let _slot = take(self.pool.as_ref()).await;
            sleep_us(self.hold_us).await;
        }
        self.requests.fetch_add(1, Relaxed);
    }

    /// What was done so far.
    pub fn stats(&self) -> WorkStats {
        WorkStats {
            requests: self.requests.load(Relaxed),
            cpu_burnt_us: self.cpu_burnt_us.load(Relaxed),
            cpu_process_us: clock_us(ClockId::ProcessCPUTime),
            workers: self.workers.as_ref().map(Slots::stats),
            lock: self.lock.stats(),
            pool: self.pool.as_ref().map(Slots::stats),
        }
    }
}

async fn sleep_us(length_us: u64) {
    tokio::time::sleep(Duration::from_micros(length_us)).await;
}

async fn take(slots: Option<&Slots>) -> Option<Slot<'_>> {
    match slots {
        Some(slots) => Some(slots.take().await),
        None => None,
    }
}

/// A few that may be held at a time; waiters come in order.
#[derive(Debug)]
struct Slots {
    count: usize,
    free: Semaphore,
    holds: AtomicU64,
    held_us: AtomicU64,
}

impl Slots {
    fn new(count: usize) -> Self {
        Self { count, free: Semaphore::new(count), holds: AtomicU64::new(0), held_us: AtomicU64::new(0) }
    }

    async fn take(&self) -> Slot<'_> {
        let permit = self.free.acquire().await.expect("the semaphore is never closed");
        Slot { slots: self, since: Instant::now(), _permit: permit }
    }

    fn stats(&self) -> SlotStats {
        SlotStats {
            slots: self.count,
            in_use: self.count - self.free.available_permits(),
            holds: self.holds.load(Relaxed),
            held_us: self.held_us.load(Relaxed),
        }
    }
}

/// One of them, held until dropped.
struct Slot<'a> {
    slots: &'a Slots,
    since: Instant,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.slots.holds.fetch_add(1, Relaxed);
        self.slots.held_us.fetch_add(self.since.elapsed().as_micros() as u64, Relaxed);
    }
}

fn clock_us(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

/// Burns CPU until the thread's own clock has moved that far, however often the thread is interrupted or throttled; tells how far.
fn burn(cpu_us: u64) -> u64 {
    if cpu_us == 0 {
        return 0;
    }
    let start = clock_us(ClockId::ThreadCPUTime);
    let mut state = start | 1;
    loop {
        for _ in 0..ROUNDS_PER_LOOK {
            state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17));
        }
        let burnt = clock_us(ClockId::ThreadCPUTime) - start;
        if burnt >= cpu_us {
            return burnt;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burnt_cpu_is_what_was_asked_by_the_threads_clock() {
        let before = clock_us(ClockId::ThreadCPUTime);
        let mut burns: Vec<u64> = (0..21).map(|_| burn(1_000)).collect();
        let used = clock_us(ClockId::ThreadCPUTime) - before;
        burns.sort_unstable();
        // An interrupt may count as the thread's time: a single burn is as long as that takes.
        assert!(burns[0] >= 1_000 && burns[10] < 1_050, "{burns:?}");
        let burnt: u64 = burns.iter().sum();
        assert!((burnt..burnt + 5_000).contains(&used), "{used} {burns:?}");
        assert_eq!(burn(0), 0);
    }

    fn time_of(config: &Config, requests: usize) -> (Duration, WorkStats) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let work = std::sync::Arc::new(Work::new(config));
        let start = Instant::now();
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..requests {
                let work = std::sync::Arc::clone(&work);
                tasks.spawn(async move { work.run().await });
            }
            tasks.join_all().await;
        });
        (start.elapsed(), work.stats())
    }

    #[test]
    fn few_at_a_time_take_turns() {
        let workers = Config { workers: Some(2), hold_us: 20_000, ..Config::default() };
        let (took, stats) = time_of(&workers, 6);
        assert!(took >= Duration::from_millis(60), "three turns of two: {took:?}");
        let held = stats.workers.unwrap();
        assert_eq!((held.slots, held.holds, stats.requests), (2, 6, 6));
        assert!(held.held_us >= 120_000, "{}", held.held_us);

        let lock = Config { lock_us: 10_000, ..Config::default() };
        let (took, stats) = time_of(&lock, 5);
        assert!(took >= Duration::from_millis(50) && stats.lock.holds == 5, "one after another: {took:?}");

        let pool = Config { pool: Some(3), hold_us: 20_000, ..Config::default() };
        let (took, stats) = time_of(&pool, 6);
        assert!(took >= Duration::from_millis(40), "two turns of three: {took:?}");
        assert_eq!((stats.pool.unwrap().holds, stats.workers.is_none()), (6, true));

        let free = Config { hold_us: 200_000, ..Config::default() };
        let (took, _) = time_of(&free, 40);
        assert!(took < Duration::from_secs(6), "nobody waits for another: {took:?}");
    }
}
