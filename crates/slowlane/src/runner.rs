//! Releases what waits: claims at the rate of each policy, delivers, retries, ends.
//!
//! One task. Items of a policy start in the order of their acceptance; one that must wait for its next attempt holds
//! nobody up. One that has ended is never sent again by this process: an ending that the driver does not take now is kept
//! and written later. A stop hands back what is between two attempts and waits for what is on its way.

use crate::schedule::{Bucket, Verdict, back_off_ms, judge, judge_grpc};
use crate::{Claimed, Deliver, Delivery, Driver, Ending, Place};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Deliveries of one policy on their way at the same time.
const IN_FLIGHT_MAX: usize = 256;
/// Items of one policy held by one runner, on their way or between two attempts. At this bound nothing new is sent.
const HELD_MAX: usize = 65_536;
/// Their bytes.
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Policies whose bucket is kept although nothing of them waits.
const RESTING_MAX: usize = 1_024;
/// Endings that wait to be written before nothing more is sent: each is sent again should this process die now.
const UNWRITTEN_MAX: usize = 1_024;
/// Longest time between two looks at what waits.
const LOOK: Duration = Duration::from_millis(250);
/// Shortest time between two looks.
const LOOK_MIN: Duration = Duration::from_millis(1);
/// Time between renewals of what is held.
const RENEW: Duration = Duration::from_secs(10);
/// Pause after the driver failed.
const DRIVER_PAUSE: Duration = Duration::from_secs(1);
/// Rate of a policy that is gone and had none: its items must not wait for ever.
const RATE_MILLI_RPS_MIN: u64 = 1_000;
/// Letters of a failure that are kept with a dead letter.
const REASON_CHARS_MAX: usize = 300;

/// Rates in force.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rates {
    /// Of all proxies together, in thousandths of items a second, by policy. Others go at the rate their items came with.
    pub milli_rps: BTreeMap<String, u64>,
    /// This proxy's part of each rate: one over the number of proxies. 0 counts as 1.
    pub proxies: u32,
}

impl Rates {
    fn of(&self, policy: &str, accepted_milli_rps: u64) -> u64 {
        let whole = self.milli_rps.get(policy).copied().unwrap_or(accepted_milli_rps.max(RATE_MILLI_RPS_MIN));
        whole / u64::from(self.proxies.max(1))
    }
}

/// What a runner has done.
#[derive(Debug, Default)]
pub struct Counts {
    /// Deliveries that ended an item well.
    pub done: AtomicU64,
    /// Deliveries that are to be repeated.
    pub retried: AtomicU64,
    /// Items moved to the dead letters.
    pub dead: AtomicU64,
}

struct Held {
    claimed: Claimed,
    attempts: u32,
}

/// An item that has ended, but not on disk yet.
struct Unwritten {
    claimed: Claimed,
    ending: Ending,
    failures: u32,
}

struct Queue {
    bucket: Bucket,
    /// Between two attempts, by when they are due in µs.
    retries: BTreeMap<(u64, Place), Held>,
    in_flight: BTreeMap<Place, ()>,
    /// Bytes of both.
    bytes: usize,
    /// The next token is for an item that was not tried yet, if there is one.
    fresh_next: bool,
}

impl Queue {
    fn new(rate: u64, now_us: u64) -> Self {
        let bucket = Bucket::new(rate, now_us);
        Self { bucket, retries: BTreeMap::new(), in_flight: BTreeMap::new(), bytes: 0, fresh_next: false }
    }

    fn held(&self) -> usize {
        self.in_flight.len() + self.retries.len()
    }

    /// Items that may be claimed.
    fn room(&self) -> usize {
        if self.bytes >= HELD_BYTES_MAX {
            return 0;
        }
        IN_FLIGHT_MAX.saturating_sub(self.in_flight.len()).min(HELD_MAX.saturating_sub(self.held()))
    }

    /// A retry that is due, unless it is the turn of what was not tried yet: items that always fail take half at most.
    fn due(&mut self, fresh: bool, now_us: u64) -> Option<Held> {
        let (due_us, _) = self.retries.first_key_value()?.0;
        if *due_us > now_us || self.in_flight.len() >= IN_FLIGHT_MAX || (fresh && self.fresh_next) {
            return None;
        }
        self.retries.pop_first().map(|(_, held)| held)
    }
}

/// What an item occupies.
fn bytes_of(claimed: &Claimed) -> usize {
    let item = &claimed.item;
    let headers: usize = item.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    item.body.len() + item.target.len() + item.key.len() + headers
}

/// Releases the items of one driver.
pub struct Runner {
    driver: Arc<dyn Driver>,
    deliver: Arc<dyn Deliver>,
    rates: watch::Receiver<Rates>,
    counts: Arc<Counts>,
    began: Instant,
    queues: BTreeMap<String, Queue>,
    on_the_way: JoinSet<(String, Held, Delivery)>,
    /// By when they are to be tried again in µs.
    unwritten: BTreeMap<(u64, Place), Unwritten>,
}

impl Runner {
    /// A runner that has not begun.
    pub fn new(
        driver: Arc<dyn Driver>,
        deliver: Arc<dyn Deliver>,
        rates: watch::Receiver<Rates>,
        counts: Arc<Counts>,
    ) -> Self {
        let (queues, on_the_way, unwritten) = (BTreeMap::new(), JoinSet::new(), BTreeMap::new());
        Self { driver, deliver, rates, counts, began: Instant::now(), queues, on_the_way, unwritten }
    }

    fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Releases until told to stop.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut renewed = Instant::now();
        loop {
            self.write_again().await;
            let pause = match self.turn().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::warn!(%error, "the slow lane cannot release for now; what it holds is safe");
                    DRIVER_PAUSE
                }
            };
            if renewed.elapsed() >= RENEW {
                renewed = Instant::now();
                self.renew().await;
            }
            tokio::select! {
                biased;
                () = told(&mut stop) => break,
                Some(ended) = self.on_the_way.join_next() => self.ended(ended).await,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.finish().await;
    }

    /// Starts what may start; returns the time until more may.
    async fn turn(&mut self) -> Result<Duration, crate::Error> {
        let now_us = self.now_us();
        let backlog = self.driver.backlog().await?;
        if self.unwritten.len() >= UNWRITTEN_MAX {
            return Ok(LOOK);
        }
        let rates = self.rates.borrow().clone();
        // A bucket that is not full yet outlives its backlog: a new one would give its first token at once.
        let many = self.queues.len() > RESTING_MAX;
        self.queues.retain(|policy, queue| {
            let rests = !many && rates.milli_rps.contains_key(policy) && !queue.bucket.is_full(now_us);
            queue.held() > 0 || rests || backlog.iter().any(|b| b.policy == *policy)
        });
        let mut pause_us = LOOK.as_micros() as u64;
        for waiting in backlog {
            let rate = rates.of(&waiting.policy, waiting.rate_milli_rps);
            let queue = self.queues.entry(waiting.policy.clone()).or_insert_with(|| Queue::new(rate, now_us));
            queue.bucket.set_rate(rate, now_us);
            let (mut fresh, mut take) = ((waiting.waiting as usize).saturating_sub(queue.held()), 0);
            while queue.bucket.tokens(now_us) > 0 {
                let wants = fresh > 0 && take < queue.room();
                if let Some(held) = queue.due(wants, now_us) {
                    queue.in_flight.insert(held.claimed.place.clone(), ());
                    start(&mut self.on_the_way, &*self.deliver, &waiting.policy, held);
                } else if wants {
                    (fresh, take) = (fresh - 1, take + 1);
                } else {
                    break;
                }
                queue.fresh_next = !queue.fresh_next;
                queue.bucket.take(now_us);
            }
            let claimed = if take == 0 { Vec::new() } else { self.driver.claim(&waiting.policy, take).await? };
            for _ in claimed.len()..take {
                queue.bucket.give_back();
            }
            let came = !claimed.is_empty();
            for claimed in claimed {
                queue.in_flight.insert(claimed.place.clone(), ());
                queue.bytes += bytes_of(&claimed);
                start(&mut self.on_the_way, &*self.deliver, &waiting.policy, Held { claimed, attempts: 0 });
            }
            if came || queue.bucket.tokens(now_us) == 0 {
                pause_us = pause_us.min(queue.bucket.next_us(now_us).unwrap_or(pause_us));
            }
        }
        Ok(Duration::from_micros(pause_us).max(LOOK_MIN))
    }

    async fn ended(&mut self, ended: Result<(String, Held, Delivery), tokio::task::JoinError>) {
        let Ok((policy, mut held, delivery)) = ended else {
            tracing::error!("a delivery panicked; its item is claimed again after a restart");
            return;
        };
        held.attempts += 1;
        let attempts = held.attempts;
        let ending = match &delivery {
            Delivery::Status(status) => match judge(*status, attempts) {
                Verdict::Done => Some(Ending::Done { status: *status }),
                Verdict::Dead => {
                    let reason = format!("the receiver answered {status}");
                    Some(Ending::Dead { status: *status, reason, attempts })
                }
                Verdict::Retry => None,
            },
            Delivery::Grpc(status) => match judge_grpc(*status, attempts) {
                Verdict::Done => Some(Ending::Done { status: 200 }),
                Verdict::Dead => {
                    let reason = format!("the receiver answered grpc-status {status}");
                    Some(Ending::Dead { status: *status, reason, attempts })
                }
                Verdict::Retry => None,
            },
            Delivery::Rejected(_) | Delivery::Failed(_) => None,
        };
        let now_us = self.now_us();
        let queue = self.queues.get_mut(&policy).expect("a queue stays while something is on its way");
        queue.in_flight.remove(&held.claimed.place);
        let Some(ending) = ending else {
            self.counts.retried.fetch_add(1, Relaxed);
            let wait_ms = back_off_ms(attempts, rand::random());
            tracing::debug!(id = held.claimed.item.id, attempts, wait_ms, ?delivery, "delivery to be repeated");
            queue.retries.insert((now_us + wait_ms * 1_000, held.claimed.place.clone()), held);
            return;
        };
        queue.bytes = queue.bytes.saturating_sub(bytes_of(&held.claimed));
        let count = if matches!(ending, Ending::Done { .. }) { &self.counts.done } else { &self.counts.dead };
        count.fetch_add(1, Relaxed);
        self.write(Unwritten { claimed: held.claimed, ending: shorten(ending), failures: 0 }).await;
    }

    /// Writes how an item ended, or keeps that for later; false when it did.
    async fn write(&mut self, mut ended: Unwritten) -> bool {
        let Err(error) = self.driver.finish(&ended.claimed, ended.ending.clone()).await else { return true };
        ended.failures += 1;
        let wait_ms = back_off_ms(ended.failures, rand::random());
        let id = &ended.claimed.item.id;
        tracing::warn!(%error, id, wait_ms, "an ended item is not ended in the lane yet; it is not sent again");
        self.unwritten.insert((self.now_us() + wait_ms * 1_000, ended.claimed.place.clone()), ended);
        false
    }

    /// Tries endings again that are due, until one fails: the next ones would too.
    async fn write_again(&mut self) {
        let now_us = self.now_us();
        while let Some(first) = self.unwritten.first_entry().filter(|first| first.key().0 <= now_us) {
            let ended = first.remove();
            if !self.write(ended).await {
                return;
            }
        }
    }

    async fn renew(&mut self) {
        let held: Vec<Place> = self
            .queues
            .values()
            .flat_map(|q| q.retries.keys().map(|(_, place)| place).chain(q.in_flight.keys()))
            .chain(self.unwritten.keys().map(|(_, place)| place))
            .cloned()
            .collect();
        if !held.is_empty()
            && let Err(error) = self.driver.renew(&held).await
        {
            tracing::warn!(%error, "held items are not renewed; another proxy may deliver them too, under the same key");
        }
    }

    async fn finish(&mut self) {
        while let Some(ended) = self.on_the_way.join_next().await {
            self.ended(ended).await;
        }
        // Until one fails, as always: a Redis that is away must not hold a stop up once for each.
        let unwritten = std::mem::take(&mut self.unwritten);
        let count = unwritten.len();
        for (written, ended) in unwritten.into_values().enumerate() {
            if let Err(error) = self.driver.finish(&ended.claimed, ended.ending).await {
                let left = count - written;
                // Whoever claims them next sends them again, under the same keys: the receiver tells them apart.
                tracing::error!(%error, left, "ended items could not be ended in the lane");
                break;
            }
        }
        for held in std::mem::take(&mut self.queues).into_values().flat_map(|q| q.retries.into_values()) {
            if let Err(error) = self.driver.finish(&held.claimed, Ending::Returned).await {
                tracing::debug!(%error, "not handed back; it is claimed again once it is idle");
            }
        }
    }
}

/// Ends when it is told to, or nobody is left to tell.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn start(set: &mut JoinSet<(String, Held, Delivery)>, deliver: &dyn Deliver, policy: &str, held: Held) {
    let delivery = deliver.deliver(&held.claimed.item, held.attempts + 1);
    let policy = policy.to_owned();
    set.spawn(async move {
        let delivery = delivery.await;
        (policy, held, delivery)
    });
}

fn shorten(ending: Ending) -> Ending {
    match ending {
        Ending::Dead { status, reason, attempts } => {
            Ending::Dead { status, reason: reason.chars().take(REASON_CHARS_MAX).collect(), attempts }
        }
        other => other,
    }
}
