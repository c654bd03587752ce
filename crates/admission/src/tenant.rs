//! A cap on one tenant's share of a service. Absent: quotas across a fleet (they are leased elsewhere).

use crate::sliding::Sliding;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The window over which a tenant's share is counted.
const WINDOW_US: u64 = 1_000_000;
/// Places tried for a tenant before it shares the place of the last.
const PROBES: usize = 8;
/// A tenant that asked for nothing in so many windows gives up its place.
const IDLE_WINDOWS: u64 = 10;

/// Caps each tenant at a share of capacity, in a table of fixed size.
///
/// Tenants beyond the table share places: a place's count is then an upper bound, so a cap is never exceeded, and a
/// crowd of tenants cannot grow the table.
pub struct TenantCap {
    share: f64,
    places: Box<[Place]>,
}

struct Place {
    /// The tenant's hash; 0 is free.
    tenant: AtomicU64,
    /// Window of the last request.
    used: AtomicU64,
    admitted: Sliding,
}

impl TenantCap {
    /// Each tenant may have `share` (0..=1) of capacity; `tenants_max` are told apart (rounded up to a power of two, at most 65,536).
    pub fn new(share: f64, tenants_max: usize) -> Self {
        let count = tenants_max.clamp(PROBES, 65_536).next_power_of_two();
        let place = || Place { tenant: AtomicU64::new(0), used: AtomicU64::new(0), admitted: Sliding::new(WINDOW_US) };
        Self { share: share.clamp(0.0, 1.0), places: (0..count).map(|_| place()).collect() }
    }

    /// Whether the tenant (a hash of its name) may have one more call of `capacity_rps`; counted if so.
    /// An unknown capacity (0, or not a number) caps nobody.
    pub fn admits(&self, tenant: u64, capacity_rps: f64, now_us: u64) -> bool {
        let place = self.place(tenant.max(1), now_us);
        let known = capacity_rps > 0.0;
        // One call a window always fits, or a small capacity would shut a tenant out.
        let cap = (self.share * capacity_rps).max(1.0);
        if known && place.admitted.sum(now_us) + 1.0 > cap {
            return false;
        }
        place.admitted.add(1, now_us);
        true
    }

    fn place(&self, tenant: u64, now_us: u64) -> &Place {
        let window = now_us / WINDOW_US;
        let mask = self.places.len() - 1;
        let start = (tenant ^ (tenant >> 32)) as usize;
        let mut at = start & mask;
        for probe in 0..PROBES {
            at = (start + probe) & mask;
            let place = &self.places[at];
            let holder = place.tenant.load(Relaxed);
            let free = holder == 0 || window.abs_diff(place.used.load(Relaxed)) > IDLE_WINDOWS;
            let ours =
                holder == tenant || (free && place.tenant.compare_exchange(holder, tenant, Relaxed, Relaxed).is_ok());
            if ours {
                break;
            }
        }
        let place = &self.places[at];
        place.used.store(window, Relaxed);
        place
    }
}

#[cfg(test)]
mod tests;
