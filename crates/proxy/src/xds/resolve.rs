//! Host names of STRICT_DNS clusters (externals named by host): resolved at once when new, then again and again.
//!
//! The system's resolver decides; lifetimes of records are not looked at.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Time between two resolutions of a name.
const AGAIN: Duration = Duration::from_secs(30);
/// Time for one resolution.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Answers not yet taken.
const ANSWERS_QUEUED_MAX: usize = 64;

/// A host name and a port.
type Name = (String, u16);

/// The resolver; its task ends with it.
pub struct Resolver {
    wanted: watch::Sender<BTreeSet<Name>>,
    answers: mpsc::Receiver<(Name, Vec<SocketAddr>)>,
}

impl Resolver {
    /// Starts with nothing to resolve.
    pub fn start() -> Self {
        let (wanted, asked) = watch::channel(BTreeSet::new());
        let (to, answers) = mpsc::channel(ANSWERS_QUEUED_MAX);
        tokio::spawn(resolve(asked, to));
        Self { wanted, answers }
    }

    /// Keeps exactly these names resolved.
    pub fn ask(&self, names: BTreeSet<Name>) {
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != names;
            *wanted = names;
            changed
        });
    }

    /// The next answer.
    pub async fn next(&mut self) -> Option<(Name, Vec<SocketAddr>)> {
        self.answers.recv().await
    }
}

async fn resolve(mut asked: watch::Receiver<BTreeSet<Name>>, to: mpsc::Sender<(Name, Vec<SocketAddr>)>) {
    loop {
        let names = asked.borrow_and_update().clone();
        for name in names {
            match tokio::time::timeout(TIMEOUT, tokio::net::lookup_host(name.clone())).await {
                Ok(Ok(addresses)) => {
                    if to.send((name, addresses.collect())).await.is_err() {
                        return;
                    }
                }
                Ok(Err(error)) => tracing::warn!(host = name.0, %error, "name not resolved; what was known stays"),
                Err(_) => tracing::warn!(host = name.0, "name not resolved within {TIMEOUT:?}; what was known stays"),
            }
        }
        let again = tokio::time::sleep_until(Instant::now() + AGAIN);
        tokio::select! {
            changed = asked.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}
