//! One ADS stream (state of the world): subscriptions in, the resources it lacks out.
//!
//! The state machine is [`Stream`], free of I/O but for reading the cache; [`super::Ads`] carries its messages.

use super::cache::{Cache, Type, View};
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use std::collections::{BTreeMap, BTreeSet};

/// Names one stream may subscribe to in a type.
const NAMES_MAX: usize = 100_000;

/// Why a stream is ended by us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many names.
    #[error("a subscription to {0} names is refused: at most {NAMES_MAX} are allowed")]
    TooManyNames(usize),
}

/// What a stream has of one type.
#[derive(Debug, Default)]
struct Subscription {
    /// Names asked for; `None` is everything of the type.
    names: Option<BTreeSet<String>>,
    /// Version last sent of each.
    sent: BTreeMap<String, u64>,
    /// Nonce of the last answer.
    nonce: u64,
    /// Nonce of the last answer that the client took whole.
    accepted: u64,
    /// True until the first answer went out: it goes out even when empty, where the type allows it.
    fresh: bool,
}

/// The state of one stream.
#[derive(Debug, Default)]
pub struct Stream {
    subscriptions: BTreeMap<Type, Subscription>,
    seen: u64,
    nonce: u64,
    /// Answers the client refused, for the log and the metrics.
    pub refusals: u64,
    /// Why it refused the last policies, in part at least.
    policies_refused: Option<String>,
}

impl Stream {
    /// A stream that begins when the cache is at `version`: what it asks for it is given as it is then, or newer.
    pub fn new(version: u64) -> Self {
        Self { seen: version, ..Self::default() }
    }

    /// The version of the cache up to which the client has taken all endpoints that concern it; `None` while an answer
    /// is on its way. A client that asks for no endpoints follows all the same once it has taken anything.
    pub fn confirmed(&self) -> Option<u64> {
        let taken = |at: &Subscription| at.accepted == at.nonce;
        let is_up_to_date = match self.subscriptions.get(&Type::Endpoints) {
            Some(endpoints) => taken(endpoints),
            None => self.subscriptions.values().any(|at| at.nonce > 0 && taken(at)),
        };
        is_up_to_date.then_some(self.seen)
    }

    /// Version of the policies that the client has put in force, and what of them it could not; `None` when it does not
    /// ask for any.
    pub fn policies(&self) -> Option<(u64, Option<&str>)> {
        let at = self.subscriptions.get(&Type::Policies)?;
        let refused = self.policies_refused.as_deref();
        let taken = if at.accepted == at.nonce { at.sent.get(api::policies::RESOURCE) } else { None };
        Some((taken.copied().unwrap_or(0), refused))
    }

    /// Takes a request in, and gives what is to be sent.
    pub fn request(&mut self, cache: &Cache, request: &DiscoveryRequest) -> Result<Vec<DiscoveryResponse>, Refused> {
        let Some(of) = Type::from_url(&request.type_url) else {
            // A type we do not serve: xDS answers nothing, so that the client's own default holds.
            return Ok(Vec::new());
        };
        if request.resource_names.len() > NAMES_MAX {
            return Err(Refused::TooManyNames(request.resource_names.len()));
        }
        let names: BTreeSet<String> = request.resource_names.iter().cloned().collect();
        let wildcard = of.is_state_of_the_world() && (names.is_empty() || names.contains("*"));
        let names = (!wildcard).then_some(names);
        match self.subscriptions.get_mut(&of) {
            None => {
                let subscription = Subscription { names, fresh: true, ..Default::default() };
                self.subscriptions.insert(of, subscription);
            }
            Some(known) => {
                if !request.response_nonce.is_empty() && request.response_nonce != known.nonce.to_string() {
                    // It answers an older message; the answer to the newest one will carry the names again.
                    return Ok(Vec::new());
                }
                if let Some(error) = &request.error_detail {
                    self.refusals += 1;
                    if of == Type::Policies {
                        self.policies_refused = Some(error.message.clone());
                    }
                    tracing::warn!(type_url = %request.type_url, error = %error.message, "an xDS client refused an answer");
                } else if !request.response_nonce.is_empty() {
                    known.accepted = known.nonce;
                    if of == Type::Policies {
                        self.policies_refused = None;
                    }
                }
                if known.names == names {
                    return Ok(Vec::new());
                }
                if let Some(names) = &names {
                    known.sent.retain(|name, _| names.contains(name));
                }
                known.fresh = of.is_state_of_the_world();
                known.names = names;
            }
        }
        Ok(self.answer(&cache.view(), of).into_iter().collect())
    }

    /// Gives what changed in the cache and concerns this stream, in the order in which it is to be sent.
    pub fn changed(&mut self, cache: &Cache) -> Vec<DiscoveryResponse> {
        let view = cache.view();
        let since = view.since(self.seen);
        self.seen = since.version;
        let types: BTreeSet<Type> = match since.changed {
            Some(changed) => changed.into_iter().filter(|(at, name)| self.concerns(*at, name)).map(|at| at.0).collect(),
            None => Type::ALL.into(),
        };
        let mut answers = Vec::new();
        for of in types {
            answers.extend(self.answer(&view, of));
            if of == Type::Cluster {
                // Envoy warms a changed cluster anew and waits for its endpoints, changed or not.
                answers.extend(self.answer(&view, Type::Endpoints));
            }
        }
        answers
    }

    fn concerns(&self, of: Type, name: &str) -> bool {
        self.subscriptions.get(&of).is_some_and(|at| at.names.as_ref().is_none_or(|names| names.contains(name)))
    }

    /// The answer for one type: nothing when the stream has all it asked for.
    fn answer(&mut self, view: &View, of: Type) -> Option<DiscoveryResponse> {
        let subscription = self.subscriptions.get_mut(&of)?;
        let wanted: Vec<String> = match &subscription.names {
            Some(names) => names.iter().cloned().collect(),
            None => view.names(of),
        };
        let stale = |name: &String| {
            let version = view.version_of(of, name);
            version.is_some() && version != subscription.sent.get(name).copied()
        };
        let lacking: Vec<String> = wanted.iter().filter(|name| stale(name)).cloned().collect();
        let gone = subscription.sent.keys().any(|name| view.version_of(of, name).is_none());
        subscription.sent.retain(|name, _| view.version_of(of, name).is_some());
        let whole = of.is_state_of_the_world();
        if lacking.is_empty() && !(whole && (gone || subscription.fresh)) {
            return None;
        }
        let names = if whole { &wanted } else { &lacking };
        let found: Vec<_> = names.iter().filter_map(|name| Some((name, view.get(of, name)?))).collect();
        let version = found.iter().map(|(_, (version, _))| *version).max().unwrap_or(0).max(self.seen);
        self.nonce += 1;
        subscription.nonce = self.nonce;
        subscription.fresh = false;
        let mut resources = Vec::with_capacity(found.len());
        let mut resent = Vec::new();
        for (name, (version, resource)) in found {
            if subscription.sent.insert(name.clone(), version) != Some(version) {
                resent.push(name.clone());
            }
            resources.push(resource);
        }
        if of == Type::Cluster {
            self.forget_endpoints(&resent);
        }
        Some(DiscoveryResponse {
            version_info: version.to_string(),
            resources,
            type_url: of.url().to_owned(),
            nonce: self.nonce.to_string(),
            ..Default::default()
        })
    }

    fn forget_endpoints(&mut self, clusters: &[String]) {
        if let Some(endpoints) = self.subscriptions.get_mut(&Type::Endpoints) {
            endpoints.sent.retain(|name, _| !clusters.contains(name));
        }
    }
}

#[cfg(test)]
mod tests;
