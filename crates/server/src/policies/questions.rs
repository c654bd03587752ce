//! Questions to the proxies on their way: answers find the request that waits for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::mpsc;

/// Questions of one kind open at once.
const OPEN_MAX: usize = 16;
/// Proxies asked by one question; of more, that many are a sample.
pub const PROXIES_MAX: usize = 256;

#[derive(Debug)]
struct State<T> {
    last: u64,
    open: HashMap<u64, mpsc::Sender<(String, T)>>,
}

/// The open questions of one kind, and the answers of proxies, by name. Cheap to clone: clones share.
#[derive(Debug)]
pub struct Questions<T>(Arc<Mutex<State<T>>>);

impl<T> Clone for Questions<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Questions<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { last: 0, open: HashMap::new() })))
    }
}

/// One open question; closed when dropped.
#[derive(Debug)]
pub struct Open<T> {
    /// Its id.
    pub id: u64,
    /// What proxies answer.
    pub found: mpsc::Receiver<(String, T)>,
    all: Questions<T>,
}

impl<T> Drop for Open<T> {
    fn drop(&mut self) {
        self.all.state().open.remove(&self.id);
    }
}

impl<T> Questions<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Opens one; `None` when too many are open.
    pub fn open(&self) -> Option<Open<T>> {
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

    /// Takes a proxy's answer; those to closed questions are dropped.
    pub fn take(&self, proxy: &str, id: u64, answer: T) {
        let to = self.state().open.get(&id).cloned();
        if let Some(to) = to {
            // One that finds no room answered more often than it was asked.
            let _ = to.try_send((proxy.to_owned(), answer));
        }
    }
}
