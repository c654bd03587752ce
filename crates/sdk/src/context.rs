//! What a request carries for its whole task: priority, user, deadline, and where it was admitted already.

use admission::{Deadline, Priority, wire};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Priority of a request that carries none: in the middle of the business levels, as a service with nobody to vouch for it.
const PRIORITY_DEFAULT: u16 = 32 << 10;

/// The task that a request belongs to. Taken from the request's extensions, and given to [`crate::Client::call`], it keeps
/// the task whole: the same priority, the same deadline, sub-calls of an admitted task pass.
#[derive(Debug, Clone)]
pub struct Context {
    pub(crate) priority: Priority,
    pub(crate) user: Option<HeaderValue>,
    pub(crate) deadline: Deadline,
    pub(crate) admitted: String,
}

impl Context {
    /// What the headers of a request say; what is missing or nonsense is as if it were not there.
    pub(crate) fn read(headers: &HeaderMap, timeout_ms: u64, now_us: u64) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let priority = text(wire::PRIORITY).and_then(|value| wire::parse_priority(value).ok());
        let remaining_ms = text(wire::DEADLINE_MS).and_then(|value| wire::parse_deadline_ms(value).ok());
        let timeout_us = timeout_ms.saturating_mul(1_000);
        let deadline = remaining_ms.map_or(Deadline::at(now_us.saturating_add(timeout_us)), |remaining_ms| {
            Deadline::after_ms(remaining_ms, now_us)
        });
        let user = headers.get(wire::USER).filter(|value| value.to_str().is_ok_and(|t| wire::parse_user(t).is_ok()));
        Self {
            priority: priority.unwrap_or(Priority::from_u16(PRIORITY_DEFAULT)),
            user: user.cloned(),
            deadline,
            admitted: text(wire::ADMITTED).unwrap_or("").to_owned(),
        }
    }

    /// A task that begins here, with nobody outside: of the least important priority.
    pub fn background(timeout_ms: u64, client: &crate::Client) -> Self {
        let now_us = client.now_us();
        let deadline = Deadline::at(now_us.saturating_add(timeout_ms.saturating_mul(1_000)));
        Self { priority: Priority::LAST, user: None, deadline, admitted: String::new() }
    }

    /// The user's keyed hash.
    pub(crate) fn user_hash(&self) -> Option<u64> {
        let text = self.user.as_ref()?.to_str().ok()?;
        wire::parse_user(text).ok().map(admission::UserHash::as_u64)
    }

    /// Writes it on a call to another service.
    pub(crate) fn write(&self, headers: &mut HeaderMap, attempt: u32, now_us: u64) {
        set(headers, wire::PRIORITY, &wire::priority(self.priority));
        set(headers, wire::DEADLINE_MS, &self.deadline.remaining_ms(now_us).to_string());
        set(headers, wire::ATTEMPT, &attempt.to_string());
        if let Some(user) = &self.user {
            headers.insert(HeaderName::from_static(wire::USER), user.clone());
        }
        if !self.admitted.is_empty() {
            set(headers, wire::ADMITTED, &self.admitted);
        }
    }
}

/// Sets a header of ours; texts that cannot be a header's value are left out.
pub(crate) fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_goes_on_with_less_time() {
        let mut headers = HeaderMap::new();
        set(&mut headers, wire::PRIORITY, "2049");
        set(&mut headers, wire::DEADLINE_MS, "200");
        set(&mut headers, wire::USER, "00000000000000ff");
        set(&mut headers, wire::ADMITTED, "lottery");
        let context = Context::read(&headers, 500, 1_000_000);
        assert_eq!((context.priority.as_u16(), context.user_hash()), (2_049, Some(255)));
        let mut onward = HeaderMap::new();
        context.write(&mut onward, 1, 1_050_000);
        assert_eq!(onward[wire::DEADLINE_MS], "150");
        assert_eq!(
            (&onward[wire::ADMITTED], &onward[wire::ATTEMPT]),
            (&"lottery".parse().unwrap(), &"1".parse().unwrap())
        );
    }

    #[test]
    fn nonsense_is_as_if_it_were_not_there() {
        let mut headers = HeaderMap::new();
        set(&mut headers, wire::PRIORITY, "-1");
        set(&mut headers, wire::DEADLINE_MS, "soon");
        set(&mut headers, wire::USER, "root");
        let context = Context::read(&headers, 500, 0);
        assert_eq!(context.priority.as_u16(), PRIORITY_DEFAULT);
        assert_eq!((context.deadline.at_us(), context.user_hash()), (500_000, None));
    }
}
