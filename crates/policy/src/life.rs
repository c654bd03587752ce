//! How long a policy still lives, where it acts: by a clock that nobody sets, and across a restart of the process.

use serde::{Deserialize, Serialize};

/// The clocks of a machine, read together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// Id of the machine's boot; empty when unknown.
    pub boot_id: String,
    /// Milliseconds since boot, sleep included.
    pub boot_ms: u64,
    /// Milliseconds since the Unix epoch, as the wall clock says.
    pub unix_ms: u64,
}

/// The remaining life of a policy when it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its end by the server's clock.
    pub expires_at_unix_ms: u64,
    /// Its remaining life when the server sent it.
    pub life_ms: u64,
}

/// A moment at which lives were received, kept on disk with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The clocks at that moment.
    pub at: Clocks,
}

impl Kept {
    /// What is left of a life at `now`, in milliseconds; 0 when it is over.
    ///
    /// Within one boot the clock since boot decides: a wall clock that was set changes nothing. After a reboot only the wall
    /// clock is left; a life never grows by it.
    pub fn remaining_ms(&self, lease: Lease, now: &Clocks) -> u64 {
        let same_boot = !now.boot_id.is_empty() && now.boot_id == self.at.boot_id && now.boot_ms >= self.at.boot_ms;
        if same_boot {
            return lease.life_ms.saturating_sub(now.boot_ms - self.at.boot_ms);
        }
        lease.expires_at_unix_ms.saturating_sub(now.unix_ms).min(lease.life_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(boot: &str, boot_ms: u64, unix_ms: u64) -> Clocks {
        Clocks { boot_id: boot.to_owned(), boot_ms, unix_ms }
    }

    #[test]
    fn a_wall_clock_that_jumps_changes_no_life_within_a_boot() {
        let kept = Kept { at: clocks("a", 5_000, 1_000_000) };
        let lease = Lease { expires_at_unix_ms: 1_060_000, life_ms: 60_000 };
        for unix_ms in [0, 500_000, 1_010_000, 9_000_000_000] {
            assert_eq!(kept.remaining_ms(lease, &clocks("a", 15_000, unix_ms)), 50_000, "{unix_ms}");
        }
        assert_eq!(kept.remaining_ms(lease, &clocks("a", 65_000, 0)), 0);
    }

    #[test]
    fn after_a_reboot_the_end_decides_and_a_life_never_grows() {
        let kept = Kept { at: clocks("a", 5_000, 1_000_000) };
        let lease = Lease { expires_at_unix_ms: 1_060_000, life_ms: 60_000 };
        assert_eq!(kept.remaining_ms(lease, &clocks("b", 1, 1_030_000)), 30_000);
        assert_eq!(kept.remaining_ms(lease, &clocks("b", 1, 5)), 60_000, "a clock set back");
        assert_eq!(kept.remaining_ms(lease, &clocks("b", 1, 2_000_000)), 0);
        assert_eq!(kept.remaining_ms(lease, &clocks("", 15_000, 1_050_000)), 10_000, "no boot id is no proof");
    }
}
