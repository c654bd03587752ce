//! What a policy may ask of a request: its head, borrowed.

use admission::UserHash;

/// A request as policies see it.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// Business of the service called; empty for an external.
    pub business: &'a str,
    /// Service or external called.
    pub service: &'a str,
    /// Service that calls, or `outside`.
    pub caller: &'a str,
    /// Datacenter of the proxy or instance that asks.
    pub datacenter: &'a str,
    /// Method.
    pub method: &'a str,
    /// Host without port.
    pub host: &'a str,
    /// Path without query.
    pub path: &'a str,
    /// Query without `?`; empty when there is none.
    pub query: &'a str,
    /// Headers.
    pub headers: &'a dyn Headers,
    /// Keyed hash of the user (`x-springtide-user`); absent when the request has none.
    pub user: Option<u64>,
    /// Priority (`x-springtide-priority`): lower is more important, the upper 6 bits are the business level.
    pub priority: u16,
}

impl Head<'_> {
    /// Business level, 0 (most important) to 63.
    pub fn business_level(&self) -> u8 {
        (self.priority >> 10) as u8
    }
}

/// Headers of a request, by name in lower case.
pub trait Headers: Sync {
    /// The first value of a header, when there is one and it is text.
    fn get(&self, name: &str) -> Option<&str>;
}

/// A request without headers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

impl Headers for Vec<(String, String)> {
    fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(at, _)| at == name).map(|(_, value)| value.as_str())
    }
}

/// Where a user stands in `users_percent`, from 0 to below 1. It never rotates: the same users are taken all along, and
/// those of a smaller share are among those of a larger one. Independent of the user's place in the admission level.
pub fn user_share(user: u64) -> f64 {
    UserHash::from_u64(user).share(SHARE_SALT)
}

/// Where a user stands in the sample of a reservoir, independent of [`user_share`].
pub(crate) fn sample_place(user: u64) -> u64 {
    (UserHash::from_u64(user).share(SAMPLE_SALT) * u64::MAX as f64) as u64
}

/// One salt for all policies, so that they hit the same users.
const SHARE_SALT: u64 = 0;
const SAMPLE_SALT: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_and_independent_of_the_sample() {
        let (mut hit, mut sampled, mut both) = (0, 0, 0);
        for user in 0..100_000_u64 {
            let share = user_share(user);
            assert!((0.0..1.0).contains(&share));
            let (a, b) = (share < 0.2, sample_place(user) < u64::MAX / 10);
            hit += u32::from(a);
            sampled += u32::from(b);
            both += u32::from(a && b);
        }
        assert!((19_500..20_500).contains(&hit), "{hit}");
        assert!((9_600..10_400).contains(&sampled), "{sampled}");
        assert!((1_800..2_200).contains(&both), "{both}");
    }
}
