//! Which endpoint gets the next request: weights, leased overrides, and least load among equals.
//!
//! Pure: time, load and availability are parameters. Two rules make the shares exact and the load even:
//! - Between endpoints of different weight the weights alone decide. Comparing `in_flight / weight` across weights would
//!   give an idle 1% canary either twice its share or none of it, so a gray stage would not be what it says.
//! - Among endpoints of one weight, the less loaded of two candidates wins (power of two choices).
//!
//! While an override lives, the weights alone decide everywhere: a stress test measures at the share it asked for, and
//! least load would take traffic away from the instance under test exactly when it starts to queue.
//!
//! Points come from a Weyl sequence (multiples of the golden ratio) instead of a random source: after n requests each
//! share is off by about log(n)/n, not 1/sqrt(n), so even a 1% stage is right after a few hundred requests.

/// Points drawn before an exact search among the available endpoints.
const DRAWS_MAX: u32 = 8;
/// Different ends of overrides kept apart in one cluster; further ones end with the last of these, early rather than late.
const STAGES_MAX: usize = 16;
/// Most that an endpoint has of its share when requests are spread by a key, as a share itself: 1.25 = 5/4. Smaller moves
/// more users away from their endpoint, larger lets one run hotter ("Consistent Hashing with Bounded Loads", 2016).
const BOUND: (u128, u128) = (5, 4);
/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// What the balance needs to know of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weighted {
    /// Steady weight; 0 gets nothing.
    pub weight: u32,
    /// Weight while the lease lives, and when that ends, on the proxy's own clock.
    pub leased: Option<(u32, u64)>,
    /// Gets no new request.
    pub draining: bool,
}

/// The shares of one cluster, now and after each lease ends.
#[derive(Debug, Default)]
pub struct Balance {
    steady: Shares,
    /// Ends in ms, ascending; each in force until its end.
    stages: Vec<(u64, Shares)>,
}

impl Balance {
    /// Prepares the shares of these endpoints; indexes refer to this slice.
    pub fn new(endpoints: &[Weighted]) -> Self {
        let mut ends: Vec<u64> = endpoints.iter().filter_map(|e| e.leased.map(|(_, until)| until)).collect();
        ends.sort_unstable();
        ends.dedup();
        ends.truncate(STAGES_MAX);
        let stages = ends
            .into_iter()
            .map(|end| {
                let weight = |e: &Weighted| e.leased.filter(|(_, until)| *until >= end).map_or(e.weight, |(w, _)| w);
                (end, Shares::new(endpoints, weight, false))
            })
            // An override that leaves nobody to answer is not believed.
            .filter(|(_, shares)| shares.total > 0)
            .collect();
        Self { steady: Shares::new(endpoints, |e| e.weight, true), stages }
    }

    /// True while a leased override is in force.
    pub fn leased(&self, now_ms: u64) -> bool {
        self.stages.last().is_some_and(|(end, _)| now_ms < *end)
    }

    /// The shares in force.
    pub fn shares(&self, now_ms: u64) -> &Shares {
        self.stages.iter().find(|(end, _)| now_ms < *end).map_or(&self.steady, |(_, shares)| shares)
    }
}

/// Endpoints grouped by weight.
#[derive(Debug, Default)]
pub struct Shares {
    classes: Vec<Class>,
    total: u64,
    least_load: bool,
}

#[derive(Debug)]
struct Class {
    weight: u64,
    /// End of its part of `0..total`.
    end: u64,
    members: Vec<u32>,
}

impl Shares {
    fn new(endpoints: &[Weighted], weight: impl Fn(&Weighted) -> u32, least_load: bool) -> Self {
        let mut by_weight = std::collections::BTreeMap::<u32, Vec<u32>>::new();
        for (index, endpoint) in (0_u32..).zip(endpoints) {
            let weight = weight(endpoint);
            if weight > 0 && !endpoint.draining {
                by_weight.entry(weight).or_default().push(index);
            }
        }
        let mut total = 0;
        let classes = by_weight
            .into_iter()
            .map(|(weight, members)| {
                let weight = u64::from(weight);
                total += weight * members.len() as u64;
                Class { weight, end: total, members }
            })
            .collect();
        Self { classes, total, least_load }
    }

    /// Chooses an endpoint; `None` when none has weight. When none is available, all count as available: a cluster
    /// whose every endpoint is ejected is more likely misjudged than down.
    pub fn pick(&self, points: &mut Points, load: impl Fn(u32) -> u64, available: impl Fn(u32) -> bool) -> Option<u32> {
        if self.total == 0 {
            return None;
        }
        for _ in 0..DRAWS_MAX {
            let (class, first) = self.at(points.next(self.total));
            if !available(first) {
                continue;
            }
            if !self.least_load || class.members.len() == 1 {
                return Some(first);
            }
            let second = class.members[points.scattered(class.members.len())];
            return Some(if load(second) < load(first) && available(second) { second } else { first });
        }
        Some(self.search(points, available))
    }

    /// Chooses the endpoint of a key: always the same while it is available and within its bound.
    ///
    /// Weighted rendezvous hashing: endpoint i draws an exponential variate from (key, identity) at the rate of its
    /// weight, the first wins. So each endpoint has keys in proportion to its weight, one that comes takes keys from all,
    /// one that goes gives its keys to all, and no other key moves. Weights and overrides thus mean shares of keys.
    /// An endpoint whose load is at its bound, 1.25 times its share of all, is passed over; while an override lives
    /// there is no bound: the share asked for is what is measured. O(endpoints) for each choice.
    pub fn pick_by_key(
        &self,
        key: u64,
        identity: impl Fn(u32) -> u64,
        load: impl Fn(u32) -> u32,
        available: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let members = || self.classes.iter().flat_map(|class| class.members.iter().map(|m| (*m, class.weight)));
        let any = members().any(|(m, _)| available(m));
        let usable = || members().filter(|(m, _)| !any || available(*m));
        let (mut weights, mut loads) = (0_u128, 1_u128);
        for (member, weight) in usable() {
            weights += u128::from(weight);
            loads += u128::from(load(member));
        }
        let full = |member, weight: u64| {
            // load >= 5/4 · (all + 1) · weight / weights, in whole numbers.
            u128::from(load(member)) * BOUND.1 * weights >= BOUND.0 * loads * u128::from(weight)
        };
        let drawn = |(member, weight): (u32, u64)| (exponential(key, identity(member)) / weight as f64, member);
        let within = usable().filter(|(m, weight)| !self.least_load || !full(*m, *weight)).map(drawn);
        // Loads change between the walks; when all seem full, the key's own endpoint it is.
        let first = within
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .or_else(|| usable().map(drawn).min_by(|a, b| a.0.total_cmp(&b.0)));
        first.map(|(_, member)| member)
    }

    /// Whether `is` holds for any endpoint that gets requests.
    pub fn any(&self, is: impl Fn(u32) -> bool) -> bool {
        self.classes.iter().flat_map(|class| &class.members).any(|member| is(*member))
    }

    fn at(&self, point: u64) -> (&Class, u32) {
        let class = &self.classes[self.classes.partition_point(|class| class.end <= point)];
        let from_end = (class.end - 1 - point) / class.weight;
        (class, class.members[from_end as usize])
    }

    /// Exact choice by weight among the available.
    fn search(&self, points: &mut Points, available: impl Fn(u32) -> bool) -> u32 {
        let members = || self.classes.iter().flat_map(|class| class.members.iter().map(|m| (*m, class.weight)));
        let total: u64 = members().filter(|(m, _)| available(*m)).map(|(_, weight)| weight).sum();
        if total == 0 {
            return self.at(points.next(self.total)).1;
        }
        let mut point = points.next(total);
        for (member, weight) in members().filter(|(m, _)| available(*m)) {
            if point < weight {
                return member;
            }
            point -= weight;
        }
        // Availability may change between the two walks, when a check ends: any member will do.
        self.at(points.next(self.total)).1
    }
}

/// Spreads the bits of a number (the finalizer of SplitMix64).
pub fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number for a name or a header's value: the same in every proxy (FNV-1a, mixed).
pub fn key_of(bytes: &[u8]) -> u64 {
    let folded = bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3));
    mixed(folded)
}

/// An exponential variate of rate 1 that depends on both alone.
fn exponential(key: u64, identity: u64) -> f64 {
    let bits = mixed(key ^ identity.wrapping_mul(GOLDEN)) >> 11;
    -((bits as f64 + 0.5) / (1_u64 << 53) as f64).ln()
}

/// An evenly spread sequence of points; each worker has its own for each cluster.
#[derive(Debug, Clone, Copy)]
pub struct Points(u64);

impl Points {
    /// Starts at the seed, so that workers and proxies do not choose in step.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next point of `0..below`.
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        ((u128::from(self.0) * u128::from(below)) >> 64) as u64
    }

    /// An index below `len` with no relation to the points.
    fn scattered(&self, len: usize) -> usize {
        ((u128::from(mixed(self.0)) * len as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests;
