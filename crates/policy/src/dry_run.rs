//! What policies would have done to a sample: counted where the sample is, scaled where the counts meet.

use crate::reservoir::Sample;
use crate::set::PolicySet;
use std::collections::BTreeMap;

/// What the policies would have taken of one sampled user (or of one request without a user).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Place in the sample.
    pub place: u64,
    /// True for a user, false for a request without one.
    pub user: bool,
    /// Requests in the sample.
    pub requests: u32,
    /// Requests that each policy would have taken, in the order of the names asked for.
    pub hits: Vec<u32>,
}

/// What one proxy found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Places below this are in the sample, of [`u64::MAX`].
    pub below: u64,
    /// Time that the sample covers, in microseconds.
    pub window_us: u64,
    /// The sampled users and requests, by place.
    pub rows: Vec<Row>,
    /// Requests for which the expression of each policy failed.
    pub failed: Vec<u64>,
}

/// Runs a set, compiled for this very run with the sample's share as rate scale, over a sample; `names` are the policies to count.
pub fn run(set: &PolicySet, sample: &Sample, names: &[String]) -> Findings {
    let mut rows: BTreeMap<(u64, bool), Row> = BTreeMap::new();
    for sampled in &sample.heads {
        let user = sampled.user.is_some();
        let row = rows.entry((sampled.place, user)).or_insert_with(|| Row {
            place: sampled.place,
            user,
            requests: 0,
            hits: vec![0; names.len()],
        });
        row.requests += 1;
        let Some(taken) = set.decide(&sampled.head(), sampled.at_us) else { continue };
        let name = taken.entry.policy.name.as_str();
        if let Some(at) = names.iter().position(|known| known == name) {
            row.hits[at] += 1;
        }
    }
    let failed = |name: &String| {
        let entry = set.entries().iter().find(|entry| entry.policy.name.as_str() == name);
        entry.map_or(0, |entry| entry.counts.failed())
    };
    Findings {
        below: sample.below,
        window_us: sample.window_us,
        rows: rows.into_values().collect(),
        failed: names.iter().map(failed).collect(),
    }
}

/// A number estimated from a sample, with its 95% interval.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimated {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What one policy would have done, estimated.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Effect {
    /// Sampled requests that it would have taken.
    pub sampled: u64,
    /// Share of all requests, 0 to 1.
    pub requests_share: Estimated,
    /// Requests a second.
    pub requests_per_second: f64,
    /// Distinct users.
    pub users: Estimated,
    /// Sampled requests for which its expression failed.
    pub failed: u64,
}

/// What all findings together say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DryRun {
    /// Requests in the sample; 0: nothing was measured.
    pub sampled: u64,
    /// Users in the sample.
    pub sampled_users: u64,
    /// Share of users that the sample holds, 0 to 1.
    pub sampled_share: f64,
    /// Time covered, in seconds.
    pub window_seconds: f64,
    /// Requests a second of all.
    pub requests_per_second: f64,
    /// Distinct users of all.
    pub users: f64,
    /// By policy, in the order of the names asked for.
    pub effects: Vec<Effect>,
}

/// Standard errors on each side of a 95% interval.
const DEVIATIONS: f64 = 1.96;

/// Lays findings together at the share of the one that sampled least, and scales them. A user seen by several proxies is one.
pub fn estimate(findings: &[Findings], policies: usize) -> DryRun {
    let told: Vec<&Findings> = findings.iter().filter(|at| !at.rows.is_empty()).collect();
    let Some(below) = told.iter().map(|at| at.below).min() else {
        return DryRun { effects: vec![Effect::default(); policies], ..DryRun::default() };
    };
    let mut rows: BTreeMap<(u64, bool, usize), Row> = BTreeMap::new();
    for (proxy, found) in told.iter().enumerate() {
        for row in found.rows.iter().filter(|row| row.place < below) {
            // Requests without a user are counted by each proxy on its own: equal places mean nothing.
            let key = (row.place, row.user, if row.user { 0 } else { proxy });
            match rows.get_mut(&key) {
                Some(sum) => {
                    sum.requests += row.requests;
                    sum.hits.iter_mut().zip(&row.hits).for_each(|(sum, hits)| *sum += hits);
                }
                None => drop(rows.insert(key, row.clone())),
            }
        }
    }
    let rows: Vec<Row> = rows.into_values().collect();
    let share = below as f64 / u64::MAX as f64;
    let window_seconds = told.iter().map(|at| at.window_us).max().unwrap_or(0) as f64 / 1e6;
    let requests: f64 = rows.iter().map(|row| f64::from(row.requests)).sum();
    let users = rows.iter().filter(|row| row.user).count() as f64;
    let scale = Scale { share, requests, window_seconds: window_seconds.max(1.0) };
    let effects = (0..policies).map(|at| {
        scale.effect(&rows, at, told.iter().map(|f| f.failed.get(at).copied()).sum::<Option<u64>>().unwrap_or(0))
    });
    DryRun {
        sampled: requests as u64,
        sampled_users: users as u64,
        sampled_share: share,
        window_seconds,
        requests_per_second: requests / share / scale.window_seconds,
        users: users / share,
        effects: effects.collect(),
    }
}

struct Scale {
    share: f64,
    requests: f64,
    window_seconds: f64,
}

impl Scale {
    fn effect(&self, rows: &[Row], at: usize, failed: u64) -> Effect {
        let hits_of = |row: &Row| f64::from(row.hits.get(at).copied().unwrap_or(0));
        let hits: f64 = rows.iter().map(hits_of).sum();
        let mean = if self.requests > 0.0 { hits / self.requests } else { 0.0 };
        // Users are what is sampled, not requests: the error of a ratio comes from how users differ (Cochran 1977, 6.4).
        let squares: f64 = rows.iter().map(|row| (hits_of(row) - mean * f64::from(row.requests)).powi(2)).sum();
        let error = DEVIATIONS * ((1.0 - self.share).max(0.0) * squares).sqrt() / self.requests.max(1.0);
        let users = rows.iter().filter(|row| row.user && hits_of(row) > 0.0).count() as f64;
        let users_error = DEVIATIONS * (users * (1.0 - self.share).max(0.0)).sqrt() / self.share;
        Effect {
            sampled: hits as u64,
            requests_share: Estimated { value: mean, low: (mean - error).max(0.0), high: (mean + error).min(1.0) },
            requests_per_second: hits / self.share / self.window_seconds,
            users: Estimated {
                value: users / self.share,
                low: (users / self.share - users_error).max(0.0),
                high: users / self.share + users_error,
            },
            failed,
        }
    }
}

#[cfg(test)]
mod tests;
