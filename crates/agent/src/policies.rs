//! The operators' policies for the instances of this host: one file that all of them may read (`SPRINGTIDE_POLICIES`).
//!
//! What they mean is the SDK's business. An agent without a server changes nothing: each policy ends by the reader's clock.

use crate::host::{Host, now_unix_ms};
use api::fleet::{Policies, PoliciesTaken};
use model::Clocks;
use rustix::time::{ClockId, clock_gettime};
use shim::files::{self, Lasting};
use std::sync::Arc;

/// Writes what the server sent; gives the confirmation, or nothing when it could not be kept.
pub async fn take(host: &Arc<Host>, policies: Policies) -> Option<PoliciesTaken> {
    let revision = policies.revision;
    let boot = clock_gettime(ClockId::Boottime);
    let boot_ms = boot.tv_sec as u64 * 1_000 + boot.tv_nsec as u64 / 1_000_000;
    let at = Clocks { boot_id: host.boot_id.clone(), boot_ms, unix_ms: now_unix_ms() };
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
