//! What a log holds, in memory: one small entry for each item; the items themselves stay on disk.
//!
//! No I/O. Built anew from the records at each start, by the same calls that follow a running log.

use super::segment::{Died, Done, Event, Put, Record, Span};
use crate::item::Digest;
use crate::{Backlog, Depth, State};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::sync::Arc;

/// Done items that are still known by id and key; older ones are forgotten.
pub const DONE_MAX: usize = 100_000;
/// Items in one log, dead ones too: what bounds the memory of the index (about 400 bytes each).
pub const ITEMS_MAX: usize = 1_000_000;

/// Where an item's record is.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// Number of the segment.
    pub segment: u64,
    /// In it.
    pub span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Claimed,
    Dead,
}

struct Entry {
    id: String,
    key: Digest,
    request: Digest,
    policy: Arc<str>,
    rate_milli_rps: u64,
    accepted_unix_ms: u64,
    at: At,
    phase: Phase,
    died: Option<Died>,
}

/// One file, as the log sees it.
pub struct Segment {
    /// To read from.
    pub file: Arc<File>,
    /// Its size.
    pub bytes: u64,
    /// Items whose record is here and that have not ended.
    pub live: u64,
}

/// The index.
#[derive(Default)]
pub struct Index {
    next_seq: u64,
    entries: BTreeMap<u64, Entry>,
    by_id: HashMap<String, u64>,
    by_key: HashMap<Digest, u64>,
    policies: BTreeMap<Arc<str>, Lane>,
    dead: BTreeSet<u64>,
    done: VecDeque<(String, Digest)>,
    done_by_id: HashMap<String, u16>,
    done_by_key: HashMap<Digest, (String, Digest)>,
    live_bytes: u64,
    /// By number.
    pub segments: BTreeMap<u64, Segment>,
}

/// One policy's items.
#[derive(Default)]
struct Lane {
    /// By acceptance: what was taken over from another log is older than its number here says.
    waiting: BTreeSet<(u64, u64)>,
    claimed: u64,
}

/// What is known about a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    New,
    /// The same request: its id.
    Same(String),
    /// Another request.
    Other,
}

/// Where an item stands in this log, with its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not known.
    Unknown,
    /// Waiting or claimed.
    Waiting(u64),
    /// A dead letter.
    Dead(u64),
    /// Delivered.
    Done,
}

impl Index {
    /// The number of the next item.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Items not ended, dead ones too.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of their records.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Bytes of all segments.
    pub fn total_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    /// Follows one record.
    pub fn apply(&mut self, record: Record, at: At) {
        match record.event {
            Some(Event::Put(put)) => self.put(put, at),
            Some(Event::Done(done)) => self.end(done),
            Some(Event::Died(died)) => self.die(died),
            Some(Event::Revived(seq)) => self.revive(seq),
            // A newer version's; what it says about items of ours, it says in records of ours too.
            None => {}
        }
    }

    fn put(&mut self, Put { seq, item }: Put, at: At) {
        self.next_seq = self.next_seq.max(seq + 1);
        if let Some(segment) = self.segments.get_mut(&at.segment) {
            segment.live += 1;
        }
        self.live_bytes += at.span.bytes;
        if let Some(entry) = self.entries.get_mut(&seq) {
            // A copy: the record moves, the item stays what it is.
            let old = std::mem::replace(&mut entry.at, at);
            self.leave(old);
            return;
        }
        let policy: Arc<str> = match self.policies.get_key_value(item.policy.as_str()) {
            Some((policy, _)) => Arc::clone(policy),
            None => item.policy.as_str().into(),
        };
        let entry = Entry {
            key: item.key_digest(),
            request: item.request_digest(),
            id: item.id,
            policy: Arc::clone(&policy),
            rate_milli_rps: item.rate_milli_rps,
            accepted_unix_ms: item.accepted_unix_ms,
            at,
            phase: Phase::Waiting,
            died: None,
        };
        self.by_id.insert(entry.id.clone(), seq);
        self.by_key.insert(entry.key, seq);
        self.policies.entry(policy).or_default().waiting.insert((entry.accepted_unix_ms, seq));
        self.entries.insert(seq, entry);
    }

    fn leave(&mut self, at: At) {
        self.live_bytes -= at.span.bytes;
        if let Some(segment) = self.segments.get_mut(&at.segment) {
            segment.live -= 1;
        }
    }

    fn unqueue(&mut self, seq: u64, to: Phase) {
        let Some(entry) = self.entries.get_mut(&seq) else { return };
        let from = std::mem::replace(&mut entry.phase, to);
        let Some(lane) = self.policies.get_mut(&entry.policy) else { return };
        match from {
            Phase::Waiting => drop(lane.waiting.remove(&(entry.accepted_unix_ms, seq))),
            Phase::Claimed => lane.claimed -= 1,
            Phase::Dead => {}
        }
        if to == Phase::Claimed {
            lane.claimed += 1;
        } else if lane.waiting.is_empty() && lane.claimed == 0 {
            let policy = Arc::clone(&entry.policy);
            self.policies.remove(&policy);
        }
    }

    fn end(&mut self, done: Done) {
        self.unqueue(done.seq, Phase::Dead);
        if let Some(entry) = self.entries.remove(&done.seq) {
            self.by_id.remove(&entry.id);
            self.by_key.remove(&entry.key);
            self.dead.remove(&done.seq);
            self.leave(entry.at);
        }
        let Some((key, request)) = done.digests() else { return };
        self.done_by_id.insert(done.id.clone(), done.status as u16);
        self.done_by_key.insert(key, (done.id.clone(), request));
        self.done.push_back((done.id, key));
        if self.done.len() > DONE_MAX
            && let Some((id, key)) = self.done.pop_front()
        {
            self.done_by_id.remove(&id);
            self.done_by_key.remove(&key);
        }
    }

    fn die(&mut self, died: Died) {
        let seq = died.seq;
        self.unqueue(seq, Phase::Dead);
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.died = Some(died);
            self.dead.insert(seq);
        }
    }

    fn revive(&mut self, seq: u64) {
        if !self.dead.remove(&seq) {
            return;
        }
        let entry = self.entries.get_mut(&seq).expect("a dead letter has its entry");
        entry.phase = Phase::Waiting;
        entry.died = None;
        let (policy, place) = (Arc::clone(&entry.policy), (entry.accepted_unix_ms, seq));
        self.policies.entry(policy).or_default().waiting.insert(place);
    }

    /// What is known about a key.
    pub fn known(&self, key: &Digest, request: &Digest) -> Known {
        let found = match self.by_key.get(key) {
            Some(seq) => self.entries.get(seq).map(|entry| (&entry.id, &entry.request)),
            None => self.done_by_key.get(key).map(|(id, request)| (id, request)),
        };
        match found {
            None => Known::New,
            Some((id, had)) if had == request => Known::Same(id.clone()),
            Some(_) => Known::Other,
        }
    }

    /// Items of a policy that have not ended.
    pub fn waiting(&self, policy: &str) -> u64 {
        self.policies.get(policy).map_or(0, |lane| lane.waiting.len() as u64 + lane.claimed)
    }

    /// What waits, by policy.
    pub fn backlog(&self) -> Vec<Backlog> {
        let of = |(policy, lane): (&Arc<str>, &Lane)| Backlog {
            policy: policy.to_string(),
            waiting: lane.waiting.len() as u64 + lane.claimed,
            rate_milli_rps: lane.waiting.first().map_or(0, |(_, seq)| self.entries[seq].rate_milli_rps),
        };
        self.policies.iter().map(of).collect()
    }

    /// Takes the oldest of a policy.
    pub fn claim(&mut self, policy: &str) -> Option<(u64, Arc<File>, Span)> {
        let (_, seq) = *self.policies.get(policy)?.waiting.first()?;
        self.unqueue(seq, Phase::Claimed);
        let at = self.entries[&seq].at;
        Some((seq, Arc::clone(&self.segments[&at.segment].file), at.span))
    }

    /// Puts a claimed one back.
    pub fn unclaim(&mut self, seq: u64) {
        let Some(entry) = self.entries.get_mut(&seq).filter(|entry| entry.phase == Phase::Claimed) else { return };
        entry.phase = Phase::Waiting;
        let (policy, place) = (Arc::clone(&entry.policy), (entry.accepted_unix_ms, seq));
        let lane = self.policies.entry(policy).or_default();
        lane.claimed -= 1;
        lane.waiting.insert(place);
    }

    /// The record that ends an item well; none when it has ended already.
    pub fn done_record(&self, seq: u64, status: u16) -> Option<Record> {
        let entry = self.entries.get(&seq)?;
        let (key, request) = (entry.key.to_vec(), entry.request.to_vec());
        Some(Event::Done(Done { seq, id: entry.id.clone(), key, request, status: status.into() }).into())
    }

    /// The number of a dead letter.
    pub fn dead_seq(&self, id: &str) -> Option<u64> {
        self.by_id.get(id).copied().filter(|seq| self.dead.contains(seq))
    }

    /// Where an item stands in this log.
    pub fn standing(&self, id: &str) -> Standing {
        match self.by_id.get(id) {
            Some(seq) if self.dead.contains(seq) => Standing::Dead(*seq),
            Some(seq) => Standing::Waiting(*seq),
            None if self.done_by_id.contains_key(id) => Standing::Done,
            None => Standing::Unknown,
        }
    }

    /// Where an item stands.
    pub fn state(&self, id: &str) -> Option<State> {
        if let Some(status) = self.done_by_id.get(id) {
            return Some(State::Done { status: *status });
        }
        let entry = &self.entries[self.by_id.get(id)?];
        Some(match &entry.died {
            Some(died) => State::Dead { status: died.status as u16, reason: died.reason.clone() },
            None => State::Waiting,
        })
    }

    /// Dead letters, oldest first.
    pub fn dead(&self, skip: usize, limit: usize) -> Vec<(Arc<File>, Span, Died)> {
        let of = |seq: &u64| {
            let entry = &self.entries[seq];
            let file = Arc::clone(&self.segments[&entry.at.segment].file);
            (file, entry.at.span, entry.died.clone().expect("a dead letter says why"))
        };
        self.dead.iter().skip(skip).take(limit).map(of).collect()
    }

    /// How much there is.
    pub fn depth(&self) -> Depth {
        let dead = self.dead.len() as u64;
        Depth { waiting: self.entries.len() as u64 - dead, dead, bytes: self.live_bytes }
    }

    /// Every item that has not ended, in order, and why it died, if it did.
    pub fn all(&self) -> Vec<(Arc<File>, Span, Option<Died>)> {
        let of =
            |entry: &Entry| (Arc::clone(&self.segments[&entry.at.segment].file), entry.at.span, entry.died.clone());
        self.entries.values().map(of).collect()
    }

    /// Every done item that is still known, in order; their numbers are this log's own and mean nothing to another.
    pub fn all_done(&self) -> Vec<Done> {
        let of = |(id, key): &(String, Digest)| {
            let (_, request) = self.done_by_key.get(key)?;
            let status = u32::from(*self.done_by_id.get(id)?);
            Some(Done { seq: 0, id: id.clone(), key: key.to_vec(), request: request.to_vec(), status })
        };
        self.done.iter().filter_map(of).collect()
    }

    /// The live items of one segment, and why they died, if they did.
    pub fn live_in(&self, segment: u64) -> Vec<(u64, Span, Option<Died>)> {
        let here = self.entries.iter().filter(|(_, entry)| entry.at.segment == segment);
        here.map(|(seq, entry)| (*seq, entry.at.span, entry.died.clone())).collect()
    }
}
