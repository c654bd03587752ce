//! A queueing model, just large enough to see the gate converge: tasks that call one service n times, its servers with
//! one worker each, callers with their own view. Absent: networks, graphs, baselines (crate `sim` has them).

use admission::{Advert, Callee, Config, Gate, Priority, RetryBudget, RetryConfig, Signal, Verdict};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn exponential_us(&mut self, mean_us: f64) -> u64 {
        (-mean_us * (1.0 - self.fraction()).ln()).max(1.0) as u64
    }
}

/// How the tasks call, and what befalls.
pub struct Scene {
    pub calls: Vec<u32>,
    pub servers: usize,
    pub work_us: f64,
    pub exponential: bool,
    pub timeout_us: u64,
    /// Tasks per second as it changes: (from, rate).
    pub rates: Vec<(u64, f64)>,
    /// Servers do no work in these times.
    pub pauses: Vec<(u64, u64)>,
    /// Share and business level of the classes of tasks.
    pub classes: Vec<(f64, u8)>,
    pub callers: usize,
    pub attempts_max: u32,
    pub warm_us: u64,
    pub end_us: u64,
    pub config: Config,
    pub seed: u64,
    /// Of two servers picked by chance the one with the shorter queue is called.
    pub least_loaded: bool,
    /// Every task has the same user level.
    pub one_user: bool,
}

impl Scene {
    /// Three servers of 250 calls a second, tasks of `calls` calls at `load` times what they can do.
    pub fn steady(calls: u32, load: f64, seed: u64) -> Self {
        Self {
            calls: vec![calls],
            servers: 3,
            work_us: 4_000.0,
            exponential: true,
            timeout_us: 500_000,
            rates: vec![(0, load * 750.0 / f64::from(calls))],
            pauses: Vec::new(),
            classes: vec![(1.0, 10)],
            callers: 2,
            attempts_max: 1,
            warm_us: 5_000_000,
            end_us: 35_000_000,
            config: Config::default(),
            seed,
            least_loaded: false,
            one_user: false,
        }
    }
}

#[derive(Default, Clone, Debug)]
pub struct Tally {
    pub tasks: u64,
    pub served: u64,
    pub latencies_us: Vec<u64>,
    /// Tasks rejected anywhere, and those that ran out of time.
    pub rejected: u64,
    pub late: u64,
    pub attempts: u64,
    pub work_us: u64,
    pub wasted_us: u64,
    /// Served and all tasks per class.
    pub classes: Vec<(u64, u64)>,
    /// Served and all tasks per number of calls.
    pub by_calls: Vec<(u64, u64)>,
    /// Tasks served per 100 ms, by the time they ended.
    pub timeline: Vec<u64>,
}

struct Task {
    born_us: u64,
    deadline_us: u64,
    priority: Priority,
    class: usize,
    kind: usize,
    left: u32,
    attempt: u32,
    caller: usize,
    admitted: bool,
    work_us: u64,
    over: bool,
}

struct Server {
    gate: Gate,
    queue: VecDeque<(usize, u64)>,
    busy: bool,
    /// When the call being worked on came.
    since_us: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrive,
    Call(usize),
    Done(usize, usize, u64),
    Wake(usize),
}

pub struct Model {
    scene: Scene,
    random: Random,
    now_us: u64,
    sequence: u64,
    events: BinaryHeap<Reverse<(u64, u64, What)>>,
    tasks: Vec<Task>,
    servers: Vec<Server>,
    callees: Vec<Callee>,
    budgets: Vec<RetryBudget>,
    pub tally: Tally,
}

impl Model {
    pub fn new(scene: Scene) -> Self {
        let server =
            |_| Server { gate: Gate::new(scene.config.clone(), 0), queue: VecDeque::new(), busy: false, since_us: 0 };
        let mut model = Self {
            random: Random(scene.seed),
            now_us: 0,
            sequence: 0,
            events: BinaryHeap::new(),
            tasks: Vec::new(),
            servers: (0..scene.servers).map(server).collect(),
            callees: (0..scene.callers).map(|_| Callee::new()).collect(),
            budgets: (0..scene.callers).map(|_| RetryBudget::new(RetryConfig::default(), 0)).collect(),
            tally: Tally {
                classes: vec![(0, 0); scene.classes.len()],
                by_calls: vec![(0, 0); scene.calls.len()],
                timeline: vec![0; (scene.end_us / 100_000 + 100) as usize],
                ..Tally::default()
            },
            scene,
        };
        model.at(1, What::Arrive);
        model
    }

    pub fn run(mut self) -> Tally {
        while let Some(Reverse((at_us, _, what))) = self.events.pop() {
            if at_us > self.scene.end_us {
                break;
            }
            self.now_us = at_us;
            match what {
                What::Arrive => self.arrive(),
                What::Call(task) => self.call(task),
                What::Done(server, task, work_us) => self.done(server, task, work_us),
                What::Wake(server) => self.start(server),
            }
        }
        self.tally
    }

    fn at(&mut self, at_us: u64, what: What) {
        self.sequence += 1;
        self.events.push(Reverse((at_us, self.sequence, what)));
    }

    fn arrive(&mut self) {
        let rate = self.scene.rates.iter().rev().find(|(from_us, _)| *from_us <= self.now_us).expect("a rate").1;
        let gap_us = self.random.exponential_us(1e6 / rate);
        self.at(self.now_us + gap_us, What::Arrive);
        let mut pick = self.random.fraction();
        let mut class = 0;
        for (at, (share, _)) in self.scene.classes.iter().enumerate() {
            class = at;
            if pick < *share {
                break;
            }
            pick -= share;
        }
        let user_level = if self.scene.one_user { 700 } else { (self.random.bits() >> 54) as u16 };
        let kind = (self.random.bits() % self.scene.calls.len() as u64) as usize;
        let task = Task {
            born_us: self.now_us,
            deadline_us: self.now_us + self.scene.timeout_us,
            priority: Priority::new(self.scene.classes[class].1, user_level).expect("within range"),
            class,
            kind,
            left: self.scene.calls[kind],
            attempt: 0,
            caller: (self.random.bits() % self.scene.callers as u64) as usize,
            admitted: false,
            work_us: 0,
            over: false,
        };
        if self.counts(&task) {
            self.tally.tasks += 1;
            self.tally.classes[class].1 += 1;
            self.tally.by_calls[kind].1 += 1;
        }
        self.tasks.push(task);
        self.call(self.tasks.len() - 1);
    }

    fn counts(&self, task: &Task) -> bool {
        task.born_us >= self.scene.warm_us && task.born_us < self.scene.end_us - 1_000_000
    }

    fn call(&mut self, at: usize) {
        let now_us = self.now_us;
        let task = &self.tasks[at];
        let (priority, passes, caller) = (task.priority, task.admitted, task.caller);
        if !passes && !self.callees[caller].allows(priority, now_us) {
            self.callees[caller].shed(priority);
            return self.fail(at, true);
        }
        if task.attempt == 0 {
            self.budgets[caller].called();
        }
        if self.counts(&self.tasks[at]) {
            self.tally.attempts += 1;
        }
        let mut to = (self.random.bits() % self.servers.len() as u64) as usize;
        if self.scene.least_loaded {
            let other = (self.random.bits() % self.servers.len() as u64) as usize;
            if self.servers[other].queue.len() < self.servers[to].queue.len() {
                to = other;
            }
        }
        let report = self.callees[caller].take_shed();
        let server = &mut self.servers[to];
        for &(bucket, count) in report.pairs() {
            server.gate.reported(bucket.middle(), count, now_us);
        }
        let verdict = server.gate.offer(priority, passes, Some(self.tasks[at].deadline_us), now_us);
        if verdict != Verdict::Admit {
            let advert = server.gate.advert(now_us);
            self.callees[caller].heard(advert, now_us);
            return self.retry(at);
        }
        server.queue.push_back((at, now_us));
        self.start(to);
    }

    fn retry(&mut self, at: usize) {
        let task = &self.tasks[at];
        let allowed = task.admitted || self.callees[task.caller].allows(task.priority, self.now_us);
        let remaining_us = task.deadline_us.saturating_sub(self.now_us);
        let (attempt, caller) = (task.attempt, task.caller);
        let random = self.random.bits();
        if attempt + 1 < self.scene.attempts_max
            && let Ok(wait_us) = self.budgets[caller].retry(attempt, allowed, Some(remaining_us), random, self.now_us)
        {
            self.tasks[at].attempt += 1;
            self.at(self.now_us + wait_us, What::Call(at));
            return;
        }
        self.fail(at, true);
    }

    fn paused_until(&self) -> Option<u64> {
        let pause = self.scene.pauses.iter().find(|(from, to)| (*from..*to).contains(&self.now_us));
        pause.map(|(_, to)| *to)
    }

    fn start(&mut self, to: usize) {
        if self.servers[to].busy {
            return;
        }
        if let Some(until_us) = self.paused_until() {
            return self.at(until_us, What::Wake(to));
        }
        while let Some((at, since_us)) = self.servers[to].queue.pop_front() {
            let now_us = self.now_us;
            if self.tasks[at].deadline_us <= now_us {
                self.servers[to].gate.abandoned(now_us);
                self.fail(at, false);
                continue;
            }
            let mut work_us = if self.scene.exponential {
                self.random.exponential_us(self.scene.work_us)
            } else {
                self.scene.work_us as u64
            };
            let pause = self.scene.pauses.iter().find(|(from, _)| (now_us..now_us + work_us).contains(from));
            if let Some((from, to)) = pause {
                work_us += to - from;
            }
            let server = &mut self.servers[to];
            server.busy = true;
            server.since_us = since_us;
            if self.scene.config.signal == Signal::Exact {
                server.gate.started(now_us - since_us, now_us);
            }
            self.at(now_us + work_us, What::Done(to, at, work_us));
            return;
        }
    }

    fn done(&mut self, from: usize, at: usize, work_us: u64) {
        let now_us = self.now_us;
        let server = &mut self.servers[from];
        server.busy = false;
        match self.scene.config.signal {
            Signal::Exact => server.gate.finished(work_us, now_us),
            Signal::Inferred => {
                let in_flight = server.queue.len() as u32 + 1;
                server.gate.observed(in_flight, now_us - server.since_us, now_us);
            }
        }
        let advert = server.gate.advert(now_us);
        self.heard(at, advert);
        let task = &mut self.tasks[at];
        task.work_us += work_us;
        task.admitted = true;
        task.left -= 1;
        if task.deadline_us <= now_us {
            self.fail(at, false);
        } else if self.tasks[at].left == 0 {
            self.serve(at);
        } else {
            self.tasks[at].attempt = 0;
            self.call(at);
        }
        self.start(from);
    }

    fn heard(&mut self, at: usize, advert: Advert) {
        self.callees[self.tasks[at].caller].heard(advert, self.now_us);
    }

    fn serve(&mut self, at: usize) {
        let task = &self.tasks[at];
        self.tally.timeline[(self.now_us / 100_000) as usize] += 1;
        if self.counts(task) {
            self.tally.served += 1;
            self.tally.latencies_us.push(self.now_us - task.born_us);
            self.tally.work_us += task.work_us;
            self.tally.classes[task.class].0 += 1;
            self.tally.by_calls[task.kind].0 += 1;
        }
    }

    fn fail(&mut self, at: usize, rejected: bool) {
        let task = &mut self.tasks[at];
        assert!(!task.over, "a task ends once");
        task.over = true;
        let task = &self.tasks[at];
        if self.counts(task) {
            self.tally.work_us += task.work_us;
            self.tally.wasted_us += task.work_us;
            if rejected { self.tally.rejected += 1 } else { self.tally.late += 1 }
        }
    }
}
