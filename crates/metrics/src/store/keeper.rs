//! The threads that look after a store: one writes the log each second, one does the rest, so that a long sealing does not
//! hold the log up.

use super::{LOG_SYNC_MS, Store};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time between rounds of upkeep.
const UPKEEP_MS: u64 = 5_000;

/// Looks after a store until it is dropped; then writes the log a last time.
#[derive(Debug)]
pub struct Keeper {
    store: Arc<Store>,
    threads: Vec<(Sender<()>, JoinHandle<()>)>,
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn each(
    name: &str,
    period_ms: u64,
    mut work: impl FnMut() + Send + 'static,
) -> std::io::Result<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = channel::<()>();
    let run = move || {
        while stopped.recv_timeout(Duration::from_millis(period_ms)) == Err(RecvTimeoutError::Timeout) {
            work();
        }
    };
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok((stop, thread))
}

impl Keeper {
    /// Begins to look after a store.
    pub fn start(store: Arc<Store>) -> std::io::Result<Self> {
        let (log, rest) = (store.clone(), store.clone());
        let threads = vec![
            each("series-log", LOG_SYNC_MS, move || log.flush())?,
            each("series-upkeep", UPKEEP_MS, move || rest.upkeep(now_ms()))?,
        ];
        Ok(Self { store, threads })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        for (stop, thread) in self.threads.drain(..) {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("a thread that looked after the series had panicked");
            }
        }
        self.store.flush();
    }
}
