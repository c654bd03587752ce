//! The score: spread first, then best fit, then the host's name.
//!
//! Spread is lexicographic, so that no packing gain ever puts two instances of a service into one failure domain while another is
//! empty: fewest of the service in the rack, then fewest on the host. Among equals the host that is left with the least free CPU and
//! memory wins (best fit keeps large holes for large shapes). A service has far fewer instances than the fleet has hosts,
//! so best fit decides among many equals and packing loses little to spread.

use crate::columns::{Columns, pages_up};
use crate::demand::Demand;

/// Cost of one more instance on a host; the least wins. The order of the fields is the order of importance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost {
    /// Instances of the service in the rack.
    pub(crate) in_rack: u32,
    /// Instances of the service on the host.
    pub(crate) on_host: u32,
    /// Mean share of CPU and memory left free afterwards, in thousandths.
    pub(crate) left_permille: u32,
    /// Rank of the host's name.
    pub(crate) host: u32,
}

fn left_permille(free: u64, wanted: u64, total: u64) -> u64 {
    (free.saturating_sub(wanted) * 1_000).checked_div(total).unwrap_or(0)
}

impl Cost {
    /// The cost on a host that accepts the demand.
    pub(crate) fn of(columns: &Columns, demand: &Demand, host: usize) -> Self {
        let cpu = left_permille(
            u64::from(columns.cpu_millis_free[host]),
            u64::from(demand.shape.cpu.0),
            u64::from(columns.cpu_millis_total[host]),
        );
        let memory = left_permille(
            u64::from(columns.memory_pages_free[host]),
            pages_up(demand.shape.memory.0),
            u64::from(columns.memory_pages_total[host]),
        );
        Self {
            in_rack: demand.staying_in_rack[columns.rack[host] as usize],
            on_host: demand.staying[host],
            left_permille: ((cpu + memory) / 2) as u32,
            host: host as u32,
        }
    }

    /// For people: 1 is an empty rack and a perfect fit; it falls in the order of the costs (up to 1,000 on one host).
    pub(crate) fn score(self) -> f64 {
        let below = f64::from(self.on_host.min(999)) / 1e3 + f64::from(self.left_permille.min(999)) / 1e6;
        1.0 / (1.0 + f64::from(self.in_rack) + below)
    }
}
