//! Commits: guards become compares, one transaction or staged, then the audit.
//!
//! The audit's entries travel in the transaction itself (under one key, overwritten by the next), so that a crash
//! between the commit and the record loses none: the next start appends what is missing, once, by revision.

use super::Decide;
use super::engine::Engine;
use crate::audit;
use crate::clock::now_ms;
use crate::config::Error;
use crate::http::problem;
use crate::http::problem::Failure;
use crate::policies::history;
use control::{Commit, Event};
use model::{Revision, keys};
use store::records::Kind;
use store::{Compare, Op, TxnOutcome};

/// Times an API decision is made again when it was overtaken.
const DECIDE_ATTEMPTS_MAX: usize = 5;
/// Steps of `control` in one turn; what is left waits for the next, so that inputs are never starved.
const STEPS_TURN_MAX: usize = 256;

/// Why a commit did not happen.
pub(super) enum NotCommitted {
    /// A guard did not hold.
    Conflict(String),
    /// The store refused it.
    Refused(String),
}

impl Engine {
    /// Lets `control` decide on everything that happened.
    pub(super) async fn decide_all(&mut self) -> Result<(), Error> {
        if !self.reported.is_empty() {
            let hosts = std::mem::take(&mut self.reported);
            self.events.push_back(Event::Reported { hosts });
        }
        for _ in 0..STEPS_TURN_MAX {
            if self.staged {
                break;
            }
            let Some(event) = self.events.pop_front() else { break };
            let actions = self.control.step(&self.world.snapshot, &self.world.observed, event, now_ms());
            for action in actions {
                self.execute(action).await?;
            }
        }
        Ok(())
    }

    /// Commits for `control`, which hears when it did not happen.
    pub(super) async fn commit_for_control(&mut self, commit: Commit) -> Result<(), Error> {
        let operation = commit.operation.clone();
        if let Err(NotCommitted::Conflict(why) | NotCommitted::Refused(why)) = self.commit(commit).await? {
            tracing::info!(operation = operation.as_ref().map(|id| id.as_str()), %why, "a commit did not happen");
            self.events.push_back(Event::CommitFailed { operation, why });
        }
        Ok(())
    }

    /// Decides and commits for the API.
    pub(super) async fn decide_for(&mut self, mut decide: Decide) -> Result<Result<Revision, Failure>, Error> {
        if self.staged {
            return Ok(Err(problem::conflict("a large change is being committed: ask again in a second")));
        }
        let mut overtaken = String::new();
        for _ in 0..DECIDE_ATTEMPTS_MAX {
            let commit = match decide(&self.world, now_ms()) {
                Ok(commit) => commit,
                Err(refused) => return Ok(Err(refused)),
            };
            if commit.writes.is_empty() {
                return Ok(Ok(self.world.snapshot.revision));
            }
            match self.commit(commit).await? {
                Ok(revision) => return Ok(Ok(revision)),
                Err(NotCommitted::Conflict(why)) => overtaken = why,
                Err(NotCommitted::Refused(why)) => return Ok(Err(problem::internal(why))),
            }
            self.catch_up().await?;
        }
        Ok(Err(problem::conflict(format!("other changes came first each time ({overtaken}): ask again"))))
    }

    /// Commits and folds the result in. The outer error is a broken store, and ends the server.
    pub(super) async fn commit(&mut self, commit: Commit) -> Result<Result<Revision, NotCommitted>, Error> {
        if let Err(why) = self.finish_audit() {
            return Ok(Err(NotCommitted::Refused(why)));
        }
        let commit = history::with_histories(&self.world.snapshot, commit, now_ms());
        let entries = audit::entries(&self.world.snapshot, &commit, now_ms());
        self.archive_deleted(&commit)?;
        let compares: Vec<Compare> =
            commit.guards.into_iter().map(|(key, revision)| Compare::ModRevision(key, revision)).collect();
        let mut ops: Vec<Op> = commit.writes.into_iter().map(op).collect();
        ops.push(Op::Put { key: audit::PENDING.to_owned(), value: audit::pending(&entries), lease: None });
        self.failpoint.before_commit();
        let id = format!("{}-{}", self.world.snapshot.revision, now_ms());
        let outcome = store::staged::commit(&*self.store, &id, compares, ops).await;
        let revision = match outcome {
            Ok(TxnOutcome::Committed(revision)) => revision,
            Ok(TxnOutcome::Conflict(compare)) => {
                let why = format!("{} changed meanwhile", compare.key());
                self.conflicts += 1;
                return Ok(Err(NotCommitted::Conflict(why)));
            }
            // Refused before anything was written.
            Err(
                error @ (store::Error::TooManyOps { .. } | store::Error::TooLarge { .. } | store::Error::BadKey { .. }),
            ) => return Ok(Err(NotCommitted::Refused(error.to_string()))),
            // Anything else may have left a large change half copied: the next start finishes or discards it.
            Err(error) => return Err(Error::Stopped(error.to_string())),
        };
        self.failpoint.after_commit();
        self.commits += 1;
        self.failpoint.before_record();
        if let Err(error) = audit::append(&self.records, revision, &entries) {
            tracing::error!(%error, revision, "the audit could not be written; nothing more is changed before it is");
            self.unaudited = Some((revision, entries));
        }
        self.fold_to(revision).await?;
        Ok(Ok(revision))
    }

    /// Keeps the entries that could not be kept before. The store carries those of one commit: the next would overwrite
    /// them.
    fn finish_audit(&mut self) -> Result<(), String> {
        let Some((revision, entries)) = &self.unaudited else { return Ok(()) };
        let kept = audit::append(&self.records, *revision, entries);
        kept.map_err(|error| {
            format!("the audit of revision {revision} cannot be written, so nothing more is changed: {error}; is the disk of the data folder full?")
        })?;
        self.unaudited = None;
        Ok(())
    }

    /// Folds until `revision` is in.
    async fn fold_to(&mut self, revision: Revision) -> Result<(), Error> {
        while self.world.snapshot.revision < revision || self.staged {
            let event = self.watch.next().await;
            let event = event.ok_or_else(|| Error::Stopped("the store has shut down".to_owned()))?;
            self.take_watch(event).await?;
        }
        Ok(())
    }

    /// Folds what the store has and we have not seen: someone else committed it.
    async fn catch_up(&mut self) -> Result<(), Error> {
        let range = self.store.range(audit::PENDING).await.map_err(|error| Error::Stopped(error.to_string()))?;
        self.fold_to(range.revision).await
    }

    /// Operations that housekeeping deletes live on as records.
    fn archive_deleted(&self, commit: &Commit) -> Result<(), Error> {
        for write in commit.writes.iter().filter(|write| write.value.is_none()) {
            let Some(id) = write.key.strip_prefix(keys::OPERATIONS) else { continue };
            let Some(operation) = self.world.snapshot.operations.get(id) else { continue };
            let bytes = serde_json::to_vec(&*operation.value).expect("an operation is plain data");
            self.failpoint.before_record();
            let kept = self.records.append(Kind::Operation, id, &bytes);
            kept.map_err(|error| Error::Stopped(error.to_string()))?;
        }
        Ok(())
    }
}

fn op(write: control::Write) -> Op {
    match write.value {
        Some(value) => Op::Put { key: write.key, value, lease: None },
        None => Op::Delete { key: write.key },
    }
}
