//! Single decisions, clocks that jump, counts that leak, threads. How it converges is in `tests/it`.

use super::*;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const MS: u64 = 1_000;

fn priority(user_level: u16) -> Priority {
    Priority::new(10, user_level % 1_024).expect("in range")
}

/// A service of one worker and 4 ms of work behind a gate.
struct Service {
    gate: Gate,
    now_us: u64,
    free_us: u64,
    asked: u64,
    queue: std::collections::VecDeque<u64>,
}

impl Service {
    fn new(now_us: u64) -> Self {
        Self {
            gate: Gate::new(Config::default(), now_us),
            now_us,
            free_us: now_us,
            asked: 0,
            queue: Default::default(),
        }
    }

    /// Another time of the clock, with no work left over.
    fn jump(&mut self, now_us: u64) {
        while self.queue.pop_front().is_some() {
            self.gate.abandoned(now_us);
        }
        (self.now_us, self.free_us) = (now_us, now_us);
    }

    fn work(&mut self) {
        while let Some(&since_us) = self.queue.front() {
            let start_us = self.free_us.max(since_us);
            if start_us > self.now_us {
                return;
            }
            self.queue.pop_front();
            self.gate.started(start_us - since_us, start_us);
            self.gate.finished(4 * MS, start_us);
            self.free_us = start_us + 4 * MS;
        }
    }

    /// One call, at its time in a stream of `calls_per_s`; whether it was admitted.
    fn offer(&mut self, calls_per_s: u64) -> bool {
        self.now_us += 1_000_000 / calls_per_s;
        self.work();
        self.asked += 1;
        let user_level = (self.asked * 619 % 1_024) as u16;
        let verdict = self.gate.offer(priority(user_level), false, Some(self.now_us + 500 * MS), self.now_us);
        if verdict == Verdict::Admit {
            self.queue.push_back(self.now_us);
        }
        verdict == Verdict::Admit
    }

    /// Offers `calls_per_s` for a while; the share admitted.
    fn drive(&mut self, calls_per_s: u64, seconds: u64) -> f64 {
        let offers = calls_per_s * seconds;
        let admitted = (0..offers).filter(|_| self.offer(calls_per_s)).count();
        admitted as f64 / offers as f64
    }

    fn snapshot(&self) -> Snapshot {
        self.gate.snapshot(self.now_us)
    }
}

#[test]
fn a_gate_that_knows_nothing_admits_all_but_the_expired() {
    let gate = Gate::new(Config::default(), 0);
    assert_eq!(gate.offer(Priority::LAST, false, None, 1), Verdict::Admit);
    assert_eq!(gate.offer(Priority::FIRST, false, Some(2), 2), Verdict::Reject(Reason::Expired));
    assert_eq!(gate.offer(Priority::FIRST, true, Some(2), 3), Verdict::Reject(Reason::Expired));
    assert_eq!(gate.advert(3), Advert::UNKNOWN);
}

#[test]
fn under_twice_the_load_about_half_is_admitted_by_priority() {
    let mut service = Service::new(0);
    service.drive(500, 5);
    let share = service.drive(500, 10);
    assert!((0.47..0.53).contains(&share), "{share}");
    let snapshot = service.snapshot();
    assert!(snapshot.overloaded && snapshot.advert.overloaded(), "{snapshot:?}");
    assert!((235.0..265.0).contains(&snapshot.advert.capacity_rps), "{snapshot:?}");
    assert!((470.0..530.0).contains(&snapshot.advert.demand_rps), "{snapshot:?}");
    let (gate, now_us) = (&service.gate, service.now_us);
    assert_eq!(gate.offer(Priority::LAST, false, None, now_us), Verdict::Reject(Reason::Overload));
    assert_eq!(gate.offer(Priority::FIRST, false, None, now_us), Verdict::Admit);
    assert_eq!(gate.offer(Priority::LAST, true, None, now_us), Verdict::Admit, "a sub-call of an admitted task passes");
}

#[test]
fn no_load_below_capacity_is_shed() {
    assert_eq!(Service::new(0).drive(225, 30), 1.0);
}

#[test]
fn demand_that_callers_report_counts_like_what_came() {
    let (mut told, mut untold) = (Service::new(0), Service::new(0));
    for service in [&mut told, &mut untold] {
        service.drive(500, 5);
    }
    // From here callers shed half themselves; only one of the gates hears of it.
    for at in 0..2_500 {
        for service in [&mut told, &mut untold] {
            service.offer(250);
        }
        told.gate.reported(priority((at % 1_024) as u16), 1, told.now_us);
    }
    let (told, untold) = (told.snapshot().advert.demand_rps, untold.snapshot().advert.demand_rps);
    assert!(told > 1.7 * untold, "{told} {untold}");
}

#[test]
fn work_that_would_wait_beyond_its_deadline_is_refused() {
    let mut service = Service::new(0);
    service.drive(500, 5);
    // About fifteen wait at 4 ms each: 2 ms are not enough, whatever the priority.
    let (gate, now_us) = (&service.gate, service.now_us);
    let offer = || gate.offer(Priority::FIRST, true, Some(now_us + 2 * MS), now_us);
    let verdicts: Vec<Verdict> = (0..8).map(|_| offer()).collect();
    assert!(verdicts.contains(&Verdict::Reject(Reason::Doomed)), "{verdicts:?} {:?}", service.snapshot());
    assert!(verdicts.iter().filter(|&&verdict| verdict == Verdict::Admit).count() <= 1, "one probe: {verdicts:?}");
}

#[test]
fn the_queue_is_bounded_even_where_nothing_is_known() {
    let gate = Gate::new(Config { waiting_max: 10, ..Config::default() }, 0);
    for _ in 0..10 {
        assert_eq!(gate.offer(Priority::FIRST, false, None, 1), Verdict::Admit);
    }
    assert_eq!(gate.offer(Priority::FIRST, false, None, 1), Verdict::Reject(Reason::Overflow));
    assert_eq!(gate.offer(Priority::FIRST, true, None, 1), Verdict::Reject(Reason::Overflow));
}

#[test]
fn a_clock_that_goes_back_an_hour_costs_one_window() {
    let mut service = Service::new(3_600_000_000);
    service.drive(500, 5);
    service.jump(0);
    service.drive(500, 3);
    let share = service.drive(500, 5);
    assert!((0.45..0.55).contains(&share), "{share} {:?}", service.snapshot());
}

#[test]
fn a_clock_that_leaps_on_hours_reads_as_idleness_and_recovers() {
    let mut service = Service::new(0);
    service.drive(500, 5);
    service.jump(7_200_000_000);
    service.drive(500, 3);
    let share = service.drive(500, 5);
    assert!((0.45..0.55).contains(&share), "{share} {:?}", service.snapshot());
    let gate = &service.gate;
    assert_eq!(gate.offer(Priority::FIRST, true, None, u64::MAX), Verdict::Admit, "the end of time divides by nothing");
    gate.advert(0);
}

#[test]
fn a_level_comes_back_once_demand_is_gone() {
    let mut service = Service::new(0);
    service.drive(2_500, 10);
    assert!(service.snapshot().advert.overloaded());
    service.drive(100, 10);
    assert!(!service.snapshot().advert.overloaded(), "{:?}", service.snapshot());
}

#[test]
fn admitted_requests_that_are_never_heard_of_again_do_not_shut_the_gate() {
    let mut service = Service::new(0);
    service.drive(500, 5);
    for _ in 0..2_000 {
        service.gate.offer(Priority::FIRST, true, None, service.now_us);
    }
    service.drive(100, 8);
    assert_eq!(service.drive(100, 2), 1.0, "{:?}", service.snapshot());
}

#[test]
fn nonsense_measures_overflow_nothing() {
    let gate = Gate::new(Config::default(), 0);
    for now_us in (0..2_000 * MS).step_by(500) {
        gate.offer(priority(now_us as u16), false, Some(u64::MAX), now_us);
        gate.started(u64::MAX, now_us);
        gate.finished(u64::MAX, now_us);
        gate.finished(0, now_us);
        gate.abandoned(now_us);
        gate.reported(Priority::LAST, u32::MAX, now_us);
    }
    let advert = gate.advert(2_000 * MS);
    assert!(advert.demand_rps.is_finite() && advert.capacity_rps.is_finite(), "{advert:?}");
    assert!(advert.level <= LEVEL_ALL);
}

/// Callers shed nine of ten calls, and the tenth is just what can be done: no queue, and yet no reason to believe in more.
#[test]
fn a_short_queue_of_a_service_that_is_fully_used_raises_nothing() {
    let mut service = Service::new(0);
    for _ in 0..10_000 {
        service.offer(2_500);
    }
    assert!(service.gate.snapshot(service.now_us).overloaded);
    let let_through = (0..1_024_u16).filter(|user_level| user_level % 10 == 0).collect::<Vec<_>>();
    let mut served = 0;
    for at in 0..25_000_u64 {
        service.now_us += 410;
        service.work();
        let now_us = service.now_us;
        if at % 10 > 0 {
            let user_level = 104 + (at * 619 % 920) as u16;
            service.gate.reported(priority(user_level), 1, now_us);
            continue;
        }
        let user_level = let_through[(at / 10 * 37) as usize % let_through.len()] / 10;
        let verdict = service.gate.offer(priority(user_level), false, Some(now_us + 500 * MS), now_us);
        if verdict == Verdict::Admit {
            service.queue.push_back(now_us);
            served += u64::from(at >= 5_000);
        }
        let snapshot = service.gate.snapshot(now_us);
        assert!(snapshot.advert.capacity_rps < 275.0, "250 a second can be done, after {at}: {snapshot:?}");
    }
    let snapshot = service.gate.snapshot(service.now_us);
    assert!(snapshot.overloaded && snapshot.advert.queue_delay_us < 6_000, "{snapshot:?}");
    assert!(served > 1_900, "{served} of 2,000");
}

/// A thread that counts on a shard of its own and does one thing after the other as it is told.
struct Helper<T, R> {
    tell: std::sync::mpsc::Sender<T>,
    done: std::sync::mpsc::Receiver<R>,
}

impl<T: Send + 'static, R: Send + 'static> Helper<T, R> {
    /// On another shard of the gate than those `taken`.
    fn new(gate: &Arc<Gate>, taken: &mut Vec<usize>, act: impl Fn(&Gate, T) -> R + Clone + Send + 'static) -> Self {
        loop {
            let (tell, told) = std::sync::mpsc::channel::<T>();
            let (say, done) = std::sync::mpsc::channel();
            let (say_shard, shard) = std::sync::mpsc::channel();
            let (gate, act) = (Arc::clone(gate), act.clone());
            std::thread::spawn(move || {
                say_shard.send(std::ptr::from_ref(gate.window.here()).addr()).expect("somebody asks");
                // Nobody listens once the test is over.
                told.into_iter().for_each(|what| drop(say.send(act(&gate, what))));
            });
            let shard = shard.recv().expect("the thread lives");
            if !taken.contains(&shard) {
                taken.push(shard);
                return Self { tell, done };
            }
        }
    }

    fn tell(&self, what: T) -> R {
        self.tell.send(what).expect("the thread lives");
        self.done.recv().expect("it did not panic")
    }
}

/// One thread lets requests in, another serves them: 500 a second can be, 750 are asked for.
#[test]
fn what_one_thread_lets_in_another_serves() {
    let gate = Arc::new(Gate::new(Config::default(), 0));
    let mut shards = vec![std::ptr::from_ref(gate.window.here()).addr()];
    let server = Helper::new(&gate, &mut shards, |gate, (start_us, since_us): (u64, u64)| {
        gate.started(start_us - since_us, start_us);
        gate.finished(8 * MS, start_us);
    });
    let (mut queue, mut free_us) = (std::collections::VecDeque::new(), 0);
    let mut waited_most = 0;
    for at in 0..7_500_u64 {
        let now_us = at * 1_000_000 / 750;
        while let Some(&since_us) = queue.front().filter(|&&since_us| free_us.max(since_us) <= now_us) {
            let start_us = free_us.max(since_us);
            server.tell((start_us, since_us));
            waited_most = waited_most.max(start_us - since_us);
            free_us = start_us + 2 * MS;
            queue.pop_front();
        }
        if gate.offer(priority((at * 619) as u16), false, Some(now_us + 500 * MS), now_us) == Verdict::Admit {
            queue.push_back(now_us);
        }
        assert_eq!(u64::from(gate.snapshot(now_us).waiting), queue.len() as u64, "at {now_us}");
    }
    let snapshot = gate.snapshot(10_000 * MS);
    assert!((snapshot.advert.capacity_rps - 500.0).abs() < 15.0, "{snapshot:?}");
    assert!(snapshot.overloaded && waited_most < 400 * MS, "{waited_most} µs, {snapshot:?}");
}

/// All have one priority, and few come on each thread in a window: the level lets in a share of them all the same.
#[test]
fn threads_share_out_a_single_priority() {
    const THREADS: usize = 8;
    let gate = Arc::new(Gate::new(Config { threads: THREADS, ..Config::default() }, 0));
    let mut shards = vec![std::ptr::from_ref(gate.window.here()).addr()];
    let offer = |gate: &Gate, now_us: u64| gate.offer(priority(7), false, Some(now_us + 500 * MS), now_us);
    let threads: Vec<_> = (1..THREADS).map(|_| Helper::new(&gate, &mut shards, offer)).collect();
    let (mut queue, mut free_us, mut at_random) = (std::collections::VecDeque::new(), 0, 1_u64);
    let (mut admitted, mut waited_us) = (0, Vec::new());
    // 100 a second can be served, 300 are asked for.
    for at in 0..6_000_u64 {
        let now_us = at * 1_000_000 / 300;
        while let Some(&since_us) = queue.front().filter(|&&since_us| free_us.max(since_us) <= now_us) {
            let start_us = free_us.max(since_us);
            gate.started(start_us - since_us, start_us);
            gate.finished(10 * MS, start_us);
            waited_us.push(start_us - since_us);
            free_us = start_us + 10 * MS;
            queue.pop_front();
        }
        at_random = at_random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let thread = (at_random >> 33) as usize % threads.len();
        if threads[thread].tell(now_us) == Verdict::Admit {
            queue.push_back(now_us);
            admitted += u64::from(at >= 3_000);
        }
    }
    let settled = &mut waited_us[1_000..];
    settled.sort_unstable();
    let p99_us = settled[settled.len() * 99 / 100];
    assert!((950..1_080).contains(&admitted), "{admitted} of 1,000 in ten seconds");
    assert!(p99_us < 200 * MS, "{p99_us} µs");
}

#[test]
fn threads_lose_no_count() {
    const THREADS: u64 = 4;
    const EACH: u64 = 50_000;
    let gate = Arc::new(Gate::new(Config { window_us: 1_000, ..Config::default() }, 0));
    let clock = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (gate, clock) = (Arc::clone(&gate), Arc::clone(&clock));
            std::thread::spawn(move || {
                let mut admitted = 0_u64;
                for at in 0..EACH {
                    let now_us = clock.fetch_add(1, Relaxed);
                    if gate.offer(priority((at * 7 + thread) as u16), at % 4 != 0, None, now_us) == Verdict::Admit {
                        admitted += 1;
                        if at % 3 == 0 {
                            gate.abandoned(now_us);
                        } else {
                            gate.started(at % 5_000, now_us);
                            gate.finished(100, now_us);
                        }
                    }
                    if at % 64 == 0 {
                        gate.reported(priority(at as u16), 2, now_us);
                        gate.advert(now_us);
                    }
                }
                admitted
            })
        })
        .collect();
    let admitted: u64 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    assert!(admitted > 0);
    let snapshot = gate.snapshot(clock.load(Relaxed));
    assert_eq!(snapshot.waiting, 0, "everything admitted left: {snapshot:?}");
    assert!(snapshot.advert.demand_rps.is_finite());
}
