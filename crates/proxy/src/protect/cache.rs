//! The last good answers of a service, for `degrade` policies: kept while such a policy is in force, by one worker.
//!
//! Keyed by policy, user, credentials, method, host, path and query, so that nobody gets what was answered to another; only
//! what its service calls `public` is one answer for all users. What it forbids to keep (`cache-control`, `set-cookie`, `vary`) is not kept. Absent: revalidation, disk.

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
    /// Hash of the user; none where requests have none, and of what is public.
    user: Option<u64>,
}

impl Key {
    /// Of a request that may have a kept answer: GET and HEAD.
    pub fn new(
        policy: &PolicyName,
        (method, host, target): (&Method, &str, &str),
        headers: &HeaderMap,
        user: Option<u64>,
    ) -> Option<Self> {
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
        Some(Self { policy: policy.clone(), request: request.into(), user })
    }

    /// The same for every user.
    fn public(&self) -> Self {
        Self { user: None, ..self.clone() }
    }
}

struct Kept {
    at_us: u64,
    /// Its service says that it is one for all users.
    public: bool,
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
    pub fn find(&mut self, asked: &Key, age_us_max: u64, now_us: u64) -> Found {
        for key in [asked, &asked.public()] {
            if let Some(kept) = self.kept.get(key)
                && now_us.saturating_sub(kept.at_us) <= age_us_max
                && (key.user.is_some() || asked.user.is_none() || kept.public)
            {
                return Found::Fresh(kept.reply.clone());
            }
        }
        if self.fetching.get(asked).is_some_and(|since| now_us.saturating_sub(*since) < FETCH_US) {
            return Found::Missing;
        }
        if self.fetching.len() >= ANSWERS_MAX {
            self.fetching.retain(|_, since| now_us.saturating_sub(*since) < FETCH_US);
        }
        if self.fetching.len() < ANSWERS_MAX {
            self.fetching.insert(asked.clone(), now_us);
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
        let public = says(headers, b"public");
        let key = if public { key.public() } else { key };
        self.remove(&key);
        self.bytes += body.len();
        let reply = Reply { body, ..Reply::kept(status, headers.clone()) };
        self.kept.insert(key, Kept { at_us: now_us, public, reply });
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

/// Whether `cache-control` has this word.
fn says(headers: &HeaderMap, word: &[u8]) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().any(|value| {
        let mut words = value.as_bytes().split(|byte| *byte == b',' || *byte == b'=');
        words.any(|said| said.trim_ascii().eq_ignore_ascii_case(word))
    })
}

/// What may be given to a second caller with the same user and credentials.
fn may_keep(status: StatusCode, headers: &HeaderMap) -> bool {
    let forbids = says(headers, b"no-store") || says(headers, b"private");
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
