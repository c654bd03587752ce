//! A test facility: dies at a chosen write, as `kill -9` would at that instant.
//!
//! `SPRINGTIDE_FAILPOINT=commit:N` aborts just before the N-th commit of this process, `committed:N` just after it is
//! durable and before anything else, `record:N` just before the N-th record. With `SPRINGTIDE_FAILPOINT=/a/file` the
//! file, once there, holds such a word; writes are counted from when it was first seen, and the file is removed at death,
//! so that the next process lives. Unset, it does nothing.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The variable that arms it.
pub const VARIABLE: &str = "SPRINGTIDE_FAILPOINT";

/// Counts writes, and dies at the armed one.
#[derive(Debug, Default)]
pub struct Failpoint {
    file: Option<PathBuf>,
    armed: Mutex<Option<Armed>>,
}

/// Where to die, and how often that place was passed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Armed {
    text: String,
    point: String,
    at: u64,
    passed: u64,
}

impl Failpoint {
    /// Reads the variable.
    pub fn from_env() -> Self {
        match std::env::var(VARIABLE) {
            Ok(text) if text.starts_with('/') => Self { file: Some(text.into()), ..Self::default() },
            Ok(text) => Self { file: None, armed: Mutex::new(parse(&text)) },
            Err(_) => Self::default(),
        }
    }

    fn pass(&self, point: &str) {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &self.file {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if armed.as_ref().is_none_or(|armed| armed.text != text) {
                *armed = parse(&text);
            }
        }
        let Some(armed) = armed.as_mut().filter(|armed| armed.point == point) else { return };
        armed.passed += 1;
        if armed.passed == armed.at {
            if let Some(file) = &self.file {
                // Whoever armed it sees by the missing file that the death came.
                let _gone = std::fs::remove_file(file);
            }
            std::process::abort();
        }
    }

    /// Before a commit.
    pub fn before_commit(&self) {
        self.pass("commit");
    }

    /// After that commit is durable.
    pub fn after_commit(&self) {
        self.pass("committed");
    }

    /// Before a record.
    pub fn before_record(&self) {
        self.pass("record");
    }
}

fn parse(text: &str) -> Option<Armed> {
    let (point, at) = text.split_once(':')?;
    Some(Armed { text: text.to_owned(), point: point.to_owned(), at: at.parse().ok()?, passed: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_variable() {
        assert_eq!(parse("commit:3").map(|armed| (armed.point, armed.at)), Some(("commit".to_owned(), 3)));
        assert_eq!(parse("commit"), None);
        assert_eq!(parse("commit:x"), None);
    }

    #[test]
    fn a_file_arms_it_and_counts_from_when_it_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("failpoint");
        let failpoint = Failpoint { file: Some(file.clone()), ..Failpoint::default() };
        failpoint.before_commit();
        std::fs::write(&file, "commit:3").unwrap();
        (0..2).for_each(|_| failpoint.before_commit());
        failpoint.before_record();
        let armed = failpoint.armed.lock().unwrap().clone().unwrap();
        assert_eq!((armed.at, armed.passed), (3, 2), "the commit before the file came is not counted");
    }
}
