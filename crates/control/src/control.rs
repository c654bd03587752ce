//! The engine's outside: one event in, actions out. It remembers only what it may forget in a crash.

use crate::contract::{Action, Event, Observed};
use crate::housekeep::Housekeeping;
use crate::recall::{HookAsked, Recall, View};
use crate::reconcile::Reconciler;
use crate::{rollback, stress, walk};
use model::{HostName, Operation, OperationId, OperationPhase, OperationSpec, Snapshot, UnixMs, Versioned, keys};
use std::collections::{BTreeMap, BTreeSet};

/// Decides for all operations and services. One per leading server.
#[derive(Debug, Default)]
pub struct Control {
    recalls: BTreeMap<OperationId, Recall>,
    reconciler: Reconciler,
    housekeeping: Housekeeping,
}

/// Which operations an event may move.
enum Scope {
    All,
    Hosts(BTreeSet<HostName>),
    Named(BTreeSet<OperationId>),
}

impl Control {
    /// Begins with nothing remembered: every service and open operation is looked at afresh.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one event. `snapshot` has everything committed so far folded in; `now` never goes backwards.
    pub fn step(&mut self, snapshot: &Snapshot, observed: &Observed, event: Event, now: UnixMs) -> Vec<Action> {
        let view = View { snapshot, observed, now };
        let scope = self.take_in(view, event);
        let mut actions = Vec::new();
        for at in snapshot.operations.values() {
            if !at.value.phase.is_final() && concerns(&scope, &at.value) {
                actions.extend(self.advance(view, at));
            }
        }
        actions.extend(self.reconciler.step(view));
        actions.extend(self.housekeeping.step(view));
        actions
    }

    /// Notes what the event says; the operations that it may move.
    fn take_in(&mut self, view: View<'_>, event: Event) -> Scope {
        match event {
            Event::Tick => {
                let open =
                    |id: &OperationId| view.snapshot.operations.get(id).is_some_and(|at| !at.value.phase.is_final());
                self.recalls.retain(|id, _| open(id));
                Scope::All
            }
            Event::Committed { keys } => {
                self.reconciler.committed(view, &keys);
                let named = keys.iter().filter_map(|key| key.strip_prefix(keys::OPERATIONS));
                Scope::Named(named.filter_map(|id| OperationId::new(id).ok()).collect())
            }
            Event::Reported { hosts } => {
                self.reconciler.reported(view, &hosts);
                Scope::Hosts(hosts)
            }
            Event::HookDone { key, result } => {
                let id = key.split('/').next().and_then(|id| OperationId::new(id).ok());
                self.hook_done(id.as_ref(), key, result, view.now);
                Scope::Named(id.into_iter().collect())
            }
            Event::ReportWritten { operation, record } | Event::CurveWritten { operation, record } => {
                self.recalls.entry(operation.clone()).or_default().record = Some(record);
                Scope::Named(BTreeSet::from([operation]))
            }
            Event::Stress { operation, sample } => {
                if let Some(at) = view.snapshot.operations.get(&operation) {
                    let recall = self.recalls.entry(operation.clone()).or_default();
                    stress::take_sample(view, &at.value, recall, &sample);
                }
                Scope::Named(BTreeSet::from([operation]))
            }
            Event::CommitFailed { operation, why: _ } => {
                match operation {
                    Some(id) => self.recalls.entry(id).or_default().failed(view.now),
                    None => self.reconciler.failed(view.now),
                }
                Scope::Named(BTreeSet::new())
            }
        }
    }

    fn hook_done(&mut self, id: Option<&OperationId>, key: String, result: Result<(), String>, now: UnixMs) {
        let Some(recall) = id.and_then(|id| self.recalls.get_mut(id)) else { return };
        let asked = recall.hooks.entry(key).or_insert(HookAsked { at: now, asks: 1, ended: None });
        asked.ended = Some(result);
    }

    /// Takes one operation as far as it goes now.
    fn advance(&mut self, view: View<'_>, at: &Versioned<Operation>) -> Vec<Action> {
        let recall = self.recalls.entry(at.value.id.clone()).or_default();
        if !recall.may_decide(at.revision, view.now) {
            return Vec::new();
        }
        recall.enter(&at.value, view.now);
        let actions = match (at.value.phase, &at.value.spec) {
            (_, OperationSpec::Stress { .. }) => stress::advance(view, at, recall),
            (OperationPhase::Pending | OperationPhase::Running, _) => walk::advance(view, at, recall),
            (OperationPhase::RollingBack, _) => rollback::advance(view, at, recall),
            _ => {
                recall.stage = None;
                Vec::new()
            }
        };
        if actions.iter().any(|action| matches!(action, Action::Commit(_))) {
            recall.asked(at.revision, view.now);
        }
        actions
    }
}

fn concerns(scope: &Scope, op: &Operation) -> bool {
    match scope {
        Scope::All => true,
        Scope::Named(ids) => ids.contains(&op.id),
        Scope::Hosts(hosts) => op.adds.iter().chain(&op.removes).any(|planned| hosts.contains(&planned.host)),
    }
}
