//! Policies in the loop: sent when they change, ended when their time has come.

use super::commit::NotCommitted;
use super::engine::Engine;
use crate::clock::now_ms;
use crate::config::Error;
use crate::policies::PoliciesPut;
use api::fleet::agent_down;
use control::{Commit, Write};
use model::{HostName, Kind, ResourceKey, keys};
use std::sync::Arc;
use std::time::Instant;

/// Who ends a policy whose time has come, in the audit and in its history.
pub const EXPIRY: &str = "expiry";

impl Engine {
    /// Sends policies when they, or the proxies that share their rates, changed.
    pub(super) fn publish_policies(&mut self) {
        if !std::mem::take(&mut self.policies_dirty) {
            return;
        }
        let proxies = self.enforcers.proxies(Instant::now());
        let put = Arc::new(PoliciesPut::of(&self.world.snapshot, proxies, now_ms()));
        if self.policies_put.as_ref() != Some(&put) {
            let version = self.cache.set_policies(Arc::clone(&put));
            self.policies_put = Some(Arc::clone(&put));
            self.enforcers.published(put.revision, version);
            let hosts: Vec<HostName> = self.world.links.agents.keys().cloned().collect();
            hosts.iter().for_each(|host| self.send_policies(host));
        }
    }

    /// Sends an agent what its instances are to know.
    pub(super) fn send_policies(&mut self, host: &HostName) {
        let Some(put) = self.policies_put.clone() else { return };
        self.world.links.send(host, agent_down::Message::Policies(put.message(now_ms())));
    }

    /// Takes out of the store what has ended: where policies act they have lapsed by themselves already.
    pub(super) async fn end_policies(&mut self) -> Result<(), Error> {
        let now = now_ms();
        let first_end = self.policies_put.as_ref().and_then(|put| put.first_end());
        if self.staged || first_end.is_none_or(|end| end > now) {
            return Ok(());
        }
        let mut commit = Commit { who: EXPIRY.to_owned(), ..Commit::default() };
        for policy in self.world.snapshot.policies().filter(|policy| policy.expires_at.unix_ms() <= now) {
            let key = ResourceKey { kind: Kind::Policy, name: policy.name.to_string() };
            let revision = self.world.snapshot.resources.get(&key).map_or(0, |at| at.revision);
            let key = keys::resource(&key);
            commit.guards.push((key.clone(), revision));
            commit.writes.push(Write { key, value: None });
        }
        // What is sent says so even when the store does not take it just now.
        self.policies_dirty = true;
        if commit.writes.is_empty() {
            return Ok(());
        }
        if let Err(NotCommitted::Conflict(why) | NotCommitted::Refused(why)) = self.commit(commit).await? {
            tracing::info!(%why, "ended policies stay in the store for now");
        }
        Ok(())
    }

    /// Notes when the proxies that share rates changed, and remembers who they are.
    pub(super) fn look_at_enforcers(&mut self) {
        let now = Instant::now();
        if !self.enforcers.due(now) {
            return;
        }
        let put = self.policies_put.as_ref().filter(|put| !put.proxies.is_empty());
        self.policies_dirty |= put.is_some_and(|put| put.proxies != self.enforcers.proxies(now));
        if let Some(names) = self.enforcers.news() {
            let bytes = serde_json::to_vec(&names).expect("a map of text is plain data");
            if let Err(error) = crate::file::replace(&self.enforcers_file, &bytes) {
                tracing::warn!(%error, "the proxies' names could not be remembered for the next start");
            }
        }
    }
}
