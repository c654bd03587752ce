//! Who asks, how important it is, and until when: set once at the entry, believed on the mesh.
//!
//! A request on the mesh that brings no context (its caller hands none on) gets one by the same rules: the same user has
//! the same level at each hop, so a task is not admitted here and rejected there.

use super::settings::Source;
use super::{Protection, Settings};
use crate::headers::{LANE, Peer, has};
use crate::outgoing::Sink;
use admission::{Deadline, Priority, UserHash, wire};
use http::Uri;
use http::header::{self, HeaderMap, HeaderName};
use std::time::Duration;

/// Priority of the task.
pub const PRIORITY: HeaderName = HeaderName::from_static(wire::PRIORITY);
/// Keyed hash of the user.
pub const USER: HeaderName = HeaderName::from_static(wire::USER);
/// Remaining time.
pub const DEADLINE_MS: HeaderName = HeaderName::from_static(wire::DEADLINE_MS);
/// Attempt of this call.
pub const ATTEMPT: HeaderName = HeaderName::from_static(wire::ATTEMPT);
/// Services that admitted a call of this task.
pub const ADMITTED: HeaderName = HeaderName::from_static(wire::ADMITTED);
/// Calls shed by the caller.
pub const SHED: HeaderName = HeaderName::from_static(wire::SHED);
/// A stress test of the called service is on.
pub const UNGATED: HeaderName = HeaderName::from_static(wire::UNGATED);

/// 2⁶⁴ ÷ the golden ratio: levels of requests without a user are spread evenly.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// What protection knows about one request.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// When it came, in µs of the proxy's clock.
    pub now_us: u64,
    /// Of its task.
    pub priority: Priority,
    /// Its user, when it has one.
    pub user: Option<UserHash>,
    /// That is nobody in particular: at the entry, the address stands for it.
    pub by_address: bool,
    /// When its answer is no longer wanted.
    pub deadline: Deadline,
    /// Attempt of this call, 0 for the first.
    pub attempt: u32,
    /// The service has admitted a call of this task before.
    pub passes: bool,
    /// The slow lane delivers it.
    pub from_lane: bool,
}

/// What is asked for besides a request's head.
pub struct Arrival<'a> {
    /// It came in by the entry: nothing in its `x-springtide-` headers is believed.
    pub outside: bool,
    /// Who sent it.
    pub peer: &'a Peer,
    /// The service called.
    pub service: &'a str,
    /// Business level of that service.
    pub business_level: u8,
    /// Longest that an answer may take.
    pub timeout: Duration,
    /// In µs of the proxy's clock.
    pub now_us: u64,
}

impl Protection {
    /// The context of a request.
    pub fn context(&self, arrival: &Arrival<'_>, headers: &HeaderMap, uri: &Uri) -> Context {
        let Arrival { outside, now_us, .. } = *arrival;
        let timeout_us = arrival.timeout.as_micros() as u64;
        if outside {
            let (user, by_address) = self.user(arrival, headers, uri);
            let priority = self.priority(arrival.business_level, user);
            let deadline = Deadline::at(now_us.saturating_add(timeout_us));
            return Context {
                now_us,
                priority,
                user,
                by_address,
                deadline,
                attempt: 0,
                passes: false,
                from_lane: false,
            };
        }
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let user = text(&USER).and_then(|t| wire::parse_user(t).ok()).or_else(|| self.user(arrival, headers, uri).0);
        let priority = text(&PRIORITY).and_then(|t| wire::parse_priority(t).ok());
        let deadline = text(&DEADLINE_MS).and_then(|t| wire::parse_deadline_ms(t).ok());
        let deadline = deadline.map_or_else(
            || Deadline::at(now_us.saturating_add(timeout_us)),
            |remaining_ms| Deadline::after_ms(remaining_ms, now_us).within(timeout_us, now_us),
        );
        Context {
            now_us,
            priority: priority.unwrap_or_else(|| self.priority(arrival.business_level, user)),
            user,
            by_address: false,
            deadline,
            attempt: text(&ATTEMPT).and_then(|t| wire::parse_attempt(t).ok()).unwrap_or(0),
            passes: text(&ADMITTED).is_some_and(|t| wire::admitted_has(t, arrival.service)),
            from_lane: headers.contains_key(LANE),
        }
    }

    /// Who it is, and whether that is only an address.
    fn user(&self, arrival: &Arrival<'_>, headers: &HeaderMap, uri: &Uri) -> (Option<UserHash>, bool) {
        let Settings { user, .. } = &self.shared.settings;
        let key = &self.shared.user_key;
        for source in &user.0 {
            if *source == Source::Address {
                if !arrival.outside {
                    continue;
                }
                return (Some(arrival.peer.user(key)), true);
            }
            if let Some(found) = find(source, headers, uri) {
                return (Some(key.hash(found)), false);
            }
        }
        (None, false)
    }

    fn priority(&self, business_level: u8, user: Option<UserHash>) -> Priority {
        let user = user.unwrap_or_else(|| {
            let next = self.nameless.get().wrapping_add(GOLDEN);
            self.nameless.set(next);
            UserHash::from_u64(next)
        });
        Priority::new(business_level, user.level(self.rotation.get())).unwrap_or(Priority::LAST)
    }
}

/// What a source gives, if anything.
pub fn find<'a>(source: &Source, headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a [u8]> {
    let found = match source {
        Source::Header(name) => headers.get(name)?.as_bytes(),
        Source::Cookie(_) if !has(headers, &header::COOKIE) => return None,
        Source::Cookie(name) => {
            let cookies =
                headers.get_all(header::COOKIE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b';'));
            let mut pairs =
                cookies.filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="));
            pairs.next()?
        }
        Source::Query(name) => {
            let mut pairs = uri.query()?.as_bytes().split(|byte| *byte == b'&');
            pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?
        }
        Source::Address => return None,
    };
    (!found.is_empty()).then_some(found)
}

impl Context {
    /// Time left, from now.
    pub fn remaining(&self, now_us: u64) -> Duration {
        Duration::from_micros(self.deadline.remaining_us(now_us))
    }
}

/// What the next hop is told about a request.
#[derive(Debug, Default)]
pub struct Told {
    /// The context, and when it is sent, in µs of the proxy's clock; none when protection is off.
    pub context: Option<(Context, u64)>,
    /// A stress test of the called service is on.
    pub ungated: bool,
    /// Calls that were shed on behalf of its callers.
    pub shed: Option<String>,
}

impl Told {
    /// Whether a header of ours that came is left out: another takes its place, or it is for this hop alone.
    pub fn replaces(&self, name: &str) -> bool {
        let Some((context, _)) = &self.context else { return name == slowlane::deliver::LANE };
        match name {
            slowlane::deliver::LANE | wire::PRIORITY | wire::DEADLINE_MS | wire::UNGATED => true,
            wire::USER => context.user.is_some(),
            wire::ATTEMPT => context.attempt > 0,
            _ => false,
        }
    }

    /// Writes it.
    pub fn write(&self, sink: &mut impl Sink) {
        let Some((context, now_us)) = &self.context else { return };
        let mut digits = [0; 20];
        sink.add(&PRIORITY, decimal(context.priority.as_u16().into(), &mut digits));
        if let Some(user) = context.user {
            sink.add(&USER, &hex(user.as_u64()));
        }
        sink.add(&DEADLINE_MS, decimal(context.deadline.remaining_ms(*now_us), &mut digits));
        if context.attempt > 0 {
            sink.add(&ATTEMPT, decimal(context.attempt.into(), &mut digits));
        }
        if self.ungated {
            sink.add(&UNGATED, b"1");
        }
        if let Some(shed) = &self.shed {
            sink.add(&SHED, shed.as_bytes());
        }
    }
}

/// A number in digits.
fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[at..];
        }
    }
}

/// 16 digits.
fn hex(value: u64) -> [u8; 16] {
    let mut text = [0; 16];
    for (at, digit) in text.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(value >> (60 - 4 * at)) as usize & 15];
    }
    text
}

#[cfg(test)]
mod tests;
