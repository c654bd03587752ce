//! Which attempts are sent again, and when: idempotent requests, on a budget, never against an overloaded level.

use super::{Context, Protection, Service};
use crate::exchange::Failure;
use crate::headers::REJECT;
use admission::RetryRefusal;
use admission::wire::{self, Why};
use http::StatusCode;
use http::response::Parts;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What an attempt came to, as far as a retry is concerned.
pub enum Came<'a> {
    /// An answer.
    Answer(&'a Parts),
    /// None.
    Failure(&'a Failure),
}

/// Whether another attempt may end better: not after a caller's fault, nor once the time went by.
fn may_help(came: &Came<'_>) -> bool {
    match came {
        Came::Failure(Failure::Connect(_) | Failure::Broken(_) | Failure::Full) => true,
        Came::Failure(Failure::Late | Failure::Upload | Failure::CallerGone) => false,
        Came::Answer(answer) => match answer.status {
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => true,
            StatusCode::SERVICE_UNAVAILABLE => {
                let reason = answer.headers.get(REJECT).and_then(|value| value.to_str().ok());
                // Another endpoint may have room; what a policy or a deadline refused they all refuse.
                match reason.map(wire::parse_reject) {
                    Some(Ok((why, _))) => matches!(why, Why::Overload | Why::Overflow | Why::NoEndpoint),
                    Some(Err(_)) | None => true,
                }
            }
            _ => false,
        },
    }
}

/// The overloaded service that a rejection names: the one that was called, or one that it calls.
fn shed_by<'a>(came: &Came<'a>) -> Option<&'a str> {
    let Came::Answer(answer) = came else { return None };
    match wire::parse_reject(answer.headers.get(REJECT)?.to_str().ok()?) {
        Ok((Why::Overload | Why::Overflow, by)) => Some(by),
        _ => None,
    }
}

impl Protection {
    /// The wait before the attempt after number `attempt` (0 is the first), if there is to be one. `elsewhere`: another
    /// endpoint has room. Where none has, what is sent again takes the place of somebody's first attempt, and waits twice
    /// for it.
    pub fn again(
        &self,
        service: &Service,
        context: &Context,
        attempt: u32,
        came: &Came<'_>,
        elsewhere: impl FnOnce() -> bool,
        now_us: u64,
    ) -> Option<Duration> {
        if !may_help(came) {
            return None;
        }
        let allowed = service.allows(context.priority, now_us)
            && shed_by(came).is_none_or(|by| by == &*service.name && elsewhere());
        let remaining_us = Some(context.deadline.remaining_us(now_us));
        match service.budget.retry(attempt, allowed, remaining_us, rand::random(), now_us) {
            Ok(wait_us) => {
                service.counted.retries.fetch_add(1, Relaxed);
                Some(Duration::from_micros(wait_us))
            }
            Err(RetryRefusal::Attempts) => None,
            Err(RetryRefusal::Overloaded | RetryRefusal::Budget | RetryRefusal::Deadline) => {
                service.counted.retries_refused.fetch_add(1, Relaxed);
                None
            }
        }
    }
}
