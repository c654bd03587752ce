//! The operators' policies for the instances of this host: one file that all of them may read (`SPRINGTIDE_POLICIES`).
//!
//! What they mean is the SDK's business. An agent without a server changes nothing: each policy ends by the reader's clock.

use crate::host::{Host, now_unix_ms};
use api::fleet::{Policies, PoliciesTaken};
use model::Clocks;
use shim::files::{self, Lasting};
use std::sync::Arc;

/// Where the kernel says how long it has run: readers of the file (the SDK) look there, too, so that a container in which it
/// is another time has the same one for both.
const UPTIME: &str = "/proc/uptime";

fn uptime_ms() -> u64 {
    let uptime = std::fs::read_to_string(UPTIME).unwrap_or_default();
    let seconds: f64 = uptime.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    (seconds * 1_000.0) as u64
}

/// Writes what the server sent; gives the confirmation, or nothing when it could not be kept.
pub async fn take(host: &Arc<Host>, policies: Policies) -> Option<PoliciesTaken> {
    let revision = policies.revision;
    let at = Clocks { boot_id: host.boot_id.clone(), boot_ms: uptime_ms(), unix_ms: now_unix_ms() };
    let bytes = api::policies::kept(policies, at).bytes();
    let path = host.policies_file();
    let file = path.clone();
    let written = tokio::task::spawn_blocking(move || files::replace(&file, &bytes, Lasting::Disk)).await;
    match written {
        Ok(Ok(())) => Some(PoliciesTaken { revision }),
        Ok(Err(error)) => {
            tracing::error!(path = %path.display(), %error, "the policies cannot be written; instances keep the last");
            None
        }
        Err(error) => {
            tracing::error!(%error, "writing the policies stopped");
            None
        }
    }
}
