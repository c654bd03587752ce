//! One request between its start and its end, counted exactly once whatever happens to it.

use crate::edge::{Edge, Outcome};
use crate::endpoint::{Clock, Moment};
use crate::exchange::Link;
use crate::local::Upstream;
use std::rc::Rc;
use std::sync::Arc;

/// A request that an endpoint is working on.
pub struct Flight {
    /// Where it goes.
    pub upstream: Rc<Upstream>,
    /// How it ended; counted when this is dropped. A caller that gives up is not the endpoint's error.
    pub outcome: Outcome,
    edge: Arc<Edge>,
    /// The proxy's.
    pub clock: Clock,
    began: Moment,
    /// When it ended, where that is known already.
    ended: Option<Moment>,
    /// When it had its place at the endpoint.
    turned: Option<Moment>,
    /// Holds one of the upstream's slots.
    pub slot: bool,
}

impl Flight {
    /// The request begins.
    pub fn new(upstream: Rc<Upstream>, edge: Arc<Edge>, clock: Clock, began: Moment) -> Self {
        edge.start();
        upstream.state.enter(began.ms());
        Self { upstream, outcome: Outcome::Done, edge, clock, began, ended: None, turned: None, slot: false }
    }

    /// It has its place at the endpoint; whatever it takes from now on is the endpoint's.
    pub fn turn(&mut self, attempt: u32, now: Moment) {
        self.turned = Some(now);
        if let Some(carried) = &self.upstream.carried {
            carried.request();
        }
        match attempt {
            0 => self.edge.waited(now.us_since(self.began)),
            _ => self.edge.again(),
        }
    }

    /// The head of an answer is there.
    pub fn answered(&self, now: Moment) {
        if let Some(turned) = self.turned {
            self.edge.answered(now.us_since(turned));
        }
    }

    /// The endpoint answered well enough.
    pub fn succeeded(&self) {
        self.upstream.state.succeeded(self.began.ms());
    }

    /// The endpoint failed.
    pub fn failed(&mut self) {
        self.outcome = Outcome::Error;
        let state = &self.upstream.state;
        if state.failed(self.clock.now_ms()) {
            tracing::warn!(instance = %state.instance, address = %state.address, "endpoint ejected for a while: it fails");
        }
    }

    /// The answer was read to its end: the connection may serve the next request, if it is kept.
    pub fn give_back(mut self, link: Link, now: Moment) {
        self.ended = Some(now);
        if let Link::Http1(receiving) = link
            && let Some(connection) = receiving.finish()
        {
            self.upstream.pool.give(connection, now.at);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.upstream.state.leave();
        if self.slot {
            self.upstream.slots.give();
        }
        let ended = self.ended.unwrap_or_else(|| self.clock.now());
        self.edge.end(self.outcome, ended.us_since(self.began));
    }
}
