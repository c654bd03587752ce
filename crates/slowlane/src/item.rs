//! A slowed request, and the digests that tell two of them apart.

use crate::{Error, ITEM_BYTES_MAX};
use bytes::Bytes;
use prost::Message;
use sha2::{Digest as _, Sha256};
use std::time::{SystemTime, UNIX_EPOCH};

/// Half a SHA-256: enough that no two requests of one fleet share it.
pub type Digest = [u8; 16];

/// Keyed hash of the user, as the entry sets it; what a caller says under this name is removed there.
const USER: &str = "x-springtide-user";

/// One header of a slowed request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ItemHeader {
    /// Lower case.
    #[prost(string, tag = "1")]
    pub name: String,
    /// As it came.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// A slowed request. Stored in this form; fields are added, never reused.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Item {
    /// `<lane>.<32 hex digits>`, given by `push`.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Sent as `idempotency-key`: the caller's own, or the id.
    #[prost(string, tag = "2")]
    pub key: String,
    /// The policy that slowed it.
    #[prost(string, tag = "3")]
    pub policy: String,
    /// Whom it is for.
    #[prost(string, tag = "4")]
    pub service: String,
    /// HTTP method.
    #[prost(string, tag = "5")]
    pub method: String,
    /// Path and query.
    #[prost(string, tag = "6")]
    pub target: String,
    /// End-to-end headers.
    #[prost(message, repeated, tag = "7")]
    pub headers: Vec<ItemHeader>,
    /// Body.
    #[prost(bytes = "bytes", tag = "8")]
    pub body: Bytes,
    /// Release rate of the policy when this was accepted, in thousandths of items a second.
    #[prost(uint64, tag = "9")]
    pub rate_milli_rps: u64,
    /// When it was accepted.
    #[prost(uint64, tag = "10")]
    pub accepted_unix_ms: u64,
    /// Items of its policy that may wait; further ones are refused. 0 sets no bound beside the lane's own.
    #[prost(uint64, tag = "11")]
    pub waiting_max: u64,
}

impl Item {
    /// Gives it an id of `lane`, a key and a time; refuses what is too large.
    pub fn admit(&mut self, lane: &str) -> Result<(), Error> {
        let bytes = self.encoded_len();
        if bytes > ITEM_BYTES_MAX {
            return Err(Error::TooLarge { bytes });
        }
        self.accepted_unix_ms = now_unix_ms();
        // Time first, so that ids of one lane sort by acceptance; 80 random bits keep them apart.
        let random = rand::random::<u128>() >> 48;
        self.id = format!("{lane}.{:032x}", (u128::from(self.accepted_unix_ms) << 80) | random);
        if self.key.is_empty() {
            self.key = self.id.clone();
        }
        Ok(())
    }

    /// What the key stands for: keys of two services are two keys, and so are those of two users.
    pub fn key_digest(&self) -> Digest {
        match self.header(USER) {
            Some(user) => digest(&[self.service.as_bytes(), self.key.as_bytes(), user]),
            None => digest(&[self.service.as_bytes(), self.key.as_bytes()]),
        }
    }

    /// What makes a second request with the same key the same request.
    pub fn request_digest(&self) -> Digest {
        let who = self.header("authorization").unwrap_or_default();
        digest(&[self.service.as_bytes(), self.method.as_bytes(), self.target.as_bytes(), who, &self.body])
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|header| header.name == name).map(|header| &header.value[..])
    }
}

fn digest(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let whole: [u8; 32] = hash.finalize().into();
    whole[..16].try_into().expect("16 of 32 bytes")
}

/// The wall clock.
pub fn now_unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
