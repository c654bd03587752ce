//! The stress test.

/// A test in progress.
#[derive(Debug)]
pub(crate) struct Run {}
