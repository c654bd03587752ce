//! An admitted request's way to a worker. However it ends, the gate is told once.

use crate::{Sdk, Shared};
use admission::Deadline;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::sync::OwnedSemaphorePermit;

/// An admitted request that waits for a worker. With [`crate::Start::Service`] the service takes it from the request's
/// extensions. A ticket that never starts gives its place back when its last copy is dropped.
#[derive(Clone)]
pub struct Ticket(Arc<Waiting>);

struct Waiting {
    sdk: Sdk,
    admitted_us: u64,
    deadline: Deadline,
    begun: AtomicBool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.begun.load(Relaxed) {
            let shared = &self.sdk.0;
            shared.gate.abandoned(shared.clock.now_us());
        }
    }
}

/// Work in progress: holds its worker until dropped.
pub struct Working {
    sdk: Sdk,
    began_us: u64,
    /// The first work of a request is what the gate hears of; later work of the same one only holds a worker.
    counted: bool,
    _worker: OwnedSemaphorePermit,
}

impl Drop for Working {
    fn drop(&mut self) {
        if self.counted {
            let shared = &self.sdk.0;
            let now_us = shared.clock.now_us();
            shared.gate.finished(now_us.saturating_sub(self.began_us), now_us);
        }
    }
}

/// The deadline passed while the request waited: its work is not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed while the request waited for a worker")]
pub struct Expired;

impl Ticket {
    pub(crate) fn new(sdk: &Sdk, admitted_us: u64, deadline: Deadline) -> Self {
        Self(Arc::new(Waiting { sdk: sdk.clone(), admitted_us, deadline, begun: AtomicBool::new(false) }))
    }

    /// Of a request that the gate was not asked about, and hears nothing of.
    pub(crate) fn ungated(sdk: &Sdk, admitted_us: u64, deadline: Deadline) -> Self {
        Self(Arc::new(Waiting { sdk: sdk.clone(), admitted_us, deadline, begun: AtomicBool::new(true) }))
    }

    /// Waits for a worker, in order of arrival.
    ///
    /// # Errors
    /// The deadline has passed meanwhile: nobody waits for the answer any more.
    pub async fn start(&self) -> Result<Working, Expired> {
        let shared: &Shared = &self.0.sdk.0;
        let worker = Arc::clone(&shared.workers).acquire_owned().await.expect("the semaphore is never closed");
        // Requests that came while a worker burnt CPU on this thread are admitted first, and queue for it in their order:
        // else they would wait in the runtime, where the gate sees no queue.
        tokio::task::yield_now().await;
        let now_us = shared.clock.now_us();
        if self.0.deadline.expired(now_us) {
            shared.counts.expired();
            return Err(Expired);
        }
        let counted = !self.0.begun.swap(true, Relaxed);
        if counted {
            shared.gate.started(now_us.saturating_sub(self.0.admitted_us), now_us);
        }
        Ok(Working { sdk: self.0.sdk.clone(), began_us: now_us, counted, _worker: worker })
    }
}
