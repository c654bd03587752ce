//! What one worker moves to and from the instances of one datacenter: the bytes of its connections, heads and frames included.
//!
//! Each has one writer, its worker; the reporter only reads. The server knows which circuit joins two datacenters.

use api::fleet::LinkSample;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Datacenters told apart by one worker; further ones are not counted.
const DATACENTERS_MAX: usize = 256;

thread_local! {
    static OF_THIS_WORKER: RefCell<BTreeMap<Arc<str>, Arc<Carried>>> = RefCell::default();
}

/// The counters.
#[derive(Debug)]
pub struct Carried {
    /// Of the instances.
    datacenter: Arc<str>,
    requests: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

fn add(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
}

impl Carried {
    /// This worker's for a datacenter; `None` when nobody says which that is.
    pub fn of(datacenter: &Arc<str>) -> Option<Arc<Self>> {
        OF_THIS_WORKER.with_borrow_mut(|all| {
            if let Some(known) = all.get(datacenter) {
                return Some(Arc::clone(known));
            }
            if datacenter.is_empty() || all.len() >= DATACENTERS_MAX {
                return None;
            }
            let zero = || AtomicU64::new(0);
            let datacenter = Arc::clone(datacenter);
            let (requests, sent_bytes, received_bytes) = (zero(), zero(), zero());
            let new = Arc::new(Self { datacenter: Arc::clone(&datacenter), requests, sent_bytes, received_bytes });
            all.insert(datacenter, Arc::clone(&new));
            Some(new)
        })
    }

    /// An attempt is sent there.
    pub fn request(&self) {
        add(&self.requests, 1);
    }

    /// Bytes were written to a connection.
    pub fn sent(&self, bytes: usize) {
        add(&self.sent_bytes, bytes as u64);
    }

    /// Bytes were read from a connection.
    pub fn received(&self, bytes: usize) {
        add(&self.received_bytes, bytes as u64);
    }
}

/// All workers', as the reporter reads them.
#[derive(Debug, Default)]
pub struct All {
    workers: Vec<Arc<Carried>>,
    told: BTreeMap<Arc<str>, LinkSample>,
}

impl All {
    /// Reads these too from now on.
    pub fn follow(&mut self, one: &Arc<Carried>) {
        if !self.workers.iter().any(|known| Arc::ptr_eq(known, one)) {
            self.workers.push(Arc::clone(one));
        }
    }

    /// Datacenters whose sums moved since they were last told; each, if `all`.
    pub fn samples(&mut self, all: bool) -> Vec<LinkSample> {
        let mut sums: BTreeMap<Arc<str>, LinkSample> = BTreeMap::new();
        for one in &self.workers {
            let sum = sums.entry(Arc::clone(&one.datacenter)).or_default();
            sum.datacenter = one.datacenter.to_string();
            sum.requests += one.requests.load(Relaxed);
            sum.sent_bytes += one.sent_bytes.load(Relaxed);
            sum.received_bytes += one.received_bytes.load(Relaxed);
        }
        let is_news = |(datacenter, sum): &(&Arc<str>, &LinkSample)| all || self.told.get(*datacenter) != Some(sum);
        let news = sums.iter().filter(is_news).map(|(_, sum)| sum.clone()).collect();
        self.told = sums;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed_by_datacenter_and_only_news_is_told() {
        let mut all = All::default();
        let east: Arc<str> = "east".into();
        assert!(Carried::of(&"".into()).is_none(), "nobody says where it is");
        for _ in 0..2 {
            let east = Arc::clone(&east);
            let worker = std::thread::spawn(move || {
                let carried = Carried::of(&east).expect("named");
                assert!(Arc::ptr_eq(&carried, &Carried::of(&east).expect("named")), "one for each worker");
                carried.request();
                carried.sent(100);
                carried.received(2_000);
                carried
            });
            all.follow(&worker.join().expect("no panic"));
        }
        let sum = LinkSample { datacenter: "east".into(), requests: 2, sent_bytes: 200, received_bytes: 4_000 };
        assert_eq!(all.samples(false), std::slice::from_ref(&sum));
        assert_eq!(all.samples(false), []);
        assert_eq!(all.samples(true), [sum]);
    }
}
