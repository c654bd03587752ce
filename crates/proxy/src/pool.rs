//! Keep-alive connections to one endpoint, owned by one worker.
//!
//! HTTP/1.1: one request at a time on each connection (HTTP/2 is in `multiplex`). No sharing between workers, hence no lock.
//! Nobody waits on a connection that idles: whether its endpoint closed it is looked at when it is taken, and by the sweep.

use crate::carried::Carried;
use crate::http1::Connection;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Idle connections kept for one endpoint by one worker.
pub const IDLE_MAX: usize = 512;
/// Age at which an idle connection is closed, below the usual keep-alive of servers (60 to 75 s).
pub const IDLE_MS_MAX: u64 = 30_000;
/// Pooled connections looked at before a new one is opened.
const LOOKS_MAX: usize = 8;

/// One of the open connections to an endpoint, counted until its socket is closed.
pub struct Opened {
    count: Rc<Cell<usize>>,
    carried: Option<Arc<Carried>>,
}

impl Opened {
    /// Counts one more, if that keeps within `max`; its bytes count as `carried`.
    pub fn within(count: &Rc<Cell<usize>>, max: usize, carried: Option<&Arc<Carried>>) -> Option<Self> {
        if count.get() >= max {
            return None;
        }
        count.set(count.get() + 1);
        Some(Self { count: Rc::clone(count), carried: carried.cloned() })
    }
}

impl Opened {
    /// Bytes were written to its socket.
    pub fn sent(&self, bytes: usize) {
        if let Some(carried) = &self.carried {
            carried.sent(bytes);
        }
    }

    /// Bytes were read from its socket.
    pub fn received(&self, bytes: usize) {
        if let Some(carried) = &self.carried {
            carried.received(bytes);
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
    }
}

/// The idle connections.
#[derive(Default)]
pub struct Pool {
    idle: RefCell<Vec<(Box<Connection>, Instant)>>,
}

impl Pool {
    /// Takes the most recently used connection that is well.
    pub fn take(&self) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        let mut index = idle.len();
        for _ in 0..LOOKS_MAX {
            index = index.checked_sub(1)?;
            // Not `swap_remove`: the order is that of their last use.
            let (connection, _) = idle.remove(index);
            if connection.is_well() {
                return Some(connection);
            }
        }
        None
    }

    /// Gives one back after its answer was read to the end.
    pub fn give(&self, connection: Box<Connection>, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE_MAX {
            idle.push((connection, now));
        }
    }

    /// Closes the one that idles longest, to make room for another; false when none idles.
    pub fn evict(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() {
            return false;
        }
        idle.remove(0);
        true
    }

    /// Closes those that are too old or already closed.
    pub fn sweep(&self, now: Instant) {
        let age_max = Duration::from_millis(IDLE_MS_MAX);
        self.idle
            .borrow_mut()
            .retain(|(connection, since)| now.saturating_duration_since(*since) < age_max && connection.is_well());
    }
}
