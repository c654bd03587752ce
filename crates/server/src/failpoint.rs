//! A test facility: dies at a chosen write, as `kill -9` would at that instant.
//!
//! `SPRINGTIDE_FAILPOINT=commit:N` aborts just before the N-th commit of this process, `committed:N` just after it is
//! durable and before anything else, `record:N` just before the N-th record. Unset, it does nothing.

use std::sync::atomic::{AtomicU64, Ordering};

/// The variable that arms it.
pub const VARIABLE: &str = "SPRINGTIDE_FAILPOINT";

/// Counts writes, and dies at the armed one.
#[derive(Debug, Default)]
pub struct Failpoint {
    armed: Option<(String, u64)>,
    commits: AtomicU64,
    records: AtomicU64,
}

impl Failpoint {
    /// Reads the variable.
    pub fn from_env() -> Self {
        Self { armed: std::env::var(VARIABLE).ok().and_then(|text| parse(&text)), ..Default::default() }
    }

    fn die_at(&self, point: &str, count: u64) {
        if self.armed.as_ref().is_some_and(|(name, at)| name == point && *at == count) {
            std::process::abort();
        }
    }

    /// Before a commit.
    pub fn before_commit(&self) {
        self.die_at("commit", self.commits.fetch_add(1, Ordering::Relaxed) + 1);
    }

    /// After that commit is durable.
    pub fn after_commit(&self) {
        self.die_at("committed", self.commits.load(Ordering::Relaxed));
    }

    /// Before a record.
    pub fn before_record(&self) {
        self.die_at("record", self.records.fetch_add(1, Ordering::Relaxed) + 1);
    }
}

fn parse(text: &str) -> Option<(String, u64)> {
    let (point, count) = text.split_once(':')?;
    Some((point.to_owned(), count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_its_variable() {
        assert_eq!(parse("commit:3"), Some(("commit".to_owned(), 3)));
        assert_eq!(parse("commit"), None);
        assert_eq!(parse("commit:x"), None);
    }
}
