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
use std::time::{Duration, Instant};
use store::records::Kind;
use store::{Compare, Op, TxnOutcome};

/// Times an API decision is made again when it was overtaken.
const DECIDE_ATTEMPTS_MAX: usize = 5;
/// Steps of `control` in one turn; what is left waits for the next, so that inputs are never starved.
const STEPS_TURN_MAX: usize = 256;

/// Time between looks at a disk that failed.
const DISK_LOOK: Duration = Duration::from_secs(1);

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
                Err(NotCommitted::Refused(why)) if self.world.trouble.is_some() => {
                    return Ok(Err(problem::no_room(why)));
                }
                Err(NotCommitted::Refused(why)) => return Ok(Err(problem::internal(why))),
            }
            self.catch_up().await?;
        }
        Ok(Err(problem::conflict(format!("other changes came first each time ({overtaken}): ask again"))))
    }

    /// Commits and folds the result in. The outer error is a broken store, and ends the server.
    pub(super) async fn commit(&mut self, commit: Commit) -> Result<Result<Revision, NotCommitted>, Error> {
        if let Some(why) = self.revive().await? {
            return Ok(Err(NotCommitted::Refused(why)));
        }
        if let Err(why) = self.finish_audit() {
            self.world.trouble = Some(why.clone());
            return Ok(Err(NotCommitted::Refused(why)));
        }
        let commit = history::with_histories(&self.world.snapshot, commit, now_ms());
        let entries = audit::entries(&self.world.snapshot, &commit, now_ms());
        if let Err(why) = self.archive_deleted(&commit) {
            self.world.trouble = Some(why.clone());
            return Ok(Err(NotCommitted::Refused(why)));
        }
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
            // The disk failed. Whether the write took place, and how far a large change was copied, the next attempt finds out.
            Err(error @ store::Error::Io(_)) => {
                let why = disk(&error);
                tracing::error!(%error, "the store cannot write; nothing is changed until it can");
                self.store_failed = true;
                self.world.trouble = Some(why.clone());
                return Ok(Err(NotCommitted::Refused(why)));
            }
            Err(error) => return Err(Error::Stopped(error.to_string())),
        };
        self.world.trouble = None;
        self.failpoint.after_commit();
        self.commits += 1;
        self.failpoint.before_record();
        if let Err(error) = audit::append(&self.records, revision, &entries) {
            tracing::error!(%error, revision, "the audit could not be written; nothing more is changed before it is");
            self.world.trouble = Some(unaudited(revision, &error));
            self.unaudited = Some((revision, entries));
        }
        self.fold_to(revision).await?;
        Ok(Ok(revision))
    }

    /// Looks from time to time whether a disk that failed is well again, also while nobody wants to change anything.
    pub(super) async fn look_at_disk(&mut self) -> Result<(), Error> {
        let is_troubled = self.store_failed || self.unaudited.is_some();
        if !is_troubled || self.disk_looked_at.is_some_and(|at| at.elapsed() < DISK_LOOK) {
            return Ok(());
        }
        self.disk_looked_at = Some(Instant::now());
        self.world.trouble = match self.revive().await? {
            None => self.finish_audit().err(),
            troubled => troubled,
        };
        Ok(())
    }

    /// After the disk failed: tries whether it is well again, settles what became of the last write, and folds that in. What
    /// stands in the way, while something does.
    async fn revive(&mut self) -> Result<Option<String>, Error> {
        if !self.store_failed {
            return Ok(None);
        }
        let settled = async {
            // A transaction without writes makes the store open its file again.
            self.store.txn(store::Txn::default()).await?;
            store::staged::recover(&*self.store).await?;
            self.store.range(audit::PENDING).await
        };
        let pending = match settled.await {
            Ok(pending) => pending,
            Err(error @ store::Error::Io(_)) => return Ok(Some(disk(&error))),
            Err(error) => return Err(Error::Stopped(error.to_string())),
        };
        let unseen = pending.items.iter().find(|item| item.mod_revision > self.world.snapshot.revision);
        if let Some(item) = unseen {
            // It took place although its writer was told that it had not: its audit travelled with it.
            if let Err(error) = audit::recover(&self.records, item.mod_revision, &item.value) {
                return Ok(Some(unaudited(item.mod_revision, &error)));
            }
        }
        self.store_failed = false;
        self.fold_to(pending.revision).await?;
        tracing::info!("the store can write again; changes go on");
        Ok(None)
    }

    /// Keeps the entries that could not be kept before. The store carries those of one commit: the next would overwrite
    /// them.
    fn finish_audit(&mut self) -> Result<(), String> {
        let Some((revision, entries)) = &self.unaudited else { return Ok(()) };
        let kept = audit::append(&self.records, *revision, entries);
        kept.map_err(|error| unaudited(*revision, &error))?;
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
    fn archive_deleted(&self, commit: &Commit) -> Result<(), String> {
        for write in commit.writes.iter().filter(|write| write.value.is_none()) {
            let Some(id) = write.key.strip_prefix(keys::OPERATIONS) else { continue };
            let Some(operation) = self.world.snapshot.operations.get(id) else { continue };
            let bytes = serde_json::to_vec(&*operation.value).expect("an operation is plain data");
            self.failpoint.before_record();
            let kept = self.records.append(Kind::Operation, id, &bytes);
            kept.map_err(|error| {
                format!("operation {id} cannot be put into the records, so nothing is changed: {error}; {ROOM}")
            })?;
        }
        Ok(())
    }
}

/// What would be right when the disk refuses.
const ROOM: &str = "is the disk of the data folder full? Make room on it: changes go on by themselves";

fn disk(error: &store::Error) -> String {
    format!("the store cannot write, so nothing is changed: {error}; {ROOM}")
}

fn unaudited(revision: Revision, error: &store::records::RecordError) -> String {
    format!("the audit of revision {revision} cannot be written, so nothing more is changed: {error}; {ROOM}")
}

fn op(write: control::Write) -> Op {
    match write.value {
        Some(value) => Op::Put { key: write.key, value, lease: None },
        None => Op::Delete { key: write.key },
    }
}
