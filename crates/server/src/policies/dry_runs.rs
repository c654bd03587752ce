//! Dry runs on their way: the proxies' findings find the request that waits for them.

use api::fleet::DryRunFindings;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::mpsc;

/// Dry runs open at once.
const OPEN_MAX: usize = 16;
/// Proxies asked by one dry run; of more, that many are a sample.
pub const PROXIES_MAX: usize = 256;

/// What a proxy found, by its name.
pub type Found = (String, DryRunFindings);

#[derive(Debug, Default)]
struct State {
    last: u64,
    open: HashMap<u64, mpsc::Sender<Found>>,
}

/// The open dry runs. Cheap to clone: clones share.
#[derive(Debug, Clone, Default)]
pub struct DryRuns(Arc<Mutex<State>>);

/// One open dry run; closed when dropped.
#[derive(Debug)]
pub struct Open {
    /// Its id.
    pub id: u64,
    /// What proxies find.
    pub found: mpsc::Receiver<Found>,
    all: DryRuns,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.all.state().open.remove(&self.id);
    }
}

impl DryRuns {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Opens one; `None` when too many are open.
    pub fn open(&self) -> Option<Open> {
        let mut state = self.state();
        if state.open.len() >= OPEN_MAX {
            return None;
        }
        let (to, found) = mpsc::channel(PROXIES_MAX);
        state.last += 1;
        let id = state.last;
        state.open.insert(id, to);
        Some(Open { id, found, all: self.clone() })
    }

    /// Takes what a proxy found; findings of closed runs are dropped.
    pub fn take(&self, proxy: &str, findings: DryRunFindings) {
        let to = self.state().open.get(&findings.id).cloned();
        if let Some(to) = to {
            // One that finds no room answered more often than it was asked.
            let _ = to.try_send((proxy.to_owned(), findings));
        }
    }
}
