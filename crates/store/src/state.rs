//! What both drivers share: the rules of a transaction and its effect on the keys and leases.
//!
//! No I/O and no clock: `now` is a parameter. A [`Draft`] collects the effects of one or more requests without touching
//! the state, so that a driver can make them durable first and show them afterwards, or drop them when the disk fails.

use crate::kv::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest life of a lease; a longer one asked for is cut to this, as the granted [`Lease`] says.
pub const LEASE_TTL_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// All keys and leases at one revision.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) revision: Revision,
    pub(crate) lease_last: LeaseId,
    keys: BTreeMap<Arc<str>, KeyValue>,
    leases: BTreeMap<LeaseId, LeaseState>,
}

#[derive(Debug)]
struct LeaseState {
    ttl_ms: u64,
    ends: Instant,
    keys: BTreeSet<Arc<str>>,
}

/// What a draft would change.
#[derive(Debug)]
pub(crate) struct Effect {
    pub(crate) revision: Revision,
    pub(crate) lease_last: LeaseId,
    /// Changed keys; `None` deletes.
    pub(crate) keys: BTreeMap<Arc<str>, Option<KeyValue>>,
    /// Granted leases with their lives in milliseconds; `None` ends one.
    pub(crate) leases: BTreeMap<LeaseId, Option<u64>>,
    /// The commits, in order of revision.
    pub(crate) commits: Vec<Commit>,
}

impl Effect {
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.leases.is_empty()
    }
}

/// Refuses a key that cannot be.
fn check_key(key: &str) -> Result<(), Error> {
    let why = if !key.starts_with('/') || key.len() == 1 {
        "a key starts with '/' and a name follows"
    } else if key.len() > KEY_BYTES_MAX {
        "a key has at most 1024 bytes"
    } else if key.chars().any(char::is_control) {
        "a key has no control characters"
    } else {
        return Ok(());
    };
    Err(Error::BadKey { key: key.to_owned(), why })
}

/// Refuses keys that cannot be, and keys written twice.
pub(crate) fn check_keys(compares: &[Compare], ops: &[Op]) -> Result<(), Error> {
    compares.iter().try_for_each(|compare| check_key(compare.key()))?;
    let mut written = BTreeSet::new();
    for op in ops {
        check_key(op.key())?;
        if !written.insert(op.key()) {
            let why = "a transaction writes a key at most once";
            return Err(Error::BadKey { key: op.key().to_owned(), why });
        }
    }
    Ok(())
}

/// Bytes of keys and values.
pub(crate) fn bytes_of(compares: &[Compare], ops: &[Op]) -> usize {
    let compared: usize = compares.iter().map(|compare| compare.key().len()).sum();
    compared + ops.iter().map(Op::bytes).sum::<usize>()
}

/// Refuses a transaction that is too large or names keys that cannot be.
pub(crate) fn check(txn: &Txn) -> Result<(), Error> {
    let ops = txn.ops.len().max(txn.compares.len());
    if ops > TXN_OPS_MAX {
        return Err(Error::TooManyOps { ops });
    }
    let bytes = bytes_of(&txn.compares, &txn.ops);
    if bytes > TXN_BYTES_MAX {
        return Err(Error::TooLarge { bytes });
    }
    check_keys(&txn.compares, &txn.ops)
}

impl State {
    /// A state as read back from a file. Every lease gets its full life from `now`.
    pub(crate) fn restored(
        revision: Revision,
        lease_last: LeaseId,
        keys: Vec<KeyValue>,
        leases: Vec<(LeaseId, u64)>,
        now: Instant,
    ) -> Self {
        let keys: BTreeMap<_, _> = keys.into_iter().map(|item| (item.key.clone(), Some(item))).collect();
        let leases = leases.into_iter().map(|(id, ttl_ms)| (id, Some(ttl_ms))).collect();
        let mut state = Self::default();
        state.apply(Effect { revision, lease_last, keys, leases, commits: Vec::new() }, now).clear();
        state
    }

    /// The keys under a prefix, in order.
    pub(crate) fn range(&self, prefix: &str) -> Range {
        let items = self
            .keys
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, item)| item.clone())
            .collect();
        Range { revision: self.revision, items }
    }

    /// When the next lease ends.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.leases.values().map(|lease| lease.ends).min()
    }

    /// When this lease ends.
    pub(crate) fn lease_end(&self, id: LeaseId) -> Option<Instant> {
        self.leases.get(&id).map(|lease| lease.ends)
    }

    /// Gives a living lease its full life again.
    pub(crate) fn renew(&mut self, id: LeaseId, now: Instant) -> Result<(), Error> {
        let lease = self.leases.get_mut(&id).filter(|lease| lease.ends > now).ok_or(Error::NoLease(id))?;
        lease.ends = now + Duration::from_millis(lease.ttl_ms);
        Ok(())
    }

    /// Takes an effect over, and gives back its commits.
    pub(crate) fn apply(&mut self, effect: Effect, now: Instant) -> Vec<Commit> {
        self.revision = effect.revision;
        self.lease_last = effect.lease_last;
        for (id, granted) in &effect.leases {
            if let Some(ttl_ms) = *granted {
                let ends = now + Duration::from_millis(ttl_ms);
                self.leases.insert(*id, LeaseState { ttl_ms, ends, keys: BTreeSet::new() });
            }
        }
        for (key, item) in effect.keys {
            let lease = item.as_ref().and_then(|item| item.lease);
            let before = match item {
                Some(item) => self.keys.insert(key.clone(), item),
                None => self.keys.remove(&key),
            };
            if let Some(old) = before.and_then(|item| item.lease).and_then(|id| self.leases.get_mut(&id)) {
                old.keys.remove(&key);
            }
            if let Some(new) = lease.and_then(|id| self.leases.get_mut(&id)) {
                new.keys.insert(key);
            }
        }
        for (id, granted) in effect.leases {
            if granted.is_none() {
                self.leases.remove(&id);
            }
        }
        effect.commits
    }
}

/// Effects of requests, one after the other, on top of a state that stays as it is.
pub(crate) struct Draft<'a> {
    base: &'a State,
    effect: Effect,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(base: &'a State) -> Self {
        let effect = Effect {
            revision: base.revision,
            lease_last: base.lease_last,
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            commits: Vec::new(),
        };
        Self { base, effect }
    }

    pub(crate) fn finish(self) -> Effect {
        self.effect
    }

    fn get(&self, key: &str) -> Option<&KeyValue> {
        match self.effect.keys.get(key) {
            Some(item) => item.as_ref(),
            None => self.base.keys.get(key),
        }
    }

    fn lives(&self, id: LeaseId, now: Instant) -> bool {
        match self.effect.leases.get(&id) {
            Some(granted) => granted.is_some(),
            None => self.base.leases.get(&id).is_some_and(|lease| lease.ends > now),
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::ModRevision(key, revision) => self.get(key).map_or(0, |item| item.mod_revision) == *revision,
            Compare::Exists(key) => self.get(key).is_some(),
        }
    }

    /// Adds a transaction that has passed [`check`].
    pub(crate) fn txn(&mut self, txn: Txn, now: Instant) -> Result<TxnOutcome, Error> {
        for op in &txn.ops {
            if let Op::Put { lease: Some(id), .. } = op
                && !self.lives(*id, now)
            {
                return Err(Error::NoLease(*id));
            }
        }
        if let Some(failed) = txn.compares.iter().find(|compare| !self.holds(compare)) {
            return Ok(TxnOutcome::Conflict(failed.clone()));
        }
        self.write(txn.ops);
        Ok(TxnOutcome::Committed(self.effect.revision))
    }

    /// Writes at the next revision; no revision passes when nothing changes.
    fn write(&mut self, ops: Vec<Op>) {
        let revision = self.effect.revision + 1;
        let mut changes = Vec::with_capacity(ops.len());
        for op in ops {
            let before = self.get(op.key());
            let (key, item) = match op {
                Op::Put { key, value, lease } => {
                    let create_revision = before.map_or(revision, |item| item.create_revision);
                    let key: Arc<str> = before.map_or_else(|| key.as_str().into(), |item| item.key.clone());
                    let value = value.into();
                    (key.clone(), Some(KeyValue { key, value, create_revision, mod_revision: revision, lease }))
                }
                Op::Delete { .. } => match before {
                    Some(item) => (item.key.clone(), None),
                    None => continue,
                },
            };
            changes.push(Change { key: key.clone(), value: item.as_ref().map(|item| item.value.clone()) });
            self.effect.keys.insert(key, item);
        }
        if !changes.is_empty() {
            self.effect.revision = revision;
            self.effect.commits.push(Commit { revision, changes });
        }
    }

    /// Adds a new lease.
    pub(crate) fn grant(&mut self, ttl_ms: u64) -> Lease {
        self.effect.lease_last += 1;
        let lease = Lease { id: self.effect.lease_last, ttl_ms: ttl_ms.clamp(1, LEASE_TTL_MS_MAX) };
        self.effect.leases.insert(lease.id, Some(lease.ttl_ms));
        lease
    }

    /// Ends a lease and deletes its keys, in one revision however many there are.
    pub(crate) fn revoke(&mut self, id: LeaseId, now: Instant) -> Result<(), Error> {
        if !self.lives(id, now) {
            return Err(Error::NoLease(id));
        }
        self.end(id);
        Ok(())
    }

    fn end(&mut self, id: LeaseId) {
        let base = self.base.leases.get(&id).into_iter().flat_map(|lease| &lease.keys);
        let held: BTreeSet<&Arc<str>> = base.chain(self.effect.keys.keys()).collect();
        let of_lease = |key: &&&Arc<str>| self.get(key).is_some_and(|item| item.lease == Some(id));
        let ops = held.iter().filter(of_lease).map(|key| Op::Delete { key: key.to_string() }).collect();
        self.write(ops);
        self.effect.leases.insert(id, None);
    }

    /// Ends all leases whose life is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        let due = self.base.leases.iter().filter(|(_, lease)| lease.ends <= now).map(|(id, _)| *id);
        for id in due.collect::<Vec<_>>() {
            self.end(id);
        }
    }
}
