//! The reference driver: everything in memory, gone with the process. For tests and the simulator.
//!
//! Leases live by tokio's clock, so that a test which pauses that clock decides when they end.

use crate::hub::Hub;
use crate::kv::*;
use crate::state::{Draft, State, check};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Instant;

/// A [`Store`] in memory. Clones share the same content.
#[derive(Clone)]
pub struct MemoryStore {
    hub: Arc<RwLock<Hub>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A panicking holder leaves the hub as it was: every change is applied by code that does not fail half-way.
fn write(hub: &RwLock<Hub>) -> RwLockWriteGuard<'_, Hub> {
    hub.write().unwrap_or_else(PoisonError::into_inner)
}

/// Ends what is due, then does `change`, then shows both.
fn change<T>(hub: &RwLock<Hub>, change: impl FnOnce(&mut Draft<'_>, Instant) -> T) -> T {
    let now = now();
    let mut hub = write(hub);
    let mut draft = Draft::new(&hub.state);
    draft.expire(now);
    let answer = change(&mut draft, now);
    let effect = draft.finish();
    hub.publish(effect, now);
    answer
}

/// Ends a lease on time though nobody asks; one task a lease, gone with the lease or the store.
async fn keep_time(hub: Weak<RwLock<Hub>>, id: LeaseId) {
    loop {
        let Some(ends) = hub.upgrade().and_then(|hub| write(&hub).state.lease_end(id)) else { return };
        tokio::time::sleep_until(ends.into()).await;
        if let Some(hub) = hub.upgrade() {
            change(&hub, |_, _| ());
        }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self { hub: Arc::new(RwLock::new(Hub::new(State::default()))) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Hub> {
        self.hub.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn range(&self, prefix: &str) -> BoxFuture<'_, Result<Range, Error>> {
        let range = self.read().state.range(prefix);
        Box::pin(async move { Ok(range) })
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnOutcome, Error>> {
        Box::pin(async move {
            check(&txn)?;
            change(&self.hub, |draft, now| draft.txn(txn, now))
        })
    }

    fn watch(&self, prefix: &str, after: Revision) -> BoxFuture<'_, Result<Watch, Error>> {
        let watch = write(&self.hub).watch(prefix, after);
        Box::pin(async move { Ok(watch) })
    }

    fn lease_grant(&self, ttl_ms: u64) -> BoxFuture<'_, Result<Lease, Error>> {
        Box::pin(async move {
            let lease = change(&self.hub, |draft, _| draft.grant(ttl_ms));
            tokio::spawn(keep_time(Arc::downgrade(&self.hub), lease.id));
            Ok(lease)
        })
    }

    fn lease_renew(&self, id: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { write(&self.hub).state.renew(id, now()) })
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { change(&self.hub, |draft, now| draft.revoke(id, now)) })
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), Error>> {
        write(&self.hub).compact(revision);
        Box::pin(async { Ok(()) })
    }
}
