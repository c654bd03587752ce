//! Names as numbers: a sample's names are looked up once, and everything after that is an index.

use std::collections::HashMap;

/// Names known at most; beyond, what they name is not watched.
pub const NAMES_MAX: usize = 1_000_000;

/// Names and their numbers, in the order in which they were met.
#[derive(Debug, Default)]
pub struct Names {
    numbers: HashMap<Box<str>, u32>,
}

impl Names {
    /// The number of a name, given now when it is new; none when there are too many.
    pub fn number(&mut self, name: &str) -> Option<u32> {
        if let Some(known) = self.numbers.get(name) {
            return Some(*known);
        }
        let next = self.numbers.len();
        (next < NAMES_MAX).then(|| {
            self.numbers.insert(name.into(), next as u32);
            next as u32
        })
    }

    /// The name of a number; looked for among all of them.
    pub fn name(&self, number: u32) -> Option<&str> {
        self.numbers.iter().find(|(_, known)| **known == number).map(|(name, _)| &**name)
    }
}
