//! The thread of detection: it runs a watcher, and after one that crashed another, which goes on from the records.
//!
//! Each crash in a row doubles the pause before the next. What arrives meanwhile is dropped and counted: samples count by
//! their arrival, so later they would be of the wrong second. Absent: the watching itself (`watcher`).

use super::Shown;
use super::watcher::Message;
use crate::clock::now_ms;
use model::UnixMs;
use model::time::rfc3339;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Inbox, RecvTimeoutError};
use std::time::{Duration, Instant};
use store::records::RecordError;
use tokio::sync::watch;

/// Pause before another watcher after the first crash; doubled with each in a row.
const PAUSE_MS_FIRST: u64 = 100;
/// Longest pause.
const PAUSE_MS_MAX: u64 = 30_000;
/// A watcher that ran this long was well: a crash after it is the first again.
const WELL_MS: u64 = 60_000;
/// Longest wait before the thread looks whether it is to stop.
const LOOK_MS: u64 = 20;
/// Time in which a watcher that was started anew learns what is usual.
const LEARNS_MS: u64 = 60_000;
/// Letters kept of what a panic says.
const SAID_CHARS_MAX: usize = 300;

/// A watcher, ready to run until it is stopped or nobody can tell it anything any more.
pub type Watching = Box<dyn FnOnce(&Inbox<Message>) + Send>;
/// Makes one.
pub type Make = Box<dyn FnMut(Start) -> Result<Watching, RecordError> + Send>;

/// What a watcher begins with.
#[derive(Debug, Clone)]
pub struct Start {
    /// Crashes before it.
    pub crashes: Crashes,
    /// Whether what an earlier one saved as learnt is to be believed: not, when it may be why the last one crashed.
    pub is_learnt_kept: bool,
}

/// Crashes of detection since the server's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crashes {
    /// How many.
    pub count: u64,
    /// The last.
    pub last: Option<Arc<Crash>>,
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Crash {
    at: UnixMs,
    /// When another watcher is, or was, started.
    again_at: UnixMs,
    /// What the panic said.
    what: String,
}

/// What the thread shares with those who feed and ask it.
#[derive(Clone)]
pub struct Shared {
    /// Where it shows what it knows.
    pub show: watch::Sender<Arc<Shown>>,
    /// Messages that it did not get.
    pub dropped: Arc<AtomicU64>,
    /// True when it is to end.
    pub stop: Arc<AtomicBool>,
}

impl Shown {
    /// Why incidents may be missed, for people; nothing when detection does as it should.
    pub fn trouble(&self, now: UnixMs) -> Option<String> {
        let crash = self.crashes.last.as_ref()?;
        let (at, again_at, what) = (rfc3339(crash.at), rfc3339(crash.again_at), &crash.what);
        if !self.is_running {
            return Some(format!(
                "detection does not run: it crashed at {at} ({what}), and is started anew at {again_at}"
            ));
        }
        let learns = now < crash.again_at + LEARNS_MS;
        learns.then(|| {
            format!("detection crashed at {at} ({what}), and runs again since {again_at}: it may miss what happens in its first minute")
        })
    }
}

/// Runs watchers until they are stopped: the one that is ready, then such as are made.
pub fn run(first: Watching, mut make: Make, shared: &Shared, inbox: &Inbox<Message>) {
    let (mut ready, mut crashes, mut in_a_row) = (Some(first), Crashes::default(), 0);
    loop {
        let begun = Instant::now();
        let start = Start { crashes: crashes.clone(), is_learnt_kept: in_a_row <= 1 };
        // A watcher that panicked is gone with all its state; what it shares are atomics and a channel.
        let ended = catch_unwind(AssertUnwindSafe(|| -> Result<(), RecordError> {
            let watching = ready.take().map_or_else(|| make(start), Ok)?;
            watching(inbox);
            Ok(())
        }));
        let what = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => said(&*panic),
        };
        in_a_row = if begun.elapsed() >= Duration::from_millis(WELL_MS) { 1 } else { in_a_row + 1 };
        let pause_ms = pause_ms(in_a_row);
        tracing::error!(what, pause_ms, "detection crashed; it is started anew");
        let at = now_ms();
        let last = Some(Arc::new(Crash { at, again_at: at + pause_ms, what }));
        crashes = Crashes { count: crashes.count + 1, last };
        show(shared, &crashes);
        if !pause(pause_ms, shared, inbox) {
            return;
        }
    }
}

fn pause_ms(in_a_row: u32) -> u64 {
    let doubled = 1_u64.checked_shl(in_a_row.saturating_sub(1)).unwrap_or(u64::MAX);
    PAUSE_MS_FIRST.saturating_mul(doubled).min(PAUSE_MS_MAX)
}

/// Shows that nobody watches; what was known stays in sight.
fn show(shared: &Shared, crashes: &Crashes) {
    shared.show.send_modify(|shown| {
        let shown = Arc::make_mut(shown);
        shown.is_running = false;
        shown.crashes = crashes.clone();
        shown.health.crashes = crashes.count;
    });
}

/// Lets what arrives go by; false when the thread is to end.
fn pause(pause_ms: u64, shared: &Shared, inbox: &Inbox<Message>) -> bool {
    let until = Instant::now() + Duration::from_millis(pause_ms);
    while !shared.stop.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        match inbox.recv_timeout(left.min(Duration::from_millis(LOOK_MS))) {
            Ok(_) => drop(shared.dropped.fetch_add(1, Ordering::Relaxed)),
            Err(RecvTimeoutError::Timeout) if left.is_zero() => return true,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
    false
}

/// What a panic says, cut.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it did not say why");
    text.chars().take(SAID_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
