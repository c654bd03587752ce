//! Policies as they are kept beside a process: a proxy's own, so that it restarts with them, and the file that an agent
//! writes for the instances of its host (`SPRINGTIDE_POLICIES`). With them the clocks by which their lives go on.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of this form; a reader refuses one that it does not know, and keeps what it had.
pub const POLICIES_FORMAT: u32 = 1;

/// The whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoliciesFile {
    /// [`POLICIES_FORMAT`].
    pub format: u32,
    /// Revision of the server's store at which the last of them changed.
    pub revision: u64,
    /// The clocks when they were received.
    pub at: Clocks,
    /// Live proxies by datacenter.
    pub proxies: BTreeMap<String, u32>,
    /// The policies.
    pub policies: Vec<KeptPolicy>,
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptPolicy {
    /// Its version.
    pub version: u64,
    /// Its end by the server's clock.
    pub expires_at_unix_ms: u64,
    /// Its remaining life when the server sent it.
    pub life_ms: u64,
    /// The resource; read one by one, so that one of a newer form does not take the others along.
    pub policy: serde_json::Value,
}

/// Why a file is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFault {
    /// Not JSON of this form.
    Damaged(String),
    /// A form of a newer version.
    Format(u32),
}

impl std::fmt::Display for FileFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(why) => write!(f, "not a file of policies: {why}"),
            Self::Format(found) => {
                write!(f, "has format {found}, and this version reads {POLICIES_FORMAT}: upgrade it")
            }
        }
    }
}

impl std::error::Error for FileFault {}

impl PoliciesFile {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// It is damaged, or of a newer form.
    pub fn read(bytes: &[u8]) -> Result<Self, FileFault> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let damaged = |error: serde_json::Error| FileFault::Damaged(error.to_string());
        let Version { format } = serde_json::from_slice(bytes).map_err(damaged)?;
        if format != POLICIES_FORMAT {
            return Err(FileFault::Format(format));
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// The bytes of a file.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("policies are plain data")
    }

    /// What is left of a policy's life at `now`, in milliseconds; 0 when it is over.
    ///
    /// Within one boot the clock since boot decides: a wall clock that was set changes nothing. After a reboot only the wall
    /// clock is left; a life never grows by it.
    pub fn left_ms(&self, of: &KeptPolicy, now: &Clocks) -> u64 {
        let same_boot = !now.boot_id.is_empty() && now.boot_id == self.at.boot_id && now.boot_ms >= self.at.boot_ms;
        if same_boot {
            return of.life_ms.saturating_sub(now.boot_ms - self.at.boot_ms);
        }
        of.expires_at_unix_ms.saturating_sub(now.unix_ms).min(of.life_ms)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(boot: &str, boot_ms: u64, unix_ms: u64) -> Clocks {
        Clocks { boot_id: boot.to_owned(), boot_ms, unix_ms }
    }

    fn kept() -> (PoliciesFile, KeptPolicy) {
        let policy = serde_json::json!({ "name": "p" });
        let one = KeptPolicy { version: 1, expires_at_unix_ms: 1_060_000, life_ms: 60_000, policy };
        let at = clocks("a", 5_000, 1_000_000);
        let (proxies, policies) = (BTreeMap::from([("east".to_owned(), 2)]), vec![one.clone()]);
        (PoliciesFile { format: POLICIES_FORMAT, revision: 7, at, proxies, policies }, one)
    }

    #[test]
    fn a_wall_clock_that_jumps_changes_no_life_within_a_boot() {
        let (file, one) = kept();
        for unix_ms in [0, 500_000, 1_010_000, 9_000_000_000] {
            assert_eq!(file.left_ms(&one, &clocks("a", 15_000, unix_ms)), 50_000, "{unix_ms}");
        }
        assert_eq!(file.left_ms(&one, &clocks("a", 65_000, 0)), 0);
    }

    #[test]
    fn after_a_reboot_the_end_decides_and_a_life_never_grows() {
        let (file, one) = kept();
        assert_eq!(file.left_ms(&one, &clocks("b", 1, 1_030_000)), 30_000);
        assert_eq!(file.left_ms(&one, &clocks("b", 1, 5)), 60_000, "a clock set back");
        assert_eq!(file.left_ms(&one, &clocks("b", 1, 2_000_000)), 0);
        assert_eq!(file.left_ms(&one, &clocks("", 15_000, 1_050_000)), 10_000, "no boot id is no proof");
    }

    #[test]
    fn what_is_kept_is_read_back_and_a_newer_form_refused() {
        let (file, _) = kept();
        assert_eq!(PoliciesFile::read(&file.bytes()).unwrap(), file);
        let newer = PoliciesFile { format: 2, ..file };
        assert_eq!(PoliciesFile::read(&newer.bytes()), Err(FileFault::Format(2)));
        assert!(matches!(PoliciesFile::read(b"{\"format\": 1}"), Err(FileFault::Damaged(_))));
        assert!(matches!(PoliciesFile::read(b"torn"), Err(FileFault::Damaged(_))));
    }
}
