//! The commands, one file a group.

pub mod dev;
pub mod run;
