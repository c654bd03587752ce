//! Removes what has had its time: expired silences, and finished operations beyond those kept (records keep them).

use crate::contract::{Action, Commit, Write};
use crate::limits::{FINISHED_KEPT_MAX, HOUSEKEEPING_KEYS_MAX, HOUSEKEEPING_MS};
use crate::open::newest_first;
use crate::recall::View;
use crate::reconcile::WHO;
use model::{Revision, UnixMs, keys};

/// When it was last done.
#[derive(Debug, Default)]
pub(crate) struct Housekeeping {
    last: UnixMs,
}

impl Housekeeping {
    /// Deletes what is due, at most once in a while and a few keys at a time.
    pub fn step(&mut self, view: View<'_>) -> Option<Action> {
        if view.now < self.last + HOUSEKEEPING_MS {
            return None;
        }
        self.last = view.now;
        let mut due: Vec<(String, Revision)> = expired(view);
        due.extend(surplus(view));
        due.truncate(HOUSEKEEPING_KEYS_MAX);
        if due.is_empty() {
            return None;
        }
        let writes = due.iter().map(|(key, _)| Write { key: key.clone(), value: None }).collect();
        Some(Action::Commit(Commit { operation: None, guards: due, writes, who: WHO.to_owned() }))
    }
}

fn expired(view: View<'_>) -> Vec<(String, Revision)> {
    let all = view.snapshot.silences.iter();
    all.filter(|(_, at)| at.value.until <= view.now).map(|(id, at)| (keys::silence(id), at.revision)).collect()
}

fn surplus(view: View<'_>) -> Vec<(String, Revision)> {
    if view.snapshot.operations.len() <= FINISHED_KEPT_MAX {
        return Vec::new();
    }
    let finished = newest_first(view.snapshot).into_iter().filter(|op| op.phase.is_final());
    let old = finished.skip(FINISHED_KEPT_MAX);
    old.map(|op| (keys::operation(&op.id), view.snapshot.operations[&op.id].revision)).collect()
}
