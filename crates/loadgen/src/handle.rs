//! Live control of a run from elsewhere: stop it, steer its rate.

use crate::plan::RPS_MAX;
use std::sync::Arc;
use std::sync::Mutex;
use tokio::sync::Notify;

/// Controls one run. Cheap to clone; may be used from any thread, before the run starts too.
#[derive(Debug, Clone, Default)]
pub struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    orders: Mutex<Orders>,
    changed: Notify,
}

/// What was ordered last.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Orders {
    pub(crate) stop: bool,
    pub(crate) rps: Option<f64>,
}

impl Handle {
    /// A handle that has ordered nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends no more; the run ends when what is on its way has been answered or has timed out.
    pub fn stop(&self) {
        self.order(|orders| orders.stop = true);
    }

    /// Overrides the profile's rate from now on; `None` returns to the profile. The profile's end still ends the run.
    /// Rates outside 0 to [`RPS_MAX`] are brought to the nearest bound, not-a-number to 0.
    pub fn set_rate(&self, rps: Option<f64>) {
        let rps = rps.map(|rps| if rps.is_nan() { 0.0 } else { rps.clamp(0.0, RPS_MAX) });
        self.order(|orders| orders.rps = rps);
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.shared.orders.lock().expect("no holder of this lock panics"));
        self.shared.changed.notify_one();
    }

    pub(crate) fn orders(&self) -> Orders {
        *self.shared.orders.lock().expect("no holder of this lock panics")
    }

    pub(crate) async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}
