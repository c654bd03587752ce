//! The state as readers see it, the recent history, and those who watch it.
//!
//! Everything here is in memory and bounded. A watcher that falls behind is told so and let go: it costs a queue,
//! never the writer's time.

use crate::kv::*;
use crate::state::{Effect, State};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// Commits kept for watchers that resume.
pub const HISTORY_COMMITS_MAX: usize = 8_192;
/// Bytes of keys and values kept for watchers that resume.
pub const HISTORY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Commits that may wait for one watcher, beyond those it resumed with.
pub const WATCH_QUEUE_COMMITS_MAX: usize = 1_024;

struct Watcher {
    prefix: String,
    after: Revision,
    queue: mpsc::Sender<WatchEvent>,
}

/// State, history and watchers, kept under one lock so that a watch misses nothing and sees nothing twice.
pub(crate) struct Hub {
    pub(crate) state: State,
    history: VecDeque<Arc<Commit>>,
    history_bytes: usize,
    /// All commits after this revision are in the history.
    floor: Revision,
    watchers: Vec<Watcher>,
}

fn bytes_of(commit: &Commit) -> usize {
    commit.changes.iter().map(|change| change.key.len() + change.value.as_ref().map_or(0, |v| v.len())).sum()
}

fn under(commit: &Commit, prefix: &str) -> Option<Commit> {
    let changes: Vec<_> = commit.changes.iter().filter(|change| change.key.starts_with(prefix)).cloned().collect();
    (!changes.is_empty()).then_some(Commit { revision: commit.revision, changes })
}

impl Watcher {
    /// Offers a commit; false when the watcher is gone, or was told to start again.
    fn offer(&self, commit: &Commit, floor: Revision) -> bool {
        if self.queue.is_closed() {
            return false;
        }
        if commit.revision <= self.after {
            return true;
        }
        let Some(commit) = under(commit, &self.prefix) else { return true };
        // The last place in the queue is kept for this message.
        if self.queue.capacity() <= 1 {
            let told = self.queue.try_send(WatchEvent::Compacted { oldest: floor });
            debug_assert!(!matches!(told, Err(mpsc::error::TrySendError::Full(_))), "one place is always kept");
            return false;
        }
        self.queue.try_send(WatchEvent::Commit(commit)).is_ok()
    }
}

impl Hub {
    pub(crate) fn new(state: State) -> Self {
        let floor = state.revision;
        Self { state, history: VecDeque::new(), history_bytes: 0, floor, watchers: Vec::new() }
    }

    /// Shows an effect to readers and watchers.
    pub(crate) fn publish(&mut self, effect: Effect, now: Instant) {
        for commit in self.state.apply(effect, now) {
            self.history_bytes += bytes_of(&commit);
            let commit = Arc::new(commit);
            self.history.push_back(commit.clone());
            while self.history.len() > HISTORY_COMMITS_MAX || self.history_bytes > HISTORY_BYTES_MAX {
                self.forget_oldest();
            }
            let floor = self.floor;
            self.watchers.retain(|watcher| watcher.offer(&commit, floor));
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.history.pop_front() {
            self.history_bytes -= bytes_of(&oldest);
            self.floor = oldest.revision;
        }
    }

    /// Forgets the history up to and including `revision`.
    pub(crate) fn compact(&mut self, revision: Revision) {
        while self.history.front().is_some_and(|oldest| oldest.revision <= revision) {
            self.forget_oldest();
        }
        self.floor = self.floor.max(revision.min(self.state.revision));
    }

    /// A watch of everything after `after`, beginning with what the history holds.
    pub(crate) fn watch(&mut self, prefix: &str, after: Revision) -> Watch {
        if after < self.floor {
            let (queue, events) = mpsc::channel(1);
            queue.try_send(WatchEvent::Compacted { oldest: self.floor }).expect("a new queue has one place");
            return Watch(events);
        }
        let missed = self.history.iter().filter(|commit| commit.revision > after);
        let missed: Vec<_> = missed.filter_map(|commit| under(commit, prefix)).collect();
        let (queue, events) = mpsc::channel(missed.len() + WATCH_QUEUE_COMMITS_MAX + 1);
        for commit in missed {
            queue.try_send(WatchEvent::Commit(commit)).expect("the queue has a place for each missed commit");
        }
        self.watchers.push(Watcher { prefix: prefix.to_owned(), after, queue });
        Watch(events)
    }

    /// Ends all watches.
    pub(crate) fn close(&mut self) {
        self.watchers.clear();
    }
}
