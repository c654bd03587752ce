//! A bounded sample of the last minutes' request heads, by user: every request of a sampled user is in it.
//!
//! A user is in when a hash of its own falls under a threshold, so counts of requests and of distinct users both scale by one
//! factor, and samples of many workers and proxies can be laid together. The threshold halves when a minute's part is full.

use crate::head::{Head, sample_place};
use std::collections::VecDeque;

/// Length of one part of the sample, in microseconds.
pub const PART_US: u64 = 60_000_000;
/// Parts kept: the last five minutes.
pub const PARTS_MAX: usize = 5;
/// Heads in one part.
pub const PART_HEADS_MAX: usize = 2_000;
/// Headers kept of a head.
pub const HEADERS_MAX: usize = 24;
/// Bytes kept of a text (path, query, value of a header).
pub const TEXT_BYTES_MAX: usize = 256;
/// Headers that are never kept: they carry secrets.
pub const SECRET_HEADERS: &[&str] = &["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"];

/// A kept head.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// When it came, in microseconds of the caller's monotonic clock.
    pub at_us: u64,
    /// As [`Head::business`].
    pub business: String,
    /// As [`Head::service`].
    pub service: String,
    /// As [`Head::caller`].
    pub caller: String,
    /// As [`Head::datacenter`].
    pub datacenter: String,
    /// As [`Head::method`].
    pub method: String,
    /// As [`Head::host`].
    pub host: String,
    /// As [`Head::path`], cut.
    pub path: String,
    /// As [`Head::query`], cut.
    pub query: String,
    /// Some of its headers.
    pub headers: Vec<(String, String)>,
    /// As [`Head::user`].
    pub user: Option<u64>,
    /// As [`Head::priority`].
    pub priority: u16,
    /// Its place in the sample; the same for all requests of a user.
    pub place: u64,
}

impl Sampled {
    /// The head, borrowed.
    pub fn head(&self) -> Head<'_> {
        Head {
            business: &self.business,
            service: &self.service,
            caller: &self.caller,
            datacenter: &self.datacenter,
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            user: self.user,
            priority: self.priority,
        }
    }
}

#[derive(Debug)]
struct Part {
    began_us: u64,
    /// Places below this are in.
    below: u64,
    heads: Vec<Sampled>,
}

/// The sample of one worker.
#[derive(Debug, Default)]
pub struct Reservoir {
    parts: VecDeque<Part>,
    /// Requests without a user, each of which gets a place of its own.
    nameless: u64,
}

/// A view of a sample.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Places below this are in, of [`u64::MAX`].
    pub below: u64,
    /// Time that the sample covers, in microseconds.
    pub window_us: u64,
    /// The heads, in the order in which they came.
    pub heads: Vec<Sampled>,
}

impl Sample {
    /// Lays the samples of workers together, at the share of the one that sampled least.
    pub fn together(samples: impl IntoIterator<Item = Sample>) -> Sample {
        let mut samples = samples.into_iter();
        let Some(mut all) = samples.next() else { return Sample::default() };
        for sample in samples {
            all.below = all.below.min(sample.below);
            all.window_us = all.window_us.max(sample.window_us);
            all.heads.extend(sample.heads);
        }
        all.heads.retain(|head| head.place < all.below);
        all.heads.sort_by_key(|head| head.at_us);
        all
    }
}

impl Reservoir {
    /// The place of a request, when it is to be kept: asked first, since it costs no more than a hash.
    pub fn place(&mut self, user: Option<u64>, now_us: u64) -> Option<u64> {
        self.turn(now_us);
        let place = sample_place(user.unwrap_or_else(|| {
            self.nameless = self.nameless.wrapping_add(1);
            !self.nameless
        }));
        self.parts.back().is_some_and(|part| place < part.below).then_some(place)
    }

    /// Offers a request; `headers` gives all of them and is asked only when the request is kept.
    pub fn offer<'h, I>(&mut self, head: &Head<'_>, headers: impl FnOnce() -> I, now_us: u64)
    where
        I: Iterator<Item = (&'h str, &'h str)>,
    {
        if let Some(place) = self.place(head.user, now_us) {
            self.keep(place, head, headers(), now_us);
        }
    }

    /// Keeps a request that has just been given this place.
    pub fn keep<'h>(
        &mut self,
        place: u64,
        head: &Head<'_>,
        headers: impl Iterator<Item = (&'h str, &'h str)>,
        now_us: u64,
    ) {
        let kept = headers.filter(|(name, _)| !SECRET_HEADERS.contains(name)).take(HEADERS_MAX);
        let sampled = Sampled {
            at_us: now_us,
            business: head.business.to_owned(),
            service: head.service.to_owned(),
            caller: head.caller.to_owned(),
            datacenter: head.datacenter.to_owned(),
            method: cut(head.method),
            host: cut(head.host),
            path: cut(head.path),
            query: cut(head.query),
            headers: kept.map(|(name, value)| (cut(name), cut(value))).collect(),
            user: head.user,
            priority: head.priority,
            place,
        };
        let part = self.parts.back_mut().expect("a place was given in it");
        part.heads.push(sampled);
        while part.heads.len() > PART_HEADS_MAX && part.below > 1 {
            part.below /= 2;
            part.heads.retain(|head| head.place < part.below);
        }
    }

    /// Begins a new part when the last is old, and drops those that are too old.
    fn turn(&mut self, now_us: u64) {
        if self.parts.back().is_some_and(|part| now_us < part.began_us + PART_US) {
            return;
        }
        let below = self.parts.back().map_or(u64::MAX, |last| match last.heads.len() {
            few if few < PART_HEADS_MAX / 4 => last.below.saturating_mul(2),
            _ => last.below,
        });
        self.parts.push_back(Part { began_us: now_us, below, heads: Vec::new() });
        while self.parts.len() > PARTS_MAX {
            self.parts.pop_front();
        }
    }

    /// What is kept of the last minutes at `now_us`.
    pub fn sample(&self, now_us: u64) -> Sample {
        let oldest_us = now_us.saturating_sub(PART_US * PARTS_MAX as u64);
        let parts = || self.parts.iter().filter(|part| part.began_us >= oldest_us);
        let Some(first) = parts().next() else { return Sample::default() };
        let below = parts().map(|part| part.below).min().unwrap_or(0);
        let heads = parts().flat_map(|part| &part.heads).filter(|head| head.place < below).cloned().collect();
        Sample { below, window_us: now_us.saturating_sub(first.began_us), heads }
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::NoHeaders;

    fn head(user: Option<u64>) -> Head<'static> {
        Head {
            business: "b",
            service: "s",
            caller: "outside",
            datacenter: "east",
            method: "GET",
            host: "h",
            path: "/",
            query: "",
            headers: &NoHeaders,
            user,
            priority: 0,
        }
    }

    fn none() -> std::iter::Empty<(&'static str, &'static str)> {
        std::iter::empty()
    }

    #[test]
    fn it_stays_bounded_and_its_share_tells_the_truth() {
        let mut reservoir = Reservoir::default();
        let (users, requests, seconds) = (20_000_u64, 600_000_u64, 120_u64);
        for n in 0..requests {
            let at_us = n * seconds * 1_000_000 / requests;
            reservoir.offer(&head(Some(n.wrapping_mul(7_919) % users)), none, at_us);
        }
        let sample = reservoir.sample(seconds * 1_000_000);
        assert!(sample.heads.len() <= PARTS_MAX * PART_HEADS_MAX && sample.heads.len() > 500, "{}", sample.heads.len());
        let share = sample.below as f64 / u64::MAX as f64;
        let estimate = sample.heads.len() as f64 / share;
        assert!((estimate / requests as f64 - 1.0).abs() < 0.15, "{estimate} of {requests}");
        let distinct: std::collections::BTreeSet<_> = sample.heads.iter().map(|head| head.user).collect();
        let estimate = distinct.len() as f64 / share;
        assert!((estimate / users as f64 - 1.0).abs() < 0.15, "{estimate} of {users}");
    }

    #[test]
    fn a_quiet_time_keeps_all_and_old_heads_go() {
        let mut reservoir = Reservoir::default();
        (0..50).for_each(|n| reservoir.offer(&head(None), none, n));
        let sample = reservoir.sample(1_000_000);
        assert_eq!((sample.heads.len(), sample.below), (50, u64::MAX));
        reservoir.offer(&head(None), none, PART_US * 20);
        assert_eq!(reservoir.sample(PART_US * 20 + 1).heads.len(), 1);
        assert_eq!(reservoir.sample(PART_US * 40).heads.len(), 0, "nothing is told of a time that is gone");
    }

    #[test]
    fn secrets_and_long_texts_are_not_kept() {
        let mut reservoir = Reservoir::default();
        let long = "é".repeat(500);
        let headers = [("authorization", "secret"), ("x-client", "1.2"), ("x-long", long.as_str())];
        reservoir.offer(&head(Some(1)), || headers.into_iter(), 5);
        let sample = reservoir.sample(6);
        assert_eq!(sample.heads[0].headers.len(), 2);
        assert_eq!(sample.heads[0].headers[1].1.len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn workers_are_laid_together_at_the_least_share() {
        let (mut busy, mut quiet) = (Reservoir::default(), Reservoir::default());
        (0..50_000_u64).for_each(|n| busy.offer(&head(Some(n)), none, n));
        (0..1_000_u64).for_each(|n| quiet.offer(&head(Some(n)), none, n));
        let all = Sample::together([busy.sample(60_000), quiet.sample(60_000)]);
        assert_eq!(all.below, busy.sample(60_000).below);
        assert!(all.heads.iter().all(|head| head.place < all.below));
        assert!(all.heads.is_sorted_by_key(|head| head.at_us));
    }
}
