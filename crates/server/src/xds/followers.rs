//! Who follows the cache over xDS, and up to which version of it each has confirmed what concerns it.
//!
//! An instance may be stopped only once nobody sends to it any more; a proxy that has not heard of that yet (its server
//! has just died, it is still on its way back) does. So those that were here before a restart are remembered, and waited
//! for a while. What each has of each resource is deliberately absent: one number a follower is enough, since what
//! changed first is sent first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Time for which a follower that left, or does not confirm, is waited for. A proxy tries again each second at most.
pub const AWAITED_MS_MAX: u64 = 10_000;
/// Names remembered over a restart.
const NAMES_MAX: usize = 20_000;
/// Time between two rounds of remembering names.
const REMEMBER_MS: u64 = 1_000;

/// All of them. Cheap to clone: clones share.
#[derive(Debug, Clone, Default)]
pub struct Followers {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    seats: u64,
    here: BTreeMap<u64, Follower>,
    away: BTreeMap<String, Away>,
    remembered: BTreeSet<String>,
    looked_at: Option<Instant>,
}

#[derive(Debug)]
struct Follower {
    name: String,
    confirmed: u64,
    /// Since when it has something that it has not confirmed.
    unconfirmed_since: Option<Instant>,
}

/// One that left and is likely to come back with what it had.
#[derive(Debug)]
struct Away {
    confirmed: u64,
    until: Instant,
}

impl Followers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Those that followed an earlier server: nothing is confirmed before they are back.
    pub fn expect(&self, names: BTreeSet<String>, now: Instant) {
        let mut state = self.state();
        let until = now + Duration::from_millis(AWAITED_MS_MAX);
        let awaited = names.iter().take(NAMES_MAX);
        state.away.extend(awaited.map(|name| (name.clone(), Away { confirmed: 0, until })));
        state.remembered = names;
    }

    /// One is here (again). It has confirmed nothing: it may be a new process that knows an old state.
    pub fn join(&self, name: &str, now: Instant) -> Seat {
        let mut state = self.state();
        state.seats += 1;
        let number = state.seats;
        state.away.remove(name);
        let follower = Follower { name: name.to_owned(), confirmed: 0, unconfirmed_since: Some(now) };
        state.here.insert(number, follower);
        Seat { followers: self.clone(), number }
    }

    /// The version up to which nobody worth waiting for lacks anything; [`u64::MAX`] when there is nobody.
    pub fn confirmed(&self, now: Instant) -> u64 {
        let mut state = self.state();
        state.away.retain(|_, away| now < away.until);
        let patience = Duration::from_millis(AWAITED_MS_MAX);
        let awaited = |at: &&Follower| at.unconfirmed_since.is_none_or(|since| now.duration_since(since) < patience);
        let here = state.here.values().filter(awaited).map(|at| at.confirmed);
        here.chain(state.away.values().map(|away| away.confirmed)).min().unwrap_or(u64::MAX)
    }

    /// The names to remember for the next server, when they changed; asked now and then.
    pub fn news(&self, now: Instant) -> Option<Vec<String>> {
        let mut state = self.state();
        let pause = Duration::from_millis(REMEMBER_MS);
        if state.looked_at.is_some_and(|at| now.duration_since(at) < pause) {
            return None;
        }
        state.looked_at = Some(now);
        let here = state.here.values().map(|at| &at.name).filter(|name| !name.is_empty());
        let names: BTreeSet<String> = here.chain(state.away.keys()).take(NAMES_MAX).cloned().collect();
        if names == state.remembered {
            return None;
        }
        state.remembered = names;
        Some(state.remembered.iter().cloned().collect())
    }
}

/// A follower's place; given up when dropped.
#[derive(Debug)]
pub struct Seat {
    followers: Followers,
    number: u64,
}

impl Seat {
    /// It has confirmed everything up to a version of the cache; `None`: an answer is on its way to it.
    pub fn set(&self, confirmed: Option<u64>, now: Instant) {
        let mut state = self.followers.state();
        let Some(follower) = state.here.get_mut(&self.number) else { return };
        match confirmed {
            Some(version) => {
                follower.confirmed = version;
                follower.unconfirmed_since = None;
            }
            None => {
                follower.unconfirmed_since.get_or_insert(now);
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.followers.state();
        let Some(follower) = state.here.remove(&self.number) else { return };
        let replaced = state.here.values().any(|other| other.name == follower.name);
        if !follower.name.is_empty() && !replaced && state.away.len() < NAMES_MAX {
            let until = Instant::now() + Duration::from_millis(AWAITED_MS_MAX);
            state.away.insert(follower.name, Away { confirmed: follower.confirmed, until });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    #[test]
    fn nothing_is_confirmed_before_all_have_confirmed_it() {
        let followers = Followers::default();
        let now = Instant::now();
        assert_eq!(followers.confirmed(now), u64::MAX, "nobody follows");
        let (one, two) = (followers.join("one", now), followers.join("two", now));
        one.set(Some(5), now);
        assert_eq!(followers.confirmed(now), 0, "the second has confirmed nothing");
        two.set(Some(7), now);
        assert_eq!(followers.confirmed(now), 5);
        two.set(None, now);
        one.set(Some(9), now);
        assert_eq!(followers.confirmed(now), 7, "what it confirmed before stands");
        assert_eq!(followers.confirmed(later(AWAITED_MS_MAX + 1)), 9, "it is not waited for for ever");
    }

    #[test]
    fn one_that_left_is_waited_for_a_while() {
        let followers = Followers::default();
        let now = Instant::now();
        let (one, two) = (followers.join("one", now), followers.join("two", now));
        one.set(Some(5), now);
        two.set(Some(6), now);
        drop(one);
        two.set(Some(9), now);
        assert_eq!(followers.confirmed(now), 5);
        let back = followers.join("one", now);
        assert_eq!(followers.confirmed(now), 0, "it may know an older state");
        back.set(Some(9), now);
        assert_eq!(followers.confirmed(now), 9);
        drop(back);
        two.set(Some(12), now);
        assert_eq!(followers.confirmed(later(AWAITED_MS_MAX + 100)), 12, "it does not come back");
    }

    #[test]
    fn those_of_the_server_before_are_waited_for() {
        let followers = Followers::default();
        let now = Instant::now();
        followers.expect(["edge".to_owned()].into(), now);
        assert_eq!(followers.confirmed(now), 0);
        assert_eq!(followers.news(now), None, "nothing new to remember");
        let other = followers.join("other", now);
        other.set(Some(3), now);
        assert_eq!(followers.confirmed(now), 0, "another does not stand for it");
        assert_eq!(followers.news(now), None, "not asked again so soon");
        assert_eq!(followers.news(later(REMEMBER_MS)), Some(vec!["edge".to_owned(), "other".to_owned()]));
        assert_eq!(followers.confirmed(later(AWAITED_MS_MAX + 1)), 3);
    }
}
