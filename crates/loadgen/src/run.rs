//! The run: sends at the intended times, bounds what is in flight, ticks each second.

use crate::handle::{Handle, Orders};
use crate::plan::{Arrivals, Error, Plan, Template};
use crate::pool::Pool;
use crate::schedule::Schedule;
use crate::stats::{End, Ended, Outcome, Progress, Report, Stats};
use crate::timer::Timer;
use crate::users::Crowd;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::Full;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Overdue requests sent before the other tasks get a turn.
const SENDS_PER_TURN_MAX: u32 = 32;
const USER_HEADER: HeaderName = HeaderName::from_static("x-user-id");

/// Runs a plan to its end. `progress` is called each second, and at the end for what is left. Needs a runtime with I/O and
/// time; dropping it stops at once.
pub async fn run(plan: Plan, progress: impl FnMut(Progress)) -> Result<Report, Error> {
    run_with(plan, &Handle::new(), progress).await
}

/// Runs a plan that the handle may stop or steer.
pub async fn run_with(plan: Plan, handle: &Handle, progress: impl FnMut(Progress)) -> Result<Report, Error> {
    run_watched(plan, handle, progress, |_| ()).await
}

/// The same, with each request told to `watch` as it ends. `watch` must be quick: the next requests wait for it.
pub async fn run_watched(
    plan: Plan,
    handle: &Handle,
    mut progress: impl FnMut(Progress),
    watch: impl Fn(Ended) + Send + Sync + 'static,
) -> Result<Report, Error> {
    let mut run = Run::new(plan, Arc::new(watch))?;
    let mut timer = Timer::new()?;
    loop {
        let (orders, now_s) = (handle.orders(), run.now_s());
        run.reap();
        run.obey(orders, now_s);
        let more = !orders.stop && run.send_due(now_s);
        run.tick(now_s, &mut progress);
        if more {
            tokio::task::yield_now().await;
            continue;
        }
        if orders.stop || now_s >= run.schedule.end_s() {
            break;
        }
        let wait = run.until_next();
        tokio::select! {
            slept = timer.sleep(wait) => slept?,
            () = handle.changed() => {}
        }
    }
    run.drain(&mut timer, &mut progress).await
}

/// Told of each request at its end.
type Watch = Arc<dyn Fn(Ended) + Send + Sync>;

/// Everything of a run that its turns share.
struct Run {
    plan: Plan,
    template: Template,
    pools: Vec<Arc<Pool>>,
    schedule: Schedule,
    orders: Orders,
    crowd: Crowd,
    stats: Arc<Mutex<Stats>>,
    tasks: JoinSet<()>,
    turn: usize,
    start: Instant,
    next_tick_s: f64,
    watch: Watch,
}

impl Run {
    fn new(plan: Plan, watch: Watch) -> Result<Self, Error> {
        let template = plan.template()?;
        let mut crowd = Crowd::new(plan.users, plan.seed);
        // Half a gap before the first, so that rounding at the very end neither adds nor loses a request.
        let first = gap(plan.arrivals, &mut crowd) / 2.0;
        let pools = plan.targets.iter().map(|target| Arc::new(Pool::new(*target, plan.connections_max))).collect();
        Ok(Self {
            template,
            pools,
            schedule: Schedule::new(plan.profile.segments()?, first),
            orders: Orders::default(),
            crowd,
            stats: Arc::new(Mutex::new(Stats::new(plan.lag_p99_ms_max))),
            tasks: JoinSet::new(),
            turn: 0,
            start: Instant::now(),
            next_tick_s: 1.0,
            watch,
            plan,
        })
    }

    fn now_s(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn obey(&mut self, orders: Orders, now_s: f64) {
        if orders.rps != self.orders.rps && !orders.stop {
            // What was due at the old rate goes first: the schedule forgets it.
            while self.send_due(now_s) {
                self.reap();
            }
            self.schedule.steer(now_s, orders.rps);
        }
        self.orders = orders;
    }

    /// Sends what is due; answers whether more is due than one turn may send.
    fn send_due(&mut self, now_s: f64) -> bool {
        for _ in 0..SENDS_PER_TURN_MAX {
            let Some(due_s) = self.schedule.next_s().filter(|due_s| *due_s <= now_s) else { return false };
            self.dispatch(due_s);
            let next = gap(self.plan.arrivals, &mut self.crowd);
            self.schedule.sent(due_s, next);
        }
        true
    }

    fn dispatch(&mut self, due_s: f64) {
        let user = self.crowd.user();
        let due = self.start + Duration::from_secs_f64(due_s);
        let at = self.turn % self.pools.len();
        self.turn = self.turn.wrapping_add(1);
        let mut stats = lock(&self.stats);
        stats.offered();
        if self.tasks.len() >= self.plan.in_flight_max as usize {
            stats.dropped();
            drop(stats);
            let late_us = due.elapsed().as_micros() as u64;
            (self.watch)(Ended { user, due, lag_us: late_us, latency_us: late_us, end: End::Dropped });
            return;
        }
        drop(stats);
        let mut request = Request::new(Full::new(self.template.body.clone()));
        *request.method_mut() = self.template.method.clone();
        *request.uri_mut() = self.template.path.of(user);
        *request.headers_mut() = self.template.headers[at].clone();
        request.headers_mut().insert(USER_HEADER, HeaderValue::from(user));
        let (pool, stats) = (Arc::clone(&self.pools[at]), Arc::clone(&self.stats));
        let watch = Arc::clone(&self.watch);
        let deadline = due + Duration::from_millis(self.plan.timeout_ms.into());
        self.tasks.spawn(async move {
            let lag_us = due.elapsed().as_micros() as u64;
            lock(&stats).lag_us(lag_us);
            let answer = tokio::time::timeout_at(deadline.into(), pool.send(request)).await;
            let (outcome, latency_us) = (answer.unwrap_or(Outcome::Timeout), due.elapsed().as_micros() as u64);
            lock(&stats).ended(&outcome, latency_us);
            watch(Ended { user, due, lag_us, latency_us, end: outcome.into() });
        });
    }

    /// Forgets tasks that have ended, so that what is left is what is in flight.
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            ended.expect("a request's task does not panic");
        }
    }

    fn tick(&mut self, now_s: f64, progress: &mut impl FnMut(Progress)) {
        if now_s >= self.next_tick_s {
            self.tell(now_s, progress);
            self.next_tick_s = now_s.floor() + 1.0;
        }
    }

    fn tell(&self, now_s: f64, progress: &mut impl FnMut(Progress)) {
        let second = lock(&self.stats).close_second(now_s);
        let in_flight = self.tasks.len() as u32;
        progress(Progress { second, end_s: self.schedule.end_s(), in_flight });
    }

    /// Time until a request is due, a second ends or the profile ends.
    fn until_next(&self) -> Duration {
        let due_s = self.schedule.next_s().unwrap_or(f64::INFINITY);
        let next_s = due_s.min(self.next_tick_s).min(self.schedule.end_s());
        Duration::from_secs_f64((next_s - self.now_s()).max(0.0))
    }

    /// Waits for what is in flight; each request has its own deadline, so this ends.
    async fn drain(mut self, timer: &mut Timer, progress: &mut impl FnMut(Progress)) -> Result<Report, Error> {
        while !self.tasks.is_empty() {
            let wait = Duration::from_secs_f64((self.next_tick_s - self.now_s()).max(0.0));
            tokio::select! {
                ended = self.tasks.join_next() => {
                    ended.transpose().expect("a request's task does not panic");
                }
                slept = timer.sleep(wait) => slept?,
            }
            self.tick(self.now_s(), progress);
        }
        let now_s = self.now_s();
        let is_told = lock(&self.stats).is_told();
        if !is_told {
            self.tell(now_s, progress);
        }
        Ok(lock(&self.stats).finish(now_s))
    }
}

fn gap(arrivals: Arrivals, crowd: &mut Crowd) -> f64 {
    match arrivals {
        Arrivals::Even => 1.0,
        Arrivals::Poisson => crowd.gap(),
    }
}

fn lock(stats: &Mutex<Stats>) -> std::sync::MutexGuard<'_, Stats> {
    stats.lock().expect("no holder of this lock panics")
}
