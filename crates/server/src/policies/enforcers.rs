//! Who has which policies in force: the proxies that follow them over xDS, and the agents that write them for the instances
//! of their host.
//!
//! A proxy that left is counted for a while: it comes back, and its part of a shared rate must not go to the others for a
//! moment of silence, nor all of it to the first that is back after the server restarted.

use model::HostName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Time for which a proxy that left is counted.
pub const AWAY_MS_MAX: u64 = 10_000;
/// Time between two looks at who is there.
const LOOK_MS: u64 = 1_000;
/// Names remembered over a restart.
const NAMES_MAX: usize = 20_000;
/// Names told of those who are behind.
pub const NAMED_MAX: usize = 20;

/// All of them. Cheap to clone: clones share.
#[derive(Debug, Clone)]
pub struct Enforcers {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    seats: u64,
    proxies: BTreeMap<u64, Proxy>,
    away: BTreeMap<String, (String, Instant)>,
    hosts: BTreeMap<String, u64>,
    /// Revision of the policies last published, and the version under which proxies get it.
    published: (u64, u64),
    remembered: BTreeMap<String, String>,
    looked_at: Option<Instant>,
}

#[derive(Debug)]
struct Proxy {
    name: String,
    datacenter: String,
    taken: u64,
    refused: Option<String>,
}

/// How far the policies of a revision have come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// True when they have been sent at all.
    pub published: bool,
    /// Proxies that follow policies.
    pub proxies: u32,
    /// Proxies that have them in force.
    pub proxies_taken: u32,
    /// Agents connected.
    pub hosts: u32,
    /// Agents that have written them.
    pub hosts_taken: u32,
    /// Some of those that have not, by name.
    pub waiting: Vec<String>,
    /// Some of the proxies that refused a part, and why.
    pub refused: Vec<(String, String)>,
}

impl Standing {
    /// True when nobody is waited for any more; one that refused has answered.
    pub fn settled(&self) -> bool {
        self.published && self.waiting.is_empty()
    }
}

impl Default for Enforcers {
    fn default() -> Self {
        Self { state: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl Enforcers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Wakes whenever something changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Those that followed an earlier server, by name: their datacenters.
    pub fn expect(&self, names: BTreeMap<String, String>, now: Instant) {
        let mut state = self.state();
        let until = now + Duration::from_millis(AWAY_MS_MAX);
        let away = names.iter().take(NAMES_MAX).map(|(name, datacenter)| (name.clone(), (datacenter.clone(), until)));
        state.away.extend(away);
        state.remembered = names;
    }

    /// A proxy follows the policies.
    pub fn join(&self, name: &str, datacenter: &str) -> Seat {
        let mut state = self.state();
        state.seats += 1;
        let number = state.seats;
        state.away.remove(name);
        let proxy = Proxy { name: name.to_owned(), datacenter: datacenter.to_owned(), taken: 0, refused: None };
        state.proxies.insert(number, proxy);
        drop(state);
        self.tell();
        Seat { enforcers: self.clone(), number, last: (0, None) }
    }

    /// An agent is here, and has written the policies of a revision (0: none yet).
    pub fn host(&self, host: &str, revision: u64) {
        self.state().hosts.insert(host.to_owned(), revision);
        self.tell();
    }

    /// Forgets agents that are not among those connected. All that are connected are known here, so that numbers alone tell
    /// whether one has gone.
    pub fn keep_hosts<Link>(&self, connected: &BTreeMap<HostName, Link>) {
        let mut state = self.state();
        if state.hosts.len() > connected.len() {
            state.hosts.retain(|host, _| connected.contains_key(host.as_str()));
            drop(state);
            self.tell();
        }
    }

    /// The policies of `revision` are what proxies get under `version` from now on.
    pub fn published(&self, revision: u64, version: u64) {
        self.state().published = (revision, version);
        self.tell();
    }

    /// Live proxies by datacenter, those counted that left a moment ago; a proxy that hands over to its successor is one.
    pub fn proxies(&self, now: Instant) -> BTreeMap<String, u32> {
        let mut state = self.state();
        state.away.retain(|_, (_, until)| now < *until);
        let mut counted = BTreeMap::new();
        for datacenter in state.names().values() {
            *counted.entry(datacenter.clone()).or_default() += 1;
        }
        counted
    }

    /// Whether it is time to look who is there; true once a second at most.
    pub fn due(&self, now: Instant) -> bool {
        let mut state = self.state();
        let due = state.looked_at.is_none_or(|at| now.duration_since(at) >= Duration::from_millis(LOOK_MS));
        if due {
            state.looked_at = Some(now);
        }
        due
    }

    /// The names to remember for the next server, when they changed.
    pub fn news(&self) -> Option<BTreeMap<String, String>> {
        let mut state = self.state();
        let names: BTreeMap<String, String> = state.names().into_iter().take(NAMES_MAX).collect();
        if names == state.remembered {
            return None;
        }
        state.remembered.clone_from(&names);
        Some(names)
    }

    /// How far the policies of a revision have come.
    pub fn standing(&self, revision: u64) -> Standing {
        let state = self.state();
        let (published, version) = state.published;
        let published = published >= revision;
        let mut standing = Standing { published, ..Standing::default() };
        let mut waiting = BTreeSet::new();
        for proxy in state.proxies.values() {
            standing.proxies += 1;
            match (&proxy.refused, published && proxy.taken >= version) {
                (_, true) => standing.proxies_taken += 1,
                (Some(why), false) if standing.refused.len() < NAMED_MAX => {
                    standing.refused.push((proxy.name.clone(), why.clone()));
                }
                (Some(_), false) => {}
                (None, false) => drop(waiting.insert(&proxy.name)),
            }
        }
        for (host, taken) in &state.hosts {
            standing.hosts += 1;
            match published && *taken >= state.published.0 {
                true => standing.hosts_taken += 1,
                false => drop(waiting.insert(host)),
            }
        }
        standing.waiting = waiting.into_iter().take(NAMED_MAX).cloned().collect();
        standing
    }
}

impl State {
    fn names(&self) -> BTreeMap<String, String> {
        let away = self.away.iter().map(|(name, (datacenter, _))| (name.clone(), datacenter.clone()));
        let here = self.proxies.values().map(|proxy| (proxy.name.clone(), proxy.datacenter.clone()));
        away.chain(here).collect()
    }
}

/// A proxy's place; given up when dropped.
#[derive(Debug)]
pub struct Seat {
    enforcers: Enforcers,
    number: u64,
    last: (u64, Option<String>),
}

impl Seat {
    /// The proxy has the policies of a version of the cache in force (0: not the newest sent), but for what it refused.
    pub fn set(&mut self, taken: u64, refused: Option<&str>) {
        if self.last.0 == taken && self.last.1.as_deref() == refused {
            return;
        }
        self.last = (taken, refused.map(str::to_owned));
        if let Some(proxy) = self.enforcers.state().proxies.get_mut(&self.number) {
            proxy.taken = taken;
            proxy.refused.clone_from(&self.last.1);
        }
        self.enforcers.tell();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.enforcers.state();
        let Some(proxy) = state.proxies.remove(&self.number) else { return };
        let stays = state.proxies.values().any(|other| other.name == proxy.name);
        if !stays && state.away.len() < NAMES_MAX {
            let until = Instant::now() + Duration::from_millis(AWAY_MS_MAX);
            state.away.insert(proxy.name, (proxy.datacenter, until));
        }
        drop(state);
        self.enforcers.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_in_force_where_all_have_confirmed_them() {
        let all = Enforcers::default();
        assert!(!all.standing(3).settled(), "not even sent");
        all.published(3, 7);
        assert!(all.standing(3).settled(), "nobody is there");
        let (mut one, mut two) = (all.join("one", "east"), all.join("two", "east"));
        all.host("host-a", 0);
        one.set(7, None);
        let standing = all.standing(3);
        assert_eq!((standing.proxies, standing.proxies_taken, standing.hosts_taken), (2, 1, 0));
        assert_eq!(standing.waiting, ["host-a", "two"]);
        two.set(0, Some("newer: unknown variable"));
        all.host("host-a", 3);
        let standing = all.standing(3);
        assert!(standing.settled(), "a refusal is an answer");
        assert_eq!(standing.refused, [("two".to_owned(), "newer: unknown variable".to_owned())]);
        assert!(!all.standing(4).settled(), "a later change is not sent yet");
        all.published(4, 9);
        assert_eq!(all.standing(4).waiting, ["host-a", "one"]);
        all.keep_hosts(&BTreeMap::<HostName, ()>::new());
        drop(one);
        assert!(all.standing(4).settled());
    }

    #[test]
    fn one_that_left_is_counted_for_a_while_and_over_a_restart() {
        let all = Enforcers::default();
        let now = Instant::now();
        let (one, _two) = (all.join("one", "east"), all.join("two", "west"));
        let successor = all.join("one", "east");
        assert_eq!(all.proxies(now), BTreeMap::from([("east".to_owned(), 1), ("west".to_owned(), 1)]));
        drop((one, successor));
        assert_eq!(all.proxies(now).len(), 2);
        let names = all.news().expect("two names");
        assert_eq!(all.news(), None);
        assert_eq!(all.proxies(now + Duration::from_millis(AWAY_MS_MAX + 100)).len(), 1);
        let next = Enforcers::default();
        next.expect(names, now);
        assert_eq!(next.proxies(now).len(), 2);
    }
}
