//! The operators' policies for this instance: a file that the host's agent writes, looked at often and compiled when it
//! changed. Lives count down by this process's own monotonic clock: a policy ends on time with nobody in reach.

use crate::Place;
use crate::clock::{Clock, clocks};
use model::{PoliciesFile, PolicyAction, Throttle};
use policy::{PolicySet, compile};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};
use std::time::SystemTime;

/// Time between looks at the file, in microseconds: with the push to the agent, well within a second of the click.
const LOOK_US: u64 = 200_000;

/// What is in force here.
pub(crate) struct Policies {
    clock: Clock,
    place: policy::Place,
    path: Option<std::path::PathBuf>,
    looked_us: AtomicU64,
    set: RwLock<Arc<PolicySet>>,
    /// When the compiled file was changed, and its inode: two that replace each other within one tick of the file system's
    /// clock have the same time.
    seen: Mutex<Option<(SystemTime, u64)>>,
}

impl Policies {
    pub(crate) fn new(place: &Place, clock: Clock) -> Self {
        let of = policy::Place { datacenter: place.datacenter.clone(), ..policy::Place::default() };
        let policies = Self {
            clock,
            place: of,
            path: place.policies.clone(),
            looked_us: AtomicU64::new(0),
            set: RwLock::default(),
            seen: Mutex::new(None),
        };
        policies.look();
        policies
    }

    /// The policies in force. Looks at the file when the last look is old: no thread and no timer of its own.
    pub(crate) fn in_force(&self, now_us: u64) -> Arc<PolicySet> {
        let looked_us = self.looked_us.load(Relaxed);
        let due = now_us.saturating_sub(looked_us) >= LOOK_US;
        if due && self.looked_us.compare_exchange(looked_us, now_us, Relaxed, Relaxed).is_ok() {
            self.look();
        }
        Arc::clone(&self.set.read().expect("no holder of this lock panics"))
    }

    fn look(&self) {
        let Some(path) = &self.path else { return };
        let changed = std::fs::metadata(path).and_then(|found| Ok((found.modified()?, found.ino()))).ok();
        let mut seen = self.seen.lock().expect("no holder of this lock panics");
        // A file that is gone is no news: what is in force lapses by itself.
        if changed.is_none() || *seen == changed {
            return;
        }
        // Not seen unless it was read: with no file descriptor left, under the crowd, the next look tries again.
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(why) => return tracing::warn!(%why, "the policies cannot be read"),
        };
        *seen = changed;
        if let Some(set) = self.compiled(&bytes) {
            let mut now = self.set.write().expect("no holder of this lock panics");
            *now = Arc::new(set.inheriting(&now));
        }
    }

    /// A file that cannot be used changes nothing.
    fn compiled(&self, bytes: &[u8]) -> Option<PolicySet> {
        let file =
            PoliciesFile::read(bytes).inspect_err(|why| tracing::warn!(%why, "the policies are not used")).ok()?;
        let (set, refused) = compile(&file, &self.place, &clocks(), self.clock.now_us());
        for (name, why) in refused {
            tracing::warn!(name, why, "a policy is left out");
        }
        let mut cached = false;
        Some(set.only(|action| is_ours(action, &mut cached)))
    }
}

/// What a service enforces itself. Rates, slow lanes and kept answers are the proxies': they are shared, or need what
/// outlives the instance. A degrade after one with kept answers is theirs too: which of them governs is told there.
fn is_ours(action: &PolicyAction, cached: &mut bool) -> bool {
    match action {
        PolicyAction::Throttle(Throttle::RequestsPerSecond(_)) | PolicyAction::Slow(_) => false,
        PolicyAction::Throttle(_) | PolicyAction::Suppress(_) => true,
        PolicyAction::Degrade(degrade) => {
            *cached |= degrade.cached_seconds_max.is_some();
            !*cached
        }
    }
}
