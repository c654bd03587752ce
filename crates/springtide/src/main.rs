//! The springtide program.

fn main() {}
