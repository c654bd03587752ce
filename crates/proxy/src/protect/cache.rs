//! The last good answers of a service, for `degrade` policies: kept while such a policy is in force, by one worker.
//!
//! Keyed by policy, user's credentials, method, host, path and query, so that nobody gets what was answered to another;
//! what its service forbids to keep (`cache-control`, `set-cookie`, `vary`) is not kept. Absent: revalidation, disk.

use super::reply::Reply;
use crate::edge::Outcome;
use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use model::{PolicyAction, PolicyName};
use policy::PolicySet;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Answers kept by one worker.
const ANSWERS_MAX: usize = 2_048;
/// Bytes of their bodies.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest body that is kept.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// While an answer is missing, one request in this time goes to fetch it.
const FETCH_US: u64 = 1_000_000;

/// What an answer is kept under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    policy: PolicyName,
    request: Rc<str>,
}

impl Key {
    /// Of a request that may have a kept answer: GET and HEAD.
    pub fn new(policy: &PolicyName, method: &Method, host: &str, target: &str, headers: &HeaderMap) -> Option<Self> {
        if *method != Method::GET && *method != Method::HEAD {
            return None;
        }
        let mut request = format!("{method} {host}{target}");
        for name in [header::AUTHORIZATION, header::COOKIE, header::ACCEPT_ENCODING, header::ACCEPT] {
            if let Some(value) = headers.get(&name) {
                request.push('\n');
                request.push_str(&String::from_utf8_lossy(value.as_bytes()));
            }
        }
        Some(Self { policy: policy.clone(), request: request.into() })
    }
}

struct Kept {
    at_us: u64,
    reply: Reply,
}

/// What the cache says.
pub enum Found {
    /// This.
    Fresh(Reply),
    /// Nothing that is young enough; this request is the one to fetch it.
    Fetch,
    /// Nothing, and another request fetches already.
    Missing,
}

/// The answers of one worker.
#[derive(Default)]
pub struct AnswerCache {
    kept: BTreeMap<Key, Kept>,
    fetching: BTreeMap<Key, u64>,
    bytes: usize,
}

impl AnswerCache {
    /// Looks for an answer that is not older than `age_us_max`.
    pub fn find(&mut self, key: &Key, age_us_max: u64, now_us: u64) -> Found {
        if let Some(kept) = self.kept.get(key)
            && now_us.saturating_sub(kept.at_us) <= age_us_max
        {
            return Found::Fresh(kept.reply.clone());
        }
        if self.fetching.get(key).is_some_and(|since| now_us.saturating_sub(*since) < FETCH_US) {
            return Found::Missing;
        }
        if self.fetching.len() >= ANSWERS_MAX {
            self.fetching.retain(|_, since| now_us.saturating_sub(*since) < FETCH_US);
        }
        if self.fetching.len() < ANSWERS_MAX {
            self.fetching.insert(key.clone(), now_us);
        }
        Found::Fetch
    }

    /// Keeps a good answer.
    pub fn keep(&mut self, key: Key, status: StatusCode, headers: &HeaderMap, body: Bytes, now_us: u64) {
        self.fetching.remove(&key);
        if body.len() > BODY_BYTES_MAX || !may_keep(status, headers) {
            return;
        }
        while self.kept.len() >= ANSWERS_MAX || self.bytes + body.len() > BYTES_MAX {
            // The oldest goes; a look at all is rare, and bounded.
            let Some(oldest) = self.kept.iter().min_by_key(|(_, kept)| kept.at_us).map(|(key, _)| key.clone()) else {
                break;
            };
            self.remove(&oldest);
        }
        self.remove(&key);
        self.bytes += body.len();
        let reply = Reply { body, ..Reply::kept(status, headers.clone()) };
        self.kept.insert(key, Kept { at_us: now_us, reply });
    }

    fn remove(&mut self, key: &Key) {
        if let Some(kept) = self.kept.remove(key) {
            self.bytes -= kept.reply.body.len();
        }
    }

    /// Forgets the answers of policies that are gone.
    pub fn keep_policies(&mut self, set: &PolicySet) {
        let lives = |key: &Key| {
            let entry = set.entries().iter().find(|entry| entry.policy.name == key.policy);
            entry.is_some_and(|entry| matches!(entry.policy.action, PolicyAction::Degrade(_)))
        };
        self.kept.retain(|key, _| lives(key));
        self.fetching.retain(|key, _| lives(key));
        self.bytes = self.kept.values().map(|kept| kept.reply.body.len()).sum();
    }
}

impl Reply {
    fn kept(status: StatusCode, headers: HeaderMap) -> Self {
        let mut reply = Reply::json(status, String::new());
        reply.headers = headers;
        reply.headers.remove(header::CONTENT_LENGTH);
        reply.headers.remove(header::DATE);
        reply.outcome = Outcome::Done;
        reply
    }
}

/// What may be given to a second caller with the same credentials.
fn may_keep(status: StatusCode, headers: &HeaderMap) -> bool {
    let forbids = headers.get_all(header::CACHE_CONTROL).iter().any(|value| {
        let value = value.as_bytes().to_ascii_lowercase();
        let has = |word: &[u8]| value.windows(word.len()).any(|part| part == word);
        has(b"no-store") || has(b"private")
    });
    let varies = headers.get_all(header::VARY).iter().any(|value| {
        let known = |name: &[u8]| {
            let name = name.trim_ascii().to_ascii_lowercase();
            matches!(name.as_slice(), b"accept-encoding" | b"accept" | b"cookie" | b"authorization")
        };
        !value.as_bytes().split(|b| *b == b',').all(known)
    });
    status == StatusCode::OK && !forbids && !varies && !headers.contains_key(header::SET_COOKIE)
}

#[cfg(test)]
mod tests;
