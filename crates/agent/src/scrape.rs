//! Instances' own numbers: each asked at its own pace, read here, sent packed.
//!
//! Names and labels travel once in a stream, then only values. A reading that the stream has no room for is dropped, and
//! the next one tells everything anew. Deliberately absent: keeping anything, and deciding what a number means.

mod ask;
mod table;
mod text;

pub use table::{ANSWER_BYTES_MAX, SERIES_MAX};

use crate::assignment::Assignment;
use crate::host::now_unix_ms;
use crate::up::Up;
use api::fleet::{Scraped, agent_up};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use table::Table;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

/// Instances asked at the same time.
pub const SCRAPES_MAX: usize = 4;
/// Series of all instances of one host at most; an instance that is asked when they are used up has no more than it had.
pub const SERIES_HOST_MAX: usize = 20_000;
/// Longest wait for an answer; never longer than the pause between two scrapes.
pub const TIMEOUT_MS_MAX: u64 = 5_000;
/// Readings waiting for the stream.
const READINGS_QUEUE_MAX: usize = 16;

/// Where an instance's numbers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The instance.
    pub instance: String,
    /// Its service.
    pub service: String,
    /// Address and port.
    pub address: SocketAddr,
    /// Path of the GET.
    pub path: String,
    /// Pause between two scrapes.
    pub interval: Duration,
}

impl Target {
    /// Of an assignment that says where.
    pub fn of(assignment: &Assignment) -> Option<Self> {
        let metrics = assignment.metrics.as_ref()?;
        Some(Self {
            instance: assignment.instance.to_string(),
            service: assignment.service.clone(),
            address: SocketAddr::new(assignment.address, metrics.port),
            path: metrics.path.clone(),
            interval: Duration::from_millis(metrics.interval_ms),
        })
    }
}

#[derive(Debug)]
struct Shared {
    /// Number of the stream; what was written for an earlier one is worthless.
    stream: AtomicU64,
    out: mpsc::Sender<(u64, Up)>,
    turns: Semaphore,
    series: AtomicUsize,
}

/// All targets of a host.
#[derive(Debug)]
pub struct Scrapes {
    shared: Arc<Shared>,
    tasks: Mutex<BTreeMap<String, (Target, AbortHandle)>>,
}

impl Scrapes {
    /// Nothing to ask yet. Readings come out of the receiver, each for the stream of its number.
    pub fn new() -> (Self, mpsc::Receiver<(u64, Up)>) {
        let (out, readings) = mpsc::channel(READINGS_QUEUE_MAX);
        let (stream, turns) = (AtomicU64::new(0), Semaphore::new(SCRAPES_MAX));
        let shared = Shared { stream, out, turns, series: AtomicUsize::new(0) };
        (Self { shared: Arc::new(shared), tasks: Mutex::default() }, readings)
    }

    /// A stream begins, which knows nothing yet: gives its number.
    pub fn new_stream(&self) -> u64 {
        self.shared.stream.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Asks a target from now on, in place of an earlier one of that instance. To be called within the runtime.
    pub fn add(&self, target: Target) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.get(&target.instance).is_some_and(|(known, task)| *known == target && !task.is_finished()) {
            return;
        }
        let scrape = Scrape::new(target.clone(), Arc::clone(&self.shared));
        let task = tokio::spawn(scrape.run()).abort_handle();
        if let Some((_, earlier)) = tasks.insert(target.instance.clone(), (target, task)) {
            earlier.abort();
        }
    }

    /// Asks it no longer, and says so.
    pub fn remove(&self, instance: &str) {
        let removed = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(instance);
        let Some((target, task)) = removed else { return };
        task.abort();
        let last = Scraped {
            instance: target.instance,
            service: target.service,
            time_unix_ms: now_unix_ms(),
            end: true,
            ..Scraped::default()
        };
        let stream = self.shared.stream.load(Ordering::Relaxed);
        // Without room the server notices by the silence.
        let _silence_tells = self.shared.out.try_send((stream, agent_up::Message::Scraped(last).into()));
    }
}

/// The task of one target.
struct Scrape {
    target: Target,
    shared: Arc<Shared>,
    table: Table,
    /// The stream that knows what the table says it told.
    told_to: u64,
    /// Series counted among those of the host.
    counted: usize,
    /// What was last written to the log, so that it says each thing once.
    logged: String,
}

impl Drop for Scrape {
    fn drop(&mut self) {
        self.shared.series.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

impl Scrape {
    fn new(target: Target, shared: Arc<Shared>) -> Self {
        Self { target, shared, table: Table::default(), told_to: 0, counted: 0, logged: String::new() }
    }

    async fn run(mut self) {
        let interval = self.target.interval;
        // Spread over the interval, each instance always at the same place of it.
        let place = model::Digest::of(self.target.instance.as_bytes())
            .hex()
            .bytes()
            .fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let first = Instant::now() + Duration::from_millis(place % (interval.as_millis() as u64).max(1));
        let mut beat = tokio::time::interval_at(first, interval);
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            beat.tick().await;
            self.once().await;
        }
    }

    async fn once(&mut self) {
        let shared = Arc::clone(&self.shared);
        let Ok(turn) = shared.turns.acquire().await else { return };
        let limit = self.target.interval.min(Duration::from_millis(TIMEOUT_MS_MAX));
        let (time_unix_ms, began) = (now_unix_ms(), Instant::now());
        let others = shared.series.load(Ordering::Relaxed).saturating_sub(self.counted);
        self.table.set_room(SERIES_HOST_MAX.saturating_sub(others));
        let read = ask::ask(self.target.address, &self.target.path, limit, &mut self.table).await;
        drop(turn);
        let duration_us = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
        let stream = shared.stream.load(Ordering::Relaxed);
        if stream != self.told_to {
            self.table.forget_told();
            self.told_to = stream;
        }
        let mut told = Scraped {
            instance: self.target.instance.clone(),
            service: self.target.service.clone(),
            time_unix_ms,
            duration_us,
            ..Scraped::default()
        };
        match read {
            Ok(()) => self.table.tell(&mut told),
            Err(error) => (told.gone, told.error) = (self.table.drop_all(), error),
        }
        self.count();
        self.log(&told);
        if shared.out.try_send((stream, agent_up::Message::Scraped(told).into())).is_err() {
            // The stream does not know what it was not told.
            self.told_to = 0;
        }
    }

    fn count(&mut self) {
        let now = self.table.len();
        self.shared.series.fetch_add(now, Ordering::Relaxed);
        self.shared.series.fetch_sub(self.counted, Ordering::Relaxed);
        self.counted = now;
    }

    fn log(&mut self, told: &Scraped) {
        let (instance, cut) = (&self.target.instance, told.cut);
        let news = match (told.error.as_str(), told.cut_reason.as_str()) {
            ("", "") => String::new(),
            ("", reason) => format!("samples of {instance} are left out: {reason}"),
            (error, _) => format!("no numbers of {instance}: {error}"),
        };
        if news != self.logged && !news.is_empty() {
            tracing::warn!(cut, "{news}");
        }
        self.logged = news;
    }
}
