//! When to tell a receiver about which incidents: grouped, deduplicated, retried. The sending itself is the server's.
//!
//! What is owed is a set of incident ids, not a queue of messages: when a receiver fails for an hour, it is then told how
//! things stand, once, instead of an hour of history.

use std::collections::{BTreeMap, BTreeSet};

/// Incidents owed to a receiver at most; beyond, the oldest are dropped and counted.
pub const OWED_MAX: usize = 1_000;
/// Incidents in one notice.
pub const NOTICE_INCIDENTS_MAX: usize = 100;

/// How a receiver is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoticeConfig {
    /// Time in which changes are gathered into one notice.
    pub group_wait_ms: u64,
    /// First pause after a failure; it doubles…
    pub retry_first_ms: u64,
    /// …up to this.
    pub retry_ms_max: u64,
    /// An open incident is told again after this.
    pub repeat_ms: u64,
}

impl Default for NoticeConfig {
    fn default() -> Self {
        Self { group_wait_ms: 1_000, retry_first_ms: 1_000, retry_ms_max: 60_000, repeat_ms: 4 * 3_600_000 }
    }
}

/// Incidents to tell about now, as they stand now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Their ids, in order of number.
    pub incidents: Vec<String>,
    /// Failures in a row before this.
    pub attempt: u32,
}

/// How a sending went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// The receiver took it.
    Taken,
    /// It did not.
    Failed,
}

/// What one receiver is owed.
#[derive(Debug, Default)]
pub struct Notifier {
    config: NoticeConfig,
    owed: BTreeSet<(u64, String)>,
    owed_since_ms: Option<u64>,
    under_way: Vec<(u64, String)>,
    told_open: BTreeMap<String, u64>,
    failures: u32,
    not_before_ms: u64,
    dropped: u64,
}

impl Notifier {
    /// Owes nothing yet.
    pub fn new(config: NoticeConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// An incident changed in a way worth telling. One that ended before anyone was told of it is told of all the same.
    pub fn owe(&mut self, id: &str, now_ms: u64) {
        self.owed_since_ms.get_or_insert(now_ms);
        self.owed.insert((number(id), id.to_owned()));
        while self.owed.len() > OWED_MAX {
            self.owed.pop_first();
            self.dropped += 1;
        }
    }

    /// An earlier notifier told that it goes on: it is told again in time.
    pub fn remember(&mut self, id: &str, told_ms: u64) {
        if self.told_open.len() < OWED_MAX {
            self.told_open.insert(id.to_owned(), told_ms);
        }
    }

    /// It is no longer told of.
    pub fn forget(&mut self, id: &str) {
        self.told_open.remove(id);
        self.owed.retain(|(_, owed)| owed != id);
    }

    /// Follows another configuration; what is owed stays owed.
    pub fn reconfigure(&mut self, config: NoticeConfig) {
        self.config = config;
    }

    /// What to send now; nothing while another sending is under way.
    pub fn due(&mut self, now_ms: u64) -> Option<Notice> {
        let repeat_ms = self.config.repeat_ms;
        let again: Vec<String> =
            self.told_open.iter().filter(|(_, told)| now_ms >= **told + repeat_ms).map(|(id, _)| id.clone()).collect();
        again.iter().for_each(|id| self.owe(id, now_ms.saturating_sub(self.config.group_wait_ms)));
        let since_ms = self.owed_since_ms?;
        if !self.under_way.is_empty() || now_ms < self.not_before_ms || now_ms < since_ms + self.config.group_wait_ms {
            return None;
        }
        while self.under_way.len() < NOTICE_INCIDENTS_MAX {
            let Some(next) = self.owed.pop_first() else { break };
            self.under_way.push(next);
        }
        if self.owed.is_empty() {
            self.owed_since_ms = None;
        }
        let incidents = self.under_way.iter().map(|(_, id)| id.clone()).collect();
        Some(Notice { incidents, attempt: self.failures })
    }

    /// How the sending under way went; `is_open` tells how an incident stood when it was sent.
    pub fn sent(&mut self, attempt: Attempt, is_open: impl Fn(&str) -> bool, now_ms: u64) {
        let under_way = std::mem::take(&mut self.under_way);
        match attempt {
            Attempt::Taken => {
                (self.failures, self.not_before_ms) = (0, 0);
                for (_, id) in under_way {
                    if is_open(&id) {
                        self.told_open.insert(id, now_ms);
                    } else {
                        self.told_open.remove(&id);
                    }
                }
                while self.told_open.len() > OWED_MAX {
                    self.told_open.pop_first();
                }
            }
            Attempt::Failed => {
                under_way
                    .into_iter()
                    .for_each(|(_, id)| self.owe(&id, now_ms.saturating_sub(self.config.group_wait_ms)));
                let pause_ms = self.config.retry_first_ms.saturating_mul(1 << self.failures.min(20));
                self.not_before_ms = now_ms + pause_ms.min(self.config.retry_ms_max);
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    /// Incidents that were never told because too many were owed.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

fn number(id: &str) -> u64 {
    id.rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier() -> Notifier {
        Notifier::new(NoticeConfig {
            group_wait_ms: 1_000,
            retry_first_ms: 1_000,
            retry_ms_max: 8_000,
            repeat_ms: 60_000,
        })
    }

    #[test]
    fn what_comes_together_goes_in_one_notice_and_once() {
        let mut notifier = notifier();
        notifier.owe("inc-2", 0);
        notifier.owe("inc-1", 500);
        notifier.owe("inc-2", 600);
        assert_eq!(notifier.due(999), None);
        let notice = notifier.due(1_000).unwrap();
        assert_eq!(notice.incidents, ["inc-1", "inc-2"]);
        assert_eq!(notifier.due(2_000), None);
        notifier.sent(Attempt::Taken, |_| false, 2_000);
        assert_eq!(notifier.due(100_000), None);
    }

    #[test]
    fn a_receiver_that_fails_for_an_hour_is_asked_seldom_and_told_once_how_things_stand() {
        let mut notifier = notifier();
        notifier.owe("inc-1", 0);
        let mut tries = 0;
        for now in (0..3_600_000).step_by(100) {
            if now % 600_000 == 0 {
                notifier.owe("inc-1", now);
            }
            if notifier.due(now).is_some() {
                tries += 1;
                notifier.sent(Attempt::Failed, |_| true, now);
            }
        }
        assert!((400..500).contains(&tries), "{tries}");
        let notice = notifier.due(3_700_000).unwrap();
        assert_eq!(notice.incidents, ["inc-1"]);
        notifier.sent(Attempt::Taken, |_| false, 3_700_000);
        assert_eq!(notifier.due(9_000_000), None);
    }

    #[test]
    fn an_open_incident_is_told_again_after_the_repeat() {
        let mut notifier = notifier();
        notifier.owe("inc-1", 0);
        assert!(notifier.due(1_000).is_some());
        notifier.sent(Attempt::Taken, |_| true, 1_000);
        assert_eq!(notifier.due(60_000), None);
        assert!(notifier.due(61_000).is_some());
    }

    #[test]
    fn what_is_owed_is_bounded() {
        let mut notifier = notifier();
        (0..OWED_MAX + 5).for_each(|number| notifier.owe(&format!("inc-{number}"), 0));
        assert_eq!(notifier.dropped(), 5);
        assert_eq!(notifier.due(1_000).unwrap().incidents[0], "inc-5");
    }
}
