//! The slow lane: a durable queue for slowed money flows.
//!
//! A `slow` policy answers a caller with 202 and an id once its request is safe here; the request itself is released
//! later, at a rate, until its receiver says 2xx or a final no. What is accepted is delivered at least once, always under
//! the same idempotency key, so that a receiver that honours the key pays exactly once.
//!
//! Two drivers: [`embedded`], an append log on this machine, and [`streams`], Redis Streams with AOF.
//! Which requests are slowed is a policy's business; choosing an endpoint is the proxy's. Both are absent here.
#![forbid(unsafe_code)]

pub mod deliver;
pub mod embedded;
pub mod item;
pub mod runner;
pub mod schedule;
pub mod streams;

pub use deliver::{Deliver, Delivery};
pub use item::{Item, ItemHeader};
pub use runner::{Rates, Runner};

use std::future::Future;
use std::pin::Pin;

/// Largest item: method, target, headers and body together.
pub const ITEM_BYTES_MAX: usize = 256 * 1024;

/// An answer that takes a disk or a network.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Why the lane cannot do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It holds as much as it may.
    #[error("the slow lane is full: it holds {held} of at most {max} {unit}; try again once it has released some")]
    Full {
        /// What it holds.
        held: u64,
        /// What it may hold.
        max: u64,
        /// `bytes`, `items` or `items of this policy`.
        unit: &'static str,
    },
    /// More wait for the disk than may.
    #[error("the slow lane is busy: {0} requests wait for its disk; try again")]
    Busy(usize),
    /// One item is too large.
    #[error("a slowed request has {bytes} bytes; at most {ITEM_BYTES_MAX} are accepted")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The same key came with another request.
    #[error("idempotency key {key:?} was used for another request; a new request needs a new key")]
    KeyReused {
        /// The key.
        key: String,
    },
    /// The disk refused.
    #[error("{what} {path}: {source}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file of another version.
    #[error("{path} is no slow lane segment of version {}: start the version that wrote it", embedded::VERSION)]
    Version {
        /// Which file.
        path: String,
    },
    /// Every slot is held by another process.
    #[error("all {max} slots of {path} are held by other processes: stop one of them, or give this one its own folder")]
    Locked {
        /// The folder.
        path: String,
        /// Slots.
        max: usize,
    },
    /// Redis refused or is away.
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// Redis cannot be reached, or says nothing.
    #[error("redis is away: {0}; try again")]
    Away(String),
    /// Redis would forget what it accepted.
    #[error("redis has {setting} {found:?}, and would lose accepted money; set it to {wanted:?}")]
    NotDurable {
        /// The setting.
        setting: &'static str,
        /// As found.
        found: String,
        /// As it must be.
        wanted: &'static str,
    },
    /// Bytes that no version of ours wrote.
    #[error("an item cannot be read: {0}")]
    Damaged(String),
    /// The lane is shut.
    #[error("the slow lane is shutting down")]
    Closed,
}

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The item's id.
    pub id: String,
    /// An item with the same key and request was there already; this is its id.
    pub known: bool,
}

/// Where an item stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Safe, not sent yet, or between two attempts.
    Waiting,
    /// The receiver said 2xx.
    Done {
        /// Its status.
        status: u16,
    },
    /// Kept for people: the receiver said a final no.
    Dead {
        /// Its status.
        status: u16,
        /// In words.
        reason: String,
    },
}

/// An item taken out for delivery.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// What to send.
    pub item: Item,
    /// Where the driver keeps it; orders items by acceptance within a policy.
    pub place: Place,
}

/// A driver's own name for an item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Log and sequence number.
    Log(usize, u64),
    /// Stream and entry.
    Stream(String, String),
}

/// How an item ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// 2xx.
    Done {
        /// The receiver's status.
        status: u16,
    },
    /// A final no: moved to the dead letters.
    Dead {
        /// The receiver's status.
        status: u16,
        /// In words.
        reason: String,
        /// Deliveries tried by the process that gave up.
        attempts: u32,
    },
    /// Not ended: the next one to claim may have it.
    Returned,
}

/// An item that its receiver refused for good.
#[derive(Debug, Clone, PartialEq)]
pub struct Dead {
    /// The item.
    pub item: Item,
    /// The receiver's status.
    pub status: u16,
    /// In words.
    pub reason: String,
}

/// What one policy has waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// The policy.
    pub policy: String,
    /// Items not ended, dead ones apart.
    pub waiting: u64,
    /// Release rate when the item was accepted, in thousandths of items a second: for policies no longer in force.
    pub rate_milli_rps: u64,
}

/// How much a lane holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Items not ended.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Bytes of both, where the driver knows.
    pub bytes: u64,
}

/// Keeps items. An item that `push` accepted survives a crash of any process at any point, and is handed out by `claim`
/// until `finish` has ended it.
pub trait Driver: Send + Sync + 'static {
    /// Accepts an item; resolves once it is on stable storage. `item.id` is given here; an empty `item.key` becomes the id.
    fn push(&self, item: Item) -> Later<'_, Pushed>;
    /// What waits, by policy.
    fn backlog(&self) -> Later<'_, Vec<Backlog>>;
    /// Takes out the oldest unclaimed items of a policy.
    fn claim<'a>(&'a self, policy: &'a str, max: usize) -> Later<'a, Vec<Claimed>>;
    /// Says that these are still in hand.
    fn renew<'a>(&'a self, held: &'a [Place]) -> Later<'a, ()>;
    /// Ends an item.
    fn finish<'a>(&'a self, claimed: &'a Claimed, ending: Ending) -> Later<'a, ()>;
    /// Where an item stands; none when it is unknown, or done so long ago that it is forgotten.
    fn state<'a>(&'a self, id: &'a str) -> Later<'a, Option<State>>;
    /// Dead letters, oldest first.
    fn dead(&self, skip: usize, limit: usize) -> Later<'_, Vec<Dead>>;
    /// Puts a dead letter back in the queue; false when there is none of this id.
    fn revive<'a>(&'a self, id: &'a str) -> Later<'a, bool>;
    /// How much it holds.
    fn depth(&self) -> Later<'_, Depth>;
}
