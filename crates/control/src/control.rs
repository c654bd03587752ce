//! The engine's outside: one event in, actions out. It remembers only what it may forget in a crash.

use crate::contract::{Action, Event, Observed};
use model::{Snapshot, UnixMs};

/// Decides for all operations and services. One per leading server.
#[derive(Debug, Default)]
pub struct Control {}

impl Control {
    /// Begins with nothing remembered: every service and open operation is looked at afresh.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one event. `snapshot` has everything committed so far folded in; `now` never goes backwards.
    pub fn step(&mut self, snapshot: &Snapshot, observed: &Observed, event: Event, now: UnixMs) -> Vec<Action> {
        let _ = (snapshot, observed, event, now);
        Vec::new()
    }
}
